"""An engine that also says what an execution showed of how contexts met: the coverage that guides the fuzzer.

Three kinds of *sights*, each about two functions or two classes of locks:

    flow   a context loaded in function G a field that another context had stored in function F
    order  a lock of class G was asked for while one of class F was held
    meet   a context had stopped in function F, before an operation on a struct, and another context
           accessed that struct in function G

A line of code that is executed says little about races; which stores reach which loads says much (Snowboard, Gong et
al., SOSP 2021). Kernel functions, fields and classes have the same names in every program, so sights of different
programs can be compared.

Only the fuzzer uses this engine: a search that does not ask pays nothing.

Left out: words of user memory, locks tried (which order nothing), and locks as such in `meet`: a lock counts as its
struct.
"""

from __future__ import annotations

from typing import NamedTuple

from cluster.machine import Machine
from cluster.search.strategy import Strategy
from cluster.sim.engine import Sim
from cluster.sim.schedule import Execution
from nodes.cpu import FINISHED, Thread
from shared.findings import Finding
from shared.port.lockref import LockRef
from shared.port.port import Context, Value
from shared.port.struct import LOCK_SHIFT, FieldBase, Struct

FLOW, ORDER, MEET = "flow", "order", "meet"
#: bits of a slot's number in the name of a place
SLOTS = 24


class Sight(NamedTuple):
    """A way in which contexts met in an execution.

    Attributes:
        kind: FLOW, ORDER or MEET.
        what: the field, as "anon.an_ref"; the kind of struct, as "anon"; of an order "".
        first, second: functions, or classes of locks; in the order of the kind's description.
    """

    kind: str
    what: str
    first: str
    second: str


class Place(NamedTuple):
    """Where a context was."""

    ctx: Context
    function: str


class Observed(Sim):
    """The engine, for executions that are not recorded.

    Attributes:
        sights: of all executions so far; the caller may remove them.
        stored: place in the heap -> who stored there last, in this execution.
        stopped: id of a struct -> who has stopped before an operation on it.
    """

    def __init__(self, machine: Machine, image: dict[str, object] | None):
        self.sights: set[Sight] = set()
        self.stored: dict[int, Place] = {}
        self.stopped: dict[int, Place] = {}
        super().__init__(machine, image)

    def execute(self, strategy: Strategy, record: bool = False) -> Finding | None:
        self.stored, self.stopped = {}, {}
        return super().execute(strategy, record)

    def _new_execution(self, strategy: Strategy, record: bool) -> Execution:
        execution = super()._new_execution(strategy, record)
        self.looks = True  # (see _about)
        return execution

    def load(self, obj: Struct, field: FieldBase, slot: int) -> Value:
        value = super().load(obj, field, slot)
        ctx = self.cur
        last = self.stored.get(obj.id << SLOTS | slot)
        if last is not None and last.ctx is not ctx:
            self.sights.add(Sight(FLOW, field.key, last.function, ctx.function))
        if self.stopped:
            self._meets(ctx, obj)
        return value

    def store(self, obj: Struct, field: FieldBase, slot: int, value: object) -> None:
        super().store(obj, field, slot, value)
        ctx = self.cur
        self.stored[obj.id << SLOTS | slot] = Place(ctx, ctx.function)
        if self.stopped:
            self._meets(ctx, obj)

    def lock(self, ref: LockRef, mode: str) -> None:
        for held in self.cur.held:
            self.sights.add(Sight(ORDER, "", held.ref.cls, ref.cls))
        super().lock(ref, mode)

    def _meets(self, ctx: Context, obj: Struct) -> None:
        """A context has accessed a struct."""
        place = self.stopped.get(obj.id)
        if place is not None and place.ctx is not ctx:
            self.sights.add(Sight(MEET, type(obj).kind_name, place.function, ctx.function))

    def _go(self, thread: Thread | None) -> None:
        left = self.cur
        struct = _about(left) if thread is not None and isinstance(left, Thread) else 0
        if struct:
            self.stopped[struct] = Place(left, left.function)
        super()._go(thread)
        if struct:
            place = self.stopped.get(struct)
            if place is not None and place.ctx is left:
                del self.stopped[struct]


def _about(thread: Thread) -> int:
    """Id of the struct of the operation before which a context has stopped; 0: it waits, has ended, or needs none."""
    if thread.asks is None or thread.waits is not None or thread.state == FINISHED:
        return 0
    code, target, _ = thread.asks
    if code in ("load", "store"):
        return target
    return target >> LOCK_SHIFT if code in ("lock", "try", "unlock") else 0
