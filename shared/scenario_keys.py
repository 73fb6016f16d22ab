"""Kinds of keys: what the value of a step's key can be, how it is read, and how a JSON Schema says so.

A kind reads one value. What it may look at besides: the other keys of its step (`place.keys`), what the keys before it
came to (`place.fields`), and every name of the file (`place.names`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from shared.machine_config import MAX_CPUS, MAX_FRAMES, MAX_SWAP, MAX_SWAP_DEVICES
from shared.scenario_names import FILL, MAX_REGION_PAGES, Names, Place
from shared.steps.step import ADDRESS_FORM, NAME_FORM, Kind, Plain, Schema
from shared.strict_yaml import Value

MAX_WORD = 2**64 - 1
#: regular expressions of a JSON Schema are not Python's
_NAME_PATTERN = f"^{NAME_FORM}$"
_ADDRESS_PATTERN = f"^{ADDRESS_FORM}$".replace("?P<region>", "").replace("?P<page>", "").replace("?P<byte>", "")
_PAGE_PATTERN = _ADDRESS_PATTERN.replace(r"(?:\+([0-9]{1,6}))?", "")


class Whole(Kind):
    """A whole number.

    Args:
        field: where it goes, if not to the field of the key's name.
    """

    def __init__(self, low: int, high: int, means: str = ""):
        self.low, self.high, self.means, self.example = low, high, means, str(max(low, 1))
        self.type = f"a whole number, {low} to {'2**64 - 1' if high == MAX_WORD else high}"

    def schema(self) -> Schema:
        return {"type": "integer", "minimum": self.low, "maximum": self.high}

    def read(self, name: str, value: Value, place: Place) -> Mapping[str, object]:
        return {name: value.integer(self.low, self.high)}


class Truth(Kind):
    """true or false."""

    example = "true"
    type = "true or false"

    def schema(self) -> Schema:
        return {"type": "boolean"}

    def read(self, name: str, value: Value, place: Place) -> Mapping[str, object]:
        return {name: value.boolean()}


class Choice(Kind):
    """One of a few words.

    Args:
        what: they are, for messages.
        words: word -> what it comes to; or words that come to themselves.
        field: where that goes, if not to the field of the key's name.
    """

    def __init__(self, what: str, words: Mapping[str, Plain] | Iterable[str], field: str = ""):
        self.what, self.field = what, field
        self.words: dict[str, Plain] = dict(words) if isinstance(words, Mapping) else {word: word for word in words}
        self.type, self.example = f"a word: {', '.join(self.words)}", next(iter(self.words))

    def schema(self) -> Schema:
        return {"enum": list(self.words)}

    def read(self, name: str, value: Value, place: Place) -> Mapping[str, object]:
        return {self.field or name: self.words[value.choice(self.words, self.what)]}


class Flags(Kind):
    """A list of words, whose flags are added up."""

    def __init__(self, words: Mapping[str, int]):
        self.words = words
        self.type, self.example = f"a list of words: {', '.join(words)}", f"[{next(iter(words))}]"

    def schema(self) -> Schema:
        return {"type": "array", "items": {"enum": list(self.words)}, "minItems": 1}

    def read(self, name: str, value: Value, place: Place) -> Mapping[str, object]:
        flags = 0
        for flag in value.elements(at_least=1):
            flags |= self.words[flag.choice(self.words, "flag")]
        return {name: flags}


class _Name(Kind):
    """A name; what it stands for, its heirs say."""

    type = "a name"

    def schema(self) -> Schema:
        return {"type": "string", "pattern": _NAME_PATTERN}


# -- processes and threads -----------------------------------------------------------


class InProcess(_Name):
    """The process on whose behalf a setup step is performed."""

    example = "A"
    means = "the process that does it"

    def declare(self, value: Value, place: Place) -> None:
        place.proc = place.names.process(value)
        place.scope = place.proc.regions

    def read(self, name: str, value: Value, place: Place) -> Mapping[str, object]:
        assert place.proc is not None
        return {"in_": place.proc.name}


class NewProcess(_Name):
    """The name of a process that the setup makes."""

    example = "P"
    means = "its name, and that of its first thread"

    def declare(self, value: Value, place: Place) -> None:
        place.names.make_process(value, place.keys["cpu"], place.line)

    def read(self, name: str, value: Value, place: Place) -> Mapping[str, object]:
        return {"as_": value.text()}


class NewThread(NewProcess):
    """The name of a thread that the setup makes."""

    example = "T2"
    means = "its name"

    def declare(self, value: Value, place: Place) -> None:
        assert place.proc is not None
        place.names.make_thread(value, place.keys["cpu"], place.proc)


class NewChild(_Name):
    """The name of a process that a fork makes."""

    example = "D"
    means = "the child's name"

    def declare(self, value: Value, place: Place) -> None:
        assert place.thread is not None
        place.child = place.names.make_child(value, place.keys.get("cpu"), place.thread, place.line)

    def read(self, name: str, value: Value, place: Place) -> Mapping[str, object]:
        assert place.child is not None
        place.forked.add(place.child.name)
        return {"as_": place.child.name, "cpu": place.child.cpu}


class ChildProgram(Kind):
    """What a forked child runs; the loader goes on there."""

    example = '[{read: {at: "buf[0]"}}]'
    type = "a list of steps"
    means = "what the child runs"

    def schema(self) -> Schema:
        return {"$ref": "#/definitions/program"}

    def read(self, name: str, value: Value, place: Place) -> Mapping[str, object]:
        return {}


class Child(_Name):
    """A child of the process."""

    example = "C"
    means = "the child's name"

    def read(self, name: str, value: Value, place: Place) -> Mapping[str, object]:
        assert place.thread is not None
        return {"for_": place.names.child(value, place.thread, place.forked)}


class Cpu(Kind):
    """The number of a CPU of the machine."""

    example = "0"
    type = "a whole number, less than the machine has CPUs"
    means = "the CPU that it runs on"

    def schema(self) -> Schema:
        return {"type": "integer", "minimum": 0, "maximum": MAX_CPUS - 1}

    def read(self, name: str, value: Value, place: Place) -> Mapping[str, object]:
        return {name: place.names.cpu(value)}


# -- memory of a process --------------------------------------------------------------


class NewRegion(_Name):
    """The name of a region that the step maps; `pages` says how large it is."""

    example = "new"
    means = "the region's name"

    def declare(self, value: Value, place: Place) -> None:
        assert place.proc is not None
        known = dict(place.proc.regions)
        for sibling in place.proc.threads if place.thread is not None else ():
            known.update(sibling.mapped())
        place.region = region = place.names.make_region(value, place.keys["pages"], place.proc, known)
        if place.thread is None:
            place.proc.regions[region.name] = region

    def read(self, name: str, value: Value, place: Place) -> Mapping[str, object]:
        return region_fields(place)


class UntilFree(Kind):
    """Free pages that are left when the region `fill` has been written."""

    example = "8"
    type = "a whole number, from the machine's reserve_kernel to less than its frames"
    means = "it stops when no more pages than this are free"

    def schema(self) -> Schema:
        return {"type": "integer", "minimum": 0, "maximum": MAX_FRAMES - 1}

    def declare(self, value: Value, place: Place) -> None:
        assert place.proc is not None
        if FILL in place.proc.regions:
            place.step.fail(f"{place.proc.name} has been filled already")
        place.region = place.names.allocate(FILL, place.proc, place.machine.frames, place.step)
        place.proc.regions[FILL] = place.region

    def read(self, name: str, value: Value, place: Place) -> Mapping[str, object]:
        return {**region_fields(place), name: value.integer(place.machine.reserve_kernel, place.machine.frames - 1)}


def region_fields(place: Place) -> dict[str, object]:
    """The fields of a step that maps a region; from here on it is mapped."""
    region = place.region
    assert region is not None
    place.scope[region.name] = region
    return {"as_": region.name, "at": region.start, "length": region.pages * place.machine.page_size}


class Pages(Kind):
    """How many pages, beside an `at` or `as` that reads it."""

    example = "1"
    means = "how many pages"

    def __init__(self, most: int = MAX_REGION_PAGES):
        self.most = most
        self.type = f"a whole number, 1 to {most}"

    def schema(self) -> Schema:
        return {"type": "integer", "minimum": 1, "maximum": self.most}

    def read(self, name: str, value: Value, place: Place) -> Mapping[str, object]:
        value.integer(1, self.most)
        return {}


class Address(Kind):
    """An address in memory that is mapped: `buf[1]`, the first byte of a page of a region.

    Its heirs' words may lie anywhere in the page.
    """

    example = '"buf[0]"'
    type = 'an address as "buf[1]"'
    means = "the first page"

    def schema(self) -> Schema:
        return {"type": "string", "pattern": _PAGE_PATTERN}

    def read(self, name: str, value: Value, place: Place) -> Mapping[str, object]:
        pages = place.keys["pages"].integer(1, MAX_REGION_PAGES)
        return {name: place.names.address(value, place.scope, pages), "length": pages * place.machine.page_size}


class _Word(Address):
    type = 'an address as "buf[1]" or "buf[1]+8"'
    means = "the word"

    def schema(self) -> Schema:
        return {"type": "string", "pattern": _ADDRESS_PATTERN}


class WordAddress(_Word):
    """The address of a 64-bit word."""

    example = '"buf[0]+8"'

    def read(self, name: str, value: Value, place: Place) -> Mapping[str, object]:
        return {name: place.names.address(value, place.scope, 0)}


class MapFlags(Kind):
    """How memory is mapped: one of private and shared; anon unless there is a file."""

    example = "[shared, anon]"
    type = "a list of words: one of private and shared, and anon if there is no file"
    means = "private: written pages are copies of its own; shared: a child gets the same memory; default private"

    def schema(self) -> Schema:
        return {"type": "array", "items": {"enum": ["private", "shared", "anon"]}, "minItems": 1, "uniqueItems": True}

    def read(self, name: str, value: Value, place: Place) -> Mapping[str, object]:
        if "shm" in place.keys:
            value.fail("a segment is always shared: leave out the flags")
        flags = [flag.choice(("private", "shared", "anon"), "flag") for flag in value.elements(at_least=1)]
        if len(set(flags)) != len(flags):
            value.fail("a flag is named twice")
        if "file" in place.keys and "anon" in flags:
            value.fail("what has a file is not anon")
        if "file" not in place.keys and "anon" not in flags:
            value.fail("missing flag anon: there is no file to map")
        if ("private" in flags) == ("shared" in flags):
            value.fail("expected one of private and shared")
        return {"shared": "shared" in flags}

    def absent(self, place: Place) -> Mapping[str, object]:
        return {"shared": "shm" in place.keys}


class Offset(Kind):
    """Where in its file or segment a mapping begins, in pages."""

    example = "1"
    type = f"a whole number, 0 to {MAX_REGION_PAGES}"
    means = "the first page of the file or segment that is mapped; default 0"

    def schema(self) -> Schema:
        return {"type": "integer", "minimum": 0, "maximum": MAX_REGION_PAGES}

    def read(self, name: str, value: Value, place: Place) -> Mapping[str, object]:
        if not {"file", "shm"} & place.keys.keys():
            value.fail("only a file or a segment has an offset")
        return {name: value.integer(0, MAX_REGION_PAGES) * place.machine.page_size}

    def absent(self, place: Place) -> Mapping[str, object]:
        return {"offset": 0} if {"file", "shm"} & place.keys.keys() else {}


class Block(Kind):
    """A block of the disk, from which as many follow as the step moves pages."""

    example = "4"
    type = f"a whole number, 0 to {MAX_SWAP}"

    def schema(self) -> Schema:
        return {"type": "integer", "minimum": 0, "maximum": MAX_SWAP}

    def read(self, name: str, value: Value, place: Place) -> Mapping[str, object]:
        block = value.integer(0, MAX_SWAP)
        pages = place.keys["pages"].integer(1, MAX_REGION_PAGES)
        if block + pages > place.machine.disk:
            value.fail(f"the machine's disk has {place.machine.disk or 'no'} blocks")
        return {name: block}


# -- files, segments, loans ------------------------------------------------------------


class NewFile(_Name):
    """The name of a file that the setup makes, as long as `pages` says."""

    example = "G"
    means = "the file's name"

    def declare(self, value: Value, place: Place) -> None:
        place.names.make_file(value, place.keys["pages"])

    def read(self, name: str, value: Value, place: Place) -> Mapping[str, object]:
        number = place.names.number(value, place.names.files)
        return {"as_": value.text(), "file": number, "block": place.names.block(number)}


class FileWords(Kind):
    """The first word of each page of a file; of the pages behind them it is 0."""

    example = "[7]"
    type = "a list of whole numbers, 0 to 2**64 - 1, at most as many as pages"
    means = "the first word of each of its first pages; of the others it is 0"

    def schema(self) -> Schema:
        return {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": MAX_WORD}, "minItems": 1}

    def read(self, name: str, value: Value, place: Place) -> Mapping[str, object]:
        words, pages = value.elements(at_least=1), place.keys["pages"].data
        if len(words) > pages:
            value.fail(f"{len(words)} words, one for each page, and {pages} pages")
        return {name: tuple(word.integer(0, MAX_WORD) for word in words)}


class File(_Name):
    """A file of the setup."""

    example = "F"
    means = "the file's name"

    def read(self, name: str, value: Value, place: Place) -> Mapping[str, object]:
        return {name: place.names.number(value, place.names.files)}


class FileWord(_Word):
    """The place of a 64-bit word in a file."""

    example = '"F[1]+8"'
    type = 'a word of a file, as "F[1]" or "F[1]+8"'

    def read(self, name: str, value: Value, place: Place) -> Mapping[str, object]:
        file, at = place.names.file_address(value)
        return {name: at, "file": file}


class FileSize(Kind):
    """How long a file is to be, in pages: at most as long as it was made."""

    example = "1"
    type = "a whole number, 0 to as many pages as the file was made with"
    means = "how many pages are left"

    def schema(self) -> Schema:
        return {"type": "integer", "minimum": 0, "maximum": MAX_REGION_PAGES}

    def read(self, name: str, value: Value, place: Place) -> Mapping[str, object]:
        made = place.names.files[place.keys["file"].text()].pages
        return {"size": value.integer(0, made) * place.machine.page_size}


class NewSegment(_Name):
    """The name of a shared memory segment that the step makes."""

    example = "T"
    means = "the segment's name"

    def declare(self, value: Value, place: Place) -> None:
        place.names.make_segment(value, place.keys["pages"])

    def read(self, name: str, value: Value, place: Place) -> Mapping[str, object]:
        return {"shm": place.names.number(value, place.names.segments)}


class Segment(_Name):
    """A shared memory segment."""

    example = "S"
    means = "the segment's name"

    def read(self, name: str, value: Value, place: Place) -> Mapping[str, object]:
        return {name: place.names.number(value, place.names.segments)}


class Loan(_Name):
    """A loan, which some step makes."""

    example = "L"
    means = "the loan's name"

    def read(self, name: str, value: Value, place: Place) -> Mapping[str, object]:
        loan = place.names.loan(value)
        return {"loan": loan, "number": list(place.names.loans).index(loan)}


class NewLoan(Loan):
    """The name of a loan that the step makes."""

    example = "M"
    means = "the loan's name"

    def declare(self, value: Value, place: Place) -> None:
        place.names.make_loan(value, place.keys["pages"])


class LoanPage(Kind):
    """A page of the loan."""

    example = "0"
    type = f"a whole number, 0 to {MAX_REGION_PAGES}, less than the loan has pages"
    means = "which page of the loan; default 0, the first"

    def schema(self) -> Schema:
        return {"type": "integer", "minimum": 0, "maximum": MAX_REGION_PAGES}

    def read(self, name: str, value: Value, place: Place) -> Mapping[str, object]:
        page, (loan, pages) = value.integer(0, MAX_REGION_PAGES), _lent(place)
        if page >= pages:
            value.fail(f"{loan} has {pages} pages, the first is 0")
        return {name: page}


class LoanPages(Pages):
    """How many pages of the loan."""

    def read(self, name: str, value: Value, place: Place) -> Mapping[str, object]:
        loan, pages = _lent(place)
        if value.integer(1, MAX_REGION_PAGES) > pages:
            value.fail(f"{loan} has {pages} pages")
        return {}


def _lent(place: Place) -> tuple[str, int]:
    """The name of the loan that key `of` names, and how many pages it has."""
    loan = place.names.loan(place.keys["of"])
    return loan, place.names.loans[loan][0]


class SwapDevice(Kind):
    """The number of a swap device of the machine."""

    example = "0"
    type = "a whole number, less than the machine has swap devices"
    means = "the device; they are numbered from 0 in the order of `swap: {devices: [...]}`"

    def schema(self) -> Schema:
        return {"type": "integer", "minimum": 0, "maximum": MAX_SWAP_DEVICES - 1}

    def read(self, name: str, value: Value, place: Place) -> Mapping[str, object]:
        devices, number = place.machine.swap_devices, value.integer(0, MAX_SWAP)
        if number >= len(devices):
            value.fail(f"there is no swap device {number}: the machine has {len(devices) or 'none'}")
        return {name: number, "priority": devices[number].priority}


# -- the kernel's own -------------------------------------------------------------------


class Word(_Name):
    """A word of the kernel; it comes into being by being named."""

    example = "w"
    means = "the word's name"

    def read(self, name: str, value: Value, place: Place) -> Mapping[str, object]:
        word, number = place.names.word(value)
        return {name: word, "number": number}


class KernelMap(Choice):
    """One of the kernel's maps."""

    def read(self, name: str, value: Value, place: Place) -> Mapping[str, object]:
        return {name: value.text()}  # what NewVariable has looked at


class NewVariable(_Name):
    """A variable of the kernel that gets an address; it comes into being with this step."""

    example = "n"
    means = "the variable that gets its address"

    def declare(self, value: Value, place: Place) -> None:
        place.names.make_variable(value, place.keys["map"], place.keys["pages"])

    def read(self, name: str, value: Value, place: Place) -> Mapping[str, object]:
        return {"name": value.text(), **variable_fields(place.names, value.text())}


class KernelAddress(_Word):
    """A word of kernel memory whose address a variable has: `k[1]+8`."""

    example = '"k[0]+8"'
    type = 'an address as "k[1]" or "k[1]+8", k being a variable'

    def read(self, name: str, value: Value, place: Place) -> Mapping[str, object]:
        return self._fields(value, place, 0)

    @staticmethod
    def _fields(value: Value, place: Place, pages: int) -> Mapping[str, object]:
        variable, byte = place.names.variable(value, pages)
        return {"name": value.text(), **variable_fields(place.names, variable), "byte": byte}


class KernelPage(KernelAddress):
    """A page of kernel memory whose address a variable has: `k[1]`; as many follow as `pages` says."""

    example = '"k[0]"'
    type = 'an address as "k[1]", k being a variable'
    means = "the first page"

    def schema(self) -> Schema:
        return {"type": "string", "pattern": _PAGE_PATTERN}

    def read(self, name: str, value: Value, place: Place) -> Mapping[str, object]:
        pages = place.keys["pages"].integer(1, MAX_REGION_PAGES)
        return {**self._fields(value, place, pages), "pages": pages}


def variable_fields(names: Names, variable: str) -> dict[str, object]:
    """The number of a variable of the kernel, and the map that its memory is from."""
    return {"number": list(names.kvars).index(variable), "map": names.kvars[variable][0]}


class Device(Kind):
    """A device whose interrupt the file describes."""

    example = "net0"
    type = "a name of a device, as net0"
    means = "the device; section `interrupts` says what its interrupt does"

    def schema(self) -> Schema:
        return {"type": "string"}

    def read(self, name: str, value: Value, place: Place) -> Mapping[str, object]:
        number = place.names.device(value)
        return {"name": value.text(), "number": number}


class BarrierName(_Name):
    """A barrier; it comes into being by being named."""

    example = "met"
    means = "the barrier's name"

    def read(self, name: str, value: Value, place: Place) -> Mapping[str, object]:
        assert place.thread is not None
        barrier, number = place.names.barrier(value, place.thread)
        return {name: barrier, "number": number}
