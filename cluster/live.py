"""The live engine: the machine's nodes in Ray actors, running freely or following a schedule.

A run starts from the image that setup left in `sim`, ends at a finding or when
nothing is going on any more, and is judged from what the nodes report and from
their journals. Nothing is declared by a time-out alone: a machine is at rest
when two successive polls show the same counts, every processor waits with an
empty inbox, and every delivery sent has arrived.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from cluster.boot import boot
from cluster.launch import Actors
from cluster.machine import SITES
from cluster.verdict import endless, judge, refused, sort_out
from nodes.build import build_threads
from shared.codec import decode, encode
from shared.errors import Diverged, Finding, Infrastructure
from shared.journal import Journals, causal_past, digest, events_after, read
from shared.oracle import judge_journals
from shared.pack import pack_scenario
from shared.scenario import Scenario
from shared.tables import differing, tables

POLL_S = 0.1  # each poll costs every actor a call, and takes that from the run
RUN_LIMIT_S = 300.0
#: records of all nodes before a free run counts as making no progress
MAX_OPERATIONS = 50_000
STALL_S = 20.0


@dataclass
class LiveRun:
    """What one live run left behind.

    Attributes:
        journals: of every node; after a finding, its causal past only.
        folder: where the collected journal files are.
    """

    finding: Finding | None
    journals: Journals
    digest: str
    results: dict[str, list[dict[str, Any]]]
    sites: dict[str, int]
    counters: dict[str, int]
    notes: list[Finding]
    operations: int
    seconds: float
    folder: Path
    state: dict[str, Any] = field(default_factory=dict)


class LiveMachine:
    """A booted machine: actors that are reused for one run after another."""

    def __init__(self, ray: Any, scenario: Scenario, resources: dict[str, dict[str, float]] | None = None):
        self.scenario = scenario
        self.image = boot(scenario)
        self.actors = Actors(ray, scenario.machine, resources)
        self.scratch = Path(tempfile.mkdtemp(prefix="uvmp-"))
        self.runs = 0

    def close(self) -> None:
        """End the actors and remove what the runs left in temporary folders."""
        with contextlib.suppress(Infrastructure):  # an actor may be dead; a host of its own then keeps its folder
            self.actors.call("clean", limit_s=10.0)
        self.actors.kill()
        shutil.rmtree(self.scratch, ignore_errors=True)

    # -- one run -----------------------------------------------------------------

    def run(
        self,
        follow: Journals | None = None,
        out: Path | None = None,
        seed: int = 0,
        run_limit_s: float = RUN_LIMIT_S,
        identity: str | None = None,
    ) -> LiveRun:
        """Run once.

        Args:
            follow: journals whose admission orders to follow; None: free-running.
            out: folder for the collected journal files (default: a temporary one).
            seed: of the processors' choices among runnable LWPs.
            identity: of the run, for the journals' headers; None: its number on this machine.

        Raises: Diverged - the schedule cannot be followed; Infrastructure.
        """
        self.runs += 1
        name = f"run{self.runs}"
        began = monotonic()
        refusal = self._load(name, identity or name, follow, seed)
        detect, judged = self.scenario.detect, list[Finding]()
        level = detect.get(refusal.detector, "stop") if refusal is not None else "off"
        last: list[dict[str, Any]] | None = []
        if level != "stop":
            self.actors.call("start")
            last = self._until_quiet(follow is not None, run_limit_s)
        seconds = monotonic() - began
        stopped = last is None
        if last is None or any(one["finding"] is not None for one in last):
            last = self._halt()
        state = self._state()
        reported = [one["finding"] for one in last if one["finding"] is not None]
        finding = Finding(**reported[0]) if reported else None
        folder = out if out is not None else self.scratch / name / "collected"
        journals = self._collect(folder)
        self.actors.call("finish")
        if level == "stop":
            finding = refusal
        elif finding is None and stopped:
            text = f"no end after {state['operations']} operations"
            no_end = Finding("no-progress", text, detector="progress")
            finding, judged = sort_out(endless(state, detect, no_end), detect)
        elif finding is None:
            wrong = None if detect.get("oracle") == "off" else judge_journals(self.scenario, journals, self.image)
            unexpected = self.scenario.unexpected(state["results"])
            finding, judged = sort_out(judge(state, detect, wrong, unexpected), detect)
        elif follow is None:
            journals = causal_past(journals)
        notes = [Finding(**one) for one in state["notes"]] + judged
        if refusal is not None and level == "note":
            notes.insert(0, refusal)
        return LiveRun(
            finding, journals, digest(journals), state["results"], state["sites"], state["counters"], notes,
            state["operations"], seconds, folder, state,
        )  # fmt: skip

    def _load(self, name: str, identity: str, follow: Journals | None, seed: int) -> Finding | None:
        """Give every actor its part of the image; returns why the machine does not boot, if so.

        Raises: Infrastructure - an actor runs other source than ours.
        """
        refs: list[Any] = []
        orders = None if follow is None else schedule_of(follow, self.scenario)
        for group in self.actors.groups:
            body = {
                "run": identity,
                "folder": str(self.scratch / name / group[0]),
                "scenario": pack_scenario(self.scenario),
                "images": {node: self.image.get(node) for node in group},
                "follow": orders,
                "seed": seed * 1009 + len(refs),
            }
            refs.append(self.actors.handles[group[0]].load.remote(encode("load", body)))
        nodes: dict[str, dict[str, str]] = {}
        for group, data in zip(self.actors.groups, self.actors.gather(refs), strict=True):
            answer = decode("status", data)
            wrong = differing(answer["source"], tables())
            if wrong:
                raise Infrastructure(f"actor {group[0]} runs other source: its {' and '.join(wrong)} are not ours")
            nodes |= answer["nodes"]
        return refused({node: nodes[node] for node in self.scenario.machine.nodes})

    def _poll(self) -> list[dict[str, Any]]:
        """Every actor's counts."""
        return [decode("status", data) for data in self.actors.call("poll")]

    def _halt(self) -> list[dict[str, Any]]:
        """Stop every processor at its next operation; returns the last poll."""
        self.actors.call("halt")
        began = monotonic()
        while True:
            polls = self._poll()
            if all(one["stopped"] for one in polls):
                return polls
            if monotonic() - began > STALL_S:
                raise Infrastructure(f"a processor has not stopped after {STALL_S:.0f} s")
            sleep(POLL_S)

    def _until_quiet(self, following: bool, run_limit_s: float) -> list[dict[str, Any]] | None:
        """Poll until the run has ended; returns the last poll, or None if it goes on and on."""
        began = changed = monotonic()
        before: Any = None
        while True:
            polls = self._poll()
            errors = [error for one in polls for error in one["errors"]]
            if errors:
                raise Infrastructure(errors[0])
            diverged = [text for one in polls for text in one["diverged"]]
            if diverged:
                raise Diverged(*diverged[0].removeprefix("diverged: expected ").split("; found ", 1))
            if any(one["finding"] is not None for one in polls) and not following:
                return polls
            if not following and sum(sum(one["admitted"].values()) for one in polls) > MAX_OPERATIONS:
                return None
            counts = [(one["admitted"], one["sent"], one["received"]) for one in polls]
            at_rest = all(one["idle"] for one in polls) and sum(one["sent"] for one in polls) == sum(
                one["received"] for one in polls
            )
            if counts != before:
                changed = monotonic()
            behind = [one["behind"] for one in polls if one.get("behind")]
            held = sum(one["held"] for one in polls)
            if counts == before and at_rest and not (following and (behind or held)):
                return polls
            if following and any(one["finding"] is not None for one in polls) and not (behind or held):
                return polls
            if following and counts == before and monotonic() - changed > STALL_S:
                cpu, k, wanted = behind[0] if behind else ("a node", 0, "?")
                raise Diverged(f"{wanted} to perform operation {k + 1} of {cpu}", "nothing is going on")
            if monotonic() - began > run_limit_s:
                raise Infrastructure(f"the run has not ended after {run_limit_s:.0f} s")
            before = counts
            sleep(POLL_S)

    def _state(self) -> dict[str, Any]:
        """Contexts, locks and images of all nodes, put together."""
        whole: dict[str, Any] = {
            "contexts": [], "locks": [], "images": {}, "tlbs": {}, "results": {}, "counters": {},
            "sites": dict(self.image[SITES]),
            "notes": [], "operations": 0, "page_size": self.scenario.machine.page_size,
        }  # fmt: skip
        for data in self.actors.call("state"):
            part = decode("state", data)
            for key in ("contexts", "locks", "notes"):
                whole[key] += part[key]
            for key in ("images", "tlbs", "results"):
                whole[key] |= part[key]
            for key in ("sites", "counters"):
                for name, count in part[key].items():
                    whole[key][name] = whole[key].get(name, 0) + count
            whole["operations"] += part.get("operations", 0)
        order = {name: at for at, name in enumerate(build_threads(self.scenario))}
        whole["contexts"].sort(key=lambda one: order[one["name"]])
        return whole

    def _collect(self, folder: Path) -> Journals:
        """Every node's journal, fetched in pieces by messages, written into `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        journals: Journals = {}
        for node in self.scenario.machine.nodes:
            handle = self.actors.handles[self.actors.actor_of[node]]
            path = folder / f"{node}.uvmp.jsonl"
            offset = 0
            with open(path, "wb") as stream:
                while True:
                    piece = decode("chunk", self.actors.gather([handle.chunk.remote(node, offset)])[0])
                    if not piece:
                        break
                    stream.write(piece)
                    offset += len(piece)
            with open(path, "rb") as lines:
                journals[node] = read(lines, path.name)[1]
        return journals


def schedule_of(journals: Journals, scenario: Scenario) -> dict[str, Any]:
    """What every node and processor has to follow: admission orders, program orders and where kernel events came."""
    cpus: dict[str, list[tuple[int, str]]] = {name: [] for name in scenario.machine.processors}
    for records in journals.values():
        for record in records:
            if "k" in record:
                cpus[record["cpu"]].append((record["k"], record["ctx"]))
    local = ("run", "userret", "intr", "iret")
    events = events_after(journals)
    return {
        "nodes": {
            node: [[one["ctx"], one["n"], one["event"]] for one in records if "k" in one and one["event"] not in local]
            for node, records in journals.items()
        },
        "cpus": {name: [[ctx for _, ctx in sorted(order)], events.get(name, [0])] for name, order in cpus.items()},
    }


def dump(value: Any) -> str:
    """JSON for tools."""
    return json.dumps(value, indent=2, sort_keys=True, default=str)
