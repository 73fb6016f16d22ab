"""Kernel steps of a scenario's programs: how they load, and what they do to whom."""

# ruff: noqa: E501 - one bad input, one line

from __future__ import annotations

import pytest

from cluster.boot import prepare
from cluster.search.strategy import Stay
from cluster.search.walk import RandomWalk
from cluster.sim.engine import Sim
from shared.errors import UserMistake
from shared.findings import Finding
from shared.scenario.load import load_scenario
from shared.scenario.model import Expected, Scenario, named_results
from shared.scenario.pack import pack_scenario, unpack_scenario

TEXT = """\
id: T
name: t
title: A test
story: Kernel steps.
source: ["a test"]
machine: {cpus: 2, frames: 16, swap_slots: 8}
setup:
  - process: {as: A, cpu: 0}
  - process: {as: B, cpu: 1}
programs:
  A:
    - klock: {word: x}
    - kstore: {word: x, value: 7}
    - kunlock: {word: x}
  B:
    - klock: {word: x}
    - kload: {word: x, into: rx}
    - kunlock: {word: x}
    - kload: {word: y, into: ry}
expect:
  fixed: {finding: none, results: {rx: {any_of: [0, 7]}, ry: 0}, never: [{rx: 7, ry: 1}]}
bound: {strategy: random, schedules: 10}
"""


def load(old: str = "", new: str = "") -> Scenario:
    assert old in TEXT
    return load_scenario(TEXT.replace(old, new) if old else TEXT, "t.yaml")


def first_finding(scene: Scenario) -> Finding | None:
    machine, image = prepare(scene)
    sim = Sim(machine, image)
    walk = RandomWalk(0)
    return next((finding for finding in (sim.execute(walk) for _ in range(50)) if finding), None)


def test_a_program_that_pauses_keeps_its_memory_and_is_not_stuck() -> None:
    scene = load(
        "    - kload: {word: y, into: ry}",
        '    - kload: {word: y, into: ry}\n    - mmap: {as: m, pages: 1}\n    - write: {at: "m[0]", value: 1}\n    - pause: {}',
    )
    machine, image = prepare(scene)
    sim = Sim(machine, image)
    assert sim.execute(Stay()) is None
    b = machine.threads["B"]
    assert b.state != "finished" and [result["op"] for result in b.results][-1] == "write"
    assert machine.mmu.pmaps[2], "its page is still mapped"


def test_words_are_numbered_as_they_appear() -> None:
    """The number decides the shard."""
    scene = load()
    assert scene.words == ("x", "y")
    assert [step.args.plain() for step in scene.lwp("A").program] == [
        {"word": "x", "number": 0}, {"word": "x", "number": 0, "value": 7}, {"word": "x", "number": 0},
    ]  # fmt: skip
    assert scene.lwp("B").program[3].args.plain() == {"word": "y", "number": 1}


def test_words_travel_to_the_actors() -> None:
    scene = load()
    assert unpack_scenario(pack_scenario(scene)) == scene


def test_what_is_stored_under_the_lock_is_loaded_under_the_lock() -> None:
    machine, image = prepare(load())
    sim = Sim(machine, image)
    assert sim.execute(Stay()) is None
    assert named_results({name: thread.results for name, thread in machine.threads.items()}) == {"rx": 7, "ry": 0}


def test_kernel_steps_make_the_detectors_speak() -> None:
    """They are the kernel's own loads, stores and locks, nothing special."""
    finding = first_finding(load("    - klock: {word: x}\n    - kstore", "    - kstore"))
    assert finding is not None and finding.kind in ("data-race", "lock-not-held")
    finding = first_finding(load("    - kunlock: {word: x}\n  B", "  B"))
    assert finding is not None and (finding.kind, finding.function, finding.subject) == (
        "held-at-exit",
        "exit1",
        "litmus:0",
    )


@pytest.mark.parametrize(
    ("old", "new", "field", "message"),
    [
        ("kstore: {word: x, value: 7}", "kstore: {word: x}", "programs.A[1].kstore", "missing key 'value'"),
        ("kstore: {word: x, value: 7}", "kstore: {value: 7}", "programs.A[1].kstore", "missing key 'word'"),
        ("kstore: {word: x, value: 7}", "kstore: {word: x.y, value: 7}", "programs.A[1].kstore.word", "is not a valid name of a word"),
        ("kstore: {word: x, value: 7}", "kstore: {word: x, value: -1}", "programs.A[1].kstore.value", "out of range"),
        ("kload: {word: y, into: ry}", "kload: {word: y, value: 1, into: ry}", "programs.B[3].kload.value", "unknown key 'value'"),
        ("kload: {word: y,", "kloud: {word: y,", "programs.B[3].kloud", "did you mean kload"),
        ("  - process: {as: B, cpu: 1}\n", "  - process: {as: B, cpu: 1}\n  - kstore: {word: x, value: 1}\n", "setup[2].kstore", "kstore is a step of programs, not of setup"),
        ("never: [{rx: 7, ry: 1}]", "never: []", "expect.fixed.never", "at least 1 entry"),
        ("never: [{rx: 7, ry: 1}]", "never: [{}]", "expect.fixed.never[0]", "expected at least one result"),
        ("never: [{rx: 7, ry: 1}]", "never: [{rz: 7}]", "expect.fixed.never[0].rz", "no step has `into: rz`"),
        ("never: [{rx: 7, ry: 1}]", "never: [{rx: ESOME}]", "expect.fixed.never[0].rx", "unknown errno or signal"),
    ],
)  # fmt: skip
def test_a_bad_kernel_step_or_never_is_told_where_it_stands(old: str, new: str, field: str, message: str) -> None:
    with pytest.raises(UserMistake) as caught:
        load(old, new)
    assert message in caught.value.message and caught.value.field == field


def test_results_that_must_not_come_together_are_told() -> None:
    """What a litmus test is about is not a single value but a combination."""
    outcome = Expected(never=({"rx": 0, "ry": 0},))
    assert outcome.check(None, {"rx": 0, "ry": 1}) is None
    assert outcome.check(None, {"rx": 0}) is None
    assert outcome.check(None, {"rx": 0, "ry": 0}) == "expected never rx = 0 and ry = 0"
