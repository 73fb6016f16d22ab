"""Locks as state machines: who gets them, in which order, and what the order checker learns."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.locks.order import ORDER, Ever, LockOrder, bit_of, parse
from shared.locks.table import LockTable

KEY, CHAN = 7, 70


def table(*requests: tuple[str, str]) -> tuple[LockTable, list[bool]]:
    """Lock requests (context, mode) in order; whether each was granted at once."""
    made = LockTable()
    return made, [made.lock(ctx, KEY, mode, "f") for ctx, mode in requests]


# -- exclusive and shared -----------------------------------------------------------------


def test_waiters_are_granted_in_order_of_arrival() -> None:
    made, granted = table(("A", "w"), ("B", "w"), ("C", "w"))
    assert granted == [True, False, False]
    assert made.unlock("A", KEY) == ["B"]
    assert made.unlock("B", KEY) == ["C"]
    assert made.unlock("C", KEY) == []
    assert made.locked() == []


def test_readers_share_and_a_writer_waits_for_all_of_them() -> None:
    made, granted = table(("A", "r"), ("B", "r"), ("C", "w"))
    assert granted == [True, True, False]
    assert made.unlock("A", KEY) == []
    assert made.unlock("B", KEY) == ["C"]


def test_a_reader_does_not_pass_a_waiting_writer() -> None:
    """Or a stream of readers would keep it out forever."""
    made, granted = table(("A", "r"), ("B", "w"), ("C", "r"))
    assert granted == [True, False, False]
    assert made.unlock("A", KEY) == ["B"]
    assert made.unlock("B", KEY) == ["C"]


def test_a_release_lets_in_all_readers_up_to_the_next_writer() -> None:
    made, _ = table(("A", "w"), ("B", "r"), ("C", "r"), ("D", "w"), ("E", "r"))
    assert made.unlock("A", KEY) == ["B", "C"]
    assert made.unlock("B", KEY) == []
    assert made.unlock("C", KEY) == ["D"]
    assert made.unlock("D", KEY) == ["E"]


# -- try, downgrade, upgrade ----------------------------------------------------------------


def test_a_try_never_waits_and_never_jumps_the_queue() -> None:
    made, _ = table(("A", "r"))
    assert made.trylock("B", KEY, "r", "g")
    assert not made.trylock("C", KEY, "w", "g")
    made.lock("D", KEY, "w", "g")
    assert not made.trylock("E", KEY, "r", "g")
    assert [name for name, *_ in made.locked()[0][2]] == ["D"]


def test_a_reader_gives_up_its_own_share_and_nobody_else_s() -> None:
    made, _ = table(("A", "r"), ("B", "r"), ("C", "r"))
    for name, left in (("A", ["B", "C"]), ("B", ["C"])):
        made.unlock(name, KEY)
        assert [holder.ctx for holder in made.locked()[0].holders] == left


def test_of_who_holds_a_lock_it_is_known_where_it_was_taken() -> None:
    made = LockTable()
    assert made.trylock("A", KEY, "r", "f") and made.lock("B", KEY, "r", "g") and not made.lock("C", KEY, "w", "h")
    assert made.locked() == [(KEY, [("A", "r", "f"), ("B", "r", "g")], [("C", "w", "h")])]


def test_after_a_downgrade_readers_pass_queued_writers() -> None:
    """mlock downgrades its map lock while it wires: the faults it takes for that are readers."""
    made, _ = table(("A", "w"), ("B", "w"), ("C", "r"))
    assert made.downgrade("A", KEY) == ["C"]
    assert made.lock("D", KEY, "r", "g")
    assert not made.lock("E", KEY, "w", "g")
    assert made.unlock("C", KEY) == [] and made.unlock("D", KEY) == []
    assert made.unlock("A", KEY) == ["B"]
    assert made.unlock("B", KEY) == ["E"]


def test_once_the_downgrader_has_gone_readers_queue_again() -> None:
    made, _ = table(("A", "w"), ("B", "w"))
    made.downgrade("A", KEY)
    made.lock("C", KEY, "r", "g")
    made.unlock("A", KEY)
    assert not made.lock("D", KEY, "r", "g")
    assert made.unlock("C", KEY) == ["B"]


def test_an_upgrade_waits_for_other_readers_ahead_of_every_waiter() -> None:
    made, _ = table(("A", "r"), ("B", "r"), ("C", "w"))
    assert not made.upgrade("A", KEY)
    assert made.unlock("B", KEY) == ["A"]
    assert made.unlock("A", KEY) == ["C"]


def test_an_upgrade_of_the_only_reader_is_immediate() -> None:
    made, _ = table(("A", "w"), ("B", "r"))
    made.downgrade("A", KEY)
    made.unlock("B", KEY)
    assert made.upgrade("A", KEY)
    assert not made.lock("C", KEY, "r", "g")


# -- without LOCKDEBUG ------------------------------------------------------------------------


def test_a_cpu_that_locks_against_itself_queues_behind_itself() -> None:
    """As on the machine: it spins forever, and so does everybody after it."""
    made, granted = table(("A", "w"), ("A", "w"), ("B", "w"))
    assert granted == [True, False, False]
    assert made.locked() == [(KEY, [("A", "w", "f")], [("A", "w", "f"), ("B", "w", "f")])]


def test_unlocking_somebody_elses_lock_frees_it() -> None:
    """E3: the second unlock lets a third CPU into the critical section of the second."""
    made, _ = table(("A", "w"), ("B", "w"))
    assert made.unlock("C", KEY) == ["B"]
    assert made.unlock("C", KEY) == []
    assert made.lock("D", KEY, "w", "g")


def test_unlocking_a_lock_nobody_ever_took_does_nothing() -> None:
    assert LockTable().unlock("A", KEY) == []


# -- sleep queues -------------------------------------------------------------------------------


def test_a_wakeup_wakes_all_who_sleep_on_the_channel_and_nobody_else() -> None:
    made = LockTable()
    for ctx, chan in (("A", CHAN), ("B", CHAN + 1), ("C", CHAN)):
        made.sleep(ctx, chan, "nap")
    assert made.wakeup(CHAN) == ["A", "C"]
    assert made.wakeup(CHAN) == []
    assert made.asleep() == [(CHAN + 1, [("B", "nap")])]


# -- any sequence of requests -------------------------------------------------------------------

ACTS = st.lists(
    st.tuples(st.sampled_from("ABCD"), st.sampled_from(("r", "w", "try", "unlock", "downgrade", "upgrade"))),
    max_size=40,
)


@given(ACTS)
def test_holders_never_conflict_and_nobody_is_forgotten(acts: list[tuple[str, str]]) -> None:
    """One exclusive holder or several shared ones; who waits either gets the lock in the end or still waits."""
    made = LockTable()
    holding: dict[str, str] = {}
    waiting: dict[str, str] = {}
    for ctx, act in acts:
        granted: list[str] = []
        if ctx in waiting:
            continue
        if act in ("r", "w") and ctx not in holding:
            (holding if made.lock(ctx, KEY, act, "f") else waiting)[ctx] = act
        elif act == "try" and ctx not in holding:
            if made.trylock(ctx, KEY, "w", "f"):
                holding[ctx] = "w"
        elif act == "unlock" and ctx in holding:
            del holding[ctx]
            granted = made.unlock(ctx, KEY)
        elif act == "downgrade" and holding.get(ctx) == "w":
            holding[ctx] = "r"
            granted = made.downgrade(ctx, KEY)
        elif act == "upgrade" and holding.get(ctx) == "r" and "up" not in waiting.values():
            del holding[ctx]
            if made.upgrade(ctx, KEY):
                holding[ctx] = "w"
            else:
                waiting[ctx] = "up"
        for context in granted:
            holding[context] = "w" if waiting[context] == "up" else waiting[context]
            del waiting[context]
        modes = sorted(holding.values())
        assert modes == ["w"] or set(modes) <= {"r"}
        holders = {name: mode for _, held, _ in made.locked() for name, mode, _ in held}
        assert holders == holding
        assert {name for _, _, queue in made.locked() for name, *_ in queue} == set(waiting)
    for ctx in list(holding):
        del holding[ctx]
        for context in made.unlock(ctx, KEY):
            holding[context] = waiting.pop(context)
    while holding:
        for ctx in list(holding):
            del holding[ctx]
            for context in made.unlock(ctx, KEY):
                holding[context] = waiting.pop(context)
    assert waiting == {}


def test_an_emptied_table_has_no_holder_and_lists_its_locks_in_the_order_of_their_next_use() -> None:
    made, _ = table(("A", "w"), ("B", "w"))
    made.downgrade("A", KEY)
    made.sleep("C", CHAN, "pgwait")
    kept = made.of(KEY)
    made.clear()
    assert made.locked() == [] and made.asleep() == [] and made.of(KEY) is kept
    assert made.lock("D", KEY + 1, "w", "f") and made.take(kept, "E", "r", "f") and made.lock("F", KEY, "r", "f")
    assert [lock.key for lock in made.locked()] == [KEY + 1, KEY]
    assert [want.ctx for want in made.locked()[1].holders] == ["E", "F"]
    assert not made.lock("G", KEY, "w", "f") and not made.lock("H", KEY, "r", "f")  # no downgrade is left


def test_a_lock_that_nobody_has_asked_for_cannot_change_its_mode() -> None:
    made, _ = table(("A", "w"))
    made.clear()
    for change in (made.downgrade, made.upgrade):
        with pytest.raises(KeyError):
            change("A", KEY)
    assert made.lock("A", KEY, "w", "f") and made.locked()[0].holders == [("A", "w", "f")]


# -- lock order -----------------------------------------------------------------------------------


def test_the_stated_order_has_no_cycle() -> None:
    """A text that contradicts itself would accuse every kernel."""
    pairs = parse(ORDER)
    classes = {name for pair in pairs for name in pair}
    for _ in classes:
        pairs |= {(a, d) for a, b in pairs for c, d in pairs if b == c}
    assert not [a for a, b in pairs if a == b]


def test_what_the_text_says_is_enforced_through_any_number_of_steps() -> None:
    order = LockOrder("a < b < c")
    assert order.check(["c"], "a", "f") == "a is taken while c is held (in f), but a < b < c (the stated order)"
    assert order.check(["a"], "c", "f") is None


def test_an_order_once_seen_is_an_order() -> None:
    """Even between classes that the text does not name, and though the two halves never met."""
    order = LockOrder("")
    assert order.check(["x"], "y", "first") is None
    assert order.check(["y"], "x", "second") == "x is taken while y is held (in second), but x < y (seen in first)"


def test_an_order_learned_in_pieces_is_an_order() -> None:
    order = LockOrder("a < b")
    assert order.check(["b"], "c", "f") is None
    assert order.check(["c"], "d", "g") is None
    findings = order.check(["d"], "a", "h")
    assert findings is not None and "a < b < c < d" in findings


def test_every_lock_held_counts_not_only_the_last() -> None:
    order = LockOrder("a < b")
    assert order.check(["b", "z"], "a", "f") is not None


def test_a_lock_that_is_in_order_does_not_hide_one_behind_it_that_is_not() -> None:
    """Nor does a lock of the same class."""
    order = LockOrder("a < b")
    assert order.check(["z"], "a", "f") is None
    assert order.check(["z", "b"], "a", "f") is not None and order.check(["a", "b"], "a", "f") is not None


TEXT = "a < b < c\nx < y"
CLASSES = st.sampled_from("abcdxyz")
TAKEN = st.lists(st.tuples(st.lists(CLASSES, max_size=3), CLASSES), max_size=12)


Taken = list[tuple[list[str], str]]


def contradicted(learnt: dict[tuple[str, str], str], held: list[str], wanted: str) -> bool:
    """Is there a way from the wanted class to a class that is held?"""
    pairs = parse(TEXT) | learnt.keys()
    reached = {wanted}
    for _ in pairs:
        reached |= {after for before, after in pairs if before in reached}
    return any(cls in reached and cls != wanted for cls in held)


@given(st.lists(TAKEN, max_size=4), TAKEN)
def test_a_reversal_is_seen_whatever_executions_before_have_learnt(others: list[Taken], taken: Taken) -> None:
    """What they have learnt spares searches for a path that is nowhere, and what this has learnt spares them too."""
    ever = Ever(TEXT)
    for other in others:
        before = LockOrder(TEXT, ever)
        for held, wanted in other:
            before.check(held, wanted, "g")
    order = LockOrder(TEXT, ever)
    for held, wanted in taken:
        bits = 0
        for cls in held:
            bits |= bit_of(cls)
        wrong = contradicted(order.learnt, held, wanted)
        assert not (wrong and order.knows(bits, wanted))
        assert (order.check(held, wanted, "f") is not None) is wrong
        assert wrong or order.knows(bits, wanted)


def test_each_lock_class_has_a_bit_of_its_own() -> None:
    bits = [bit_of(f"class {number} of {id(object())}") for number in range(5)]
    assert all(bit > 0 and bit & (bit - 1) == 0 for bit in bits) and len(set(bits)) == 5
    assert bit_of("anon") == bit_of("anon")


def test_what_has_not_been_checked_is_not_known() -> None:
    first, ever = 1, Ever(TEXT)  # the bit of some class
    order = LockOrder(TEXT, ever)
    held, wanted = next(pair for pair in (("a", "b"), ("b", "c")) if bit_of(pair[0]) != first)
    assert order.ever is ever and not order.knows(first, wanted)
    assert order.check([held], wanted, "f") is None
    assert order.knows(bit_of(held), wanted) and not order.knows(first, wanted) and not order.knows(bit_of(held), "d")
    assert order.check([held], held, "f") is None and order.learnt == {}
    assert order.check([held], "z", "f") is None and order.check(["z"], "z", "f") is None
    assert order.learnt == {(held, "z"): "f"}


def test_two_locks_of_one_class_have_no_order() -> None:
    """Parent and child map, old and new anon: their order is by role, not by class."""
    assert LockOrder("a < b").check(["a"], "a", "f") is None
