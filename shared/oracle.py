"""The memory oracle: does every program read what its address space must contain?

A plain model of memory (shared/memory_model.py) stands beside the kernel and knows nothing of UVM. Of each
page of an address space it keeps the *views* that are possible (what is mapped, how it
is protected, what a child gets) and of each word the *values* that are possible,
usually one of both. Accesses take effect at their operation on the frame, in the
order of these operations:

    a write     replaces what the word may hold
    a read      must find one of the values, which is the only one from then on
    a refusal   must have been possible at some time between the access's beginning and its end

Between the beginning and the end of a system call either side of it may be seen,
word by word; afterwards what the call has done, or, of several calls that overlapped
on a page, what they have done in any order. A fork's child has a copy of each word as
it was at some moment during the fork. What is shared, by MAP_SHARED or by a `minherit`,
is one *cell*, a page's words, for all who share it.

What a step does to memory is told here once, in the method of `Oracle` that has its
name behind an underscore, in three words:

    self._change(proc, vpns, f)      views: f(vpn, view) is what becomes of one (mmap, munmap, mprotect, minherit)
    self._store(proc, vpns, f, must) words: f(vpn, cell) is a cell whose words are stored over those of `cell`, all
                                     of them, or (not `must`) maybe (physio from the device, madvise FREE)
    self._take(proc, into)           words: each cell of `into` gets what its page holds at some moment (physio to the
                                     device, loans)
    follow(cell, other)              whatever is written to `cell` may be in `other` too (fork, files' blocks)

Each returns what has to be called with the call's result at its end. Steps that leave
memory as it is are listed in NO_EFFECT.

Rules: a pure function of what it is told, so that `sim` can ask it while a run goes
on, and anybody who has journals afterwards (`judge_journals`); both give one answer. It
stays silent about a run that the model allows, and says nothing after its first finding.

A page of a file or of a shared memory segment is one cell as well, found by (object, page).
A private mapping of a file or segment has a cell of its own that follows the file's until it is
written to, and again when what was written has been thrown away (madvise FREE): whether what others
write to the file meanwhile is seen is not specified. What is lent is a copy, of which only itself is
left: freed where it is mapped, it is zero. Beyond the end of its file a locked page stays, and what is written
there may be gone at any moment.

Left out: blocks of files that are read and written raw; what files hold on a disk that
errs; results of steps other than read, write, fread and kpeek; physio that fails half-way.
SIGBUS is taken to be right if there may have been no memory (as many pages mapped as
there is swap, counting all that were ever mapped), if there is a swapctl, if the swap
device or the disk errs, or if a file is mapped beyond its end or truncated.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from shared.findings import Finding
from shared.journal import Journals, in_order
from shared.memory_model import (
    ZERO,
    Access,
    Block,
    Cell,
    Change,
    Fork,
    Page,
    Patch,
    Space,
    Store,
    Take,
    Value,
    Values,
    View,
    either,
    follow,
    private,
    union,
)
from shared.port import NOBODY
from shared.provenance import MOVES, Place, Provenance, Trail
from shared.scenario import KERNEL_STEPS, Scenario, Step
from shared.uvm.param import (
    MADV_FREE,
    MAP_INHERIT_COPY,
    MAP_INHERIT_SHARE,
    VM_PROT_READ,
    VM_PROT_WRITE,
)

#: steps that change neither what is mapped nor what it holds
NO_EFFECT = frozenset(
    (
        "mlock",
        "munlock",
        "mincore",
        "wait",
        "barrier",
        "count",
        "pause",
        "swapctl",
        "msync",
        "uncache",
        "shm",
        "unloan",
        "thread",
        *KERNEL_STEPS,
    )
)

#: to be called with a call's result at its end
End = Callable[[int | str], None]


class Oracle:
    """Watches one execution of a scenario, from the state that its setup leaves.

    Args:
        image: that state, by node; only the stories of what was there before need it.

    Attributes:
        finding: the first thing that must not be, or None.
        trail: the operations on memory so far (shared/provenance.py), from which its story is told.
    """

    def __init__(self, scenario: Scenario, image: Mapping[str, Any] | None = None):
        config = scenario.machine
        self.scenario, self.page_size = scenario, config.page_size
        self.procs = scenario.procs
        steps = (*scenario.setup, *(step for lwp in scenario.lwps for step in lwp.program))
        self.proc_of = {lwp.name: lwp.proc for lwp in scenario.lwps}
        self.threads = Counter(self.proc_of.values())
        self.spaces: dict[str, Space] = {}
        self.blocks: dict[int, Block] = {}
        self.objects: dict[tuple[str, int], dict[int, Cell]] = {}  # ("file" or "shm", number) -> page -> cell
        self.ends: dict[int, set[int]] = {}  # file -> sizes in bytes that it may have
        self.resizing: Counter[int] = Counter()  # file -> calls of ftruncate that are going on
        self.disputed: set[int] = set()  # files of which several were going on at once
        self.births: dict[str, tuple[Space, Fork]] = {}
        self.loans = {
            step.args["loan"]: [Cell() for _ in self._range(step.args)] for step in steps if step.op == "loan"
        }
        self.calls: dict[str, End | None] = {}
        self.ctx = ""  # whose step ends just now
        self.now = 0
        self.trail = Trail(image or {})
        self.mapped = 0  # pages, in all address spaces, ever
        self.enough = 0 if config.swap_faults or config.disk_faults else min(config.swap_slots, config.anons)
        self.finding: Finding | None = None
        self.lossy = bool(config.disk_faults)  # what a file holds after an error is not specified
        if self.lossy or any(step.op == "swapctl" or self._beyond_its_end(step) for step in steps):
            self.enough = 0
        for step in scenario.setup:
            self._setup(step.op, step.args)

    # -- what it is told ---------------------------------------------------------

    def called(self, ctx: str, op: str, args: dict[str, Any]) -> None:
        """A step begins."""
        proc = self.proc_of[ctx]
        if proc in self.births:  # it runs, so its fork has done what matters
            self._born(proc)
        begin = None if op in NO_EFFECT else getattr(self, "_" + op, None)
        self.calls[ctx] = None if begin is None or self.finding is not None else begin(proc, args)

    def returned(self, ctx: str, op: str, result: int | str) -> None:
        """A step has ended."""
        end = self.calls.pop(ctx, None)
        if end is None or self.finding is not None:
            return
        self.ctx = ctx
        wrong = end(result)
        if wrong is not None:
            self._refused(ctx, *wrong)

    def access(self, ctx: str, n: int, proc: int, va: int, write: bool, value: int, frame: int) -> None:
        """A word of a frame was read or written, as operation `n` of its context."""
        if self.finding is not None:
            return
        self.now += 1
        vpn, byte = divmod(va, self.page_size)
        word = byte >> 3
        page = self.spaces[self.procs[proc]].pages.get(vpn)
        need = VM_PROT_WRITE if write else VM_PROT_READ
        views = () if page is None else page.views
        if len(views) == 1:
            view = views[0]
            if view is not None and view.prot & need:
                cell = view.cell
                if write:
                    cell.write(word, (value, (ctx, n, frame, self.now)))
                    return
                have = cell.words.get(word, ZERO)
                if len(have) == 1 and have[0][0] == value:
                    return
        self._weigh(ctx, n, page, need, word, (value, (ctx, n, frame, self.now)), va)

    # -- an access that takes more thought -----------------------------------------

    def _weigh(self, ctx: str, n: int, page: Page | None, need: int, word: int, value: Value, va: int) -> None:
        writing, place = need == VM_PROT_WRITE, self.scenario.place(va)
        able = [view for view in page.views if view is not None and view.prot & need] if page is not None else []
        assert value[1] is not None
        frame = value[1][2]
        if not able:
            what = f"{'writes to' if writing else 'reads'} {place}, and is let, where"
            nothing = page is None or page.views == (None,)
            why = "nothing is mapped" if nothing else "the protection forbids it"
            let = self.trail.replay().let(frame, va - va % self.page_size)
            self._found(f"{ctx} {what} {why}", ctx, "user", f"page:{frame}", [f"it is operation {n} of {ctx}", *let])
            return
        if not writing:
            able = [view for view in able if self._may_be(value[0], word, view.cell)]
            if not able:
                self._lost(ctx, n, page, word, value[0], frame, place)
                return
        assert page is not None
        if not page.left:
            page.views = tuple(able)
        cells = list(dict.fromkeys(view.cell for view in able))
        if writing:
            for cell in cells:
                if len(cells) == 1:
                    cell.write(word, value)
                else:
                    cell.add(word, (value,))
                    cell.disturb((word,))
        elif len(cells) == 1 and not (cells[0].stores or cells[0].source or cells[0].beyond or page.left):
            known = tuple(one for one in cells[0].get(word) if one[0] == value[0])
            cells[0].words[word] = known or ((value[0], None),)

    def _may_be(self, value: int, word: int, cell: Cell) -> bool:
        """May a read find this?"""
        return any(value == one for one, _ in cell.possible(word)) or (self.lossy and cell.below is not None)

    def _lost(self, ctx: str, n: int, page: Page | None, word: int, found: int, frame: int, place: str) -> None:
        """A read has found what nobody can have left there."""
        assert page is not None
        possible: Values = ()
        for view in page.views:
            if view is not None and view.prot & VM_PROT_READ:
                possible = union(possible, view.cell.possible(word))
        told = self.trail.replay()
        function, _, story = self._blame(possible, word, told)
        text = f"{ctx} reads {found} at {place}, which must be {either(possible)}"
        where = f"it is operation {n} of {ctx}, on page:{frame}"
        came = told.came_from(told.of(Place("page", frame)).item(word), found, self.scenario.place)
        self._found(text, ctx, function, f"page:{frame}", [where, came, *story])

    def _blame(self, possible: Values, word: int, told: Provenance) -> tuple[str, str, list[str]]:
        """Which function has freed the page that one of these values was written to, and which page; and the story.

        Of each value: who wrote it, and where it is now, or which operation destroyed its last copy.
        """
        function, page, story = "user", "", []
        for value, who in possible:
            origins = told.origins(word, value) if who is None else [told.store(who, word, value)]
            if not origins:
                begin = "0 is what a page begins with" if value == 0 else f"{value} was there when the run began"
                story.append(begin)
                continue
            born, fate = told.born(origins[0], self.scenario.place), told.fate(origins[0])
            story.append(f"the {value} that is missing: {born}" + (f"; {fate}" if fate else ""))
            freed = None if who is None else told.freed_since(origins[0])
            if who is not None and freed is not None:
                function, page = freed, f"page:{who[2]}"
        return function, page, story

    def _taken(self, told: Provenance, word: int, value: int) -> list[str]:
        """Where a value came from that the kernel has read for the step that ends just now."""
        taken = told.taken.get(self.ctx, [])
        return [told.came_from(taken[-1][1].item(word), value, self.scenario.place)] if taken else []

    def _refused(self, ctx: str, signal: str, place: str, proc: str) -> None:
        why = (
            "the access was allowed all the time"
            if signal == "SIGSEGV"
            else "there is memory enough for all that was ever mapped, and swap does not err"
        )
        subject = f"proc:{self.procs.index(proc)}"
        self._found(f"{ctx} gets {signal} at {place}, where {why}", ctx, "uvm_fault", subject, [])

    def _found(self, text: str, ctx: str, function: str, subject: str, story: list[str]) -> None:
        self.finding = Finding("oracle", f"memory oracle: {text}", ctx, function, subject, story=story)

    # -- what steps do ---------------------------------------------------------------

    def _range(self, args: dict[str, Any]) -> range:
        return range(args["at"] // self.page_size, (args["at"] + args["length"]) // self.page_size)

    def _change(self, proc: str, vpns: range, change: Change) -> End:
        """Views of these pages become what `change` makes of them, if the call succeeds."""
        space = self.spaces[proc]
        for vpn in vpns:
            page = space.pages.get(vpn)
            if page is None:
                page = space.pages[vpn] = Page((None,))
            if not page.left:
                page.base, page.changes = page.views, []
            page.left += 1
            page.changes.append(change)
            page.settle(vpn)
            for fork in space.forks:
                fork.look(vpn, page.views)
            for store in space.stores:
                if vpn in store.vpns:
                    store.look(vpn, page.views)
            for take in space.takes:
                take.look(vpn, page.views)
            for access in space.accesses:
                if access.vpn == vpn:
                    access.look(page.views)

        def end(result: int | str) -> None:
            for vpn in vpns:
                page = space.pages[vpn]
                page.left -= 1
                if result != 0:
                    page.changes.remove(change)
                page.settle(vpn)
                if not page.left and page.views == (None,):
                    del space.pages[vpn]

        return end

    def _store(self, proc: str, vpns: range, make: Callable[[int, Cell], Cell | None], must: bool) -> End:
        """Words of these pages become those of the cells that `make` gives, if the call succeeds.

        What is stored maybe may also have been, for some pages, by a call that could not write others (EIO).
        """
        space = self.spaces[proc]
        store = Store(vpns, make)
        for vpn in vpns:
            page = space.pages.get(vpn)
            store.look(vpn, page.views if page is not None else ())
        space.stores.append(store)

        def end(result: int | str) -> None:
            space.stores.remove(store)
            store.end(must, result == 0 or (result == "EIO" and not must))

        return end

    def _take(self, proc: str, into: dict[int, Cell]) -> Callable[[], None]:
        """Cells get what their pages hold, each word as it is at some moment during the call."""
        space, take = self.spaces[proc], Take(into)
        for vpn in into:
            page = space.pages.get(vpn)
            take.look(vpn, page.views if page is not None else ())
        space.takes.append(take)

        def end() -> None:
            space.takes.remove(take)
            take.end()

        return end

    def _mmap(self, proc: str, args: dict[str, Any]) -> End:
        inherit = MAP_INHERIT_SHARE if args["shared"] else MAP_INHERIT_COPY
        vpns = self._range(args)
        fresh = {vpn: View(self._below(args, at), args["prot"], inherit) for at, vpn in enumerate(vpns)}
        self.mapped += len(vpns)
        return self._change(proc, vpns, lambda vpn, view: fresh[vpn] if view is None else view)

    def _below(self, args: dict[str, Any], at: int) -> Cell:
        """What page `at` of a new mapping is."""
        key = next(((what, args[what]) for what in ("file", "shm") if what in args), None)
        if key is None:
            return Cell()
        cell = self._object(*key, args["offset"] // self.page_size + at)
        return cell if args["shared"] else private(cell)

    def _object(self, what: str, number: int, page: int) -> Cell:
        """A page of a file or a segment."""
        pages = self.objects.setdefault((what, number), {})
        cell = pages.get(page)
        if cell is None:
            cell = pages[page] = Cell()
            cell.below = cell
            cell.beyond = what == "file" and number in self.ends and page * self.page_size >= min(self.ends[number])
        return cell

    def _beyond_its_end(self, step: Step) -> bool:
        """May this step be why a page of a file is not there?"""
        if step.op == "ftruncate":
            return True
        if step.op != "mmap" or "file" not in step.args:
            return False
        file = next(one for one in self.scenario.setup if one.op == "file" and one.args["file"] == step.args["file"])
        return bool(step.args["offset"] + step.args["length"] > file.args["pages"] * self.page_size)

    def _file(self, proc: str, args: dict[str, Any]) -> None:
        self.ends[args["file"]] = {args["pages"] * self.page_size}
        for page in range(args["pages"]):
            cell = self._object("file", args["file"], page)
            block = self.blocks.setdefault(args["block"] + page, Block(mixed=True))
            if page < len(args["words"]):
                for one in (cell, block):
                    one.write(0, (args["words"][page], None))
            follow(cell, block)  # whenever the kernel likes

    def _fwrite(self, proc: str, args: dict[str, Any]) -> End:
        """The word may hold the value from now on; at the end it does, if nobody else has written to it meanwhile."""
        page, byte = divmod(args["at"], self.page_size)
        cell, word, value = self._object("file", args["file"], page), byte >> 3, (args["value"], None)
        store = Store(range(0), lambda vpn, cell: None)
        store.begin(cell, Patch({word: (value,)}))

        def end(result: int | str) -> None:
            store.end(must=True, done=result == 0)

        return end

    def _fread(self, proc: str, args: dict[str, Any]) -> End:
        """Answers what the word held at some moment during the call."""
        page, byte = divmod(args["at"], self.page_size)
        cell, word = self._object("file", args["file"], page), byte >> 3
        seen = cell.snapshot()
        follow(cell, seen)

        def end(result: int | str) -> None:
            cell.followers.remove(seen)
            possible = union(seen.get(word), cell.possible(word))
            if isinstance(result, int) and not self.lossy and all(result != value for value, _ in possible):
                told = self.trail.replay()
                function, where, story = self._blame(possible, word, told)
                story = [*self._taken(told, word, result), *story]
                place = f"byte {args['at']} of vnode:{args['file']}"
                text = f"{self.ctx} reads {result} from {place}, which must be {either(possible)}"
                self._found(text, self.ctx, function, where or f"vnode:{args['file']}", story)

        return end

    def _ftruncate(self, proc: str, args: dict[str, Any]) -> End:
        """What is beyond the new end may be zero from now on, and what is written there until it is done goes too."""
        file, size = args["file"], args["size"]
        pages = self.objects.get(("file", file), {})
        gone = [cell for page, cell in pages.items() if page * self.page_size >= size]

        def cut() -> None:
            for cell in gone:
                cell.add_all(Cell())
                cell.disturb({*cell.words, *(word for store in cell.stores for word in store.pairs[cell].words)})

        def ends_at(sizes: set[int]) -> None:
            self.ends[file] = sizes
            for page, cell in pages.items():
                cell.beyond = page * self.page_size >= min(sizes)

        def end(result: int | str) -> None:
            cut()
            self.resizing[file] -= 1
            if result == 0 and file not in self.disputed:
                ends_at({size})
            if not self.resizing[file]:
                self.disputed.discard(file)

        if self.resizing[file]:
            self.disputed.add(file)
        self.resizing[file] += 1
        ends_at({*self.ends[file], size})
        cut()
        return end

    def _shm_remove(self, proc: str, args: dict[str, Any]) -> End:
        def end(result: int | str) -> None:
            if result == 0:
                self.objects.pop(("shm", args["shm"]), None)

        return end

    def _munmap(self, proc: str, args: dict[str, Any]) -> End:
        return self._change(proc, self._range(args), lambda vpn, view: None)

    def _mprotect(self, proc: str, args: dict[str, Any]) -> End:
        return self._change(
            proc, self._range(args), lambda vpn, view: None if view is None else view._replace(prot=args["prot"])
        )

    def _minherit(self, proc: str, args: dict[str, Any]) -> End:
        return self._change(
            proc, self._range(args), lambda vpn, view: None if view is None else view._replace(inherit=args["inherit"])
        )

    def _madvise(self, proc: str, args: dict[str, Any]) -> End | None:
        if args["advice"] != MADV_FREE:
            return None

        def thrown_away(vpn: int, cell: Cell) -> Cell | None:
            if cell.below is None:
                return Cell()
            return None if cell.below is cell else private(cell.below)  # what is a file's stays

        return self._store(proc, self._range(args), thrown_away, must=False)

    def _physio(self, proc: str, args: dict[str, Any]) -> End:
        vpns, first = self._range(args), args["block"]
        blocks = {vpn: self.blocks.setdefault(first + at, Block()) for at, vpn in enumerate(vpns)}
        if not args["write"]:
            images = {vpn: block.snapshot() for vpn, block in blocks.items()}
            for vpn, block in blocks.items():
                follow(block, images[vpn])
            end = self._store(proc, vpns, lambda vpn, cell: images[vpn], must=True)

            def read(result: int | str) -> None:
                end(result)
                for vpn, block in blocks.items():
                    block.followers.remove(images[vpn])

            return read
        return self._write_blocks(proc, blocks)

    def _write_blocks(self, proc: str, blocks: dict[int, Block]) -> End:
        """Blocks become what the pages hold at some moment during the call."""
        taken = {vpn: Cell() for vpn in blocks}
        for vpn, block in blocks.items():
            block.writers += 1
            block.mixed = block.mixed or block.writers > 1
            follow(taken[vpn], block)
        end = self._take(proc, taken)

        def written(result: int | str) -> None:
            end()
            for vpn, block in blocks.items():
                block.writers -= 1
                if result == 0 and not block.mixed:
                    block.words = taken[vpn].words
                block.mixed = block.mixed and block.writers > 0

        return written

    def _loan(self, proc: str, args: dict[str, Any]) -> End:
        """Whoever borrows has what the pages held at some moment during the call."""
        end = self._take(proc, dict(zip(self._range(args), self.loans[args["loan"]], strict=True)))

        def lent(result: int | str) -> None:
            end()

        return lent

    def _map_loan(self, proc: str, args: dict[str, Any]) -> End:
        """What is lent is mapped as private memory: a copy, and nothing below it."""
        vpns = self._range(args)
        lent = self.loans[args["loan"]][: len(vpns)]
        cells = [one.snapshot() for one in lent]
        for one, cell in zip(lent, cells, strict=True):
            follow(one, cell)  # the loan may be going on, or may only begin
        prot = VM_PROT_READ | VM_PROT_WRITE
        fresh = {vpn: View(cell, prot, MAP_INHERIT_COPY) for vpn, cell in zip(vpns, cells, strict=True)}
        self.mapped += len(vpns)
        change = self._change(proc, vpns, lambda vpn, view: fresh[vpn] if view is None else view)

        def end(result: int | str) -> None:
            for one, cell in zip(lent, cells, strict=True):
                one.followers.remove(cell)
            change(result)

        return end

    def _kpeek(self, proc: str, args: dict[str, Any]) -> End:
        now = self.loans[args["loan"]][args["page"]]

        def end(result: int | str) -> None:
            possible = now.possible(0)
            if isinstance(result, int) and all(result != value for value, _ in possible):
                loan = self.scenario.loans.index(args["loan"])
                where = f"page {args['page']} of loan {args['loan']}"
                text = f"{self.ctx} finds {result} in {where}, which must be {either(possible)}"
                told = self.trail.replay()
                _, _, story = self._blame(possible, 0, told)
                story = [*self._taken(told, 0, result), *story]
                self._found(text, self.ctx, "loan_peek", f"loan:{loan}", story)

        return end

    def _fork(self, proc: str, args: dict[str, Any]) -> End:
        parent, name = self.spaces[proc], args["as"]
        child = self.spaces[name] = Space()
        fork = Fork(child)
        for vpn, page in parent.pages.items():
            fork.look(vpn, page.views)
        self.mapped += len(child.pages)
        parent.forks.append(fork)
        self.births[name] = (parent, fork)

        def end(result: int | str) -> None:
            if name in self.births:
                self._born(name)

        return end

    def _born(self, name: str) -> None:
        """A fork has done what matters, at the latest when its child runs."""
        parent, fork = self.births.pop(name)
        parent.forks.remove(fork)
        fork.end()

    def _exit(self, proc: str, args: dict[str, Any]) -> End:
        def end(result: int | str) -> None:
            self.threads[proc] -= 1
            if not self.threads[proc]:
                self.spaces[proc] = Space()

        return end

    def _read(self, proc: str, args: dict[str, Any], need: int = VM_PROT_READ) -> Callable[[int | str], Any]:
        space = self.spaces[proc]
        access = Access(args["at"] // self.page_size, need)
        page = space.pages.get(access.vpn)
        access.look(page.views if page is not None else (None,))
        space.accesses.append(access)

        def end(result: int | str) -> tuple[str, str, str] | None:
            space.accesses.remove(access)
            if (result == "SIGSEGV" and not access.excused) or (result == "SIGBUS" and self.mapped < self.enough):
                return str(result), self.scenario.place(args["at"]), proc
            return None

        return end

    def _write(self, proc: str, args: dict[str, Any]) -> Callable[[int | str], Any]:
        return self._read(proc, args, VM_PROT_WRITE)

    # -- setup -------------------------------------------------------------------------

    def _setup(self, op: str, args: dict[str, Any]) -> None:
        """A step of the setup; nothing overlaps with it, and it has succeeded."""
        if op == "process":
            self.spaces[args["as"]] = Space()
        elif op == "write":
            self._put(args["in"], args["at"], args["value"])
        elif op == "fwrite":
            page, byte = divmod(args["at"], self.page_size)
            self._object("file", args["file"], page).write(byte >> 3, (args["value"], None))
        elif op == "fill":  # how many of its pages were written depends on how much memory was free
            self._mmap(args["in"], {**args, "shared": False})(0)
            pages = self.spaces[args["in"]].pages
            for number, vpn in enumerate(self._range(args)):
                view = pages[vpn].views[0]
                assert view is not None
                view.cell.add(0, ((number + 1, None),))
        elif op not in NO_EFFECT:
            end = getattr(self, "_" + op)(args.get("in", ""), args)
            if end is not None:
                end(0)

    def _put(self, proc: str, at: int, value: int) -> None:
        vpn, byte = divmod(at, self.page_size)
        for view in self.spaces[proc].pages[vpn].views:
            if view is not None:
                view.cell.write(byte >> 3, (value, None))


def judge_journals(scenario: Scenario, journals: Journals, image: Mapping[str, Any] | None = None) -> Finding | None:
    """What the oracle says of a run, from its journals.

    Args:
        image: the state from which the run began, by node; None: its story does not tell what was there then.

    Raises: LogIncomplete - there is no order of the operations that all of them allow.
    """
    oracle = Oracle(scenario, image)
    stacks: dict[str, list[str]] = {}
    for record in in_order(journals):
        event, ctx = record["event"], record["ctx"]
        if event in MOVES and "refused" not in record:
            oracle.trail.add_record(record, stacks.get(ctx, []))
        if event == "enter":
            stacks.setdefault(ctx, []).append(record["fn"])
        elif event == "exit":
            stacks[ctx].pop()
        elif event == "call":
            oracle.called(ctx, record["op"], record["args"])
        elif event == "return":
            oracle.returned(ctx, record["op"], record["result"])
        elif event in ("word_read", "word_write"):
            value = record.get("value", 0)
            if record["proc"] == NOBODY:
                continue
            oracle.access(ctx, record["n"], record["proc"], record["va"], event == "word_write", value, record["frame"])
    return oracle.finding
