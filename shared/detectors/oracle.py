"""The memory oracle: it checks that every program reads a value that its address space may contain.

The oracle compares the kernel with a plain model of memory (shared/detectors/memory_model.py) that knows nothing of
UVM. The model has for each page of an address space the possible *views* (mapped memory, protection, inheritance), and
for each word the possible *values*; usually there is one of both. Accesses take effect at their operation on the frame,
in the order of these operations:

    a write     replaces the possible values of the word
    a read      must return one of the possible values, which is then the only possible value
    a refusal   must have been possible at some time between the beginning and the end of the access

Between the beginning and the end of a system call, a read may see each word as it was
before or after the call. Afterwards it sees the effect of the call, or, if several calls
overlapped on a page, their effects in any order. The child of a fork has a copy of each
word as it was at some moment during the fork. Memory that is shared by MAP_SHARED or by
`minherit` is one *cell*, the words of a page, for all processes that share it.

A step declares its effect on memory once, in effect() (shared/scenario/steps), with shared/detectors/effects.py. This
module applies the effects in order, and checks the results of programs.

Rules: the oracle is a pure function of its input. `sim` asks it during a run, and
`judge_journals` asks it afterwards from journals; both give the same answer. It reports
nothing about a run that the model allows, and nothing after its first finding.

Sees: a value that a read, an fread or a kpeek returned although memory cannot contain it there; an access that was
refused without a reason. It does not see the loss of a value that is never read again.

Does not see: what effects.py leaves out; results of steps other than read, write, fread and kpeek.
SIGBUS is accepted if memory may have been short (as many pages mapped as there is swap,
counting all pages that were ever mapped), if there is a swapctl, if the swap device or
the disk has errors, or if a file is mapped beyond its end or truncated.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from shared.detectors.effects import End, Files, Memory, Refusal, Unlike
from shared.detectors.memory_model import ZERO, Cell, Page, Value, Values, either, union
from shared.detectors.provenance import MOVES, Place, Provenance, Trail
from shared.findings import Finding
from shared.journal.order import in_order
from shared.journal.record import Journals, Record
from shared.port.port import NOBODY
from shared.scenario.model import Scenario
from shared.scenario.steps.step import Args
from shared.scenario.steps.table import make
from shared.uvm.param import VM_PROT_READ, VM_PROT_WRITE
from shared.wire.images import Images

#: who accesses a word: context, number of its operation; and the frame
By = tuple[str, int, int]


class WordAccess(NamedTuple):
    """A word of a frame is read or written through a translation.

    Attributes:
        by: who does it.
        proc: index of the process whose address space it is in.
        va: virtual address.
        write: it is written.
        value: that was read or written.
    """

    by: By
    proc: int
    va: int
    write: bool
    value: int


class Oracle:
    """Watches one execution of a scenario after another, each from the state that the setup leaves.

    Args:
        image: that state, by node; only the stories of what was there before need it.

    Attributes:
        begin: memory as the setup leaves it.
        memory: as it is now.
        finding: the first thing that must not be, or None.
        trail: the operations on memory so far (shared/detectors/provenance.py), from which its story is told.
    """

    def __init__(self, scenario: Scenario, image: Images | None = None):
        self.scenario, self.page_size, self.image = scenario, scenario.machine.page_size, image or {}
        self.procs = scenario.procs
        self.proc_of = {lwp.name: lwp.proc for lwp in scenario.lwps}
        setup = [step.args for step in scenario.setup]
        steps = [*setup, *(step.args for lwp in scenario.lwps for step in lwp.program)]
        config = scenario.machine
        files = Files(self.page_size, lossy=bool(config.disk_faults))
        self.begin = Memory(dict(Counter(self.proc_of.values())), min(config.swap_slots, config.anons), files)
        self.begin.may_lack_pages |= bool(config.swap_faults)
        for args in steps:
            args.foresee(self.begin)
        for args in setup:
            args.setup_effect(self.begin)
        self.memory = self.begin
        self.restart()

    def restart(self) -> None:
        """Another execution begins."""
        if self.memory is not self.begin:
            self.memory.files.forget()
        self.memory = self.begin.copy()
        self.calls: dict[str, End | None] = {}
        self.ctx = ""  # whose step ends just now
        self.now = 0
        self.trail = Trail(self.image)
        self.finding: Finding | None = None

    # -- what it is told ---------------------------------------------------------

    def called(self, ctx: str, args: Args) -> None:
        """A step begins."""
        proc = self.proc_of[ctx]
        self.memory.born(proc)  # it runs, so its fork has done what matters
        self.calls[ctx] = None if self.finding is not None else args.effect(self.memory, proc)

    def returned(self, ctx: str, result: int | str) -> None:
        """A step has ended."""
        end = self.calls.get(ctx)
        self.calls[ctx] = None
        if end is None or self.finding is not None:
            return
        self.ctx = ctx
        wrong = end(result)
        if isinstance(wrong, Refusal):
            self._refused(wrong)
        elif wrong is not None:
            self._unlike(wrong)

    def access(self, by: By, proc: int, va: int, write: bool, value: int) -> None:
        """A word of a frame was read or written; the arguments are those of a WordAccess."""
        if self.finding is not None:
            return
        self.now += 1
        vpn, word = va // self.page_size, va % self.page_size >> 3
        page = self.memory.spaces[self.procs[proc]].pages.get(vpn)
        need = VM_PROT_WRITE if write else VM_PROT_READ
        views = () if page is None else page.views
        if len(views) == 1:
            view = views[0]
            if view is not None and view.prot & need:
                cell = view.cell
                if write:
                    cell.write(word, (value, (*by, self.now)))
                    return
                have = cell.words.get(word, ZERO)
                if len(have) == 1 and have[0][0] == value:
                    return
        self._weigh(WordAccess(by, proc, va, write, value), page, word)

    # -- an access that takes more thought -----------------------------------------

    def _weigh(self, access: WordAccess, page: Page | None, word: int) -> None:
        (ctx, n, frame), _, va, writing, number = access
        need = VM_PROT_WRITE if writing else VM_PROT_READ
        place = self.scenario.place(va)
        allowed = [view for view in page.views if view is not None and view.prot & need] if page is not None else []
        value: Value = (number, (ctx, n, frame, self.now))
        if not allowed:
            what = f"{'writes to' if writing else 'reads'} {place} without a fault, although"
            nothing = page is None or page.views == (None,)
            why = "nothing is mapped" if nothing else "the protection forbids it"
            let = self.trail.replay().let(frame, va - va % self.page_size)
            self._report(f"{ctx} {what} {why}", ctx, "user", f"page:{frame}", [f"it is operation {n} of {ctx}", *let])
            return
        if not writing:
            allowed = [view for view in allowed if self._may_be(value[0], word, view.cell)]
            if not allowed:
                self._lost(access, page, word)
                return
        assert page is not None
        if not page.left:
            page.views = tuple(allowed)
        cells = list(dict.fromkeys(view.cell for view in allowed))
        if writing:
            for cell in cells:
                if len(cells) == 1:
                    cell.write(word, value)
                else:
                    cell.add(word, (value,))
                    cell.disturb((word,))
        elif len(cells) == 1 and not (cells[0].stores or cells[0].source or cells[0].beyond or page.left):
            same = tuple(known for known in cells[0].get(word) if known[0] == value[0])
            cells[0].words[word] = same or ((value[0], None),)

    def _may_be(self, value: int, word: int, cell: Cell) -> bool:
        """May a read find this?"""
        lossy = self.memory.files.lossy and cell.below is not None
        return lossy or any(value == known for known, _ in cell.possible(word))

    def _lost(self, access: WordAccess, page: Page | None, word: int) -> None:
        """A read has returned a value that memory cannot contain there."""
        (ctx, n, frame), _, va, _, read = access
        place = self.scenario.place(va)
        assert page is not None
        possible: Values = ()
        for view in page.views:
            if view is not None and view.prot & VM_PROT_READ:
                possible = union(possible, view.cell.possible(word))
        trail = self.trail.replay()
        function, _, story = self._blame(possible, word, trail)
        text = f"{ctx} reads {read} at {place}, which must be {either(possible)}"
        where = f"it is operation {n} of {ctx}, on page:{frame}"
        came = trail.came_from(trail.of(Place("page", frame)).item(word), read, self.scenario.place)
        self._report(text, ctx, function, f"page:{frame}", [where, came, *story])

    def _blame(self, possible: Values, word: int, trail: Provenance) -> tuple[str, str, list[str]]:
        """Which function has freed the page that one of these values was written to, and which page; and the story.

        Of each value: who wrote it, and where it is now, or which operation destroyed its last copy.
        """
        function, page, story = "user", "", []
        for value, who in possible:
            origins = trail.origins(word, value) if who is None else [trail.store(who, word, value)]
            if not origins:
                begin = "a new page contains 0" if value == 0 else f"{value} was there when the run began"
                story.append(begin)
                continue
            born, fate = trail.born(origins[0], self.scenario.place), trail.fate(origins[0])
            story.append(f"the {value} that is missing: {born}" + (f"; {fate}" if fate else ""))
            freed = None if who is None else trail.freed_since(origins[0])
            if who is not None and freed is not None:
                function, page = freed, f"page:{who[2]}"
        return function, page, story

    def _taken(self, trail: Provenance, word: int, value: int) -> list[str]:
        """Where a value came from that the kernel has read for the step that ends just now."""
        taken = trail.taken.get(self.ctx, [])
        return [trail.came_from(taken[-1][1].item(word), value, self.scenario.place)] if taken else []

    def _refused(self, wrong: Refusal) -> None:
        why = (
            "the access was allowed throughout the step"
            if wrong.signal == "SIGSEGV"
            else "memory suffices for all mappings, and swap has no errors"
        )
        subject = f"proc:{self.procs.index(wrong.proc)}"
        text = f"{self.ctx} gets {wrong.signal} at {self.scenario.place(wrong.va)}, although {why}"
        self._report(text, self.ctx, "uvm_fault", subject, [])

    def _unlike(self, wrong: Unlike) -> None:
        trail = self.trail.replay()
        function, page, story = self._blame(wrong.possible, wrong.word, trail)
        story = [*self._taken(trail, wrong.word, wrong.value), *story]
        text = f"{self.ctx} {wrong.does}, which must be {either(wrong.possible)}"
        subject = wrong.subject if wrong.function else page or wrong.subject
        self._report(text, self.ctx, wrong.function or function, subject, story)

    def _report(self, text: str, ctx: str, function: str, subject: str, story: list[str]) -> None:
        self.finding = Finding("oracle", f"memory oracle: {text}", ctx, function, subject, story=story)


class Retold:
    """An oracle that is told of a run by its records, one after another in an order that the journals allow.

    Args:
        image: the state from which the run began, by node; None: its story does not tell what was there then.
    """

    def __init__(self, scenario: Scenario, image: Images | None = None):
        self.oracle = Oracle(scenario, image)
        self.stacks: dict[str, list[str]] = {}

    def record(self, record: Record) -> None:
        """The next record."""
        oracle, stacks = self.oracle, self.stacks
        event, ctx = record["event"], record["ctx"]
        if event in MOVES and "refused" not in record:
            oracle.trail.add_record(record, stacks.get(ctx, []))
        if event == "enter":
            stacks.setdefault(ctx, []).append(record["fn"])
        elif event == "exit":
            stacks[ctx].pop()
        elif event == "call":
            oracle.called(ctx, make(record["op"], record["args"]))
        elif event == "return":
            oracle.returned(ctx, record["result"])
        elif event in ("word_read", "word_write") and record["proc"] != NOBODY:
            value, writes = record.get("value", 0), event == "word_write"
            oracle.access((ctx, record["n"], record["frame"]), record["proc"], record["va"], writes, value)


def judge_journals(scenario: Scenario, journals: Journals, image: Images | None = None) -> Finding | None:
    """What the oracle says of a run, from its journals.

    Args:
        image: as `Retold` has it.

    Raises: LogIncomplete - there is no order of the operations that all of them allow.
    """
    retold = Retold(scenario, image)
    for record in in_order(journals):
        retold.record(record)
    return retold.oracle.finding
