"""Continues a live run in which an actor has died.

All actors are halted, and the dead actors are started anew: by us, since Ray could restart a process, but not restore
its state. The state is in the journals: all actors follow them up to their last consistent cut, and then run freely. So
the run needs nothing of a dead actor but its journal, and if that is lost with its disk, what the journals of the
others still have causes for.

Until the run has ended, the journals of each attempt are kept: the driver may die, too.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from cluster.live.elsewhere import DIED, places
from cluster.live.logs import Logs
from cluster.live.machine import Beginning, LiveMachine
from cluster.runs.clock import Clock
from cluster.runs.outcome import Outcome
from cluster.runs.replay import beginning
from shared.errors import Infrastructure
from shared.journal.order import operations
from shared.text import counted


@dataclass
class Surviving:
    """Runs of a machine.

    Args:
        restarts: how often actors may be started anew, in a run.
        notify: called with what has died.

    Attributes:
        dead: actors that are to be started.
        aside: folders with the journals of attempts.
        known: logs of the last attempt that was looked at.
    """

    machine: LiveMachine
    restarts: int
    notify: Callable[[str], None] = lambda text: None
    dead: list[str] = field(default_factory=list)
    aside: list[Path] = field(default_factory=list)
    known: Logs | None = None

    def run(
        self, follow: Beginning | None, out: Path | None, seed: int, identity: str, clock: Clock | None = None
    ) -> Outcome:
        """Run once, as `LiveMachine.run` does.

        Args:
            clock: the time that all attempts may take together; None: any.

        Raises: Infrastructure - an actor has died once too often, or it is something else; Diverged.
        """
        left, self.known = self.restarts, self.machine.logs
        while True:
            try:
                if self.dead:
                    self.machine.actors.start(self.dead)
                    self.dead = []
                outcome = self.machine.run(follow, out, seed, clock, identity)
                break
            except Infrastructure as error:
                if not left:
                    raise
                left -= 1
                follow = self._recover(error, follow, out)
        for folder in self.aside:
            self.machine.abandoned += places(folder).items()
            shutil.rmtree(folder, ignore_errors=True)
        self.aside = []
        return outcome

    def _recover(self, error: Infrastructure, follow: Beginning | None, out: Path | None) -> Beginning | None:
        """Halt everything; returns what to follow.

        Raises: Infrastructure - the same, if no actor has died.
        """
        machine, logs = self.machine, self.machine.logs
        if logs is not None and logs is not self.known:
            logs.salvage()
        self.dead = machine.actors.dead()
        if not self.dead:
            raise error
        if logs is not None and logs is not self.known:
            self.known = logs
            journals = beginning(machine.scenario, logs.left())
            if follow is None or operations(journals) > operations(follow.journals):
                follow = Beginning(journals)
            if out is None:
                machine.abandoned += logs.elsewhere.items()
            else:
                self.aside.append(out / f"{DIED}{len(self.aside) + 1}")
                logs.set_aside(self.aside[-1])
        count = 0 if follow is None else operations(follow.journals)
        self.notify(f"{error}; started anew: {', '.join(self.dead)}; {counted(count, 'operation')} are followed")
        return follow
