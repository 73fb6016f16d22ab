"""Kinds of keys: the possible values of a step's key, the reading of a value, and its JSON Schema.

A kind reads one value. It may also use the other keys of its step (`place.keys`), the thread of the step, and every
name of the file (`place.names`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from shared.scenario.machine import KERNEL_MAPS, MAX_CPUS, MAX_FRAMES, MAX_SWAP, MAX_SWAP_DEVICES
from shared.scenario.names import FILL, MAX_REGION_PAGES, Names, Place, Process, Thread
from shared.scenario.steps.step import ADDRESS_FORM, NAME_FORM, Fields, Kind, Plain, Schema
from shared.scenario.yaml import Value

MAX_WORD = 2**64 - 1
#: regular expressions of a JSON Schema are not Python's
_ADDRESS_PATTERN = f"^{ADDRESS_FORM}$".replace("?P<region>", "").replace("?P<page>", "").replace("?P<byte>", "")
_NAME: Schema = {"type": "string", "pattern": f"^{NAME_FORM}$"}
_WORD: Schema = {"type": "string", "pattern": _ADDRESS_PATTERN}
_PAGE: Schema = {"type": "string", "pattern": _ADDRESS_PATTERN.replace(r"(?:\+([0-9]{1,6}))?", "")}
_MAPPED = {"file", "shm"}

Read = Callable[[str, Value, Place], Fields]


# -- of any step ------------------------------------------------------------------------


def whole(low: int, high: int, means: str = "", field: str = "") -> Kind:
    """A whole number; it goes to `field`, or to the field of the key's name."""
    words = f"a whole number, {low} to {'2**64 - 1' if high == MAX_WORD else high}"
    return Kind(
        words, _range(low, high), lambda name, value, _: {field or name: value.integer(low, high)}, means,
        str(max(low, 1)),
    )  # fmt: skip


def choice(what: str, words: Mapping[str, Plain] | Iterable[str], field: str = "", means: str = "") -> Kind:
    """One of a few words.

    Args:
        what: they are, for messages.
        words: word -> its value; or words that are their own values.
        field: where that goes, if not to the field of the key's name.
    """
    known: dict[str, Plain] = dict(words) if isinstance(words, Mapping) else {word: word for word in words}

    def read(name: str, value: Value, place: Place) -> Fields:
        return {field or name: known[value.choice(known, what)]}

    return Kind(f"a word: {', '.join(known)}", {"enum": list(known)}, read, means, next(iter(known)))


def flags(words: Mapping[str, int]) -> Kind:
    """A list of words, whose flags are added up."""

    def read(name: str, value: Value, place: Place) -> Fields:
        total = 0
        for flag in value.elements(at_least=1):
            total |= words[flag.choice(words, "flag")]
        return {name: total}

    schema: Schema = {"type": "array", "items": {"enum": list(words)}, "minItems": 1}
    return Kind(f"a list of words: {', '.join(words)}", schema, read, "", f"[{next(iter(words))}]")


TRUTH = Kind("true or false", {"type": "boolean"}, lambda name, value, _: {name: value.boolean()}, "", "true")


def _range(low: int, high: int) -> Schema:
    return {"type": "integer", "minimum": low, "maximum": high}


def _name(read: Read, means: str, example: str, declare: Callable[[Value, Place], None] | None = None) -> Kind:
    return Kind("a name", _NAME, read, means, example, declare)


def _pages(place: Place) -> int:
    """How many pages the step says."""
    return place.keys["pages"].integer(1, MAX_REGION_PAGES)


# -- processes and threads -----------------------------------------------------------


def _proc(place: Place) -> Process:
    assert place.proc is not None
    return place.proc


def _thread(place: Place) -> Thread:
    assert place.thread is not None
    return place.thread


def _enter(value: Value, place: Place) -> None:
    place.proc = place.names.process(value)
    place.scope = place.proc.regions


def _make_child(value: Value, place: Place) -> None:
    place.child = place.names.make_child(value, place.keys.get("cpu"), _thread(place), place.line)


def _child(name: str, value: Value, place: Place) -> Fields:
    assert place.child is not None
    place.forked.add(place.child.name)
    return {"as_": place.child.name, "cpu": place.child.cpu}


IN_PROCESS = _name(
    lambda name, value, place: {"in_": _proc(place).name}, "the process that performs the step", "A", _enter
)
NEW_PROCESS = _name(
    lambda name, value, _: {"as_": value.text()}, "the name of the process and of its first thread", "P",
    lambda value, place: place.names.make_process(value, place.keys["cpu"], place.line),
)  # fmt: skip
NEW_THREAD = _name(
    lambda name, value, _: {"as_": value.text()}, "the thread's name", "T2",
    lambda value, place: place.names.make_thread(value, place.keys["cpu"], _proc(place)),
)  # fmt: skip
NEW_CHILD = _name(_child, "the child's name", "D", _make_child)
CHILD = _name(
    lambda name, value, place: {"for_": place.names.child(value, _thread(place), place.forked)}, "the child's name", "C"
)
#: the loader continues in the child's program
CHILD_PROGRAM = Kind(
    "a list of steps", {"$ref": "#/definitions/program"}, lambda name, value, place: {}, "the child's program",
    '[{read: {at: "buf[0]"}}]',
)  # fmt: skip
CPU = Kind(
    "a whole number, less than the machine's number of CPUs", _range(0, MAX_CPUS - 1),
    lambda name, value, place: {name: place.names.cpu(value)}, "the CPU of the thread", "0",
)  # fmt: skip


# -- memory of a process --------------------------------------------------------------


def _make_region(value: Value, place: Place) -> None:
    proc = _proc(place)
    known = dict(proc.regions)
    for sibling in proc.threads if place.thread is not None else ():
        known.update(sibling.mapped())
    place.region = place.names.make_region(value, place.keys["pages"], proc, known)
    if place.thread is None:
        proc.regions[place.region.name] = place.region


def _region(place: Place) -> Fields:
    """The fields of a step that maps a region; from here on it is mapped."""
    region = place.region
    assert region is not None
    place.scope[region.name] = region
    return {"as_": region.name, "at": region.start, "length": region.pages * place.machine.page_size}


def _make_fill(value: Value, place: Place) -> None:
    proc = _proc(place)
    if FILL in proc.regions:
        place.step.fail(f"{proc.name} has been filled already")
    place.region = proc.regions[FILL] = place.names.allocate(FILL, proc, place.machine.frames, place.step)


def _until_free(name: str, value: Value, place: Place) -> Fields:
    return {**_region(place), name: value.integer(place.machine.reserve_kernel, place.machine.frames - 1)}


def _address(name: str, value: Value, place: Place) -> Fields:
    pages = _pages(place)
    return {name: place.names.address(value, place.scope, pages), "length": pages * place.machine.page_size}


def _shared(name: str, value: Value, place: Place) -> Fields:
    if "shm" in place.keys:
        value.fail("a segment is always shared: leave out the flags")
    words = [flag.choice(("private", "shared", "anon"), "flag") for flag in value.elements(at_least=1)]
    if len(set(words)) != len(words):
        value.fail("a flag is named twice")
    if "file" in place.keys and "anon" in words:
        value.fail("a mapping of a file is not anon")
    if "file" not in place.keys and "anon" not in words:
        value.fail("missing flag anon: there is no file to map")
    if ("private" in words) == ("shared" in words):
        value.fail("expected one of private and shared")
    return {"shared": "shared" in words}


def _offset(name: str, value: Value, place: Place) -> Fields:
    if not _MAPPED & place.keys.keys():
        value.fail("only a file or a segment has an offset")
    return {name: value.integer(0, MAX_REGION_PAGES) * place.machine.page_size}


def _block(name: str, value: Value, place: Place) -> Fields:
    block = value.integer(0, MAX_SWAP)
    if block + _pages(place) > place.machine.disk:
        value.fail(f"the machine's disk has {place.machine.disk or 'no'} blocks")
    return {name: block}


def pages_up_to(most: int) -> Kind:
    """How many pages, beside an `at` or `as` that reads it."""

    def read(name: str, value: Value, place: Place) -> Fields:
        value.integer(1, most)
        return {}

    return Kind(f"a whole number, 1 to {most}", _range(1, most), read, "the number of pages", "1")


PAGES = pages_up_to(MAX_REGION_PAGES)
NEW_REGION = _name(lambda name, value, place: _region(place), "the region's name", "new", _make_region)
UNTIL_FREE = Kind(
    "a whole number, from the machine's reserve_kernel to less than its frames", _range(0, MAX_FRAMES - 1), _until_free,
    "the step stops when at most this many pages are free", "8", _make_fill,
)  # fmt: skip
#: the first page of a range
ADDRESS = Kind('an address as "buf[1]"', _PAGE, _address, "the first page", '"buf[0]"')
WORD_ADDRESS = Kind(
    'an address as "buf[1]" or "buf[1]+8"', _WORD,
    lambda name, value, place: {name: place.names.address(value, place.scope, 0)}, "the word", '"buf[0]+8"',
)  # fmt: skip
MAP_FLAGS = Kind(
    "a list of words: one of private and shared, and anon if there is no file",
    {"type": "array", "items": {"enum": ["private", "shared", "anon"]}, "minItems": 1, "uniqueItems": True}, _shared,
    "private: the process writes to its own copies; shared: a child shares the memory; default private",
    "[shared, anon]", absent=lambda place: {"shared": "shm" in place.keys},
)  # fmt: skip
OFFSET = Kind(
    f"a whole number, 0 to {MAX_REGION_PAGES}", _range(0, MAX_REGION_PAGES), _offset,
    "the first page of the file or segment to map; default 0", "1",
    absent=lambda place: {"offset": 0} if _MAPPED & place.keys.keys() else {},
)  # fmt: skip
BLOCK = Kind(f"a whole number, 0 to {MAX_SWAP}", _range(0, MAX_SWAP), _block, "", "4")


# -- files, segments, loans ------------------------------------------------------------


def _new_file(name: str, value: Value, place: Place) -> Fields:
    number = place.names.number(value, place.names.files)
    return {"as_": value.text(), "file": number, "block": place.names.block(number)}


def _file_words(name: str, value: Value, place: Place) -> Fields:
    words, pages = value.elements(at_least=1), _pages(place)
    if len(words) > pages:
        value.fail(f"{len(words)} words for {pages} pages; expected at most one word for each page")
    return {name: tuple(word.integer(0, MAX_WORD) for word in words)}


def _file_word(name: str, value: Value, place: Place) -> Fields:
    file, at = place.names.file_address(value)
    return {name: at, "file": file}


def _file_size(name: str, value: Value, place: Place) -> Fields:
    made = place.names.files[place.keys["file"].text()].pages
    return {"size": value.integer(0, made) * place.machine.page_size}


def _loan(name: str, value: Value, place: Place) -> Fields:
    loan = place.names.loan(value)
    return {"loan": loan, "number": list(place.names.loans).index(loan)}


def _lent(place: Place) -> tuple[str, int]:
    """The name of the loan that key `of` names, and how many pages it has."""
    loan = place.names.loan(place.keys["of"])
    return loan, place.names.loans[loan][0]


def _loan_page(name: str, value: Value, place: Place) -> Fields:
    page, (loan, pages) = value.integer(0, MAX_REGION_PAGES), _lent(place)
    if page >= pages:
        value.fail(f"{loan} has {pages} pages, the first is 0")
    return {name: page}


def _loan_pages(name: str, value: Value, place: Place) -> Fields:
    loan, pages = _lent(place)
    if value.integer(1, MAX_REGION_PAGES) > pages:
        value.fail(f"{loan} has {pages} pages")
    return {}


def _swap_device(name: str, value: Value, place: Place) -> Fields:
    devices, number = place.machine.swap_devices, value.integer(0, MAX_SWAP)
    if number >= len(devices):
        value.fail(f"there is no swap device {number}: the machine has {len(devices) or 'none'}")
    return {name: number, "priority": devices[number].priority}


NEW_FILE = _name(
    _new_file, "the file's name", "G", lambda value, place: place.names.make_file(value, place.keys["pages"])
)
FILE = _name(lambda name, value, place: {name: place.names.number(value, place.names.files)}, "the file's name", "F")
FILE_WORDS = Kind(
    "a list of whole numbers, 0 to 2**64 - 1, at most as many as pages",
    {"type": "array", "items": _range(0, MAX_WORD), "minItems": 1}, _file_words,
    "the first word of page 0, 1 ...; in the other pages it is 0", "[7]",
)  # fmt: skip
FILE_WORD = Kind('a word of a file, as "F[1]" or "F[1]+8"', _WORD, _file_word, "the word", '"F[1]+8"')
FILE_SIZE = Kind(
    "a whole number, 0 to the first length of the file in pages", _range(0, MAX_REGION_PAGES), _file_size,
    "the new length in pages", "1",
)  # fmt: skip
NEW_SEGMENT = _name(
    lambda name, value, place: {"shm": place.names.number(value, place.names.segments)}, "the segment's name", "T",
    lambda value, place: place.names.make_segment(value, place.keys["pages"]),
)  # fmt: skip
SEGMENT = _name(
    lambda name, value, place: {name: place.names.number(value, place.names.segments)}, "the segment's name", "S"
)
LOAN = _name(_loan, "the loan's name", "L")
NEW_LOAN = _name(_loan, "the loan's name", "M", lambda value, place: place.names.make_loan(value, place.keys["pages"]))
LOAN_PAGE = Kind(
    f"a whole number, 0 to {MAX_REGION_PAGES}, less than the loan's number of pages",
    _range(0, MAX_REGION_PAGES), _loan_page,
    "the page of the loan; default 0, the first", "0",
)  # fmt: skip
LOAN_PAGES = Kind(PAGES.type, PAGES.schema, _loan_pages, PAGES.means, PAGES.example)
SWAP_DEVICE = Kind(
    "a whole number, less than the machine's number of swap devices", _range(0, MAX_SWAP_DEVICES - 1), _swap_device,
    "the number of the device, from 0, in the order of `swap: {devices: [...]}`", "0",
)  # fmt: skip


# -- the kernel's own -------------------------------------------------------------------


def _variable(names: Names, variable: str) -> Fields:
    """The number of a variable of the kernel, and the map that its memory is from."""
    return {"number": list(names.kvars).index(variable), "map": names.kvars[variable][0]}


def _kernel_address(value: Value, place: Place, pages: int) -> Fields:
    variable, byte = place.names.variable(value, pages)
    return {"name": value.text(), **_variable(place.names, variable), "byte": byte}


def _kernel_page(name: str, value: Value, place: Place) -> Fields:
    pages = _pages(place)
    return {**_kernel_address(value, place, pages), "pages": pages}


def _word(name: str, value: Value, place: Place) -> Fields:
    word, number = place.names.word(value)
    return {name: word, "number": number}


def _device(name: str, value: Value, place: Place) -> Fields:
    number = place.names.device(value)
    return {"name": value.text(), "number": number}


def _barrier(name: str, value: Value, place: Place) -> Fields:
    barrier, number = place.names.barrier(value, _thread(place))
    return {name: barrier, "number": number}


WORD = _name(_word, "the word's name", "w")
KERNEL_MAP = choice(
    "kernel map", KERNEL_MAPS,
    means="a map that the machine has (`kernel: {map: 4, ...}`); kmem, mb and map are wired, exec is pageable",
)  # fmt: skip
NEW_VARIABLE = _name(
    lambda name, value, place: {"name": value.text(), **_variable(place.names, value.text())},
    "the variable that gets the address", "n",
    lambda value, place: place.names.make_variable(value, place.keys["map"], place.keys["pages"]),
)  # fmt: skip
KERNEL_WORD = Kind(
    'an address as "k[1]" or "k[1]+8", where k is a variable', _WORD,
    lambda name, value, place: _kernel_address(value, place, 0), "the word", '"k[0]+8"',
)  # fmt: skip
KERNEL_PAGE = Kind('an address as "k[1]", where k is a variable', _PAGE, _kernel_page, "the first page", '"k[0]"')
DEVICE = Kind(
    "the name of a device, such as net0", {"type": "string"}, _device,
    "the device; section `interrupts` lists the steps of its interrupt", "net0",
)  # fmt: skip
BARRIER = _name(_barrier, "the barrier's name", "met")
