"""Setup: makes the image of a scenario, from which every execution starts.

A context `boot` on cpu0 initializes UVM, then performs the scenario's setup
steps on behalf of its processes, with the pagedaemon and the swap pager at
work, under the default schedule. Errata are on while UVM initializes itself, and
off during the steps. The state of all nodes at rest after the setup is the
image. Operations of the setup have no numbers and are in no journal.
"""

from __future__ import annotations

from dataclasses import replace

from cluster.machine import SITES, Machine
from cluster.search.strategy import Stay
from cluster.sim.engine import Sim
from nodes.build import build_threads, process_table
from nodes.cpu import Thread
from shared.errors import UserMistake
from shared.port.port import here
from shared.program.functions import resolve
from shared.program.run import run_init, run_setup
from shared.scenario.model import Scenario

BOOT = "boot"


def boot(scenario: Scenario) -> dict[str, object]:
    """The state of every node when setup is done, by node name, as plain data.

    Raises: UserMistake - setup cannot be done (memory too small, a step fails).
    """
    sound = replace(scenario.without_errata(), machine=replace(scenario.machine, swap_faults=(), disk_faults=()))
    threads = build_threads(scenario)
    programs = {name: thread for name, thread in threads.items() if thread.home is not None}
    procs = process_table(scenario)

    sites: dict[str, int] = {}
    begun: list[int] = []

    def body() -> None:
        here.port.errata = frozenset(scenario.errata)
        run_init(scenario)  # how a defective kernel sets itself up is part of the defect
        sites.update((name, count) for name, count in here.port.sites.items() if name in scenario.own_errata)
        here.port.errata = frozenset()
        run_setup(scenario, procs, begun)

    booter = Thread(BOOT, "cpu0", body)
    if scenario.functions is not None:  # no kernel is booted, and no other context is needed for the setup
        booter = Thread(BOOT, "cpu0", resolve(scenario.functions.setup))
        programs = threads
    machine = Machine(
        sound, {BOOT: booter, **{name: thread for name, thread in threads.items() if name not in programs}}
    )
    _put_to_sleep(machine, machine.threads)
    sim = Sim(machine, None)
    finding = sim.execute(Stay())
    if finding is not None or booter.state != "finished":
        why = "it waits forever" + (f" in {booter.function}" if booter.stack else "")
        why = why if finding is None else finding.text
        line, field = None, "setup"
        if begun:
            step = scenario.setup[begun[-1]]
            line, field = step.line, f"setup[{begun[-1]}].{step.op}"
        raise UserMistake(f"setup cannot be done on this machine: {why}", file=scenario.file, line=line, field=field)
    _put_to_sleep(machine, programs)
    return {**machine.image(), SITES: sites}


def _put_to_sleep(machine: Machine, threads: dict[str, Thread]) -> None:
    """Contexts that start asleep are on their channels' queues from the beginning."""
    for thread in threads.values():
        if thread.starts_on is not None:
            manager = machine.nodes[machine.route["sleep"](thread.starts_on)]
            manager.admit(thread.name, "sleep", thread.starts_on, ("start", ""))


def prepare(scenario: Scenario) -> tuple[Machine, dict[str, object]]:
    """The machine of a scenario and the image it starts from."""
    return Machine(scenario), boot(scenario)
