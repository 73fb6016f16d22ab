"""The origin of the words of memory: the contents of each frame, swap slot and disk block.

The module follows the operations on memory in the order in which they were admitted:
stores, copies, zeroing and I/O. It knows for each word its *origin*, the operation that
gave the word its value, and each *hop* since then: a copy or a transfer from one place to
another. So it can say where a wrong value came from, where an expected value is now, or
which operation destroyed its last copy.

Rules: a pure function of its input. It does its work only when it is asked, because it is only asked about a run with a
finding (`Trail` is cheap to keep). Engine and journals give it the same input.

Left out: free slots and blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from shared.journal.record import Record
from shared.wire import images
from shared.wire.images import Images
from shared.wire.messages import OPERATIONS

#: longest way of a word that is told in full: the first and the last hops of it
MAX_HOPS = 6


class Move(NamedTuple):
    """One operation on memory.

    Attributes:
        stack: the kernel functions that its context was in, the innermost two, outermost first.
        args: as in OPERATIONS; of what a record leaves out, None.
        result: what was answered; None: nothing, or the context had to wait.
    """

    ctx: str
    n: int
    stack: tuple[str, ...]
    code: str
    target: int
    args: tuple[Any, ...]
    result: object

    @property
    def by(self) -> str:
        """Who did it, in which function: `A in uvm_pagecopy < uvm_fault, its operation 7`."""
        where = f" in {' < '.join(reversed(self.stack))}" if self.stack else ""
        return f"{self.ctx}{where} (its operation {self.n})"


#: of a Move, which is a tuple of them
Parts = tuple[str, int, tuple[str, ...], str, int, tuple[Any, ...], object]


class Place(NamedTuple):
    """A page of memory: `kind` is page, slot or block."""

    kind: str
    number: int

    def __str__(self) -> str:
        return {"page": "page:", "slot": "swap slot ", "block": "disk block "}[self.kind] + str(self.number)


class Hop(NamedTuple):
    """How a page's words came from one place to another, by an operation, for whom."""

    source: Place
    target: Place
    move: Move
    what: str


class Way(NamedTuple):
    """The hops of a word, the last first."""

    hop: Hop
    before: Way | None


class Origin:
    """The operation that gave a word its value, the `at`th of all; `move` None: it had it when the run began."""

    __slots__ = ("at", "lost", "move", "place", "value", "word")

    def __init__(self, move: Move | None, place: Place, word: int, value: int | None, at: int = 0):
        self.move, self.place, self.word, self.value, self.at = move, place, word, value, at
        self.lost: tuple[Place, Move, str] | None = None  # where the last copy so far was destroyed, by what


class Item(NamedTuple):
    """A word in its place: where its value is from, and by which way it came, the last hop first."""

    origin: Origin
    way: Way | None = None

    def hops(self) -> list[Hop]:
        hops, way = [], self.way
        while way is not None:
            hops.append(way.hop)
            way = way.before
        return hops[::-1]


class Contents:
    """A page's words: those that are known one by one, and `rest`, the operation that set all others."""

    def __init__(self, place: Place, rest: Move | None = None, value: int | None = None):
        self.words: dict[int, Item] = {}
        self.place, self.move, self.value = place, rest, value
        self.way: Way | None = None

    def item(self, word: int) -> Item:
        item = self.words.get(word)
        if item is None:
            item = self.words[word] = Item(Origin(self.move, self.place, word, self.value), self.way)
        return item

    def moved(self, hop: Hop) -> Contents:
        """The same words in another place."""
        other = Contents(self.place, self.move, self.value)
        other.words = {word: Item(item.origin, Way(hop, item.way)) for word, item in self.words.items()}
        other.way = Way(hop, self.way)
        return other


class Request(NamedTuple):
    """I/O that was asked for: to or from `places`, one for each frame."""

    write: bool
    frames: list[int]
    places: list[Place]
    move: Move


class Provenance:
    """What the operations so far have left where.

    Args:
        image: what memory, swap and disk held when the run began, by node, as they keep it; {}: not known.
    """

    def __init__(self, image: Images) -> None:
        self.at = 0  # number of operations so far
        self.contents: dict[Place, Contents] = {}
        self.stores: dict[tuple[str, int], Origin] = {}  # (context, operation) -> what it stored
        self.freed: dict[int, Move] = {}  # frame -> who freed its page, since anything was written to it
        self.frees: dict[int, tuple[int, Move]] = {}  # frame -> when its page was last freed, and by whom
        self.entered: list[Move] = []  # translations, and the requests that take away or narrow some, as they came
        self.requests: list[Request] = []
        self.taken: dict[str, list[tuple[int, Contents]]] = {}  # context -> the frames it has read since its last I/O
        self.begin: list[Origin] = []  # words that were not zero when the run began
        for place, words in _at_start(image):
            contents = self.contents[place] = Contents(place, None, 0)
            for word, value in enumerate(words):
                if value:
                    origin = Origin(None, place, word, value)
                    self.begin.append(origin)
                    contents.words[word] = Item(origin)

    def of(self, place: Place) -> Contents:
        contents = self.contents.get(place)
        if contents is None:
            contents = self.contents[place] = Contents(place)
        return contents

    def move(self, move: Move) -> None:
        """One more operation."""
        self.at += 1
        getattr(self, f"op_{move.code}")(move)

    # -- operations --------------------------------------------------------------

    def op_word_write(self, move: Move) -> None:
        offset, value = move.args[0], move.args[1]
        self._store(move, offset, value)

    def op_frame_store(self, move: Move) -> None:
        offset, value = move.args
        self._store(move, offset, value)

    def _store(self, move: Move, offset: int, value: int) -> None:
        place, word = Place("page", move.target), offset >> 3
        page = self.of(place)
        self._lose(page.item(word), place, move, "overwritten")
        origin = self.stores[move.ctx, move.n] = Origin(move, place, word, value, self.at)
        page.words[word] = Item(origin)
        self.freed.pop(move.target, None)

    def op_frame_zero(self, move: Move) -> None:
        self._replace(Place("page", move.target), Contents(Place("page", move.target), move, 0), move, "zeroed")

    def op_frame_copy(self, move: Move) -> None:
        self._copy(self.of(Place("page", move.args[0])), Place("page", move.args[0]), move)

    def op_frame_read(self, move: Move) -> None:
        self.taken.setdefault(move.ctx, []).append((move.target, self.of(Place("page", move.target))))

    def op_frame_write(self, move: Move) -> None:
        """By a device, into the frame of a request; or the second half of a copy between two shards of memory."""
        target = Place("page", move.target)
        request = next(
            (request for request in self.requests[::-1] if not request.write and move.target in request.frames), None
        )
        if request is not None:
            source = request.places[request.frames.index(move.target)]
            hop = Hop(source, target, request.move, "read")
            self._replace(target, self.of(source).moved(hop), request.move, f"overwritten from {source}")
        elif self.taken.get(move.ctx):
            frame, contents = self.taken.pop(move.ctx)[-1]
            self._copy(contents, Place("page", frame), move)

    def _copy(self, contents: Contents, source: Place, move: Move) -> None:
        target = Place("page", move.target)
        self._replace(target, contents.moved(Hop(source, target, move, "copied")), move, f"overwritten from {source}")

    def op_swap_put(self, move: Move) -> None:
        if not move.result:  # else the device has refused it
            self._ask(True, "slot", move, move.args[1])

    def op_swap_get(self, move: Move) -> None:
        self._ask(False, "slot", move, [move.args[0]])

    def op_disk_start(self, move: Move) -> None:
        self._ask(bool(move.args[1]), "block", move, move.args[0])

    def op_disk_get(self, move: Move) -> None:
        self._ask(False, "block", move, move.args[0])

    def op_disk_put(self, move: Move) -> None:
        if not move.result:
            self._ask(True, "block", move, move.args[1])

    def _ask(self, write: bool, kind: str, move: Move, frames: list[int]) -> None:
        places = [Place(kind, move.target + at) for at in range(len(frames))]
        self.requests.append(Request(write, list(frames), places, move))

    def op_io_done(self, move: Move) -> None:
        """What the device has read from memory is in its slots or blocks now; a request that failed moved nothing."""
        taken = self.taken.pop(move.ctx, [])
        frames = [frame for frame, _ in taken]
        for request in self.requests:
            if request.write and taken and request.frames == frames:
                for place, (frame, contents) in zip(request.places, taken, strict=True):
                    hop = Hop(Place("page", frame), place, request.move, "written")
                    self._replace(place, contents.moved(hop), request.move, f"overwritten from page:{frame}")
                self.requests.remove(request)
                return
        kind = "slot" if move.code == "io_done" else "block"
        for request in self.requests:
            written = [self.contents.get(Place("page", frame)) for frame in request.frames]
            reading = not request.write and request.places[0].kind == kind
            if reading and all(
                content is not None and content.way is not None and content.way.hop.move is request.move
                for content in written
            ):
                self.requests.remove(request)
                return

    def op_disk_done(self, move: Move) -> None:
        self.op_io_done(move)

    def op_disk_format(self, move: Move) -> None:
        place = Place("block", move.target)
        self._replace(place, Contents(place, move), move, "formatted")

    def op_pmap_enter(self, move: Move) -> None:
        self.entered.append(move)

    def op_pmap_remove(self, move: Move) -> None:
        self.entered.append(move)

    def op_pmap_protect(self, move: Move) -> None:
        self.entered.append(move)

    def op_renew(self, move: Move) -> None:
        name = str(move.args[0]).split("#", maxsplit=1)[0]
        if name.startswith("page:"):
            self.freed[int(name.removeprefix("page:"))] = move
            self.frees[int(name.removeprefix("page:"))] = (self.at, move)

    def _replace(self, place: Place, new: Contents, move: Move, how: str) -> None:
        old = self.of(place)
        for word in old.words:
            self._lose(old.words[word], place, move, how)
        self.contents[place] = new
        if place.kind == "page":
            self.freed.pop(place.number, None)

    @staticmethod
    def _lose(item: Item, place: Place, move: Move, how: str) -> None:
        item.origin.lost = (place, move, how)

    # -- questions -----------------------------------------------------------------

    def whereabouts(self, origin: Origin) -> list[Place]:
        """Where a value is now, pages that are not free first."""
        word = origin.word
        places = [
            place
            for place, contents in self.contents.items()
            if word in contents.words and contents.words[word].origin is origin
        ]
        return sorted(
            places, key=lambda place: (place.kind, place.kind == "page" and place.number in self.freed, place.number)
        )

    def store(self, who: tuple[str, int, int, int], word: int, value: int) -> Origin:
        """A program's store, by context, operation and frame."""
        ctx, n, frame, _ = who
        known = self.stores.get((ctx, n))
        if known is not None:
            return known
        return Origin(Move(ctx, n, (), "word_write", frame, (), None), Place("page", frame), word, value)

    def freed_since(self, origin: Origin) -> str | None:
        """The function that has called uvm_pagefree() for the page that a value was stored in, since that."""
        at, move = self.frees.get(origin.place.number, (0, None))
        if origin.place.kind != "page" or move is None or at <= origin.at:
            return None
        return move.stack[0] if len(move.stack) > 1 else "user"

    def origins(self, word: int, value: int) -> list[Origin]:
        """From where this value may have come to this word of a page: the kernel's stores, what was there when the run
        began, the stores of programs; the last one first."""
        stores = [*reversed(self.stores.values())]
        kernel = [store for store in stores if store.move is not None and store.move.code != "word_write"]
        every = [*kernel, *self.begin, *(store for store in stores if store not in kernel)]
        return [origin for origin in every if origin.word == word and origin.value == value]

    # -- words -----------------------------------------------------------------------

    def let(self, frame: int, va: int) -> list[str]:
        """Why an access to an address was allowed: the entry of the translation, and a request to remove it.

        Args:
            va: of the page.
        """
        enters = [
            (at, move)
            for at, move in enumerate(self.entered)
            if move.code == "pmap_enter" and move.args[:2] == (va, frame)
        ]
        at, enter = enters[-1] if enters else (-1, None)
        reasons = [
            f"its translation to page:{frame} "
            + ("was there when the run began" if enter is None else f"was entered by {enter.by}")
        ]
        asked = [
            move
            for move in self.entered[at + 1 :]
            if move.code != "pmap_enter"
            and move.args[0] <= va < move.args[1]
            and (enter is None or move.target == enter.target)
        ]
        if asked:
            reasons.append(f"{asked[-1].by} requested {asked[-1].code} of it")
        else:
            reasons.append("no context has requested to remove or restrict it since")
        return reasons

    def came_from(self, item: Item, value: int, where: Callable[[int], str]) -> str:
        """Where a value is from that was read, in a sentence.

        Args:
            where: an address in the scenario's own words.
        """
        hops = item.hops()
        parts = [self.born(item.origin, where), *(self._hop(hop) for hop in hops)]
        if len(parts) > MAX_HOPS:
            parts = [*parts[: MAX_HOPS // 2], f"and so on {len(parts) - MAX_HOPS} times", *parts[-MAX_HOPS // 2 :]]
        return f"the {value} that was read: " + "; ".join(parts)

    def born(self, origin: Origin, where: Callable[[int], str]) -> str:
        """How a word got its value."""
        move, place = origin.move, origin.place
        if move is None:
            return f"it was in {place} when the run began"  # the setup has put it there
        if move.code == "word_write":
            at = f" at {where(move.args[2])}" if move.args else ""
            return f"{move.ctx} stored it{at} (its operation {move.n}), in {place}"
        if move.code == "frame_zero":
            return f"{place} was zeroed by {move.by}"
        if move.code == "disk_format":
            return f"it was in {place} when its file was made"
        return f"it was stored in {place} by {move.by}"

    @staticmethod
    def _hop(hop: Hop, to: bool = True) -> str:
        where = f"from {hop.source}" + (f" to {hop.target}" if to else "")
        if hop.what == "copied":
            return f"copied {where} by {hop.move.by}"
        raw = "by DMA " if hop.move.code == "disk_start" else ""
        return f"{hop.what} {raw}{where} for {hop.move.by}"

    def fate(self, origin: Origin) -> str:
        """Where a value is now, or which operation destroyed its last copy."""
        places = self.whereabouts(origin)
        gone = [place for place in places if place.kind == "page" and place.number in self.freed]
        live = [place for place in places if place not in gone]
        parts = [f"it is now in {' and in '.join(map(str, live))}"] if live else []
        for place in gone:
            other = "" if live else ", and it had been written to no other place"
            way = self.contents[place].words[origin.word].way
            brought = f", into which it was {self._hop(way.hop, False)}," if way is not None else ""
            parts.append(f"{place}{brought} was freed by {self.freed[place.number].by}{other}")
        if origin.lost is not None:
            place, move, how = origin.lost
            parts.append(f"{'its last copy' if not places else 'a copy'}, in {place}, was {how} by {move.by}")
        return "; ".join(parts)


def _at_start(image: Images) -> Iterator[tuple[Place, Sequence[int]]]:
    """What every place held, as the nodes' images have it."""
    for number, words in images.frames_of(image):
        yield Place("page", number), words
    swapped = images.swap(image)
    for slot, words in () if swapped is None else swapped["slots"]:
        yield Place("slot", slot), words
    for number, words in enumerate(images.disk(image)):
        yield Place("block", number), words


#: the kinds of operation that it must see
MOVES = frozenset(name.removeprefix("op_") for name in vars(Provenance) if name.startswith("op_"))
assert OPERATIONS.keys() >= MOVES, f"no such operations: {sorted(MOVES - OPERATIONS.keys())}"


def innermost(stack: list[str]) -> tuple[str, ...]:
    """The functions that a move is told with."""
    return (stack[-2], stack[-1]) if len(stack) > 1 else tuple(stack)


class Trail:
    """The operations on memory of a run, as they come; nothing is made of them before it is asked for."""

    def __init__(self, image: Images) -> None:
        self.image = image
        self.moves: list[Parts] = []

    def add(self, move: Parts) -> None:
        """One operation, of a kind in MOVES."""
        self.moves.append(move)

    def add_record(self, record: Record, stack: list[str]) -> None:
        """The same from its record."""
        op = OPERATIONS[record["event"]]
        args = tuple(record.get(name.rstrip("?")) for name in op.args)
        result = record.get(op.result) if op.result else None
        target = record.get(op.target, 0)
        self.add(Move(record["ctx"], record["n"], innermost(stack), record["event"], target, args, result))

    def __iter__(self) -> Iterator[Move]:
        return iter([Move(*move) for move in self.moves])

    def replay(self) -> Provenance:
        """What they have left where."""
        provenance = Provenance(self.image)
        for move in self:
            provenance.move(move)
        return provenance
