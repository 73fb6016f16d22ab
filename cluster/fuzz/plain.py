"""The plain model: the results that the steps of a single-threaded process must have, for errnos and private memory.

The model takes the steps of a process in program order, each with its result. Its errnos and signals are those of
NetBSD's manual pages. The model does not judge memory that other processes can change (shared/detectors/oracle.py
does), nor a process that has several threads, or had several threads when it was forked.

If the schedule decides about a result, every possible result is right, and the model continues with the actual result.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

from shared.scenario.model import Results, Scenario, Step
from shared.scenario.steps.files import Fread, Ftruncate, Fwrite, MakeSegment, RemoveSegment
from shared.scenario.steps.kernel import KmAlloc, KmFree, Kread, Kwrite
from shared.scenario.steps.loans import Kpeek, Lend, MapLoan, OfLoan, Unloan
from shared.scenario.steps.memory import (
    Madvise,
    Mincore,
    Minherit,
    Mlock,
    Mmap,
    Mprotect,
    Msync,
    Munlock,
    Munmap,
    OfProcess,
    OfRange,
    OfRegion,
    Physio,
    Read,
    Write,
)
from shared.scenario.steps.process import Count, Fork, MakeProcess, MakeThread, Swapctl
from shared.scenario.steps.step import Args
from shared.uvm.param import (
    MADV_DONTNEED,
    MADV_FREE,
    MADV_SPACEAVAIL,
    MAP_INHERIT_COPY,
    MAP_INHERIT_NONE,
    MAP_INHERIT_SHARE,
    MS_ASYNC,
    MS_INVALIDATE,
    MS_SYNC,
    UVM_LOAN_TOANON,
    VM_PROT_NONE,
    VM_PROT_READ,
    VM_PROT_WRITE,
)

#: what a step may answer: a value, the name of an errno or signal, or in words
Answer = int | str
Answers = Collection[Answer]
#: a loan, segment or swap device: which of these, and its name or number
Used = tuple[str, str | int]
Ranged = OfRange | OfRegion | MapLoan
#: what a word may hold; None: anything
Values = frozenset[int] | None
ZERO: Values = frozenset((0,))


@dataclass
class Page:
    """A mapped page of one process.

    Attributes:
        words: number of a word -> what it may hold; `rest`: what the others may hold.
        file: its number, if the page may show a file's; others may write to it, and cut it off.
        below: the file of which a private page is a copy once it has been written to.
        shared: others may write to it.
        hollow: of shared anonymous memory: it cannot be lent before it has been used (uvm_loanentry).
        locked: by mlock.
        touched: it may be in memory.
    """

    prot: int
    inherit: int
    words: dict[int, Values] = field(default_factory=dict)
    rest: Values = ZERO
    file: int | None = None
    below: int | None = None
    shared: bool = False
    hollow: bool = False
    locked: bool = False
    touched: bool = False

    @property
    def own(self) -> bool:
        """No other context can change what it holds."""
        return not self.shared and self.file is None

    def get(self, word: int) -> Values:
        return self.words.get(word, self.rest) if self.own else None

    def forget(self) -> None:
        """It may hold anything."""
        self.words, self.rest = {}, None

    def copy(self) -> Page:
        """A child's, or a borrower's."""
        return replace(self, words=dict(self.words), locked=False)


@dataclass
class Loan:
    """A loan of a program. `pages`: the lent pages as they were then; None: nothing is on loan."""

    anons: bool
    pages: list[Page] | None


@dataclass
class World:
    """The facts that all processes share.

    Attributes:
        cut: numbers of the files that are truncated at some time.
        locks: a process locks memory; locked memory is not lent, and it is also locked for processes that share it.
        users: (what, name) -> how many programs use this loan, segment or swap device.
    """

    scenario: Scenario
    cut: set[int]
    locks: bool
    users: Counter[Used]

    def alone(self, what: str, name: str | int) -> bool:
        """Does one program use this, and so know what it is?"""
        return self.users[what, name] == 1


class Process:
    """One process: its pages, and what each of its steps may answer."""

    def __init__(self, world: World):
        self.world, self.size = world, world.scenario.machine.page_size
        self.pages: dict[int, Page] = {}
        self.loans: dict[str, Loan] = {}
        self.segments: dict[int, bool] = {}
        self.swap: dict[int, bool] = {}
        self.kernel: dict[int, dict[int, Values] | None] = {}

    def fork(self) -> Process:
        child = Process(self.world)
        for vpn, page in self.pages.items():
            if page.inherit == MAP_INHERIT_SHARE:
                page.shared = True
            if page.inherit != MAP_INHERIT_NONE:
                child.pages[vpn] = page.copy()
        return child

    def step(self, step: Step, result: Answer) -> list[Answer] | None:
        """Take a step with its result; says what would have been right instead, or None."""
        right = getattr(self, "_" + step.op)(step.args, result)
        return None if result in right else list(right)

    def _vpns(self, args: Ranged) -> range:
        return range(args.at // self.size, (args.at + args.length) // self.size)

    def _there(self, args: Ranged) -> tuple[list[Page], bool]:
        """The mapped pages of a range, and whether they are all."""
        vpns = self._vpns(args)
        there = [self.pages[vpn] for vpn in vpns if vpn in self.pages]
        return there, len(there) == len(vpns)

    def _short(self, pages: Sequence[Page]) -> bool:
        """May one of these lie beyond the end of its file?"""
        return any(page.file in self.world.cut for page in pages)

    # -- accesses --------------------------------------------------------------

    def _access(self, at: int, need: int) -> tuple[Page | None, list[Answer]]:
        """The page, or what an access to it must answer instead; and what it may answer."""
        page = self.pages.get(at // self.size)
        if page is None or not page.prot & need:
            return None, ["SIGSEGV"]
        page.touched = True
        return page, ["SIGBUS"] if self._short([page]) else []

    def _read(self, args: Read, result: Answer) -> Answers:
        page, right = self._access(args.at, VM_PROT_READ)
        if page is None or result in right:
            return right
        word = args.at % self.size // 8
        possible = page.get(word)
        if possible is None:
            possible = frozenset((result,)) if isinstance(result, int) else frozenset()
        if page.own and result in possible:
            page.words[word] = frozenset((result,))
        return [*right, *sorted(possible)] or ["a value"]

    def _write(self, args: Write, result: Answer) -> Answers:
        page, right = self._access(args.at, VM_PROT_WRITE)
        if page is None or result in right:
            return right
        if page.file is not None and not page.shared:  # a private page of a file is a copy from now on
            page.file = None
            page.forget()
        page.words[args.at % self.size // 8] = frozenset((args.value,))
        return [*right, 0]

    def _physio(self, args: Physio, result: Answer) -> Answers:
        there, whole = self._there(args)
        need = VM_PROT_READ if args.write else VM_PROT_READ | VM_PROT_WRITE
        if not whole or any(page.prot & need != need for page in there):
            return ["EFAULT"]
        right: list[Answer] = [0, *(["EFAULT"] if self._short(there) else [])]
        for page in there:
            page.touched = True
            if not args.write:
                page.file = page.file if page.shared or result != 0 else None  # else a copy from now on
                page.forget()
        if args.status and result == 0:
            page = self.pages[args.status // self.size]
            page.words[args.status % self.size // 8] = frozenset((len(there),))
        return right

    # -- mappings ----------------------------------------------------------------

    def _mmap(self, args: Mmap, result: Answer) -> Answers:
        inherit = MAP_INHERIT_SHARE if args.shared else MAP_INHERIT_COPY
        right: list[Answer] = [0]
        if args.shm is not None:
            known = self.segments.get(args.shm) if self.world.alone("shm", args.shm) else None
            right = [0, "EINVAL"] if known is None else [0] if known else ["EINVAL"]
        for vpn in self._vpns(args) if result == 0 else ():
            page = self.pages[vpn] = Page(args.prot, inherit, file=args.file, shared=args.shm is not None)
            if page.file is not None:
                page.shared = args.shared
                page.below = None if page.shared else page.file
            page.hollow = args.shared and args.file is None and args.shm is None
        return right

    def _munmap(self, args: Munmap, result: Answer) -> Answers:
        _, whole = self._there(args)
        for vpn in self._vpns(args) if whole else ():
            del self.pages[vpn]
        return [0] if whole else ["EINVAL"]

    def _mprotect(self, args: Mprotect, result: Answer) -> Answers:
        for page in self._there(args)[0]:
            page.prot = args.prot
        return [0]

    def _minherit(self, args: Minherit, result: Answer) -> Answers:
        for page in self._there(args)[0]:
            page.inherit = args.inherit
        return [0]

    def _madvise(self, args: Madvise, result: Answer) -> Answers:
        there, whole = self._there(args)
        advice = args.advice
        if advice == MADV_SPACEAVAIL:
            return ["EINVAL"]
        if advice in (MADV_FREE, MADV_DONTNEED) and not whole:
            return ["ENOMEM"]
        for page in there if advice == MADV_FREE else ():
            for word, values in page.words.items():
                page.words[word] = None if values is None else values | {0}
            page.rest = None if page.rest is None else page.rest | {0}
            if page.below is not None:
                page.file = page.below
                page.forget()
        return [0]

    def _msync(self, args: Msync, result: Answer) -> Answers:
        there, whole = self._there(args)
        flags = args.flags
        if flags & MS_ASYNC and flags & MS_SYNC:
            return ["EINVAL"]
        if not whole:
            return ["ENOMEM"]
        return ["EBUSY" if flags & MS_INVALIDATE and any(page.locked for page in there) else 0]

    def _mlock(self, args: Mlock, result: Answer) -> Answers:
        there, whole = self._there(args)
        good = whole and all(page.prot != VM_PROT_NONE for page in there)
        for page in there if result == 0 else ():
            page.locked = True
        for page in there:
            page.touched = page.touched or good
        return [0 if good else "ENOMEM", "EAGAIN", *(["ENOMEM"] if self._short(there) else [])]

    def _munlock(self, args: Munlock, result: Answer) -> Answers:
        there, whole = self._there(args)
        good = whole and all(page.locked for page in there)
        for page in there if good else ():
            page.locked = False
        return [0 if good else "ENOMEM"]

    def _mincore(self, args: Mincore, result: Answer) -> Answers:
        there, whole = self._there(args)
        if not whole:
            return ["ENOMEM"]
        must = sum(page.locked << at for at, page in enumerate(there))
        may = sum((page.touched or not page.own or page.inherit != MAP_INHERIT_COPY) << at
                  for at, page in enumerate(there))  # fmt: skip
        fine = isinstance(result, int) and result & must == must and not result & ~may
        return [result if fine else f"a number with {must:b} and within {may:b}"]

    # -- files, segments, loans, swap ------------------------------------------------

    def _fread(self, args: Fread, result: Answer) -> Answers:
        return [result if isinstance(result, int) else "a value", *self._if_cut(args)]

    def _fwrite(self, args: Fwrite, result: Answer) -> Answers:
        return [0, *self._if_cut(args)]

    def _if_cut(self, args: Fread | Fwrite) -> list[Answer]:
        return ["EINVAL"] if args.file in self.world.cut else []

    def _shm(self, args: MakeSegment, result: Answer) -> Answers:
        self.segments[args.shm] = True
        return [0]

    def _shm_remove(self, args: RemoveSegment, result: Answer) -> Answers:
        known = self.segments.get(args.shm) if self.world.alone("shm", args.shm) else None
        self.segments[args.shm] = False
        return [0, "EINVAL"] if known is None else [0] if known else ["EINVAL"]

    def _loan(self, args: Lend, result: Answer) -> Answers:
        there, whole = self._there(args)
        for page in there:
            page.touched = True
        anons = bool(args.flags & UVM_LOAN_TOANON)
        self.loans[args.loan] = Loan(anons, [page.copy() for page in there] if result == 0 else None)
        if not whole or any(page.locked for page in there):  # what is locked is not lent
            return ["EFAULT"]
        refused = self._short(there) or self.world.locks or any(page.hollow for page in there)
        return [0, "EFAULT"] if refused else [0]

    def _lent(self, args: OfLoan | MapLoan) -> Loan | None:
        """A loan that only this program knows; None: unknown."""
        if not self.world.alone("loan", args.loan):
            return None
        return self.loans.get(args.loan, Loan(False, None))

    def _kpeek(self, args: Kpeek, result: Answer) -> Answers:
        loan = self._lent(args)
        if loan is not None and loan.pages is None:
            return ["EINVAL"]
        possible = None if loan is None or loan.pages is None else loan.pages[args.page].get(0)
        if possible is not None:
            return sorted(possible)
        return [result if isinstance(result, int) or loan is None else "a value"]

    def _unloan(self, args: Unloan, result: Answer) -> Answers:
        loan = self._lent(args)
        if loan is None:
            return [0, "EINVAL"]
        if loan.pages is None:
            return ["EINVAL"]
        loan.pages = None
        return [0]

    def _map_loan(self, args: MapLoan, result: Answer) -> Answers:
        loan = self._lent(args)
        for at, vpn in enumerate(self._vpns(args) if result == 0 else ()):
            page = self.pages[vpn] = Page(VM_PROT_READ | VM_PROT_WRITE, MAP_INHERIT_COPY, rest=None, touched=True)
            if loan is not None and loan.pages is not None and loan.pages[at].own:
                page.words, page.rest = dict(loan.pages[at].words), loan.pages[at].rest
        if loan is None:
            return [0, "EINVAL"]
        return ["EINVAL"] if loan.pages is None or not loan.anons else [0]

    def _swapctl(self, args: Swapctl, result: Answer) -> Answers:
        if not self.world.alone("swapctl", args.device):
            return [0, "EBUSY", "ENXIO", "ENOMEM"]
        on = self.swap.get(args.device, True)
        self.swap[args.device] = args.on if result == 0 else on
        if args.on:
            return ["EBUSY" if on else 0]
        return [0, "ENOMEM"] if on else ["ENXIO"]

    # -- others ------------------------------------------------------------------------

    def _nothing(self, args: Args, result: Answer) -> Answers:
        return [0]

    _fork = _wait = _exit = _barrier = _ftruncate = _uncache = _nothing

    def _count(self, args: Count, result: Answer) -> Answers:
        return [result if isinstance(result, int) else "a number"]

    def _km_alloc(self, args: KmAlloc, result: Answer) -> Answers:
        self.kernel[args.number] = {} if result == 0 else None
        return [0, "ENOMEM"]

    def _km_free(self, args: KmFree, result: Answer) -> Answers:
        return [0 if self.kernel.pop(args.number, None) is not None else "EFAULT"]

    def _kread(self, args: Kread, result: Answer) -> Answers:
        words = self.kernel.get(args.number)
        if words is None:
            return ["EFAULT"]
        known = words.get(args.byte)
        return [result if isinstance(result, int) else "a value"] if known is None else sorted(known)

    def _kwrite(self, args: Kwrite, result: Answer) -> Answers:
        words = self.kernel.get(args.number)
        if words is None:
            return ["EFAULT"]
        words[args.byte] = frozenset((args.value,))
        return [0]


def world_of(scene: Scenario) -> World:
    """The facts that the processes of a scenario share."""
    programs = [[step.args for step in lwp.program] for lwp in scene.lwps]
    cut = {args.file for program in programs for args in program if isinstance(args, Ftruncate)}
    users: Counter[Used] = Counter()
    for program in programs:
        users.update({used for args in program if (used := _uses(args)) is not None})
    steps = [step.args for step in scene.setup] + [args for program in programs for args in program]
    return World(scene, cut, any(isinstance(args, Mlock) for args in steps), users)


def _uses(args: Args) -> Used | None:
    """The loan, segment or swap device that a step concerns."""
    if isinstance(args, (Lend, OfLoan, MapLoan)):
        return "loan", args.loan
    if isinstance(args, (Mmap, MakeSegment, RemoveSegment)):
        return None if args.shm is None else ("shm", args.shm)
    return ("swapctl", args.device) if isinstance(args, Swapctl) else None


@dataclass(frozen=True)
class Wrong:
    """A result that must not be.

    Attributes:
        into: its name, or "".
        right: what it must be, if that can be listed.
    """

    text: str
    into: str
    right: tuple[int | str, ...]


def unlike(scene: Scenario, results: Results) -> Wrong | None:
    """The first wrong result of an execution; None: all results are possible.

    Args:
        results: thread -> what its steps answered.
    """
    if any(fault.op == "get" and fault.error for fault in scene.machine.swap_faults):
        return None
    world = world_of(scene)
    threads = Counter(lwp.proc for lwp in scene.lwps)
    known: dict[str, Process] = {}
    for step in scene.setup:
        args = step.args
        if isinstance(args, MakeProcess) and threads[args.as_] == 1:
            known[args.as_] = Process(world)
        elif isinstance(args, OfProcess) and args.process in known and not isinstance(args, MakeThread):
            refused = known[args.process].step(step, 0)
            assert refused is None, step.text
    for process in known.values():
        process.segments = {step.args.shm: True for step in scene.setup if isinstance(step.args, MakeSegment)}
    for lwp in scene.lwps:  # parents come before their children
        if lwp.proc not in known:
            continue
        process = known[lwp.proc]
        done = [step for step in lwp.program if step.op != "pause"]  # which has no result: it does not end
        for step, answer in zip(done, results.get(lwp.name, []), strict=True):
            if isinstance(step.args, Fork):
                known[step.args.as_] = process.fork()
            right = process.step(step, answer["result"])
            if right is not None:
                text = f"{lwp.name} {step.text}: expected {' or '.join(map(str, right))}, got {answer['result']}"
                listed = all(isinstance(expected, int) or expected.isupper() for expected in right)
                return Wrong(text, step.into or "", tuple(right) if listed else ())
    return None
