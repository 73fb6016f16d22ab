"""Makes random programs.

A program does not use everything. The generator first draws some features, and then steps of these features only
(swarm testing, Groce et al., 2012). So a few mechanisms interact often, instead of all mechanisms seldom.

A program must not do the following, because even a correct kernel would fail:

- wait forever: no process waits for a process that pauses;
- use up memory: the kernel limits locked memory (wiredmax), LENT limits lent memory, and the machine has as many
  additional frames; swap device 0 stays on and has room for everything;
- let a device store its status in unlocked memory: the setup locks page `stat`, which stays locked;
- write raw blocks of a file: the contents of the file are then undefined;
- use kernel memory that was freed, or never allocated.
"""

from __future__ import annotations

from random import Random

from cluster.fuzz.program import Keys, Program, Step
from cluster.fuzz.steps import DEPTH, LENT, SMALL_SWAP, SWAP, Space, Steps
from shared.scenario.machine import ERRORS, TIMES


class Maker(Steps):
    """Makes one program, from the machine to its threads' steps."""

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

    def machine(self, cpus: int, tight: bool) -> Keys:
        random = self.random
        frames = random.randint(14, 18) if tight else random.randint(26, 36)
        if self.has("loan", "raw"):
            frames += LENT + 1
        kinds: list[Keys] = [
            {}, {}, {"rm": "emulated"}, {"page_tables": 512}, {"page_tables": 8}, {"unwired_mappings": 6},
        ]  # fmt: skip
        mmu = {"page_tables": 8} if self.has("tables") else random.choice(kinds)
        if "page_tables" in mmu:
            frames += 12 if mmu["page_tables"] == 512 else 24
        machine: Keys = {"cpus": cpus, "frames": frames}
        if mmu:
            machine["mmu"] = mmu
        swap: Keys = {}
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

    def sickness(self) -> Keys:
        """A swap device that is slow, or that may not write (nothing is lost by that), or that cannot read."""
        random = self.random
        sick: Keys = {}
        if random.random() < 0.3:
            error, many = random.choice(ERRORS), random.choice(({"count": 1}, {"count": 4, "maybe": True}))
            return {"errors": [{"op": "get", "error": error, "first": random.randint(1, 6), **many}]}
        if random.random() < 0.6:
            by, first = random.randint(1, 3), random.randint(1, 4)
            sick["delays"] = [{"op": "put", "by": by, "first": first, "count": random.randint(1, 6)}]
        if not sick or random.random() < 0.6:
            ways: list[Keys] = [*({"at": time} for time in TIMES), {"maybe": True}]
            error, when = random.choice(ERRORS), random.choice(ways)
            bad = {"op": "put", "error": error, "first": random.randint(1, 4), "count": random.randint(1, 3)}
            sick["errors"] = [{**bad, **when}]
        return sick

    def first_mappings(self, proc: str, space: Space, status: bool) -> list[Step]:
        """The mappings of a process at the beginning, and its writes to them."""
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
            more = {"into": self.name("h")} if at % 3 else {"value": at}
            body.append(Step("read" if at % 3 else "write", {**word, **more}))
        return setup, tuple(body)


def generate(seed: int | str, features: frozenset[str] | None = None, size: int = 16) -> Program:
    """The program of a seed; see Maker."""
    return Maker(Random(seed), features, size).make()
