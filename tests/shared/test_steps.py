"""A step is one class: whatever is registered, everything that knows steps knows."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from jsonschema import Draft7Validator

from cluster.boot import prepare
from cluster.search.strategy import Stay
from cluster.sim.engine import Sim
from shared.detectors.effects import End, Memory
from shared.errors import UserMistake
from shared.findings import Finding
from shared.scenario.keys import TRUTH
from shared.scenario.load import load_scenario
from shared.scenario.model import Scenario, named_results
from shared.scenario.pack import pack_scenario, unpack_scenario
from shared.scenario.schema import schema
from shared.scenario.steps.memory import AT, PAGES, OfRange
from shared.scenario.steps.step import BOTH, STEPS, Args, Call, Key, Where, leaves_memory_alone, step, steps_of
from shared.scenario.steps.table import make
from shared.scenario.yaml import parse
from shared.uvm.mmap import sys_munmap
from tests.kit import SHIPPED, scenario, uvmp
from tests.shared.test_schema import plain

#: of the steps that there are; a test that adds one makes another
VALIDATOR = Draft7Validator(schema())
#: everything that the steps' examples name
FRAME = """\
id: T
machine: {cpus: 2, frames: 40, swap_slots: 32, disk: 16, kernel: {map: 8}, devices: {net0: imp}}
setup:
  - process: {as: A, cpu: 0}
  - thread: {in: A, as: T1, cpu: 1}
  - mmap: {in: A, as: buf, pages: 4}
  - file: {as: F, pages: 2}
  - shm: {as: S, pages: 1}
  - km_alloc: {map: map, pages: 1, as: k}
SETUP
programs:
  A:
    - fork: {as: C, program: []}
    - loan: {at: "buf[0]", pages: 1, to: anon, as: L}
PROGRAM
  T1:
    - barrier: {name: met}
interrupts:
  net0: {cpu: 0, steps: [{kstore: {word: x, value: 1}}]}
"""


def framed(setup: str = "", program: str = "") -> str:
    """A file with one more step."""
    parts = {"SETUP": f"  - {setup}" if setup else "", "PROGRAM": f"    - {program}" if program else ""}
    text = FRAME
    for mark, line in parts.items():
        text = text.replace(f"{mark}\n", f"{line}\n" if line else "")
    return text if program.startswith("barrier") else text.replace("    - barrier: {name: met}\n", "    []\n")


def run(scene: Scenario) -> tuple[Finding | None, dict[str, int | str]]:
    machine, image = prepare(scene)
    finding = Sim(machine, image).execute(Stay())
    return finding, named_results({name: thread.results for name, thread in machine.threads.items()})


# -- a throw-away step -----------------------------------------------------------------

VANISH = 'vanish: {at: "buf[1]", pages: 1, gently: true, into: gone}'


@contextmanager
def vanish(knows: bool) -> Iterator[None]:
    """A step of the test's own.

    Args:
        knows: whether its effect says what it does.
    """

    @step("vanish", "system calls", BOTH, (AT, PAGES, Key("gently", TRUTH, optional=True, default=False)))
    class Vanish(OfRange):
        """Make pages vanish. Nobody else has this.

        Keys:
            gently: true: say so first.
        """

        gently: bool

        def perform(self, call: Call) -> int | str:
            return sys_munmap(call.me, self.at, self.npages)

        def effect(self, memory: Memory, proc: str) -> End | None:
            if not knows:
                return None
            return memory.change(proc, memory.pages(self.at, self.length), lambda vpn, view: None)

    try:
        yield
    finally:
        del STEPS["vanish"]


def test_a_step_is_registered_in_one_place_and_known_everywhere() -> None:
    """The loader, programs, journals, the oracle, `uvmp steps`, the schema: for each of them the class is enough."""
    text = framed(program=VANISH + '\n    - read: {at: "buf[1]", into: after}')
    with pytest.raises(UserMistake, match="unknown step 'vanish'"):
        load_scenario(text, "t.yaml")
    assert not Draft7Validator(schema()).is_valid(plain(parse(text, "t.yaml")))
    with vanish(knows=True):
        scene = load_scenario(text, "t.yaml")
        (mine,) = [step for step in scene.lwp("A").program if step.op == "vanish"]
        assert mine.args.plain() == {"at": 0x10040, "length": 64, "gently": True}
        assert unpack_scenario(pack_scenario(scene)) == scene
        assert run(scene) == (None, {"gone": 0, "after": "SIGSEGV"})
        told = uvmp("steps", "vanish").stdout
        assert "Make pages vanish. Nobody else has this." in told and "true: say so first." in told
        assert "  vanish  " in uvmp("steps").stdout.replace("\nvanish", "\n  vanish")
        assert Draft7Validator(schema()).is_valid(plain(parse(text, "t.yaml")))
        wrong = text.replace("gently: true", "gently: 1")
        assert not Draft7Validator(schema()).is_valid(plain(parse(wrong, "t.yaml")))
        with pytest.raises(UserMistake, match="expected true or false") as caught:
            load_scenario(wrong, "t.yaml")
        assert (caught.value.field, caught.value.line) == ("programs.A[2].vanish.gently", 14)
    assert "vanish" not in STEPS


def test_the_oracle_goes_by_a_step_s_effect() -> None:
    """If that says nothing, the oracle sees what the step has really done."""
    text = framed(program=VANISH + '\n    - read: {at: "buf[1]", into: after}')
    with vanish(knows=False):
        finding, _ = run(load_scenario(text, "t.yaml"))
    assert finding is not None and finding.text == (
        "memory oracle: A gets SIGSEGV at buf[1], although the access was allowed throughout the step"
    )


# -- all of them ------------------------------------------------------------------------


@pytest.mark.parametrize("op", STEPS)
def test_every_step_s_example_is_loaded_and_fits_the_schema(op: str) -> None:
    kind = STEPS[op]
    example = kind.example()
    text = framed(program=example) if Where.PROGRAM in kind.where else framed(setup=example)
    if op == "thread":
        text = text.replace("interrupts:", "  T2: []\ninterrupts:")
    scene = load_scenario(text, "t.yaml")
    steps = scene.lwp("A").program if Where.PROGRAM in kind.where else scene.setup
    assert steps[-1].op == op and steps[-1].text == example.replace('[{read: {at: "buf[0]"}}]', "...")
    assert list(VALIDATOR.iter_errors(plain(parse(text, "t.yaml")))) == []


@pytest.mark.parametrize("op", [op for op in STEPS if STEPS[op].keys])
def test_every_key_of_a_step_is_asked_for_and_no_other_is_taken(op: str) -> None:
    """By the loader, and by the schema."""
    kind = STEPS[op]
    where = Where.PROGRAM if Where.PROGRAM in kind.where else Where.SETUP
    required, _ = kind.takes(where)
    example = kind.example()
    others = [re.sub(rf"([{{ ]){key}: ", rf"\1un{key}: ", example, count=1) for key in required]
    for text in (f"{op}: {{}}", *others):
        wrong = framed(program=text) if where is Where.PROGRAM else framed(setup=text)
        with pytest.raises(UserMistake, match=r"missing key|unknown key"):
            load_scenario(wrong, "t.yaml")
        assert not VALIDATOR.is_valid(plain(parse(wrong, "t.yaml")))


@pytest.mark.parametrize("name", SHIPPED)
def test_steps_travel_as_plain_data(name: str) -> None:
    scene = scenario(name)
    steps = [*scene.setup, *(step for lwp in scene.lwps for step in lwp.program)]
    for sent in steps:
        again = make(sent.op, sent.args.plain())
        assert again == sent.args and type(again) is STEPS[sent.op]


def test_a_step_is_allowed_somewhere_and_says_so() -> None:
    for op, kind in STEPS.items():
        assert any(op in steps_of(where) for where in Where)
        assert [where for where in Where if op in steps_of(where)] == [where for where in Where if where in kind.where]


@pytest.mark.parametrize(
    ("op", "family", "doc", "body", "wrong"),
    [
        ("munmap", "system calls", "Do.", {}, "there is a step munmap already"),
        ("new", "my steps", "Do.", {}, "there is no family my steps"),
        ("new", "system calls", "", {}, "its docstring must say what it does"),
        ("new", "system calls", "Do.\n\nKeys:\n    other: what?", {}, r"what \['other'\] means"),
        ("new", "system calls", "Do.", {"effect": None}, "has no effect"),
        ("new", "system calls", "Do.", {"perform": None}, "has no perform"),
    ],
)
def test_a_step_that_lacks_something_is_not_registered(
    op: str, family: str, doc: str, body: dict[str, object], wrong: str
) -> None:
    methods = {"perform": lambda self, call: 0, "effect": leaves_memory_alone, **body}
    kept = {name: method for name, method in methods.items() if method is not None}
    before = dict(STEPS)
    with pytest.raises(TypeError, match=wrong):
        step(op, family, Where.PROGRAM)(type("New", (Args,), {"__doc__": doc, **kept}))
    assert before == STEPS


def test_of_a_key_that_no_text_explains_a_step_is_not_registered() -> None:
    methods = {"perform": lambda self, call: 0, "effect": leaves_memory_alone}
    new = type("New", (Args,), {"__doc__": "Do.", **methods})
    with pytest.raises(TypeError, match=r"what \['how'\] means"):
        step("new", "system calls", Where.PROGRAM, (Key("how", TRUTH),))(new)
    assert "new" not in STEPS


# -- uvmp steps ---------------------------------------------------------------------------


def test_uvmp_steps_lists_every_step_once_and_tells_about_each() -> None:
    lines = uvmp("steps").stdout.splitlines()
    assert sorted(line.split()[0] for line in lines[1:]) == sorted(STEPS)
    for op, kind in STEPS.items():
        told = uvmp("steps", op)
        assert told.exit_code == 0
        flat = " ".join(told.stdout.split())
        assert " ".join(kind.says().split()) in flat and kind.example() in flat
        for key in kind.keys:
            assert f"{key.name} {' '.join(kind.meaning(key).split())}" in flat


def test_for_tools_there_is_one_document() -> None:
    listed = json.loads(uvmp("steps", "--json").stdout)["steps"]
    assert sorted(step["name"] for step in listed) == sorted(STEPS)
    assert json.loads(uvmp("steps", "mprotect", "--json").stdout)["step"] == {
        "name": "mprotect",
        "family": "system calls",
        "allowed_in": ["setup", "programs"],
        "says": "Change the protection of pages: mprotect(2).",
        "keys": [
            {
                "name": "in",
                "type": "a name",
                "required": True,
                "allowed_in": ["setup"],
                "means": "the process that performs the step",
            },
            {
                "name": "at",
                "type": 'an address as "buf[1]"',
                "required": True,
                "allowed_in": ["setup", "programs"],
                "means": "the first page",
            },
            {
                "name": "pages",
                "type": "a whole number, 1 to 4096",
                "required": True,
                "allowed_in": ["setup", "programs"],
                "means": "the number of pages",
            },
            {
                "name": "prot",
                "type": "a word: none, r, rw, rx, rwx",
                "required": True,
                "allowed_in": ["setup", "programs"],
                "means": "the new protection.",
            },
        ],
        "into": ["programs"],
        "example": 'mprotect: {at: "buf[0]", pages: 1, prot: none}',
    }


def test_an_unknown_step_is_told_in_one_line() -> None:
    result = uvmp("steps", "mmp")
    assert result.exit_code == 2
    assert result.stderr == "uvmp: error: STEP: there is no step 'mmp' (did you mean mmap?); `uvmp steps` lists them\n"
