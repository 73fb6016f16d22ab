"""Which operations depend on each other: the relation by which orders of operations are told apart.

Two operations are dependent if there is a state in which their order matters, for the state behind them or for whether
one of them can be performed. An operation's *footprint* says it: the resources that it reads and those that it writes.
Two operations are dependent if one of them writes what the other reads or writes, or if they are of one processor.
A processor performs its contexts' operations one by one; who has it, and which interrupts it lets in, depends on each
of them. Executions that differ only in the order of neighbours that are independent are one *class* (a Mazurkiewicz
trace).

`OPERATIONS` (shared/wire/messages.py) lists the kinds, and `RULES` has a line for each, with the resources below.

    field     of one struct, by its number; and the struct as a whole, which its end writes and each access reads
    lock      of one key: each request, granted or not, a try, and a release writes it
    chan      a sleep reads it, since a wakeup wakes all, in any order in which they went to sleep; a wakeup writes it
    frame     all words of it; word: one of them
    pte       one entry of a page table; mmu: all page tables, and what they share; bits: R and M of all pages
    node      the queue of a device, whose order is the order of its requests
    alloc     the numbers that one memory gives to new structs of one kind

The relation looks at what is asked for, not at what is there: two stores of one value are dependent, and so are two
tries that both fail. It is coarser than it need be in two places: two reads of a whole frame are dependent, and so are
changes of two pmaps, which share pv lists.

Not an operation of its own: an access that needs no scheduling point (cluster/sim/heap.py). Another context that
accesses the same field holds the same lock, so the locks' operations order the two; or the struct is private, and the
store that publishes its handle orders them. That fails for a stale handle of a struct that another context has made its
own: `--granularity access` has every access as an operation.
"""

from __future__ import annotations

from collections.abc import Callable

from shared.uvm.structs import Page

#: kind, and numbers of the struct, the field, the lock ...
Resource = tuple[object, ...]


class Footprint:
    """The resources that an operation reads and writes."""

    __slots__ = ("reads", "writes")

    def __init__(self, reads: frozenset[Resource], writes: frozenset[Resource]):
        self.reads, self.writes = reads, writes

    def conflicts(self, other: Footprint) -> bool:
        """Does one of the two write what the other reads or writes?"""
        return not (
            self.writes.isdisjoint(other.writes)
            and self.writes.isdisjoint(other.reads)
            and self.reads.isdisjoint(other.writes)
        )

    def with_more(self, other: Footprint) -> Footprint:
        """Of both together."""
        return Footprint(self.reads | other.reads, self.writes | other.writes)


NONE: frozenset[Resource] = frozenset()
NOTHING = Footprint(NONE, NONE)
Args = tuple[object, ...]
Rule = Callable[[int, Args], Footprint]
#: what all pmaps share; the bits R and M, which a walk may set
MMU: Resource = ("mmu",)
BITS: Resource = ("bits",)
#: every access to a frame reads it; an access that has not been performed, so that its frame is not known, writes it
ANY_FRAME: Resource = ("frames",)


def _of(reads: tuple[Resource, ...] = (), writes: tuple[Resource, ...] = ()) -> Footprint:
    return Footprint(frozenset(reads), frozenset(writes))


def _load(target: int, args: Args) -> Footprint:
    return _of((("struct", target), ("field", target, args[2])))


def _store(target: int, args: Args) -> Footprint:
    return _of((("struct", target),), (("field", target, args[2]),))


def _struct(target: int, args: Args) -> Footprint:
    return _of((), (("struct", target),))


def _identify(target: int, args: Args) -> Footprint:
    return _of((("struct", target),))


def _alloc(target: int, args: Args) -> Footprint:
    return _of((), (("alloc", target, args[0]),))


def _lock(target: int, args: Args) -> Footprint:
    return _of((), (("lock", target),))


def _sleep(target: int, args: Args) -> Footprint:
    return _of((("chan", target),))


def _wakeup(target: int, args: Args) -> Footprint:
    return _of((), (("chan", target),))


def _frame(target: int, args: Args) -> Footprint:
    return _of((ANY_FRAME,), (("frame", target),))


def _frame_copy(target: int, args: Args) -> Footprint:
    return _of((ANY_FRAME,), (("frame", target), ("frame", args[0])))


def _frame_store(target: int, args: Args) -> Footprint:
    return _of((ANY_FRAME, ("frame", target)), (("word", target, args[0]),))


def _word_read(target: int, args: Args) -> Footprint:
    return _of((ANY_FRAME, ("frame", target), ("word", target, args[0]), _life(target)))


def _word_write(target: int, args: Args) -> Footprint:
    return _of((ANY_FRAME, ("frame", target), _life(target)), (("word", target, args[0]),))


def _life(frame: int) -> Resource:
    """Of the frame's page: an access by way of a translation to a page that is gone is noticed."""
    return ("struct", Page.at(frame).id)


def _pmap_walk(target: int, args: Args) -> Footprint:
    return _of((MMU, BITS), (("pte", target, args[0]),))


def _pmap_activate(target: int, args: Args) -> Footprint:
    return _of((MMU,), (("cpu", args[0]),))


def _mmu_reads(target: int, args: Args) -> Footprint:
    return _of((MMU,))


def _reads_bits(target: int, args: Args) -> Footprint:
    return _of((MMU,), (BITS,))


def _mmu(target: int, args: Args) -> Footprint:
    return _of((), (MMU,))


def _access(target: int, args: Args) -> Footprint:
    """As long as the frame is not known: any."""
    return _of((MMU, BITS), (("pte", target), ANY_FRAME))


def _nothing(target: int, args: Args) -> Footprint:
    return NOTHING


def _node(name: str) -> Rule:
    footprint = _of((), (("node", name),))

    def rule(target: int, args: Args) -> Footprint:
        return footprint

    return rule


RULES: dict[str, Rule] = {
    "load": _load,
    "store": _store,
    "alloc": _alloc,
    **dict.fromkeys(("free", "renew"), _struct),
    "identify": _identify,
    "word_read": _word_read,
    "word_write": _word_write,
    **dict.fromkeys(("frame_zero", "frame_read", "frame_write"), _frame),
    "frame_copy": _frame_copy,
    "frame_store": _frame_store,
    **dict.fromkeys(("lock", "try", "unlock", "downgrade", "upgrade"), _lock),
    "sleep": _sleep,
    "wakeup": _wakeup,
    **dict.fromkeys(("pmap_create", "pmap_bootstrap", "pmap_object", "pmap_ptp_enter", "pmap_destroy"), _mmu),
    **dict.fromkeys(("pmap_enter", "pmap_remove", "pmap_protect", "pmap_emulate_reference", "pmap_unwire"), _mmu),
    **dict.fromkeys(("pmap_page_protect", "pmap_page_protect_unwired"), _mmu),
    **dict.fromkeys(("pmap_clear_modify", "pmap_clear_reference", "pmap_ack"), _mmu),
    "pmap_activate": _pmap_activate,
    "pmap_walk": _pmap_walk,
    **dict.fromkeys(("pmap_extract", "pmap_allows"), _mmu_reads),
    **dict.fromkeys(("pmap_is_mapped", "pmap_is_modified", "pmap_is_referenced"), _reads_bits),
    **dict.fromkeys(("swap_attach", "swap_put", "swap_get", "io_next", "io_done"), _node("swap_pager")),
    **dict.fromkeys(("disk_start", "disk_get", "disk_put", "disk_format", "disk_next", "disk_done"), _node("disk")),
    "dev_send": _node("devices"),
    "access": _access,
    **dict.fromkeys(("run", "userret", "intr", "iret", "choose"), _nothing),
}


#: footprints that were asked for, of operations that come often; MOST of them at most
_KNOWN: dict[tuple[str, int, object], Footprint] = {}
MOST = 1 << 16


def footprint(code: str, target: int, args: Args) -> Footprint:
    """The footprint of an operation that is asked for, as far as it shows before the operation is performed.

    Args:
        code, target, args: as `nodes.cpu.Pending` has them.
    """
    if code in ("load", "store"):
        key = code, target, args[2]
    elif code in ("lock", "unlock"):
        key = "lock", target, None
    else:
        return RULES[code](target, args)
    known = _KNOWN.get(key)
    if known is None:
        if len(_KNOWN) >= MOST:
            _KNOWN.clear()
        known = _KNOWN[key] = RULES[code](target, args)
    return known
