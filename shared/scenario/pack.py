"""A scenario as plain data, for messages to actors and for run folders, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from shared.program.functions import Functions
from shared.scenario.machine import DeviceFault, KernelMaps, MachineConfig, SwapDevice
from shared.scenario.model import Bound, Expect, Expected, Handler, Lwp, Region, Scenario, Step
from shared.scenario.steps.table import make

#: what asdict() makes, and what a message leaves of that: lists for tuples
_Packed = Mapping[str, Any]


def pack_scenario(scenario: Scenario) -> dict[str, object]:
    """The scenario as plain data."""
    return {
        **asdict(scenario),
        "setup": tuple(step.plain() for step in scenario.setup),
        "lwps": tuple({**asdict(lwp), "program": tuple(map(Step.plain, lwp.program))} for lwp in scenario.lwps),
        "handlers": tuple(
            {**asdict(handler), "steps": tuple(map(Step.plain, handler.steps))} for handler in scenario.handlers
        ),
    }


def unpack_scenario(data: _Packed) -> Scenario:
    """The scenario that `pack_scenario` was given."""
    machine = dict(data["machine"])
    if not isinstance(machine["colocate"], bool):
        machine["colocate"] = tuple(tuple(group) for group in machine["colocate"])
    for faults in ("swap_faults", "disk_faults"):
        machine[faults] = tuple(DeviceFault(**fault) for fault in machine[faults])
    machine["swap_devices"] = tuple(SwapDevice(**device) for device in machine["swap_devices"])
    machine["devices"] = tuple(tuple(device) for device in machine["devices"])
    if machine["kernel"] is not None:
        machine["kernel"] = KernelMaps(**machine["kernel"])
    expect = {key: None if outcome is None else _outcome(outcome) for key, outcome in data["expect"].items()}
    names = ("source", "errata", "procs", "barriers", "words", "kvars", "segments", "loans", "own_errata")
    tuples = {key: tuple(data[key]) for key in names}
    made: _Packed = {
        "machine_texts": tuple((name, file, text) for name, file, text in data["machine_texts"]),
        "machine": MachineConfig(**machine),
        "functions": None if data["functions"] is None else functions_of(data["functions"]),
        "setup": tuple(map(_step, data["setup"])),
        "lwps": tuple(Lwp(**{**lwp, "program": tuple(map(_step, lwp["program"]))}) for lwp in data["lwps"]),
        "handlers": tuple(
            Handler(**{**handler, "steps": tuple(map(_step, handler["steps"]))}) for handler in data["handlers"]
        ),
        "expect": Expect(**expect),
        "bound": Bound(**data["bound"]),
        "regions": tuple(Region(**region) for region in data["regions"]),
    }
    return Scenario(**{**data, **tuples, **made})


def functions_of(data: _Packed) -> Functions:
    """The functions that `asdict` was given."""
    return Functions(**{**data, "threads": tuple((name, reference) for name, reference in data["threads"])})


def _step(data: _Packed) -> Step:
    return Step(make(data["op"], data["args"]), data["into"], data["line"], data["text"])


def _outcome(data: _Packed) -> Expected:
    results = {key: tuple(values) for key, values in data["results"].items()}
    tuples = {key: tuple(data[key]) for key in ("findings", "functions", "subjects", "invariants", "texts", "never")}
    return Expected(**{**data, **tuples, "results": results})
