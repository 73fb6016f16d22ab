"""The deterministic engine: every node in one process, every context a greenlet.

At a scheduling point the strategy picks who performs the next operation; where
it goes on with the same context there is no switch at all. Nothing here knows
UVM, and nothing imports Ray.

Thinning: an access whose guard its context holds is no scheduling point, unless
the field is *racy*: a hint, or seen unguarded in any execution so far (`racy`
grows; exploration goes on with the larger set). A struct is private to its
creator until its handle is stored where others can find it, or another context
touches it; accesses to it are no points either. Every access is an operation
with a number all the same.

Spl: an interrupt is offered at the next scheduling point after the level drops.

Recorded, a run is judged by its records (shared/race.py), and ends after exactly as many operations as it may have.
Unrecorded, both are only approximate, for speed: races of fields that are not yet racy are missed, the first race
ends the run, and so does the first point behind the last operation. So the finding of an unrecorded run must
be confirmed by a recorded run of the same schedule.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

from greenlet import getcurrent, greenlet

from cluster.machine import SITES, Machine
from cluster.strategies import Stay, Strategy, default
from cluster.verdict import came_before, endless, final_state, judge, no_end, promise, refused, sort_out
from nodes.build import alloc_shard, big_lock
from nodes.cpu import FINISHED, Processor, Thread, Tlb
from nodes.node import Node
from shared.deviation import Deviation
from shared.errors import PortDead
from shared.findings import Finding
from shared.guards import Guards
from shared.journal import Journal, operation_record
from shared.locks.order import LockOrder
from shared.messages import OPERATIONS, WAIT, Grant, Interrupt, KernelFinding, Wake
from shared.oracle import Oracle
from shared.port import ANY_GEN, Port, here
from shared.provenance import MOVES
from shared.race import RaceDetector, Watch
from shared.struct import LOCK_SHIFT, FieldBase, Struct, lock_sleeps

#: points of an unrecorded run between two looks at how many operations it has had
LOOK_EVERY = 256

S = TypeVar("S", bound=Struct)


class Sim(Port):
    """One machine, run as often as wanted, each time from the same image.

    Args:
        machine: its nodes' state is replaced at every execution.
        image: what `boot` gave; None while booting.
        racy: keys of fields that are scheduling points although guarded; grows.
        granularity: "guarded" (the thinning rule) or "access" (every access is a point).
        limit: operations that a run may have; None: as many as the scenario says.
    """

    def __init__(
        self,
        machine: Machine,
        image: dict[str, Any] | None,
        racy: set[str] | None = None,
        granularity: str = "guarded",
        limit: int | None = None,
    ):
        scenario = machine.scenario
        config = scenario.machine
        super().__init__(
            frozenset(scenario.errata), dict(scenario.detect), config.page_size, config.memory_shards, big_lock(config)
        )
        self.machine, self.image_ = machine, image
        self.racy: set[str] = set() if racy is None else racy
        self.every_access = granularity == "access"
        self.limit = scenario.limit if limit is None else limit
        self.route = {code: self._router(code) for code, op in OPERATIONS.items() if not op.local}
        self.journals: dict[str, Journal] | None = None
        self.strategy: Strategy = Stay()
        self.hub: Any = None
        self.pool: list[Any] = []
        self.race: RaceDetector | None = None  # unrecorded
        self.watch: Watch | None = None  # recorded
        self.heap: dict[int, list[Any]] = {}
        self.guards = Guards(self.heap)
        self.cpu_stats: dict[str, dict[str, int]] = {}
        self.booting = image is None
        self.oracle: Oracle | None = None
        self._asks_oracle = not self.booting and self.detect.get("oracle", "stop") != "off"

    def _router(self, code: str) -> Callable[[int], Node]:
        route, nodes = self.machine.route[code], self.machine.nodes
        return lambda target: nodes[route(target)]

    # -- one execution ---------------------------------------------------------

    def execute(self, strategy: Strategy, record: bool = False) -> Finding | None:
        """Run the machine once, from its image to the end; returns the finding, if any.

        Args:
            record: keep journals (`self.journals`), and judge the run by them.
        """
        self._restore()
        self.strategy = strategy
        strategy.new_execution()
        self.journals = {name: Journal(name) for name in self.machine.nodes} if record else None
        races, order = (self.detect.get(one, "stop") != "off" for one in ("race", "lockorder"))
        self.race = RaceDetector() if races and not record and not self.booting else None
        self.watch = Watch(self.image_) if (races or order) and record and self.image_ is not None else None
        self.order, self.learns_order = LockOrder(), not record
        self.oracle = Oracle(self.machine.scenario, self.image_) if self._asks_oracle else None
        self.fast = not record and not self.every_access
        self.total = 0  # operations so far, if recorded
        self.look = min(LOOK_EVERY, self.limit)  # the point at which to count them, if not
        self.deviations: list[Deviation] = []
        self.points = 0
        self.last = -1
        self.enabled: list[Thread] = []
        self.able: dict[str, list[Thread]] = {one.name: [] for one in self.machine.processors}
        self.dirty = set(self.machine.processors)  # where something has changed that decides who may go on
        self.crash: BaseException | None = None
        here.port = self
        self.hub = getcurrent()
        if not self._refuses():
            first = self._pick(None)
            if first is not None:
                self._go(first)
        if self.crash is None and not self.booting:
            self._verdicts()
        elif self.ended:
            self.finding = no_end(final_state(self.machine), self.limit)
        self.dead = True
        for one in self.machine.threads.values():
            if one.glet is not None:
                one.glet.throw(PortDead)
        for counters in self.cpu_stats.values():
            for name, count in counters.items():
                self.counters[name] = self.counters.get(name, 0) + count
        if self.crash is not None:
            raise self.crash
        return self.finding

    def _refuses(self) -> bool:
        """Do the nodes' tables differ, so that nothing may be performed?"""
        found = None if self.booting else refused({name: node.tables() for name, node in self.machine.nodes.items()})
        level = "off" if found is None else found.level(self.detect)
        if found is not None and level == "note":
            self.notes.append(found)
        elif found is not None and level == "stop":
            self.finding = found
        return level == "stop"

    def _verdicts(self) -> None:
        """The run is over: what is wrong with it, and with the machine as it is now?"""
        watched = self.watch.findings() if self.watch is not None else []
        found: Finding | None
        if self.finding is not None:
            found, notes = came_before(watched, self.finding, self.detect)
        elif self.ended:
            found, notes = sort_out(self._endless(watched), self.detect)
        else:
            oracle = self.oracle.finding if self.oracle is not None else None
            state = final_state(self.machine)
            unexpected = promise(self.machine.scenario, self.results, state)
            found, notes = sort_out(judge(state, self.detect, oracle, unexpected, watched), self.detect)
        self.finding = found
        self.notes += notes

    def _endless(self, watched: list[Finding]) -> list[Finding]:
        """What is wrong with a run that has had all operations that it may have."""
        old = set()
        for one in self.machine.threads.values():
            if one.waits is not None and one.waits[0] in self.route:
                code, target = one.waits
                if one.waits_since * 2 < self.route[code](target).admitted:
                    old.add(one.name)
        return endless(final_state(self.machine), self.detect, self.limit, old, watched)

    def _restore(self) -> None:
        self.machine.reset()
        if self.image_ is not None:
            for name, node in self.machine.nodes.items():
                node.load_image(self.image_[name])
        heap: dict[int, list[Any]] = {}
        for memory in self.machine.memories:
            heap.update(memory.heap)
        frames = self.machine.memories[0].frames
        for memory in self.machine.memories:  # one address space; only numbering is per shard
            memory.heap = heap
            if memory is not self.machine.memories[0]:
                for number in range(memory.shard, len(frames), memory.shards):
                    frames[number] = memory.frames[number]
                memory.frames = frames
        self.heap = self.guards.heap = heap
        self.dead = self.ended = False
        self.finding = self.stale = self.passed = None
        self.notes, self.counters, self.cpu_stats = [], {}, {}
        self.sites = dict(self.image_.get(SITES, {})) if self.image_ is not None else {}
        for node in self.machine.nodes.values():
            node.sites = self.sites
        self.cur = None

    # -- scheduling ------------------------------------------------------------

    def _pick(self, current: Thread | None) -> Thread | None:
        """Ask the strategy who goes on; `current` is None if the context that ran cannot.

        Returns: None if nobody can.
        """
        enabled = self._who_can() if self.dirty else self.enabled
        if not enabled:
            return None
        self.points += 1
        if self.points >= self.look:
            self._count()
        if self.total >= self.limit:
            return self._last(enabled)
        if current is not None and current not in enabled:
            current = None
        self.at_point = current is not None
        one = self.strategy.pick(enabled, current)
        if one is not current:
            if one is not default(enabled, current, self.last):
                self.deviations.append(Deviation(*self.key(), one.name))
            self.last = one.order
        return one

    def _count(self) -> None:
        """Look how many operations an unrecorded run has had, and when to look again."""
        if self.journals is None:
            left = self.limit - self.steps
            if left <= 0:
                self._end()
            self.look = self.points + max(1, min(LOOK_EVERY, left // 4))

    def _last(self, enabled: list[Thread]) -> Thread:
        """There may be no more operations: whoever has waited, and can go on now, goes on as far as its next one.

        So it does not matter in which order the operations came.
        """
        for one in enabled:
            if one.waits is not None and not one.parked:
                return one
        self._end()

    def _no_more(self) -> NoReturn:
        """An operation is asked for that the run may not have any more."""
        self._go(self._last(self._who_can() if self.dirty else self.enabled))
        raise PortDead

    def _end(self) -> NoReturn:
        """The run has had all operations that it may have."""
        self.ended = self.dead = True
        raise PortDead

    def _who_can(self) -> list[Thread]:
        """The contexts that may go on, in fixed order; asks only the processors where something has changed."""
        enabled = self.enabled
        for processor in self.dirty:
            were, now = self.able[processor.name], processor.choices()
            if were != now:
                for one in were:
                    enabled.remove(one)
                for one in now:
                    insort(enabled, one, key=_order)
                self.able[processor.name] = now
        self.dirty.clear()
        return enabled

    def key(self) -> tuple[str, int, str]:
        """Where the schedule is: the context that ran, its operation number, and whether it could go on."""
        ran = self.cur
        return (ran.name, ran.n, "point" if self.at_point else "wait") if ran is not None else ("", 0, "wait")

    def point(self) -> None:
        if self.dead:
            raise PortDead
        current = self.cur
        if not self.dirty and len(self.enabled) == 1 and self.enabled[0] is current:
            self.points += 1
            if self.points >= self.look:
                self._count()
            return
        one = self._pick(current)
        if one is not current:
            self._go(one)

    def spin(self) -> None:
        if self.dead:
            raise PortDead
        one = self._pick(None)
        if one is not self.cur:
            self._go(one)

    def _begin(self, one: Thread) -> None:
        """Give `one` its CPU, if it has not got it."""
        processor = one.processor
        takes = processor.takes(one)
        self.cur = one
        if takes == "run":
            processor.run(one)
            self._local(one, processor, "run")
            self.dirty.add(processor)
        elif takes == "intr":
            message, under, at = processor.intr(one)
            self._local(one, processor, "intr", message, under, at)
            self.dirty.add(processor)

    def _go(self, one: Thread | None) -> None:
        """Go on with `one` (None: the run is over); returns when the calling context may go on."""
        if one is None:
            self.hub.switch()
        else:
            self._begin(one)
            if one.glet is None:
                one.glet = self.pool.pop() if self.pool else _Pooled(_run_jobs, self.hub)
                one.glet.job = self, one
                one.glet.switch()
            elif one.glet is not getcurrent():
                one.glet.switch()
        if self.dead and getcurrent() is not self.hub:
            raise PortDead

    def _body(self, thread: Thread) -> Thread | None:
        """Run one context to its end; returns who goes on then (None: the run is over)."""
        following = None
        try:
            thread.body()
            self._ended(thread)
            following = self._pick(None)
        except PortDead:
            pass
        except BaseException as error:  # a bug of ours, or of a patch: let the caller of execute() see it
            self.crash = self.failed(error)
        thread.glet = None
        return following

    def _ended(self, thread: Thread) -> None:
        """A context's body has returned."""
        processor = thread.processor
        if thread.interrupt:
            if self.every_access:
                self.point()
            self.dirty.add(processor)
            self._local(thread, processor, "iret")
            processor.iret(thread)
            return
        self.dirty.add(processor)
        self.check_end()
        thread.state, thread.ready = FINISHED, False
        processor.park(thread)

    def _wait(self, ctx: Thread, code: str, target: int, park: bool) -> Any:
        """Wait until granted or woken, keeping the CPU or (park) giving it up; returns the grant's value."""
        ctx.waits = (code, target)
        if park:
            ctx.processor.park(ctx)
        self.dirty.add(ctx.processor)
        following = self._pick(ctx if ctx.ready else None)
        if following is ctx:
            self._begin(ctx)
        else:
            self._go(following)
        ctx.waits = None
        if self.race is not None:
            self.race.goes_on(ctx.name, ctx.cpu)
        return ctx.value

    # -- operations ------------------------------------------------------------

    @property
    def steps(self) -> int:
        """Operations performed in this execution."""
        return sum(one.n for one in self.machine.threads.values())

    @property
    def results(self) -> dict[str, list[dict[str, Any]]]:
        """Context -> its steps' results, of this execution."""
        return {name: one.results for name, one in self.machine.threads.items() if one.results}

    def perform(self, code: str, target: int, args: tuple[Any, ...]) -> Any:
        if self.dead:
            raise PortDead
        if self.total >= self.limit:
            self._no_more()
        ctx: Thread = self.cur
        ctx.n += 1
        ctx.processor.k += 1
        node = self.route[code](target)
        node.admitted += 1
        if code == "sleep":
            ctx.woken = False
            ctx.waits_since = node.admitted
        try:
            result = node.admit(ctx.name, code, target, args)
        except KernelFinding as found:
            if self.journals is not None:
                refused = operation_record(code, target, args, None, [])
                self._record(node.name, ctx, {**refused, "refused": found.kind})
            return self.refused(found, code, target, args)
        out, node.out = node.out, []
        if self.journals is not None:
            self._record(node.name, ctx, operation_record(code, target, args, result, out))
        if self.oracle is not None and code in MOVES:
            self.oracle.trail.add(ctx.name, ctx.n, ctx.stack, code, target, args, None if result is WAIT else result)
        if self.race is not None:
            raised = [one.ctx for one in out if isinstance(one, Interrupt)]
            self.race.operation(
                ctx.cpu, code, target, result, [one.ctx for one in out if not isinstance(one, Interrupt)], raised
            )
        if result is WAIT:
            ctx.ready = ctx.woken = False
            ctx.waits_since = node.admitted
        if out:
            self._deliver(out)
        if result is WAIT:
            if OPERATIONS[code].sleeps or (OPERATIONS[code].target == "lock" and lock_sleeps(target)):
                return self.wait_asleep(code, target)
            return self._wait(ctx, code, target, park=False)
        return result

    def _deliver(self, out: list[Any]) -> None:
        threads = self.machine.threads
        for delivery in out:
            one = threads[delivery.ctx]
            if isinstance(delivery, Grant):
                one.grant(delivery.value)
            elif isinstance(delivery, Wake):
                one.wake()
            else:
                one.processor.pending[one.name].append(delivery.message)
            self.dirty.add(one.processor)

    def _record(self, node: str, ctx: Thread, record: dict[str, Any]) -> None:
        assert self.journals is not None
        record["ctx"], record["n"], record["cpu"], record["k"] = ctx.name, ctx.n, ctx.cpu, ctx.processor.k
        self.total += 1
        self._write(node, record)

    def _write(self, node: str, record: dict[str, Any]) -> None:
        assert self.journals is not None
        self.journals[node].add(record)
        if self.watch is not None:
            self.watch.record(record)

    def _local(self, ctx: Thread, processor: Processor, code: str, *args: Any) -> None:
        """An operation that the context's own CPU admits."""
        if self.total >= self.limit:
            self._no_more()
        ctx.n += 1
        processor.k += 1
        if self.journals is not None:
            self._record(processor.name, ctx, operation_record(code, 0, args, None, []))
        if self.race is not None:
            if code == "run":
                self.race.goes_on(ctx.name, processor.name)
            elif code == "intr":
                self.race.interrupts(ctx.name, processor.name)

    def record_event(self, event: str, **fields: Any) -> None:
        if self.journals is not None:
            ctx: Thread = self.cur
            at = ctx.processor.k
            self._write(ctx.cpu, {"event": event, "ctx": ctx.name, "n": ctx.n, "at": at, **fields})

    def wait_for_wakeup(self) -> None:
        ctx: Thread = self.cur
        ctx.ready = ctx.woken
        self._wait(ctx, "sleep", ctx.chan, park=True)

    def interrupted(self) -> list[Thread]:
        found: list[Thread] = self.cur.processor.interrupted()
        return found

    def userret(self) -> None:
        if self.every_access:
            self.point()
        ctx: Thread = self.cur
        self._local(ctx, ctx.processor, "userret")
        self._wait(ctx, "userret", 0, park=True)

    def stats(self) -> dict[str, int]:
        cpu: str = self.cur.cpu
        counters = self.cpu_stats.get(cpu)
        if counters is None:
            counters = self.cpu_stats[cpu] = {}
        return counters

    def accessed(self, proc: int, va: int, write: bool, value: int, frame: int) -> None:
        if self.oracle is not None:
            ctx: Thread = self.cur
            self.oracle.access(ctx.name, ctx.n, proc, va, write, value, frame)

    def called(self, op: str, args: dict[str, Any]) -> None:
        super().called(op, args)
        if self.oracle is not None:
            self.oracle.called(self.cur.name, op, args)

    def returned(self, op: str, result: int | str) -> None:
        super().returned(op, result)
        if self.oracle is not None:
            self.oracle.returned(self.cur.name, op, result)

    def tlb(self) -> Tlb:
        tlb: Tlb = self.cur.processor.tlb
        return tlb

    def spl(self, level: int) -> int:
        self.dirty.add(self.cur.processor)
        return super().spl(level)

    # -- heap, with the thinning rule -------------------------------------------

    def load(self, obj: Struct, field: FieldBase, slot: int) -> Any:
        ctx: Thread = self.cur
        if self.fast:
            rec = self.heap.get(obj.id)
            if rec is not None and slot < len(rec) and self._plain(ctx, obj, field, rec):
                ctx.n += 1
                return rec[slot]
        self._access_point(ctx, obj, field, slot, False)
        if self.journals is not None:
            return self.perform("load", obj.id, (obj, field.name, slot, field.peek))
        if self.dead:
            raise PortDead
        rec = self.heap.get(obj.id)
        if rec is None or (rec[0] != obj.gen and obj.gen != ANY_GEN) or slot >= len(rec):
            return self.perform("load", obj.id, (obj, field.name, slot, field.peek))  # the node will refuse it
        ctx.n += 1
        return rec[slot]

    def store(self, obj: Struct, field: FieldBase, slot: int, value: Any) -> None:
        ctx: Thread = self.cur
        if self.fast:
            rec = self.heap.get(obj.id)
            if rec is not None and slot < len(rec) and self._plain(ctx, obj, field, rec):
                ctx.n += 1
                rec[slot] = value
                if rec[1] is None and isinstance(value, Struct):
                    self.guards.publish(value)
                return
        self._access_point(ctx, obj, field, slot, True)
        if self.dead:
            raise PortDead
        rec = self.heap.get(obj.id)
        refused = rec is None or (rec[0] != obj.gen and obj.gen != ANY_GEN) or slot >= len(rec)
        if self.journals is not None or rec is None or refused:
            self.perform("store", obj.id, (obj, field.name, slot, value))
            rec = self.heap.get(obj.id)
        else:
            ctx.n += 1
            rec[slot] = value
        if rec is not None and rec[1] is None and isinstance(value, Struct):
            self.guards.publish(value)

    def _plain(self, ctx: Thread, obj: Struct, field: FieldBase, rec: list[Any]) -> bool:
        """The commonest accesses in short: private, const, or under the struct's own simple lock; no point, no race."""
        if rec[0] != obj.gen or field.key in self.racy:
            return False
        if rec[1] is ctx:
            return True
        if field.simple_lock >= 0:
            if (obj.id << LOCK_SHIFT | field.simple_lock) not in ctx.held:
                return False
        elif field.mode != "const":
            return False
        rec[1] = None
        return True

    def _access_point(self, ctx: Thread, obj: Struct, field: FieldBase, slot: int, write: bool) -> None:
        """A scheduling point, unless the thinning rule says that none is needed."""
        rec = self.heap.get(obj.id)
        private = rec is not None and rec[1] is ctx
        if rec is not None and not private:
            rec[1] = None
        if field.mode == "const":
            if self.every_access:
                self.point()
            return
        guarded = private or self.guards.guarded(ctx, obj, field, write)
        hint = field.is_hint(guarded)
        racy = hint or field.key in self.racy
        if not private and not guarded and not racy:
            self.racy.add(field.key)
            racy = True
        if self.every_access or not (guarded and (private or not racy)):
            self.point()
        if self.race is not None and racy:
            missing = None if guarded else "" if hint and not write else self.guards.missing(ctx, obj, field, write)
            found = self.race.access(ctx, ctx.n + 1, obj, field, slot, write, missing, hint)
            if found is not None:
                level = self.detect.get("race", "stop")
                if level == "stop":
                    self.stop(found)
                self.notes.append(found)

    def alloc(self, kind: type[S], length: int = 0) -> S:
        ctx: Thread = self.cur
        shard = self._boot_shard(kind) if self.booting else alloc_shard(ctx.name, ctx.n, self.memory_shards)
        obj: S = self.op("alloc", shard, (kind.kind, length))
        self.guards.claim(self.cur, obj)
        return obj

    def _boot_shard(self, kind: type[Struct]) -> int:
        """While booting, structs of a kind are numbered 0, 1, 2 ... over all shards."""
        shards = self.machine.memories
        return min(range(len(shards)), key=lambda at: shards[at].next_index.get(kind.kind, at))

    def renew(self, obj: S) -> S:
        fresh = super().renew(obj)
        self.guards.claim(self.cur, fresh)
        return fresh

    def claim(self, obj: Struct) -> None:
        super().claim(obj)
        self.guards.claim(self.cur, obj)


class _Pooled(greenlet):
    """A greenlet that runs the bodies of one context after another.

    While it waits in the pool it has no reference to the engine, nor to itself: a greenlet that has not ended is
    nothing to the garbage collector, and would keep the engine, and the whole machine, for ever.

    Attributes:
        job: the engine and the context to begin with, set before it is switched to.
    """

    job: tuple[Sim, Thread] | None = None


def _run_jobs() -> None:
    """What a _Pooled runs."""
    while True:
        me = getcurrent()
        assert isinstance(me, _Pooled) and me.job is not None
        sim, thread = me.job
        me.job = None
        go, following = sim.hub, sim._body(thread)
        while following is not None:
            sim._begin(following)
            if following.glet is not None:
                go = following.glet
                break
            following.glet = me
            following = sim._body(following)
        sim.pool.append(me)
        del me, sim, thread, following
        go.switch()


def _order(one: Thread) -> int:
    return one.order
