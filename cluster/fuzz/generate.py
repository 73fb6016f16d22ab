"""Makes random programs.

A program does not do everything: some features are drawn first, and it has steps of these
alone (swarm testing, Groce et al., 2012), so that a few mechanisms meet often instead of all of them seldom.

What a program must not do, since the kernel that runs it would be right to fail:

- wait for ever: nobody waits for a process that pauses;
- use up memory: what is locked is bounded by the kernel (wiredmax), what is lent to the kernel here (LENT), and
  the machine has that many frames more; swap device 0 stays on and has room for everything;
- let a device store its status in memory that is not locked: page `stat` is locked in the setup, and stays so;
- write raw blocks that are a file's: what a file holds then is not defined;
- use memory of the kernel that was freed, or never allocated.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import Any

from cluster.fuzz.program import Program, Step
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
SYNCING = (["sync"], ["async"], ["invalidate"], ["sync", "invalidate"], ["async", "invalidate"], ["sync", "async"])


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
    """What a process's programs know of it.

    Attributes:
        regions: those of its setup, or that it got by its fork.
        mapped: those that its programs map.
    """

    regions: dict[str, Region]
    mapped: dict[str, Region] = field(default_factory=dict)


class Maker:
    """Makes one program.

    Args:
        features: of FEATURES, that it has; None: some.
        size: steps of a program of the setup's processes, at most.
    """

    def __init__(self, random: Random, features: frozenset[str] | None = None, size: int = 16):
        self.random, self.size = random, size
        if features is None:
            features = frozenset(one for one in FEATURES if random.random() < 0.4 and one != "tables")
        self.features = features
        self.weights = dict(ALWAYS)
        for one in sorted(features):
            for op, weight in FEATURES[one].items():
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
        self.status = ""  # the region for a device's status, of the process whose steps are made just now

    def name(self, what: str) -> str:
        """A name that no other has."""
        self.numbers[what] = self.numbers.get(what, 0) + 1
        return f"{what}{self.numbers[what]}"

    def value(self) -> int:
        self.numbers["value"] = self.numbers.get("value", 1000) + 1
        return self.numbers["value"]

    def has(self, *features: str) -> bool:
        return any(one in self.features for one in features)

    # -- the whole -------------------------------------------------------------

    def make(self) -> Program:
        random = self.random
        cpus = self.cpus = random.choice((1, 2, 2, 2, 3, 4))
        tight = random.random() < (0.7 if self.has("memory") else 0.25)
        machine = self.machine(cpus, tight)
        setup: list[Step] = []
        if self.has("file", "cut"):
            for _ in range(random.choice((1, 1, 2))):
                name, pages = self.name("F"), random.randint(1, 4)
                self.files[name] = pages
                setup.append(Step("file", {"as": name, "pages": pages, "words": [70 + at for at in range(pages)]}))
        self.raw = sum(self.files.values())
        self.disk = self.raw + 4
        if self.disk > 4 or self.has("raw"):
            machine["disk"] = self.disk
        if self.has("shm"):
            name, pages = self.name("S"), random.randint(1, 3)
            self.segments[name] = pages
            setup.append(Step("shm", {"as": name, "pages": pages}))

        spaces: dict[str, Space] = {}
        threads: dict[str, Space] = {}
        names = ["A", "D"] if self.has("others") else ["A"]
        for name in names:
            cpu = 0 if name == "A" else random.randrange(cpus)
            setup.append(Step("process", {"as": name, "cpu": cpu}))
            spaces[name] = threads[name] = Space({})
            if self.has("threads") and (name == "A" or random.random() < 0.3):
                for _ in range(random.choice((1, 1, 2))):
                    thread = self.name("T")
                    setup.append(Step("thread", {"in": name, "as": thread, "cpu": random.randrange(cpus)}))
                    threads[thread] = spaces[name]
            setup += self.first_mappings(name, spaces[name], status=self.has("raw"))
        hog, body = self.hog(machine["frames"], cpus, tight)
        setup += hog
        programs = {}
        for name, space in threads.items():
            programs[name] = tuple(self.steps(name, space, DEPTH, random.randint(4, self.size), True))
        if body:
            programs["B"] = body
        return Program(machine, tuple(setup), programs)

    def machine(self, cpus: int, tight: bool) -> dict[str, Any]:
        random = self.random
        frames = random.randint(14, 18) if tight else random.randint(26, 36)
        if self.has("loan", "raw"):
            frames += LENT + 1
        kinds: list[dict[str, Any]] = [
            {},
            {},
            {"rm": "emulated"},
            {"page_tables": 512},
            {"page_tables": 8},
            {"unwired_mappings": 6},
        ]
        mmu = {"page_tables": 8} if self.has("tables") else random.choice(kinds)
        if "page_tables" in mmu:
            frames += 12 if mmu["page_tables"] == 512 else 24
        machine: dict[str, Any] = {"cpus": cpus, "frames": frames}
        if mmu:
            machine["mmu"] = mmu
        swap: dict[str, Any] = {}
        if self.has("swapctl"):
            self.devices = random.randint(2, 3)
            small = [{"slots": SMALL_SWAP, "priority": random.randint(0, 1)} for _ in range(1, self.devices)]
            swap["devices"] = [{"slots": SWAP, "priority": random.randint(0, 1)}, *small]
        else:
            machine["swap_slots"] = SWAP
        if self.has("sick"):
            swap |= self.sickness()
        if swap:
            machine["swap"] = swap
        if self.has("kernel"):
            self.maps = {"kmem": 2, "map": 2, "exec": 3}
            machine["kernel"] = dict(self.maps)
            machine["frames"] += 4
        if random.random() < 0.25:
            machine["shards"] = {"lock_manager": 2, "memory": random.randint(1, 2)}
        return machine

    def sickness(self) -> dict[str, Any]:
        """A swap device that is slow, or cannot write: nothing is lost by either; or one that cannot read."""
        random = self.random
        found: dict[str, Any] = {}
        if random.random() < 0.3:
            error = random.choice(("EIO", "EAGAIN"))
            return {"errors": [{"op": "get", "error": error, "first": random.randint(1, 6), "count": 1}]}
        if random.random() < 0.6:
            slow = {
                "op": "put",
                "by": random.randint(1, 3),
                "first": random.randint(1, 4),
                "count": random.randint(1, 6),
            }
            found["delays"] = [slow]
        if not found or random.random() < 0.6:
            error = random.choice(("EIO", "EAGAIN"))
            bad = {"op": "put", "error": error, "at": random.choice(("start", "done")), "first": random.randint(1, 4)}
            found["errors"] = [{**bad, "count": random.randint(1, 3)}]
        return found

    def first_mappings(self, proc: str, space: Space, status: bool) -> list[Step]:
        """What a process has from the beginning, and wrote there."""
        random = self.random
        kinds = ["private", "anon", *(["file", "own"] if self.files else []), *(["shm"] if self.segments else [])]
        steps = []
        for kind in kinds:
            step, region = self.mapping(kind)
            steps.append(Step("mmap", {"in": proc, **step.args}))
            space.regions[region.name] = region
        if status:
            step, region = self.mapping(random.choice(kinds), 1)
            region.kept = True
            steps += [Step("mmap", {"in": proc, **step.args}), Step("mlock", {"in": proc, **self.range(region, 0, 1)})]
            space.regions[region.name] = region
        for region in space.regions.values():
            for page in range(region.pages):
                if random.random() < 0.4:
                    steps.append(Step("write", {"in": proc, "at": f"{region.name}[{page}]", "value": self.value()}))
        return steps

    def hog(self, frames: int, cpus: int, tight: bool) -> tuple[list[Step], tuple[Step, ...]]:
        """A process that only uses up memory."""
        if not tight:
            return [], ()
        random = self.random
        pages = frames - random.randint(1, 5)
        setup = [Step("process", {"as": "B", "cpu": cpus - 1}), Step("mmap", {"in": "B", "as": "hog", "pages": pages})]
        setup += [Step("write", {"in": "B", "at": f"hog[{at}]", "value": 800 + at}) for at in range(pages)]
        body = []
        first = random.randrange(pages)
        for at in range(first, first + random.randint(0, 10)):
            word = {"at": f"hog[{at % pages}]"}
            body.append(
                Step("read", {**word, "into": self.name("h")}) if at % 3 else Step("write", {**word, "value": at})
            )
        return setup, tuple(body)

    # -- the programs ------------------------------------------------------------

    def steps(self, thread: str, space: Space, depth: int, count: int, last: bool) -> list[Step]:
        """What a thread runs.

        Args:
            depth: generations that may still come.
            last: nobody waits for it.
        """
        random, steps = self.random, list[Step]()
        waiting: list[str] = []
        own: dict[str, Region] = {}
        for op in random.choices(list(self.weights), list(self.weights.values()), k=count):
            if op == "fork":
                steps += self.fork(thread, space, own, depth, waiting)
            elif op in ("mmap", "part", "press", "map_loan"):
                steps += getattr(self, op)(own)
                space.mapped |= own
            elif op in ("km_alloc", "km_free", "kread", "kwrite"):
                steps += self.kernel(op, thread)
            else:
                self.status = next((one.name for one in space.regions.values() if one.kept), "")
                steps += getattr(self, op)(self.any_range(space))
        steps += [Step("wait", {"for": child}) for child in waiting]
        if last and random.random() < 0.5:
            steps.append(Step("pause", {}))
        elif random.random() < 0.2:
            steps.append(Step("exit", {}))
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
    def range(region: Region, page: int, pages: int) -> dict[str, Any]:
        return {"at": f"{region.name}[{page}]", "pages": pages}

    def word(self, there: tuple[Region, int, int]) -> str:
        return f"{there[0].name}[{there[1]}]{self.random.choice(('', '', '+8'))}"

    def read(self, there: tuple[Region, int, int]) -> list[Step]:
        return [Step("read", {"at": self.word(there), **self.into()})]

    def write(self, there: tuple[Region, int, int]) -> list[Step]:
        return [Step("write", {"at": self.word(there), "value": self.value(), **self.into()})]

    def _ranged(self, op: str, there: tuple[Region, int, int], **more: Any) -> list[Step]:
        return [Step(op, {**self.range(*there), **more, **self.into()})]

    def munmap(self, there: tuple[Region, int, int]) -> list[Step]:
        return [] if there[0].kept else self._ranged("munmap", there)

    def mprotect(self, there: tuple[Region, int, int]) -> list[Step]:
        if there[0].kept:
            return []
        return self._ranged("mprotect", there, prot=self.random.choice(("none", "r", "rw", "rw")))

    def minherit(self, there: tuple[Region, int, int]) -> list[Step]:
        return self._ranged("minherit", there, inherit=self.random.choice(("none", "copy", "share", "share")))

    def madvise(self, there: tuple[Region, int, int]) -> list[Step]:
        return self._ranged("madvise", there, advice=self.random.choice(list(ADVICE)))

    def free(self, there: tuple[Region, int, int]) -> list[Step]:
        return self._ranged("madvise", there, advice="free")

    def msync(self, there: tuple[Region, int, int]) -> list[Step]:
        return self._ranged("msync", there, flags=self.random.choice(SYNCING))

    def mincore(self, there: tuple[Region, int, int]) -> list[Step]:
        return self._ranged("mincore", there)

    def mlock(self, there: tuple[Region, int, int]) -> list[Step]:
        return self._ranged("mlock", there)

    def munlock(self, there: tuple[Region, int, int]) -> list[Step]:
        return [] if there[0].kept else self._ranged("munlock", there)

    def relock(self, there: tuple[Region, int, int]) -> list[Step]:
        """What was in swap is not there any more."""
        return [] if there[0].kept else [*self.mlock(there), *self.munlock(there)]

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
        more: dict[str, Any] = {}
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
        steps = [Step("mmap", {"as": region.name, "pages": PRESS, **self.into()})]
        for at in sorted(random.sample(range(1, PRESS), random.randint(1, 3))):
            steps.append(Step("write", {"at": f"{region.name}[{at}]", "value": self.value(), **self.into()}))
        at = random.randint(1, PRESS - 1)
        return [*steps, Step("munmap", {**self.range(region, at, PRESS - at), **self.into()})]

    def press(self, own: dict[str, Region]) -> list[Step]:
        """Others' pages go to swap, or its own."""
        region = Region(self.name("m"), PRESS)
        own[region.name] = region
        steps = [Step("mmap", {"as": region.name, "pages": PRESS, **self.into()})]
        for at in range(PRESS):
            steps.append(Step("write", {"at": f"{region.name}[{at}]", "value": self.value(), **self.into()}))
        return steps

    # -- processes ---------------------------------------------------------------------

    def fork(self, thread: str, space: Space, own: dict[str, Region], depth: int, waiting: list[str]) -> list[Step]:
        random = self.random
        if not depth or self.numbers.get("C", 0) == CHILDREN:
            return []
        child = self.name("C")
        inherited = {name: Region(one.name, one.pages) for name, one in {**space.regions, **own}.items()}
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
        """Not of the first device, which has room for everything."""
        return [
            Step(
                "swapctl",
                {
                    "do": self.random.choice(("on", "off", "off")),
                    "device": self.random.randrange(1, self.devices),
                    **self.into(),
                },
            )
        ]

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


def generate(seed: int | str, features: frozenset[str] | None = None, size: int = 16) -> Program:
    """The program of a seed; see Maker."""
    return Maker(Random(seed), features, size).make()
