"""Kernel memory, whatever two CPUs and an interrupt do with it: no finding, and every word is what was stored there.

Random programs allocate from all kernel maps, write, read and free, each in variables of its own; an interrupt
allocates and frees beside them; a process that only uses up memory makes pageable memory go to swap. The model is a
dictionary.
"""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from cluster.boot import prepare
from cluster.search.strategy import Stay
from cluster.search.walk import RandomWalk
from cluster.sim.engine import Sim
from tests.kit import scene

PAGES = {"map": 2, "kmem": 5, "mb": 3, "exec": 4}
SETUP = """
process: {as: A, cpu: 0}
process: {as: B, cpu: 1}
process: {as: H, cpu: 1}
mmap: {in: H, as: hog, pages: 16}
fill: {in: H, until_free: 8}
"""
MACHINE = "cpus: 2, frames: 26, swap_slots: 40, kernel: {map: 2, kmem: 5, mb: 3, exec: 4}, devices: {net0: imp}"
INTERRUPTS = """\
interrupts:
  net0:
    cpu: 0
    steps:
      - km_alloc: {map: MAP, pages: 1, as: packet}
      - km_free: {at: "packet[0]", pages: 1}"""
HOG = "\n".join(f'write: {{at: "hog[{at % 16}]", value: {at}}}' for at in range(48))


def program(dice: Random, who: str) -> list[dict[str, Any]]:
    """Random steps, each variable allocated once, and not used when it has been freed."""
    steps: list[dict[str, Any]] = []
    live: dict[str, tuple[str, int]] = {}
    for number in range(dice.randint(6, 14)):
        if not live or dice.random() < 0.3:
            map = dice.choice(list(PAGES))
            name, pages = f"{who}{number}", dice.randint(1, 2)
            live[name] = map, pages
            steps.append({"op": "km_alloc", "map": map, "pages": pages, "as": name})
            continue
        name = dice.choice(list(live))
        what = dice.random()
        if what < 0.2:
            steps.append({"op": "km_free", "at": f"{name}[0]", "pages": live.pop(name)[1]})
        elif what < 0.3:
            steps.append({"op": "send", "to": "net0"})
        else:
            place = f"{name}[{dice.randrange(live[name][1])}]+{dice.choice((0, 8, 56))}"
            if what < 0.7:
                steps.append({"op": "kwrite", "at": place, "value": dice.randrange(1, 1000), "onfault": True})
            else:
                steps.append({"op": "kread", "at": place, "onfault": True})
    steps.insert(dice.randint(0, len(steps)), {"op": "send", "to": "net0"})
    return steps


def written(steps: list[dict[str, Any]]) -> str:
    """The steps as they stand in a file."""
    words = []
    for step in steps:
        args = {key: str(value).lower() if isinstance(value, bool) else value for key, value in step.items()}
        op = args.pop("op")
        inside = ", ".join(f'{key}: "{value}"' if key == "at" else f"{key}: {value}" for key, value in args.items())
        words.append(f"{op}: {{{inside}}}")
    return "\n".join(words)


def wrong(steps: list[dict[str, Any]], results: list[dict[str, Any]]) -> list[str]:
    """What a program was answered that cannot be."""
    mistakes = []
    there: dict[str, str] = {}
    words: dict[str, int] = {}
    for step, result in zip(steps, results, strict=True):
        answer, name = result["result"], str(step.get("as") or step.get("at", "")).split("[")[0]
        allowed: tuple[Any, ...] = (0,)
        if step["op"] == "km_alloc":
            allowed = (0, "ENOMEM")
            if answer == 0:
                there[name] = step["map"]
        elif step["op"] != "send" and name not in there:
            allowed = ("EFAULT",)
        elif step["op"] == "kwrite":
            words[step["at"]] = step["value"]
        elif step["op"] == "kread" and step["at"] in words:
            allowed = (words[step["at"]],)
        elif step["op"] == "kread":
            allowed = (0,) if there[name] == "exec" else (answer,)  # wired memory holds whatever was there
        if answer not in allowed:
            mistakes.append(f"{step} answered {answer}, expected {allowed}")
    return mistakes


@pytest.mark.parametrize("seed", range(40))
def test_kernel_memory_holds_what_was_stored(seed: int) -> None:
    dice = Random(seed)
    programs = {who: program(dice, who.lower()) for who in "AB"}
    interrupts = INTERRUPTS.replace("MAP", dice.choice(["kmem", "mb"]))
    texts = {**{who: written(steps) for who, steps in programs.items()}, "H": HOG}
    sim = Sim(*prepare(scene(texts, SETUP, MACHINE, more=interrupts)))
    walk = RandomWalk(seed)
    sent = sum(step["op"] == "send" for steps in programs.values() for step in steps)
    for strategy in (Stay(), *[walk] * 5):
        finding = sim.execute(strategy)
        assert finding is None, finding.text
        for who, steps in programs.items():
            assert wrong(steps, sim.machine.threads[who].results) == []
        assert len(sim.machine.threads["net0"].results) == 2 * sent > 0, "each interrupt takes its two steps"
        assert sim.counters["pdpending"] > 0, "nothing was paged out"
