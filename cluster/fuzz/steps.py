"""Draws the steps of random programs, and the state that they share: names, regions, loans, lent pages.

The header of generate.py, which draws the machine and the setup, lists the steps that a program must not have.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from random import Random

from cluster.fuzz.program import Keys, Step
from shared.scenario.steps.memory import ADVICE

#: feature -> its steps with their weights; a machine's features have none
FEATURES: dict[str, dict[str, int]] = {
    "map": {"mmap": 2, "munmap": 3, "part": 2},
    "protect": {"mprotect": 3},
    "advice": {"madvise": 4},
    "free": {"free": 3},
    "inherit": {"minherit": 2, "fork": 1},
    "lock": {"mlock": 3, "munlock": 2, "relock": 2},
    "fork": {"fork": 3},
    "file": {"fread": 2, "fwrite": 3, "msync": 3},
    "cut": {"ftruncate": 3, "uncache": 1},
    "shm": {"shm": 1, "shm_remove": 1},
    "loan": {"loan": 5, "kpeek": 3, "unloan": 2, "map_loan": 3},
    "raw": {"physio": 5},
    "swapctl": {"swapctl": 4},
    "memory": {"press": 2},
    "look": {"mincore": 2, "count": 1},
    "kernel": {"km_alloc": 2, "km_free": 1, "kread": 2, "kwrite": 2},
    "threads": {},
    "others": {},
    "sick": {},
    "tables": {},
}
ALWAYS = {"read": 7, "write": 7}
#: pages lent to the kernel at once, at most; generations; children
LENT, DEPTH, CHILDREN = 3, 2, 3
PRESS = 6
SWAP, SMALL_SWAP = 160, 16
SYNCING = ("sync", "async", "invalidate", "sync invalidate", "async invalidate", "sync async")
#: steps of a range -> keys whose values are drawn; those that make memory unusable for a device
RANGED: dict[str, dict[str, Sequence[object]]] = {
    "munmap": {}, "mincore": {}, "mlock": {}, "munlock": {}, "mprotect": {"prot": ("none", "r", "rw", "rw")},
    "minherit": {"inherit": ("none", "copy", "share", "share")}, "madvise": {"advice": list(ADVICE)},
    "free": {}, "msync": {"flags": [words.split() for words in SYNCING]},
}  # fmt: skip
LOSING = ("munmap", "mprotect", "munlock")


@dataclass
class Region:
    """A named range.

    Attributes:
        kept: it stays mapped, locked and accessible, for a device's status.
    """

    name: str
    pages: int
    kept: bool = False


@dataclass
class Space:
    """The regions that a process's programs may use.

    Attributes:
        regions: those of its setup, or that it got by its fork.
        mapped: those that its programs map.
    """

    regions: dict[str, Region]
    mapped: dict[str, Region] = field(default_factory=dict)


class Steps:
    """Draws the steps of one program.

    Args:
        features: of FEATURES, that it has; None: some.
        size: steps of a program of the setup's processes, at most.
    """

    def __init__(self, random: Random, features: frozenset[str] | None = None, size: int = 16):
        self.random, self.size = random, size
        if features is None:
            features = frozenset(feature for feature in FEATURES if random.random() < 0.4 and feature != "tables")
        self.features = features
        self.weights = dict(ALWAYS)
        for feature in sorted(features):
            for op, weight in FEATURES[feature].items():
                self.weights[op] = self.weights.get(op, 0) + weight
        self.numbers: dict[str, int] = {}
        self.files: dict[str, int] = {}
        self.segments: dict[str, int] = {}
        self.loans: dict[str, tuple[int, bool]] = {}  # -> its pages, and whether as anons
        self.lent = 0
        self.variables: dict[str, list[tuple[str, int]]] = {}  # thread -> (variable, pages)
        self.maps: dict[str, int] = {}
        self.disk = self.raw = 0
        self.cpus = self.devices = 1
        self.children = 0
        self.status = ""  # the region for a device's status, of the process whose steps are made just now

    def name(self, what: str) -> str:
        """A name that no other has."""
        self.numbers[what] = self.numbers.get(what, 0) + 1
        return f"{what}{self.numbers[what]}"

    def value(self) -> int:
        self.numbers["value"] = self.numbers.get("value", 1000) + 1
        return self.numbers["value"]

    def has(self, *features: str) -> bool:
        return any(feature in self.features for feature in features)

    # -- the programs ------------------------------------------------------------

    def steps(self, thread: str, space: Space, depth: int, count: int, last: bool) -> list[Step]:
        """The program of a thread.

        Args:
            depth: generations that may still come.
            last: no thread waits for it.
        """
        random, steps = self.random, list[Step]()
        waiting: list[str] = []
        own: dict[str, Region] = {}
        for op in random.choices(list(self.weights), list(self.weights.values()), k=count):
            if op == "fork":
                steps += self.fork(thread, space, own, depth, waiting)
            else:
                steps += self.drawn(op, thread, space, own)
        steps += [Step("wait", {"for": child}) for child in waiting]
        if last and random.random() < 0.5:
            steps.append(Step("pause", {}))
        elif random.random() < 0.2:
            steps.append(Step("exit", {}))
        return steps

    def drawn(self, op: str, thread: str, space: Space, own: dict[str, Region]) -> list[Step]:
        """Steps of one kind, but a fork; none, if the program has nothing to which they could be done.

        Args:
            own: the regions that this thread maps.
        """
        if op in ("mmap", "part", "press", "map_loan"):
            steps: list[Step] = getattr(self, op)(own)
            space.mapped |= own
            return steps
        if op in ("km_alloc", "km_free", "kread", "kwrite"):
            return self.kernel(op, thread)
        self.status = next((region.name for region in space.regions.values() if region.kept), "")
        there = self.any_range(space)
        steps = self.ranged(op, there) if op in RANGED else getattr(self, op)(there)
        return steps

    def any_range(self, space: Space) -> tuple[Region, int, int]:
        """A region of the process, a page of it, and so many from there."""
        known = {**space.regions, **space.mapped}
        region = self.random.choice(list(known.values()))
        page = self.random.randrange(region.pages)
        return region, page, self.random.randint(1, region.pages - page)

    def into(self) -> dict[str, str]:
        return {"into": self.name("r")}

    @staticmethod
    def range(region: Region, page: int, pages: int) -> Keys:
        return {"at": f"{region.name}[{page}]", "pages": pages}

    def word(self, there: tuple[Region, int, int]) -> str:
        return f"{there[0].name}[{there[1]}]{self.random.choice(('', '', '+8'))}"

    def read(self, there: tuple[Region, int, int]) -> list[Step]:
        return [Step("read", {"at": self.word(there), **self.into()})]

    def write(self, there: tuple[Region, int, int]) -> list[Step]:
        return [Step("write", {"at": self.word(there), "value": self.value(), **self.into()})]

    def ranged(self, op: str, there: tuple[Region, int, int]) -> list[Step]:
        """A step of RANGED; none, if it would take memory from a device."""
        if there[0].kept and op in LOSING:
            return []
        drawn = {key: self.random.choice(values) for key, values in RANGED[op].items()}
        more: Keys = {"advice": "free"} if op == "free" else drawn
        return [Step("madvise" if op == "free" else op, {**self.range(*there), **more, **self.into()})]

    def relock(self, there: tuple[Region, int, int]) -> list[Step]:
        """Lock and unlock memory, so that its pages leave swap."""
        return [] if there[0].kept else [*self.ranged("mlock", there), *self.ranged("munlock", there)]

    def count(self, there: tuple[Region, int, int]) -> list[Step]:
        return [Step("count", {"of": self.random.choice(("free", "wired", "swpginuse", "faults")), **self.into()})]

    # -- mappings --------------------------------------------------------------------

    def mapping(self, kind: str = "", most: int = 4) -> tuple[Step, Region]:
        random = self.random
        kinds = ["private", "private", "anon"]
        kinds += ["file", "own"] if self.files else []
        kinds += ["shm"] if self.segments else []
        kind = kind or random.choice(kinds)
        region = Region(self.name("m"), random.randint(1, most))
        more: Keys = {}
        if kind == "anon":
            more = {"flags": ["shared", "anon"]}
        elif kind in ("file", "own"):
            file = random.choice(list(self.files))
            more = {"file": file, "flags": ["shared" if kind == "file" else "private"]}
            more["offset"] = random.randrange(self.files[file])
            region.pages = min(region.pages, self.files[file] - more["offset"])
        elif kind == "shm":
            segment = random.choice(list(self.segments))
            more = {"shm": segment, "offset": random.randrange(self.segments[segment])}
            region.pages = min(region.pages, self.segments[segment] - more["offset"])
        return Step("mmap", {"as": region.name, "pages": region.pages, **more}), region

    def mmap(self, own: dict[str, Region]) -> list[Step]:
        step, region = self.mapping()
        own[region.name] = region
        prot = {"prot": self.random.choice(("none", "r"))} if self.random.random() < 0.15 else {}
        return [Step("mmap", {**step.args, **prot, **self.into()})]

    def part(self, own: dict[str, Region]) -> list[Step]:
        """Of a region that was used here and there, only the beginning is left."""
        random = self.random
        region = Region(self.name("m"), PRESS)
        own[region.name] = region
        steps = self._used(region, sorted(random.sample(range(1, PRESS), random.randint(1, 3))))
        at = random.randint(1, PRESS - 1)
        return [*steps, Step("munmap", {**self.range(region, at, PRESS - at), **self.into()})]

    def press(self, own: dict[str, Region]) -> list[Step]:
        """Others' pages go to swap, or its own."""
        region = Region(self.name("m"), PRESS)
        own[region.name] = region
        return self._used(region, range(PRESS))

    def _used(self, region: Region, pages: Iterable[int]) -> list[Step]:
        """Steps that map a region, and write to some of its pages."""
        steps = [Step("mmap", {"as": region.name, "pages": region.pages, **self.into()})]
        for at in pages:
            steps.append(Step("write", {"at": f"{region.name}[{at}]", "value": self.value(), **self.into()}))
        return steps

    # -- processes ---------------------------------------------------------------------

    def fork(self, thread: str, space: Space, own: dict[str, Region], depth: int, waiting: list[str]) -> list[Step]:
        random = self.random
        if not depth or self.children >= CHILDREN:
            return []
        self.children += 1
        child = self.name("C")
        inherited = {name: Region(region.name, region.pages) for name, region in {**space.regions, **own}.items()}
        awaited = random.choice(("now", "later", "never"))
        body = self.steps(child, Space(inherited), depth - 1, random.randint(1, self.size // 2), awaited == "never")
        where = {"cpu": random.randrange(self.cpus)} if random.random() < 0.5 else {}
        steps = [Step("fork", {"as": child, **where, **self.into()}, tuple(body))]
        if awaited == "now":
            steps.append(Step("wait", {"for": child}))
        elif awaited == "later":
            waiting.append(child)
        return steps

    # -- files, segments ------------------------------------------------------------------

    def _file_word(self) -> str:
        file = self.random.choice(list(self.files))
        return f"{file}[{self.random.randrange(self.files[file])}]{self.random.choice(('', '+8'))}"

    def fread(self, there: tuple[Region, int, int]) -> list[Step]:
        return [Step("fread", {"at": self._file_word(), **self.into()})]

    def fwrite(self, there: tuple[Region, int, int]) -> list[Step]:
        return [Step("fwrite", {"at": self._file_word(), "value": self.value(), **self.into()})]

    def ftruncate(self, there: tuple[Region, int, int]) -> list[Step]:
        file = self.random.choice(list(self.files))
        pages = self.random.choice((self.files[file], self.random.randint(0, self.files[file])))
        return [Step("ftruncate", {"file": file, "pages": pages, **self.into()})]

    def uncache(self, there: tuple[Region, int, int]) -> list[Step]:
        return [Step("uncache", {"file": self.random.choice(list(self.files)), **self.into()})]

    def shm(self, there: tuple[Region, int, int]) -> list[Step]:
        if len(self.segments) > 2:
            return []
        name, pages = self.name("S"), self.random.randint(1, 3)
        self.segments[name] = pages
        return [Step("shm", {"as": name, "pages": pages, **self.into()})]

    def shm_remove(self, there: tuple[Region, int, int]) -> list[Step]:
        return [Step("shm_remove", {"shm": self.random.choice(list(self.segments)), **self.into()})]

    # -- loans, devices ----------------------------------------------------------------------

    def loan(self, there: tuple[Region, int, int]) -> list[Step]:
        region, page, pages = there
        pages = min(pages, 2)
        anons = self.random.random() < 0.5
        if not anons:
            if self.lent + pages > LENT:
                return []
            self.lent += pages
        name = self.name("L")
        self.loans[name] = pages, anons
        to = "anon" if anons else "page"
        return [Step("loan", {**self.range(region, page, pages), "to": to, "as": name, **self.into()})]

    def _any_loan(self) -> str:
        names = list(self.loans)
        return names[-1] if self.random.random() < 0.7 else self.random.choice(names)

    def kpeek(self, there: tuple[Region, int, int]) -> list[Step]:
        if not self.loans:
            return []
        name = self._any_loan()
        return [Step("kpeek", {"of": name, "page": self.random.randrange(self.loans[name][0]), **self.into()})]

    def unloan(self, there: tuple[Region, int, int]) -> list[Step]:
        return [Step("unloan", {"of": self._any_loan(), **self.into()})] if self.loans else []

    def map_loan(self, own: dict[str, Region]) -> list[Step]:
        if not self.loans:
            return []
        name = self._any_loan()
        region = Region(self.name("m"), self.random.randint(1, self.loans[name][0]))
        own[region.name] = region
        return [Step("map_loan", {"of": name, "as": region.name, "pages": region.pages, **self.into()})]

    def physio(self, there: tuple[Region, int, int]) -> list[Step]:
        random = self.random
        region, page, pages = there
        pages = min(pages, 2)
        write = random.random() < 0.5
        block = random.randint(self.raw if write else 0, self.disk - pages)
        status = {"status": f"{self.status}[0]+16"} if self.status and random.random() < 0.6 else {}
        how = {"do": "write" if write else "read", **self.range(region, page, pages), "block": block, **status}
        return [Step("physio", {**how, **self.into()})]

    def swapctl(self, there: tuple[Region, int, int]) -> list[Step]:
        """A device other than the first, which has room for everything."""
        do, device = self.random.choice(("on", "off", "off")), self.random.randrange(1, self.devices)
        return [Step("swapctl", {"do": do, "device": device, **self.into()})]

    # -- the kernel's own memory ---------------------------------------------------------------

    def kernel(self, op: str, thread: str) -> list[Step]:
        """A thread uses memory that it has allocated itself; if there was none, it is told so."""
        random, mine = self.random, self.variables.setdefault(thread, [])
        if op == "km_alloc":
            map = random.choice(list(self.maps))
            name, pages = self.name("k"), random.randint(1, self.maps[map] - 1)
            mine.append((name, pages))
            return [Step("km_alloc", {"map": map, "pages": pages, "as": name, **self.into()})]
        if not mine:
            return []
        name, pages = random.choice(mine)
        if op == "km_free":
            mine.remove((name, pages))
            return [Step("km_free", {"at": f"{name}[0]", "pages": pages, **self.into()})]
        at = {"at": f"{name}[{random.randrange(pages)}]", "onfault": True}
        value = {"value": self.value()} if op == "kwrite" else {}
        return [Step(op, {**at, **value, **self.into()})]
