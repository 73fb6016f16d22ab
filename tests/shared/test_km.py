"""Kernel maps: who may use what, what an interrupt may do, and which locks a kernel fault takes."""

# ruff: noqa: E501 - one bad input, one line

from __future__ import annotations

from typing import Any

import pytest

from cluster.search.explore import explore
from cluster.search.strategy import Stay
from cluster.search.walk import RandomWalk
from shared.errors import UserMistake
from shared.scenario.model import Scenario, named_results
from shared.scenario.pack import pack_scenario, unpack_scenario
from shared.wire.codec import decode, encode
from tests.kit import PLAIN, run_recorded, scenario, scene

NOTHING = "{kload: {word: nothing}}"
INTERRUPTS = """\
interrupts:
  net0: {cpu: 0, steps: [NET0]}
  com0: {cpu: 0, steps: [COM0]}"""
MACHINE = {
    "cpus": 1, "frames": 24, "swap_slots": 16,
    "kernel": "{map: 2, kmem: 4, mb: 2, exec: 2}", "devices": "{net0: imp, com0: clock}",
}  # fmt: skip


def kernel(
    *steps: str, setup: str = "", net0: str = NOTHING, com0: str = NOTHING, interrupts: str = INTERRUPTS, **machine: Any
) -> Scenario:
    """A scenario whose one program has these steps; a key of the machine that is None is left out."""
    return scene(
        {"A": "\n".join(steps)},
        f"process: {{as: A, cpu: 0}}\n{setup}",
        ", ".join(f"{key}: {value}" for key, value in {**MACHINE, **machine}.items() if value is not None),
        more=interrupts.replace("NET0", net0).replace("COM0", com0),
        bound="strategy: random, schedules: 200",
    )


def results(scene: Scenario) -> tuple[dict[str, int | str], str]:
    """Results by name, and the finding's text, of the default schedule."""
    once = run_recorded(scene, Stay())
    return named_results(once.results), once.finding.text if once.finding else ""


@pytest.mark.parametrize("map", ["map", "kmem", "mb", "exec"])
def test_memory_of_every_map_can_be_written_read_and_freed(map: str) -> None:
    result, wrong = results(
        kernel(
            f"{{km_alloc: {{map: {map}, pages: 2, as: k, into: a}}}}",
            '{kwrite: {at: "k[1]+8", value: 7, into: w}}',
            '{kread: {at: "k[1]+8", into: r}}',
            '{km_free: {at: "k[0]", pages: 2, into: f}}',
            '{kread: {at: "k[1]+8", onfault: true, into: after}}',
        )
    )
    assert (result, wrong) == ({"a": 0, "w": 0, "r": 7, "f": 0, "after": "EFAULT"}, "")


def test_a_part_may_be_freed_and_the_rest_stays() -> None:
    """The entry of an interrupt-safe map is clipped with an entry made at boot."""
    result, wrong = results(
        kernel(
            "{km_alloc: {map: kmem, pages: 4, as: k}}",
            '{kwrite: {at: "k[0]", value: 1}}',
            '{kwrite: {at: "k[3]", value: 4}}',
            '{km_free: {at: "k[1]", pages: 2}}',
            '{kread: {at: "k[0]", into: r0}}',
            '{kread: {at: "k[3]", into: r3}}',
            '{kread: {at: "k[2]", onfault: true, into: r2}}',
            "{km_alloc: {map: kmem, pages: 2, as: again, into: a}}",
            "{km_alloc: {map: kmem, pages: 1, as: more, into: full}}",
        )
    )
    assert (result, wrong) == ({"r0": 1, "r3": 4, "r2": "EFAULT", "a": 0, "full": "ENOMEM"}, "")


def test_a_kernel_fault_that_nobody_expects_is_a_panic() -> None:
    """It says the address, and is the trap's."""
    steps = "{km_alloc: {map: exec, pages: 1, as: k}}", '{km_free: {at: "k[0]", pages: 1}}', '{kread: {at: "k[0]"}}'
    once = run_recorded(kernel(*steps), Stay())
    assert once.finding is not None and once.finding.function == "trap_kernel"
    assert once.finding.text == "panic: trap: uvm_fault(kernel_map, 0xc0000180, 0, 1) -> EFAULT (14)"


def test_wired_memory_of_kernel_map_does_not_fault_either() -> None:
    """kernel_map is not pageable: what is not there is not there."""
    result, _ = results(
        kernel(
            "{km_alloc: {map: map, pages: 1, as: k}}",
            '{km_free: {at: "k[0]", pages: 1}}',
            '{kread: {at: "k[0]", onfault: true, into: r}}',
        )
    )
    assert result == {"r": "EFAULT"}


# -- interrupt-safe maps: S8 -----------------------------------------------------------------


IN_A_FAULT = ("uvm_fault", "uvmfault_check_intrsafe", "uvmfault_lookup")


def locks_of_faults(scene: Scenario, ctx: str) -> list[str]:
    """Locks that a context has taken in uvm_fault."""
    once = run_recorded(scene, Stay())
    assert once.finding is None
    depth, taken = 0, []
    for records in once.journals.values():
        for record in records:
            if record["ctx"] == ctx and record.get("fn") == "uvm_fault" and "k" not in record:
                depth += record["event"] == "enter"
    for record in once.journals["lock_manager"]:
        if record["ctx"] == ctx and record["event"] in ("lock", "try") and record["fn"] in IN_A_FAULT:
            taken.append(record["lock"])
    assert depth == 1, "it did fault, once"
    return taken


PROBE = '{kread: {at: "old[0]", onfault: true, into: probed}}'
OLD = '  - km_alloc: {map: kmem, pages: 1, as: old}\n  - km_free: {at: "old[0]", pages: 1}'


def test_a_fault_on_an_interrupt_safe_map_takes_no_lock() -> None:
    """None but that of the list of such maps, which nothing is waited for under."""
    assert locks_of_faults(kernel(PROBE, setup=OLD), "A") == ["uvm:0.vmi_list_slock"]


def test_nor_does_it_in_an_interrupt() -> None:
    assert locks_of_faults(kernel("{send: {to: com0}}", setup=OLD, com0=PROBE), "com0") == ["uvm:0.vmi_list_slock"]


def test_a_fault_elsewhere_in_the_kernel_does_take_locks() -> None:
    """Or the two tests above would see nothing."""
    setup = "  - km_alloc: {map: exec, pages: 1, as: args}"
    taken = locks_of_faults(kernel('{kread: {at: "args[0]"}}', setup=setup), "A")
    assert {"vmmap:0.lock", "vmmap:1.lock"} <= set(taken)


def test_no_interrupt_at_splimp_comes_while_its_map_is_locked() -> None:
    """Both allocate from one map; every schedule of the walk is sound, and the interrupt did come in some of them."""
    scene = kernel(
        "{send: {to: net0}}",
        "{km_alloc: {map: kmem, pages: 1, as: k, into: a}}",
        '{km_free: {at: "k[0]", pages: 1}}',
        net0='{km_alloc: {map: kmem, pages: 1, as: m, into: m}}, {km_free: {at: "m[0]", pages: 1}}',
    )
    assert explore(scene).finding is None
    came = [run_recorded(scene, RandomWalk(seed)).journals["cpu0"] for seed in range(40)]
    under = {
        record["at"] for records in came for record in records if record["event"] == "intr" and record["ctx"] == "net0"
    }
    assert len(under) > 3, "at different places"


def test_an_interrupt_does_not_wait_for_memory() -> None:
    """uvm_km_kmemalloc() with UVM_KMF_NOWAIT gives back what it had got so far."""
    scene = kernel(
        "{km_alloc: {map: kmem, pages: 8, as: k}}",
        "{send: {to: net0}}",
        net0="{km_alloc: {map: mb, pages: 4, as: m, into: m}}",
        frames=10,
        kernel="{kmem: 8, mb: 4}",
    )
    result, wrong = results(scene)
    assert (result, wrong) == ({"m": "ENOMEM"}, "")


def test_an_interrupt_that_would_have_to_sleep_is_a_panic() -> None:
    """Pageable memory is nothing for an interrupt, if it is in swap."""
    setup = """\
  - km_alloc: {map: exec, pages: 1, as: args}
  - kwrite: {at: "args[0]", value: 5}
  - mmap: {in: A, as: pad, pages: 3}
  - fill: {in: A, until_free: 6}
  - write: {in: A, at: "pad[0]", value: 1}
  - write: {in: A, at: "pad[1]", value: 1}
  - write: {in: A, at: "pad[2]", value: 1}"""
    scene = kernel("{send: {to: com0}}", setup=setup, com0='{kread: {at: "args[0]"}}', frames=16, kernel="{exec: 1}")
    once = run_recorded(scene, Stay())
    assert once.finding is not None and once.finding.context == "com0"
    assert once.finding.text.startswith("panic: ltsleep: an interrupt cannot sleep")


def test_an_interrupt_wakes_who_waits_for_it() -> None:
    scene = kernel(
        "{send: {to: net0}}",
        "{kwait: {word: got}}",
        '{kread: {at: "m[0]", into: r}}',
        net0="{km_alloc: {map: mb, pages: 1, as: m}}, "
        '{kwrite: {at: "m[0]", value: 9}}, {kwakeup: {word: got, value: 1}}',
    )
    scene_results, wrong = results(scene)
    assert (scene_results, wrong) == ({"r": 9}, "")
    assert explore(scene).finding is None


def test_lockdebug_knows_locks_by_cpu() -> None:
    """An interrupt that asks for a lock of the context that it interrupted is told so, and does not just hang."""
    result = explore(scenario("S8a"))
    assert result.finding is not None and result.finding.context == "com0"
    assert result.finding.text == "simple_lock: locking against myself"


# -- files with mistakes -----------------------------------------------------------------------

ALLOC = "{km_alloc: {map: kmem, pages: 2, as: k}}"
BAD: list[tuple[tuple[str, ...], dict[str, Any], str, str]] = [
    ((), {"kernel": "{kmm: 4}"}, "machine.kernel.kmm", "unknown key 'kmm' (did you mean kmem?)"),
    ((), {"kernel": "{}"}, "machine.kernel", "expected the pages of map, kmem, mb or exec"),
    ((), {"kernel": "{kmem: 0}"}, "machine.kernel.kmem", "out of range"),
    ((), {"kernel": "{kmem: 1}, devices: {Net: imp}"}, "machine.devices", "duplicate key 'devices'"),
    (("{km_alloc: {map: exec, pages: 1, as: k}}",), {"kernel": "{kmem: 4}"}, "A[0].km_alloc.map", "unknown kernel map 'exec'"),
    (("{km_alloc: {map: kmem, pages: 5, as: k}}",), {}, "A[0].km_alloc.pages", "5 is out of range: 1 to 4"),
    ((ALLOC, ALLOC), {}, "A[1].km_alloc.as", "the variable k is named twice"),
    ((ALLOC, '{kread: {at: "l[0]"}}'), {}, "A[1].kread.at", "no step km_alloc has `as: l`; there are: k"),
    ((ALLOC, '{kread: {at: "k[2]"}}'), {}, "A[1].kread.at", "page 2 is outside region k"),
    ((ALLOC, '{kread: {at: "k[0]+4"}}'), {}, "A[1].kread.at", "byte 4 is not a word of a page"),
    ((ALLOC, '{kread: {at: "k[0]", onfault: 1}}'), {}, "A[1].kread.onfault", "expected true or false"),
    ((ALLOC, '{km_free: {at: "k[1]", pages: 2}}'), {}, "A[1].km_free.at", "pages 1 to 2 is outside region k"),
    (("{send: {to: net1}}",), {}, "A[0].send.to", "unknown device 'net1' (did you mean net0"),
    ((), {"net0": "{kwait: {word: w}}"}, "interrupts.net0.steps[0].kwait", "kwait is a step of programs, not of interrupts"),
    ((), {"net0": '{write: {at: "x[0]", value: 1}}'}, "interrupts.net0.steps[0].write", "is a step of programs"),
    ((), {"setup": "  - process: {as: net0, cpu: 0}"}, "setup[1].process.as", "net0 is reserved by uvmp"),
    ((), {"setup": "  - send: {to: net0}"}, "setup[1].send", "send is a step of programs, not of setup"),
]  # fmt: skip


@pytest.mark.parametrize(("steps", "rest", "field", "message"), BAD, ids=[case[3] for case in BAD])
def test_a_mistake_in_the_file_is_told_with_its_place(
    steps: tuple[str, ...], rest: dict[str, Any], field: str, message: str
) -> None:
    with pytest.raises(UserMistake) as caught:
        kernel(*steps, **rest)
    assert caught.value.field is not None and caught.value.field.endswith(field), caught.value
    assert message in caught.value.message and caught.value.line


@pytest.mark.parametrize(
    ("key", "value", "field", "message"),
    [
        ("devices", "{net0: imp, com: clock}", "machine.devices.com", "'com' is not the name of a device"),
        ("devices", "{net0: imp, com0: high}", "machine.devices.com0", "unknown interrupt level 'high'; known: bio, imp, clock"),
        ("devices", None, "interrupts.net0", "the machine has no device 'net0'; it has: none"),
        ("kernel", None, "programs.A[0].km_alloc.map", "the machine has no kernel maps"),
        ("interrupts", INTERRUPTS.replace("com0:", "com1:"), "interrupts.com1", "the machine has no device 'com1'"),
        ("interrupts", INTERRUPTS.replace("com0: {cpu: 0", "com0: {cpu: 1"), "interrupts.com0.cpu", "there is no cpu 1"),
        ("interrupts", INTERRUPTS.split("\n  com0", maxsplit=1)[0], "programs.A[1].send.to", "has no entry for com0"),
    ],
)  # fmt: skip
def test_devices_and_interrupts_must_fit_each_other(key: str, value: str | None, field: str, message: str) -> None:
    with pytest.raises(UserMistake) as caught:
        kernel("{km_alloc: {map: kmem, pages: 1, as: k}}", "{send: {to: com0}}", **{key: value})
    assert caught.value.field == field and message in caught.value.message


def test_memory_and_devices_decide_what_a_token_is_good_for() -> None:
    """Kernel maps, devices and what interrupts do are part of a scenario's digest."""
    scenes = [
        kernel(),
        kernel(kernel="{kmem: 5}"),
        kernel(net0="{kload: {word: other}}, {kload: {word: nothing}}"),
    ]
    assert len({scene.digest() for scene in scenes}) == len(scenes)
    for made in scenes:
        assert unpack_scenario(decode(PLAIN, encode(PLAIN, pack_scenario(made)))) == made
