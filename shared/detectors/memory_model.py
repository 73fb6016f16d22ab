"""A plain model of memory: the values that each word of each address space may have, also when steps overlap.

The model has for each page of an address space the possible *views* (its memory, its
protection, its inheritance), and for each word of that memory (a *cell*) the possible
*values*; usually there is one view and one value. An event in progress (a change of
views, a store over a range, a fork, an access) is an object that sees each new view and
value until the event ends.

The model knows neither steps nor scenarios nor UVM. shared/scenario/steps declares the effects of steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import permutations

from shared.uvm.param import MAP_INHERIT_NONE, MAP_INHERIT_SHARE

#: who wrote a value: context, number of its operation, frame, and the oracle's time; None: no context
Writer = tuple[str, int, int, int]
#: a value, and who wrote it
Value = tuple[int, Writer | None]
Values = tuple[Value, ...]

ZERO: Values = ((0, None),)
#: more changes at once than this: any number of them in any order
MANY = 4


class Cell:
    """The words of a page, for all who share it.

    Attributes:
        words: number of a word -> what it may hold; a word that is not there is zero.
        followers: cells that may hold whatever is written here.
        source: the cell that this cell follows until it is written to itself, or None.
        below: the file's or segment's cell of which this is a private copy; their own cells have themselves there.
        beyond: it is a page beyond the end of its file: what is written there may be gone at any moment.
        stores: stores to this cell that are going on.
    """

    __slots__ = ("below", "beyond", "followers", "source", "stores", "words")

    def __init__(self, words: dict[int, Values] | None = None):
        self.words: dict[int, Values] = {} if words is None else words
        self.followers: list[Cell] = []
        self.source: Cell | None = None
        self.below: Cell | None = None
        self.beyond = False
        self.stores: list[Store] = []

    def get(self, word: int) -> Values:
        """What the word may hold."""
        return self.words.get(word, ZERO)

    def known(self) -> set[int]:
        """Words of which more is known than that they are zero, or is about to be, by a store that is going on."""
        return {*self.words, *(word for store in self.stores for word in store.pairs[self].words)}

    def possible(self, word: int) -> Values:
        """The same, with what is being stored to it."""
        values = self.get(word)
        for store in self.stores:
            values = union(values, store.pairs[self].get(word))
        return values

    def write(self, word: int, value: Value) -> None:
        """The word now holds this value; the page is a copy of its own, if it was a file's."""
        self.leave()
        values = union((value,), ZERO) if self.beyond else (value,)
        self.words[word] = values
        for follower in self.followers:
            follower.add(word, values)
        self.disturb((word,))

    def disturb(self, words: Iterable[int]) -> None:
        """Stores that are going on may come before what has just been done to these words."""
        for store in self.stores:
            store.touched.update((self, word) for word in words)

    def join(self, source: Cell) -> None:
        """Follow a file's or segment's cell until it is written to."""
        if self.source is None:
            self.source = source
            follow(source, self)

    def leave(self) -> None:
        """Follow none any more."""
        if self.source is not None:
            self.source.followers.remove(self)
            self.source = None

    def add(self, word: int, values: Values) -> None:
        """The word may hold one of these values too, and so may it in all who follow, directly or not."""
        reached = [self]
        for cell in reached:  # grows; a page of a file may follow its own block, which follows the page
            cell.words[word] = union(cell.get(word), values)
            reached += [follower for follower in cell.followers if follower not in reached]

    def add_all(self, other: Cell) -> None:
        """Every word may hold what `other` may hold there too."""
        for word in {*self.words, *other.words}:
            self.add(word, other.possible(word))

    def snapshot(self) -> Cell:
        """A new cell that holds what this cell may hold just now."""
        cell = Cell(dict(self.words))
        for store in self.stores:
            cell.add_all(store.pairs[self])
        return cell

    def copy(self) -> Cell:
        """A cell of its own that holds the same, and follows the same source."""
        cell = self.snapshot()
        cell.below = self.below
        for source in (self.source, *(store.pairs[self].source for store in self.stores)):
            if source is not None:
                cell.join(source)
        return cell

    def become(self, other: Cell) -> None:
        """Hold what `other` may hold just now, and nothing else."""
        self.words = other.snapshot().words
        for follower in self.followers:
            follower.add_all(self)


def private(cell: Cell) -> Cell:
    """A private copy of a file's cell, of which it sees what is written to the file until it is written to itself."""
    copy = cell.copy()
    copy.join(cell)
    return copy


class Patch(Cell):
    """Some words of a page; of the others it says nothing."""

    __slots__ = ()

    def get(self, word: int) -> Values:
        return self.words.get(word, ())


def follow(cell: Cell, other: Cell) -> None:
    """From now on `other` may hold what is written to `cell`."""
    cell.followers.append(other)


def either(values: Values) -> str:
    return " or ".join(str(value) for value, _ in values)


def union(values: Values, more: Values) -> Values:
    known = {value for value, _ in values}
    return values + tuple(pair for pair in more if pair[0] not in known)


class View:
    """What a page of an address space is: memory, its protection, what a child gets of it. Never changed.

    (Not a NamedTuple, of which compiled code makes one in 0.3 us, and one of these in 0.04 us.)
    """

    __slots__ = ("cell", "inherit", "prot")

    def __init__(self, cell: Cell, prot: int, inherit: int):
        self.cell, self.prot, self.inherit = cell, prot, inherit

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, View):
            return False
        return self.cell is other.cell and self.prot == other.prot and self.inherit == other.inherit

    def __hash__(self) -> int:
        return hash((id(self.cell), self.prot, self.inherit))

    def protected(self, prot: int) -> View:
        """With another protection."""
        return View(self.cell, prot, self.inherit)

    def inherited(self, inherit: int) -> View:
        """With another inheritance."""
        return View(self.cell, self.prot, inherit)


Change = Callable[[int, View | None], View | None]


class Page:
    """A page of an address space.

    Attributes:
        views: what it may be just now; None: not mapped.
        base, changes, left: what it was before the changes that are going on; these, and how many have not ended.
    """

    __slots__ = ("base", "changes", "left", "views")

    def __init__(self, views: tuple[View | None, ...]):
        self.views = views
        self.base: tuple[View | None, ...] = ()
        self.changes: list[Change] = []
        self.left = 0

    def settle(self, vpn: int) -> None:
        """What it may be after some of the changes or, if all have ended, after all of them; in any order."""
        if self.left or len(self.changes) > MANY:
            views = list(self.base)
            for view in views:  # grows
                for change in self.changes:
                    made = change(vpn, view)
                    if made not in views:
                        views.append(made)
            self.views = tuple(views)
            return
        if len(self.base) == len(self.changes) == 1:  # mostly; the rule below gives the same
            self.views = (self.changes[0](vpn, self.base[0]),)
            return
        settled: dict[View | None, None] = {}
        for view in self.base:
            for order in permutations(self.changes):
                now = view
                for change in order:
                    now = change(vpn, now)
                settled[now] = None
        self.views = tuple(settled)


class Access:
    """A read or write step that has begun."""

    __slots__ = ("excused", "need", "vpn")

    def __init__(self, vpn: int, need: int):
        self.vpn, self.need, self.excused = vpn, need, False

    def look(self, views: Iterable[View | None]) -> None:
        """If one of these is there, the access may be refused."""
        if any(view is None or not view.prot & self.need for view in views):
            self.excused = True


class Store:
    """Words stored over a range by a call that is going on.

    Args:
        make: for a page and its cell, the cell whose words are stored; None: nothing is.

    Attributes:
        pairs: cell stored to -> cell whose words are stored.
        touched: words that were written meanwhile.
    """

    def __init__(self, vpns: range, make: Callable[[int, Cell], Cell | None]):
        self.vpns, self.make = vpns, make
        self.pairs: dict[Cell, Cell] = {}
        self.touched: set[tuple[Cell, int]] = set()

    def look(self, vpn: int, views: Iterable[View | None]) -> None:
        """These may be what is there."""
        for view in views:
            stored = None if view is None or view.cell in self.pairs else self.make(vpn, view.cell)
            if view is not None and stored is not None:
                self.begin(view.cell, stored)

    def begin(self, cell: Cell, stored: Cell) -> None:
        """Any word of `cell` may be that of `stored` from now on."""
        self.pairs[cell] = stored
        cell.stores.append(self)
        follow(stored, cell)
        for follower in cell.followers:
            follower.add_all(stored)
            if stored.source is not None and follower.below is stored.source:  # a child's, whose fork is going on
                follower.join(stored.source)

    def end(self, must: bool, done: bool) -> None:
        """The words of `stored` are there (not `must`: maybe), unless they have been written meanwhile."""
        for cell, stored in self.pairs.items():
            cell.stores.remove(self)
            stored.followers.remove(cell)
            words = set(stored.words) if isinstance(stored, Patch) else cell.known() | set(stored.words)
            for word in words if done else ():
                values = stored.get(word)
                if must and not cell.beyond and (cell, word) not in self.touched:
                    cell.words[word] = values
                cell.add(word, values)
            if done:
                cell.disturb(words)
                if stored.source is not None:
                    cell.join(stored.source)
            stored.leave()
        self.make = _nothing  # (in the compiled form, a function leads to whatever it was made beside)


def _nothing(vpn: int, cell: Cell) -> Cell | None:
    return None


class Take:
    """Pages that a call which is going on copies, each word as it is at some moment.

    Attributes:
        into: page -> the cell that gets it.
        sources: (page, cell that may be what is there), in the order in which they came up.
    """

    def __init__(self, into: dict[int, Cell]):
        self.into = into
        self.sources: list[tuple[int, Cell]] = []

    def look(self, vpn: int, views: Iterable[View | None]) -> None:
        """These may be what is there."""
        if vpn not in self.into:
            return
        into = self.into[vpn]
        for view in views:
            if view is None or (vpn, view.cell) in self.sources:
                continue
            if any(known == vpn for known, _ in self.sources):
                into.add_all(view.cell)
            else:
                into.become(view.cell)
            self.sources.append((vpn, view.cell))
            follow(view.cell, into)

    def end(self) -> None:
        for vpn, cell in self.sources:
            cell.followers.remove(self.into[vpn])


class Fork:
    """A fork that is going on.

    Attributes:
        copies: (page, parent's cell) -> the child's.
    """

    def __init__(self, child: Space):
        self.child = child
        self.copies: dict[tuple[int, Cell], Cell] = {}

    def look(self, vpn: int, views: Iterable[View | None]) -> None:
        """The child's page may be made from one of these."""
        inherited: list[View | None] = []
        for view in views:
            if view is None or view.inherit == MAP_INHERIT_NONE:
                inherited.append(None)
            elif view.inherit == MAP_INHERIT_SHARE:
                inherited.append(view)
            else:
                cell = self.copies.get((vpn, view.cell))
                if cell is None and view.cell.below is view.cell:  # an object is not copied, only mapped privately
                    cell = self.copies[(vpn, view.cell)] = private(view.cell)
                elif cell is None:
                    cell = self.copies[(vpn, view.cell)] = view.cell.copy()
                    follow(view.cell, cell)
                inherited.append(View(cell, view.prot, view.inherit))
        page = self.child.pages.get(vpn)
        before = page.views if page is not None else ()
        after = tuple(dict.fromkeys((*before, *inherited)))
        if page is not None:
            page.views = after
        elif after != (None,):
            self.child.pages[vpn] = Page(after)

    def end(self) -> None:
        for (_, cell), copy in self.copies.items():
            if cell.below is not cell:
                cell.followers.remove(copy)


class Space:
    """An address space: its pages, and what is going on in it."""

    def __init__(self) -> None:
        self.pages: dict[int, Page] = {}
        self.forks: list[Fork] = []
        self.stores: list[Store] = []
        self.takes: list[Take] = []
        self.accesses: list[Access] = []


class Block(Cell):
    """A block of the disk.

    Attributes:
        writers: calls that write to it now; `mixed`: there were several at once, or it is a file's, which the kernel
            writes to whenever it likes.
    """

    __slots__ = ("mixed", "writers")

    def __init__(self, mixed: bool = False, words: dict[int, Values] | None = None) -> None:
        super().__init__(words)
        self.writers = int(mixed)
        self.mixed = mixed


class Copies:
    """Copies of cells on which nothing is going on: of each cell one, for all that have it."""

    def __init__(self) -> None:
        self.made: dict[Cell, Cell] = {}

    def cell(self, cell: Cell) -> Cell:
        """The copy of a cell, with the cells that it follows, and that follow it."""
        copy = self.made.get(cell)
        if copy is None:
            words = cell.words.copy()
            copy = self.made[cell] = Block(cell.mixed, words) if isinstance(cell, Block) else Cell(words)
            copy.beyond = cell.beyond
            copy.source = None if cell.source is None else self.cell(cell.source)
            copy.below = None if cell.below is None else self.cell(cell.below)
            for follower in cell.followers:
                follow(copy, self.cell(follower))
        return copy

    def block(self, block: Block) -> Block:
        """The copy of a block."""
        copy = self.cell(block)
        assert isinstance(copy, Block)
        return copy

    def page(self, page: Page) -> Page:
        """A page whose views have copies of the cells."""
        views: list[View | None] = []
        for view in page.views:
            views.append(None if view is None else View(self.cell(view.cell), view.prot, view.inherit))
        return Page(tuple(views))
