"""Small programs, each with one defect of order, with which testers of concurrent programs are compared.

Written anew after descriptions of SCTBench (Thomson, Donaldson, Betts, TOPC 2016) and of the programs that PERIOD added
to it, over cluster/api.py. A plain shared variable is a `Cell`: each access is a scheduling point, and no data race.
What a processor does in one step (exchange, compare and swap, fetch and add) happens to an `AtomicWord`, or to an
`Atom` under its lock. No main thread starts the others and waits for them: all threads are there from the beginning.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cluster.api import Field, Program, Struct, field, new, own, simplelock

Body = Callable[[], None]


class Cell(Struct, kind=231):
    """A plain shared variable."""

    guards = {"o": own("lock")}
    lock = simplelock("cell")
    value: Field[int] = field("o", hint=True)


class Atom(Struct, kind=232):
    """A variable that is read and changed in one step."""

    guards = {"o": own("lock")}
    lock = simplelock("atom")
    value: Field[int] = field("o")

    def get(self) -> int:
        """Its value."""
        return self.change(None)

    def change(self, to: int | None, only_from: int | None = None, by: int = 0) -> int:
        """Store, or add, and return what was there before; nothing is stored if that is not `only_from`."""
        self.lock.lock()
        before = exchanged(self, to, only_from, by)
        self.lock.unlock()
        return before


class AtomicWord(Struct, kind=234):
    """An Atom whose one step is one scheduling point, as testers of concurrent programs count them.

    The point is the store to `step`. No other thread comes between that and the end of the step, because no access to
    `value` is a point: it is guarded, by the lock that the thread holds from its beginning to its end.
    """

    guards = {"o": own("lock"), "a": own("first"), "b": own("second"), "c": own("third")}
    lock, first, second, third = (simplelock(name) for name in ("atomic", "first", "second", "third"))
    step: Field[int] = field("o", hint=True)
    value: Field[int] = field("a|b|c")

    def get(self) -> int:
        """Its value."""
        return self.change(None)

    def change(self, to: int | None, only_from: int | None = None, by: int = 0) -> int:
        """As of an Atom."""
        self.step = 0
        return exchanged(self, to, only_from, by)


def exchanged(variable: Atom | AtomicWord, to: int | None, only_from: int | None, by: int) -> int:
    """Do what `Atom.change` does."""
    before = variable.value
    if by or (to is not None and only_from in (None, before)):
        variable.value = before + by if to is None else to
    return before


class Mutex(Struct, kind=233):
    """A lock."""

    guards = {"o": own("lock")}
    lock = simplelock("mutex")
    unused: Field[int] = field("o")

    def __enter__(self) -> None:
        self.lock.lock()

    def __exit__(self, kind: object, *rest: object) -> None:
        if kind is None:
            self.lock.unlock()


X, Y, Z, W, V = (Cell.at(number) for number in range(5))
SLOTS = [Cell.at(number) for number in range(5, 30)]
L, M, N = (Mutex.at(number) for number in range(3))
A, B, C, D, E = (Atom.at(number) for number in range(5))
OFF = {"race": "off", "lockorder": "off"}


def variables(cells: Sequence[int] = (), mutexes: int = 0, atoms: Sequence[int] = ()) -> None:
    """Setup: so many cells and atoms, with these values, and locks."""
    for value in cells:
        new(Cell).value = value
    for _ in range(mutexes):
        new(Mutex)
    for value in atoms:
        atom = new(Atom)
        atom.lock.lock()
        atom.value = value
        atom.lock.unlock()


# -- account: the formula is wrong, which shows if the checker comes last ------------------------


def account_setup() -> None:
    variables([1, 0, 0], 1)


def account_check() -> None:
    with L:
        if Y.value and Z.value:
            assert X.value == 1 - 2 - 4


def account_deposit() -> None:
    with L:
        X.value += 2
        Y.value = 1


def account_withdraw() -> None:
    with L:
        X.value -= 4
        Z.value = 1


# -- bluetooth_driver: the driver stops between the check and the count of who uses it --------------


def bluetooth_setup() -> None:
    variables([0, 0, 0], 0, [1])


def bluetooth_leave() -> None:
    if A.change(None, by=-1) == 1:
        Y.value = 1


def bluetooth_stop() -> None:
    X.value = 1
    bluetooth_leave()
    if Y.value:
        Z.value = 1


def bluetooth_add() -> None:
    if not X.value:
        A.change(None, by=1)
        assert not Z.value
    bluetooth_leave()


# -- carter01: the first of each kind takes a second lock and keeps it ---------------------------------


def carter_setup() -> None:
    variables([0, 0], 2)


def carter(counter: Cell) -> None:
    with L:
        counter.value += 1
        if counter.value == 1:
            M.lock.lock()
    with L:
        counter.value -= 1
        if counter.value == 0:
            M.lock.unlock()


def carter_one() -> None:
    carter(X)


def carter_other() -> None:
    carter(Y)


def idle() -> None:
    pass


# -- circular_buffer and queue: a turn without its flag continues with the next number ------------------

SEND, RECEIVE, HEAD, TAIL = X, Y, Z, W


def buffer_setup() -> None:
    variables([1, 0, 0, 0, 0, *[0] * 10], 1)


def buffer_produce() -> None:
    for number in range(7):
        with L:
            if SEND.value:
                SLOTS[HEAD.value % 10].value = number
                HEAD.value += 1
                SEND.value, RECEIVE.value = 0, 1


def buffer_consume() -> None:
    for number in range(7):
        with L:
            if RECEIVE.value:
                assert SLOTS[TAIL.value % 10].value == number
                TAIL.value += 1
                RECEIVE.value, SEND.value = 0, 1


def queue_setup() -> None:
    variables([1, 0, 0, 0, 0, *[0] * 21], 1)


def queue_produce() -> None:
    with L:
        SLOTS[0].value = 0
        HEAD.value = 1
        SEND.value, RECEIVE.value = 0, 1
    for number in range(1, 20):
        with L:
            if SEND.value:
                SLOTS[HEAD.value].value = number
                HEAD.value += 1
                SEND.value, RECEIVE.value = 0, 1


def queue_consume() -> None:
    for number in range(20):
        with L:
            if RECEIVE.value:
                assert SLOTS[TAIL.value].value == number
                TAIL.value += 1
                RECEIVE.value, SEND.value = 0, 1


# -- deadlock01 and lazy01 --------------------------------------------------------------------------


def two_locks() -> None:
    variables([0], 2)


def deadlock_one() -> None:
    with L, M:
        X.value += 1


def deadlock_other() -> None:
    with M, L:
        X.value -= 1


def lazy_one() -> None:
    with L:
        X.value += 1


def lazy_two() -> None:
    with L:
        X.value += 2


def lazy_check() -> None:
    with L:
        assert X.value < 3


# -- reorder: the checker comes when somebody has set the first variable and nobody the second -----------


def reorder_setup() -> None:
    variables([0, 0])


def setter() -> None:
    X.value = 1
    Y.value = -1


def checker() -> None:
    assert (X.value == 0 and Y.value == 0) or (X.value == 1 and Y.value == -1)


# -- stack: the flag is never cleared, so more is taken than was put --------------------------------------


def stack_setup() -> None:
    variables([0, 0], 1)


def stack_push() -> None:
    for _ in range(10):
        with L:
            X.value += 1
            Y.value = 1


def stack_pop() -> None:
    for _ in range(10):
        with L:
            if Y.value:
                assert X.value > 0
                X.value -= 1


# -- token_ring -----------------------------------------------------------------------------------------


def ring_setup() -> None:
    variables([1, 2, 1, 0, 0], 1, [])


def ring(step: Callable[[], None]) -> None:
    with L:
        step()
        W.value += 1


def ring_one() -> None:
    ring(lambda: setattr(X, "value", (Z.value + 1) % 4))


def ring_two() -> None:
    ring(lambda: setattr(Y, "value", X.value))


def ring_three() -> None:
    ring(lambda: setattr(Z, "value", Y.value))


def ring_check() -> None:
    with L:
        if W.value == 3:
            assert X.value == Y.value == Z.value


# -- twostage: a reader comes between the two stages of a writer --------------------------------------------


def writer() -> None:
    with L:
        X.value = 1
    with M:
        Y.value = X.value + 1


def reader() -> None:
    with L:
        first = X.value
    if first:
        with M:
            second = Y.value
        assert second == first + 1


def twostage_setup() -> None:
    variables([0, 0], 2)


# -- wronglock and stringbuffer ---------------------------------------------------------------------------


def locked_right() -> None:
    with L:
        before = X.value
        X.value += 1
        assert X.value == before + 1


def locked_wrong() -> None:
    with M:
        X.value += 1


def string_setup() -> None:
    variables([3], 2)


def string_erase() -> None:
    with L:
        X.value = 0
    with L:
        X.value = 3


def string_append() -> None:
    with M:
        with L:
            length = X.value
        with L:
            assert length <= X.value


# -- WSQ: a work-stealing queue that believes it has one slot more than it has ------------------------------

FRONT, BACK, GUARD = A, B, C
#: slots of the array at first; each item is taken at most once
CAPACITY = 2


class Deque:
    """Its indices are atoms, its array are cells; the mask and where the array begins are cells too.

    Args:
        spin: its lock is an atom, exchanged until it is free, and not a lock.
        steps: cells written at each step, as a shadow of where each thread is; none: there is no such record.
    """

    def __init__(self, spin: bool, steps: bool):
        self.spin, self.steps = spin, steps

    def note(self, who: int) -> None:
        """Where a thread is."""
        if self.steps:
            SLOTS[20 + who].value += 1

    def enter(self, who: int) -> None:
        """Take the lock."""
        self.note(who)
        if not self.spin:
            L.lock.lock()
            return
        while GUARD.change(1):
            here_spins()

    def leave(self, who: int) -> None:
        """Give it back."""
        self.note(who)
        if self.spin:
            GUARD.change(0)
        else:
            L.lock.unlock()

    def push(self, item: int, who: int) -> None:
        """At the back; by the owner alone."""
        self.note(who)
        back = BACK.get()
        if back < FRONT.get() + X.value + 1:  # the defect: + 1
            SLOTS[back & X.value].value = item
            BACK.change(back + 1)
            return
        self.enter(who)
        front = FRONT.get()
        count = BACK.get() - front
        items = [SLOTS[(front + at) & X.value].value for at in range(count)]
        if count >= X.value:
            X.value = 2 * X.value + 1
        for at, other in enumerate([*items, item]):
            SLOTS[at].value = other
        FRONT.change(0)
        BACK.change(count + 1)
        self.leave(who)

    def pop(self, who: int) -> None:
        """From the back; by the owner alone."""
        self.note(who)
        back = BACK.change(None, by=-1) - 1
        if FRONT.get() <= back:
            take(SLOTS[back & X.value].value)
            return
        BACK.change(back + 1)
        self.enter(who)
        back = BACK.change(None, by=-1) - 1
        if FRONT.get() <= back:
            take(SLOTS[back & X.value].value)
        else:
            FRONT.change(0)
            BACK.change(0)
        self.leave(who)

    def steal(self, who: int) -> None:
        """From the front; by anybody."""
        self.enter(who)
        front = FRONT.get()
        FRONT.change(front + 1)
        if front < BACK.get():
            take(SLOTS[front & X.value].value)
        else:
            FRONT.change(front)
        self.leave(who)


def here_spins() -> None:
    """Give way while what is waited for is not there."""
    from shared.port.port import here

    here.port.spin()


def take(item: int) -> None:
    """An item is taken: the first time, or not."""
    taken = SLOTS[10 + item]
    taken.value += 1
    assert taken.value == 1, "taken twice"


def wsq_setup() -> None:
    variables([CAPACITY - 1, 0, 0, 0, 0, *[0] * 25], 1, [0, 0, 0])


def wsq_check() -> None:
    assert all(SLOTS[10 + item].value == 1 for item in range(4)), "not taken once each"


WSQ, IWSQ, IWSQWS = Deque(False, False), Deque(True, False), Deque(True, True)


def owner(deque: Deque) -> None:
    for item in (0, 2):
        deque.push(item, 0)
        deque.push(item + 1, 0)
        deque.pop(0)
    deque.pop(0)
    deque.pop(0)


def wsq_owner() -> None:
    owner(WSQ)


def wsq_thief() -> None:
    WSQ.steal(1)
    WSQ.steal(1)


def iwsq_owner() -> None:
    owner(IWSQ)


def iwsq_thief() -> None:
    IWSQ.steal(1)
    IWSQ.steal(1)


def iwsqws_owner() -> None:
    owner(IWSQWS)


def iwsqws_thief() -> None:
    IWSQWS.steal(1)
    IWSQWS.steal(1)


def swsq_owner() -> None:
    for item in range(4):
        IWSQWS.push(item, 0)
    for _ in range(4):
        IWSQWS.pop(0)


def swsq_thief() -> None:
    IWSQWS.steal(1)
    IWSQWS.steal(1)


def swsq_other_thief() -> None:
    IWSQWS.steal(2)
    IWSQWS.steal(2)


# -- SafeStack: what a thread has seen has been taken and put back meanwhile -------------------------------

WORDS = [AtomicWord.at(number) for number in range(5)]
TOP, COUNT, *NEXT = WORDS


def safestack_setup() -> None:
    variables([0] * 8)
    for value in (0, 3, 1, 2, -1):
        word = new(AtomicWord)
        word.first.lock()
        word.value = value
        word.first.unlock()


def safestack_pop() -> int:
    while COUNT.get() > 1:
        top = TOP.get()
        following = NEXT[top].change(-1)
        if following >= 0:
            if TOP.change(following, only_from=top) == top:
                COUNT.change(None, by=-1)
                return top
            NEXT[top].change(following)
        else:
            here_spins()
    return -1


def safestack_push(number: int) -> None:
    while True:
        top = TOP.get()
        NEXT[number].change(top)
        if TOP.change(number, only_from=top) == top:
            break
    COUNT.change(None, by=1)


def safestack(me: int) -> None:
    mine = [(word.first, word.second, word.third)[me - 1] for word in WORDS]
    for lock in mine:
        lock.lock()
    for _ in range(2):
        number = safestack_pop()
        while number < 0:
            here_spins()
            number = safestack_pop()
        SLOTS[number].value = me
        assert SLOTS[number].value == me, "somebody else has it too"
        safestack_push(number)
    for lock in mine:
        lock.unlock()


def safestack_one() -> None:
    safestack(1)


def safestack_two() -> None:
    safestack(2)


def safestack_three() -> None:
    safestack(3)


def _program(setup: Body, *threads: Body, check: Body | None = None) -> Program:
    return Program(setup, threads, check, OFF)


#: name -> the program; those with a number have that many setters or writers, and checkers or readers
PROGRAMS: dict[str, Program] = {
    "account": _program(account_setup, account_check, account_deposit, account_withdraw),
    "bluetooth_driver": _program(bluetooth_setup, bluetooth_stop, bluetooth_add),
    "carter01": _program(carter_setup, carter_one, carter_other, idle, idle),
    "circular_buffer": _program(buffer_setup, buffer_produce, buffer_consume),
    "deadlock01": _program(two_locks, deadlock_one, deadlock_other),
    "lazy01": _program(two_locks, lazy_one, lazy_two, lazy_check),
    "queue": _program(queue_setup, queue_produce, queue_consume),
    **{
        f"reorder_{name}": _program(reorder_setup, *[setter] * setters, *[checker] * checkers)
        for name, setters, checkers in (
            (3, 2, 1), (4, 3, 1), (5, 4, 1), (10, 9, 1), (20, 10, 10), (50, 40, 10), (100, 99, 1),
        )
    },
    "stack": _program(stack_setup, stack_push, stack_pop),
    "token_ring": _program(ring_setup, ring_one, ring_two, ring_three, ring_check),
    **{
        f"twostage{name}": _program(twostage_setup, *[writer] * writers, *[reader] * readers)
        for name, writers, readers in (("", 1, 1), ("_20", 10, 10), ("_50", 40, 10), ("_100", 99, 1))
    },
    "wronglock_3": _program(two_locks, locked_right, *[locked_wrong] * 3),
    "wronglock": _program(two_locks, locked_right, *[locked_wrong] * 7),
    "stringbuffer": _program(string_setup, string_erase, string_append),
    "WSQ": _program(wsq_setup, wsq_owner, wsq_thief, check=wsq_check),
    "IWSQ": _program(wsq_setup, iwsq_owner, iwsq_thief, check=wsq_check),
    "IWSQWS": _program(wsq_setup, iwsqws_owner, iwsqws_thief, check=wsq_check),
    "SWSQ": _program(wsq_setup, swsq_owner, swsq_thief, swsq_other_thief, check=wsq_check),
    "SafeStack": Program(
        safestack_setup, [safestack_one, safestack_two, safestack_three], None, {**OFF, "progress": "off"}, 1_000
    ),
}  # fmt: skip
