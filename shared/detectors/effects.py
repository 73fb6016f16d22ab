"""The effects of steps on the oracle's model of memory: the calls of which a step's effect() consists.

    memory.change(proc, vpns, f)        views: f(vpn, view) is what becomes of one (munmap, mprotect, minherit)
    memory.store(proc, vpns, f, must)   words: f(vpn, cell) is a cell whose words are stored over those of `cell`, all
                                        of them, or (not `must`) maybe (physio from the device, madvise FREE)
    memory.take(proc, into)             words: each cell of `into` gets what its page holds at some moment (physio to
                                        the device, loans)
    follow(cell, other)                 whatever is written to `cell` may be in `other` too (fork, files' blocks)

Between the beginning and the end of a call, a read may see memory as it was before or after the call. Each of these
functions returns a function that must be called with the call's result at its end.

A page of a file or of a shared memory segment is one cell as well, found by (object, page). A private mapping of a file
or segment has a cell of its own that follows the file's until it is written to, and again when what was written has
been thrown away (madvise FREE): whether what others write to the file meanwhile is seen is not specified. What is lent
is a copy, of which only itself is left: freed where it is mapped, it is zero. Beyond the end of its file a locked page
stays, and what is written there may be gone at any moment.

Left out: blocks of files that are read and written raw; contents of files on a disk with errors; physio that fails
half-way. shared/detectors/oracle.py reports wrong results.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from shared.detectors.memory_model import (
    Access,
    Block,
    Cell,
    Change,
    Copies,
    Fork,
    Page,
    Patch,
    Space,
    Store,
    Take,
    Values,
    View,
    follow,
    private,
    union,
)
from shared.uvm.param import MAP_INHERIT_COPY, MAP_INHERIT_SHARE, VM_PROT_READ, VM_PROT_WRITE


class Refusal(NamedTuple):
    """An access was refused that must be allowed.

    Attributes:
        va: its address, in the address space of `proc`.
    """

    signal: str
    va: int
    proc: str


class Unlike(NamedTuple):
    """A call has answered a value that was not there.

    Attributes:
        does: as "reads 7 from byte 8 of vnode:0".
        value, word: what it answered, and which word of its page that was.
        possible: the values that were there.
        function: the kernel's function to name; "": that which has lost the value, if any has.
        subject: the object to name, if no page is known.
    """

    does: str
    value: int
    word: int
    possible: Values
    function: str
    subject: str


Wrong = Refusal | Unlike
#: to be called with a call's result at its end; says whether that was wrong
End = Callable[[int | str], Wrong | None]


class Files:
    """What files and shared memory segments hold, and the disk's blocks.

    Args:
        page_size: bytes.
        lossy: the disk errs, so what a file holds is not specified.

    Attributes:
        objects: ("file" or "shm", number) -> page -> cell.
        sizes: file -> bytes that it is made with; ends: sizes in bytes that it may have now.
        resizing: file -> calls of ftruncate that are going on; disputed: files of which several were at once.
    """

    def __init__(self, page_size: int, lossy: bool):
        self.page_size, self.lossy = page_size, lossy
        self.objects: dict[tuple[str, int], dict[int, Cell]] = {}
        self.blocks: dict[int, Block] = {}
        self.sizes: dict[int, int] = {}
        self.ends: dict[int, set[int]] = {}
        self.resizing: dict[int, int] = {}  # (no Counter, which takes a microsecond to make)
        self.disputed: set[int] = set()

    def copy(self, copies: Copies) -> Files:
        """The same, with cells of its own."""
        files = Files(self.page_size, self.lossy)
        for object, pages in self.objects.items():
            files.objects[object] = {page: copies.cell(cell) for page, cell in pages.items()}
        files.blocks = {number: copies.block(block) for number, block in self.blocks.items()}
        files.sizes, files.ends = self.sizes.copy(), self.ends.copy()
        return files

    def forget(self) -> None:
        """Cells lead to themselves no longer, so that they go without the garbage collector."""
        cells: list[Cell] = [*self.blocks.values()]
        for pages in self.objects.values():
            cells += pages.values()
        for cell in cells:
            cell.below = None
            cell.followers.clear()

    def cell(self, what: str, number: int, page: int) -> Cell:
        """A page of a file or a segment."""
        pages = self.objects.setdefault((what, number), {})
        cell = pages.get(page)
        if cell is None:
            cell = pages[page] = Cell()
            cell.below = cell
            cell.beyond = what == "file" and number in self.ends and page * self.page_size >= min(self.ends[number])
        return cell

    def word(self, file: int, at: int) -> tuple[Cell, int]:
        """A word of a file: a page, and the number of the word in it."""
        page, byte = divmod(at, self.page_size)
        return self.cell("file", file, page), byte >> 3

    def make(self, file: int, npages: int, first: int, words: tuple[int, ...]) -> None:
        """A file lies on the disk, from block `first` on."""
        self.ends[file] = {npages * self.page_size}
        for page in range(npages):
            cell = self.cell("file", file, page)
            block = self.blocks.setdefault(first + page, Block(mixed=True))
            if page < len(words):
                for copy in (cell, block):
                    copy.write(0, (words[page], None))
            follow(cell, block)  # whenever the kernel likes

    def write(self, file: int, at: int, value: int) -> End:
        """The word may hold the value from now on; at the end it does, if no other step has written to it meanwhile."""
        cell, word = self.word(file, at)
        store = Store(range(0), lambda vpn, cell: None)
        store.begin(cell, Patch({word: ((value, None),)}))

        def end(result: int | str) -> None:
            store.end(must=True, done=result == 0)

        return end

    def read(self, file: int, at: int) -> End:
        """Answers what the word held at some moment during the call."""
        cell, word = self.word(file, at)
        seen = cell.snapshot()
        follow(cell, seen)

        def end(result: int | str) -> Wrong | None:
            cell.followers.remove(seen)
            possible = union(seen.get(word), cell.possible(word))
            if isinstance(result, str) or self.lossy or any(result == value for value, _ in possible):
                return None
            does = f"reads {result} from byte {at} of vnode:{file}"
            return Unlike(does, result, word, possible, "", f"vnode:{file}")

        return end

    def truncate(self, file: int, size: int) -> End:
        """What is beyond the new end may be zero from now on, and what is written there until it is done goes too."""
        pages = self.objects.get(("file", file), {})
        gone = [cell for page, cell in pages.items() if page * self.page_size >= size]

        def end(result: int | str) -> None:
            self._cut(gone)
            self.resizing[file] -= 1
            if result == 0 and file not in self.disputed:
                self._ends_at(file, {size})
            if not self.resizing[file]:
                self.disputed.discard(file)

        if self.resizing.get(file):
            self.disputed.add(file)
        self.resizing[file] = self.resizing.get(file, 0) + 1
        self._ends_at(file, {*self.ends[file], size})
        self._cut(gone)
        return end

    def _cut(self, gone: list[Cell]) -> None:
        for cell in gone:
            cell.add_all(Cell())
            cell.disturb(cell.known())

    def _ends_at(self, file: int, sizes: set[int]) -> None:
        self.ends[file] = sizes
        for page, cell in self.objects.get(("file", file), {}).items():
            cell.beyond = page * self.page_size >= min(sizes)

    def remove_segment(self, segment: int) -> End:
        """A segment's number stands for a new one from then on."""

        def end(result: int | str) -> None:
            if result == 0:
                self.objects.pop(("shm", segment), None)

        return end

    def from_block(self, vpns: range, first: int) -> dict[int, Block]:
        """The blocks of the disk that pages are moved from or to, from block `first` on."""
        return {vpn: self.blocks.setdefault(first + at, Block()) for at, vpn in enumerate(vpns)}


class Memory:
    """What address spaces and loans hold.

    Args:
        threads: process -> how many threads it has.
        enough: pages that can be mapped, in all address spaces together, before memory may be short.
        files: what they share.

    Attributes:
        births: child -> the fork that makes it, until that has done what matters.
        mapped: pages, in all address spaces, ever.
        may_lack_pages: SIGBUS may be right, whatever is mapped.
    """

    def __init__(self, threads: dict[str, int], enough: int, files: Files):
        self.page_size, self.threads, self.enough, self.files = files.page_size, threads, enough, files
        self.spaces: dict[str, Space] = {}
        self.births: dict[str, tuple[Space, Fork]] = {}
        self.loans: dict[str, list[Cell]] = {}
        self.mapped = 0
        self.may_lack_pages = files.lossy

    def copy(self) -> Memory:
        """The same, with cells of its own, while no call is going on."""
        assert not self.births, "a fork is going on"
        copies = Copies()
        memory = Memory(self.threads.copy(), self.enough, self.files.copy(copies))
        for proc, space in self.spaces.items():
            assert not (space.forks or space.stores or space.takes or space.accesses), "a call is going on"
            copy = memory.spaces[proc] = Space()
            copy.pages = {vpn: copies.page(page) for vpn, page in space.pages.items()}
        for loan, cells in self.loans.items():
            memory.loans[loan] = [copies.cell(cell) for cell in cells]
        memory.mapped, memory.may_lack_pages = self.mapped, self.may_lack_pages
        return memory

    def pages(self, at: int, length: int) -> range:
        """Numbers of the pages of a range of addresses."""
        return range(at // self.page_size, (at + length) // self.page_size)

    # -- in three words ----------------------------------------------------------------

    def change(self, proc: str, vpns: range, change: Change) -> End:
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
                if not page.left:
                    page.changes.clear()
                    if page.views == (None,):
                        del space.pages[vpn]

        return end

    def alter(self, proc: str, vpns: range, change: Callable[[View], View]) -> End:
        """Views of those of these pages that are mapped become what `change` makes of them, if the call succeeds."""
        return self.change(proc, vpns, lambda vpn, view: None if view is None else change(view))

    def store(self, proc: str, vpns: range, make: Callable[[int, Cell], Cell | None], must: bool) -> End:
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

    def take(self, proc: str, into: dict[int, Cell]) -> End:
        """Cells get what their pages hold, each word as it is at some moment during the call."""
        space, take = self.spaces[proc], Take(into)
        for vpn in into:
            page = space.pages.get(vpn)
            take.look(vpn, page.views if page is not None else ())
        space.takes.append(take)

        def end(result: int | str) -> None:
            space.takes.remove(take)
            take.end()

        return end

    # -- address spaces ------------------------------------------------------------------

    def map(
        self, proc: str, vpns: range, prot: int, shared: bool, what: tuple[str, int] | None = None, offset: int = 0
    ) -> End:
        """Pages are mapped.

        Args:
            what: ("file" or "shm", number); None: anonymous memory.
            offset: in it, in bytes.
        """
        first = offset // self.page_size
        cells = [Cell() if what is None else self.files.cell(*what, first + at) for at in range(len(vpns))]
        if what is not None and not shared:
            cells = [private(cell) for cell in cells]
        return self._map_cells(proc, vpns, cells, prot, MAP_INHERIT_SHARE if shared else MAP_INHERIT_COPY)

    def _map_cells(self, proc: str, vpns: range, cells: list[Cell], prot: int, inherit: int) -> End:
        fresh = {vpn: View(cell, prot, inherit) for vpn, cell in zip(vpns, cells, strict=True)}
        self.mapped += len(vpns)
        return self.change(proc, vpns, lambda vpn, view: fresh[vpn] if view is None else view)

    def throw_away(self, proc: str, vpns: range) -> End:
        """What pages hold may be gone; what is a file's stays."""

        def thrown_away(vpn: int, cell: Cell) -> Cell | None:
            if cell.below is None:
                return Cell()
            return None if cell.below is cell else private(cell.below)

        return self.store(proc, vpns, thrown_away, must=False)

    def access(self, proc: str, va: int, need: int) -> End:
        """A word is read or written; what it holds is told by the operation on its frame."""
        space = self.spaces[proc]
        access = Access(va // self.page_size, need)
        page = space.pages.get(access.vpn)
        access.look(page.views if page is not None else (None,))
        space.accesses.append(access)

        def end(result: int | str) -> Wrong | None:
            space.accesses.remove(access)
            short = self.may_lack_pages or self.mapped >= self.enough
            if (result == "SIGSEGV" and not access.excused) or (result == "SIGBUS" and not short):
                return Refusal(str(result), va, proc)
            return None

        return end

    def put(self, proc: str, va: int, value: int) -> None:
        """The setup has stored a word."""
        vpn, byte = divmod(va, self.page_size)
        for view in self.spaces[proc].pages[vpn].views:
            if view is not None:
                view.cell.write(byte >> 3, (value, None))

    def may_hold(self, proc: str, vpn: int, value: int) -> None:
        """The first word of a page may have this value, too."""
        for view in self.spaces[proc].pages[vpn].views:
            if view is not None:
                view.cell.add(0, ((value, None),))

    def make_space(self, proc: str) -> None:
        """A process is there, and has nothing mapped."""
        self.spaces[proc] = Space()

    def fork(self, proc: str, child: str) -> End:
        """A child gets what it inherits of each page."""
        parent = self.spaces[proc]
        space = self.spaces[child] = Space()
        fork = Fork(space)
        for vpn, page in parent.pages.items():
            fork.look(vpn, page.views)
        self.mapped += len(space.pages)
        parent.forks.append(fork)
        self.births[child] = (parent, fork)

        def end(result: int | str) -> None:
            self.born(child)

        return end

    def born(self, child: str) -> None:
        """A fork has done what matters, at the latest when its child runs."""
        if child in self.births:
            parent, fork = self.births.pop(child)
            parent.forks.remove(fork)
            fork.end()

    def exit(self, proc: str) -> End:
        """A thread ends; with the last of its process goes the address space."""

        def end(result: int | str) -> None:
            self.threads[proc] -= 1
            if not self.threads[proc]:
                self.spaces[proc] = Space()

        return end

    # -- blocks of the disk ------------------------------------------------------------------

    def read_blocks(self, proc: str, vpns: range, first: int) -> End:
        """Pages become what the blocks held when the call began."""
        blocks = self.files.from_block(vpns, first)
        images = {vpn: block.snapshot() for vpn, block in blocks.items()}
        for vpn, block in blocks.items():
            follow(block, images[vpn])
        end = self.store(proc, vpns, lambda vpn, cell: images[vpn], must=True)

        def read(result: int | str) -> None:
            end(result)
            for vpn, block in blocks.items():
                block.followers.remove(images[vpn])

        return read

    def write_blocks(self, proc: str, vpns: range, first: int) -> End:
        """Blocks become what the pages hold at some moment during the call."""
        blocks = self.files.from_block(vpns, first)
        taken = {vpn: Cell() for vpn in blocks}
        for vpn, block in blocks.items():
            block.writers += 1
            block.mixed = block.mixed or block.writers > 1
            follow(taken[vpn], block)
        end = self.take(proc, taken)

        def written(result: int | str) -> None:
            end(result)
            for vpn, block in blocks.items():
                block.writers -= 1
                if result == 0 and not block.mixed:
                    block.words = taken[vpn].words
                block.mixed = block.mixed and block.writers > 0

        return written

    # -- loans ---------------------------------------------------------------------------------

    def make_loan(self, loan: str, npages: int) -> None:
        """A loan will be made of so many pages; a step that asks for it before that sees nothing there."""
        self.loans[loan] = [Cell() for _ in range(npages)]

    def lend(self, proc: str, vpns: range, loan: str) -> End:
        """The borrower has the contents of the pages at some moment during the call."""
        return self.take(proc, dict(zip(vpns, self.loans[loan], strict=True)))

    def map_loan(self, proc: str, vpns: range, loan: str) -> End:
        """What is lent is mapped as private memory: a copy, and nothing below it."""
        lent = self.loans[loan][: len(vpns)]
        cells = [cell.snapshot() for cell in lent]
        for cell, copy in zip(lent, cells, strict=True):
            follow(cell, copy)  # the loan may be going on, or may only begin
        change = self._map_cells(proc, vpns, cells, VM_PROT_READ | VM_PROT_WRITE, MAP_INHERIT_COPY)

        def end(result: int | str) -> None:
            for cell, copy in zip(lent, cells, strict=True):
                cell.followers.remove(copy)
            change(result)

        return end

    def peek(self, loan: str, number: int, page: int) -> End:
        """Answers the first word of a page that was lent."""
        now = self.loans[loan][page]

        def end(result: int | str) -> Wrong | None:
            possible = now.possible(0)
            if isinstance(result, str) or any(result == value for value, _ in possible):
                return None
            does = f"finds {result} in page {page} of loan {loan}"
            return Unlike(does, result, 0, possible, "loan_peek", f"loan:{number}")

        return end
