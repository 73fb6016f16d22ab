"""What the contexts of a running machine do is told while it runs: who runs, and who waits for whom."""

from __future__ import annotations

import io
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from cluster.cli.board import REFRESH_S, SELDOM_S, Board
from cluster.cli.live import Shown
from cluster.cli.output import STEP_EVERY_S, Output
from cluster.live.doing import MAX_ROWS, Doing, doing, first, rates
from cluster.live.machine import Pace
from shared.detectors.machine_state import ContextState, HostNow, only
from shared.journal.record import digest
from shared.scenario.model import Scenario
from shared.uvm.structs import uvmexp
from shared.wire.codec import NOW, decode
from shared.wire.messages import Poll
from tests.kit import scenario
from tests.nodes.in_threads import Threads

live = pytest.mark.live
#: in the end A sleeps until C has ended, which spins for a lock of A's
WAITS = [
    'A on cpu0: sleeps in sys_wait on proc:1.p_stat ("wait") for the exit of thread C of process proc:1',
    "C on cpu1: spins in uvm_fault for amap:1.am_l, held by A since amap_cow_now",
]


def deadlock() -> Scenario:
    return scenario("E1").with_detect({"lockdebug": "off"})


def test_hosts_of_a_machine_say_who_waits_for_which_lock_held_by_whom() -> None:
    machine = Threads(deadlock())
    machine.run()
    rows = doing([decode(NOW, host.now()) for host in machine.hosts.values()], 4096)
    assert [str(row) for row in rows if row.waits] == WAITS
    assert [str(row) for row in rows if not row.waits] == ["swap on swap_io: sleeps, until there is work"]


def context(name: str, cpu: str = "cpu0", waits: tuple[str, int] | None = None, **changes: Any) -> ContextState:
    return ContextState(name, cpu, 5, waits, False, waits is None, False, ["uvm_fault"], [], None)._replace(**changes)


def test_a_context_runs_or_waits_for_an_answer_its_cpu_or_memory() -> None:
    chan = uvmexp.addressof("free")
    contexts = [
        context("A"), context("B"), context("C", waits=("sleep", chan)), context("D", "cpu1", stack=[]),
        context("E", "cpu1", n=0), context("F", "cpu1", finished=True), context("cpu1.ipi", "cpu1", interrupt=True),
    ]  # fmt: skip
    hosts = [
        HostNow(only(contexts, []), ["A", "D"], ("A", "memory", "load"), []),
        HostNow(only([], []), [], None, [(chan, [("C", "flt_noram1")])]),
    ]
    assert [str(row) for row in doing(hosts, 4096)] == [
        'C on cpu0: sleeps in uvm_fault on uvmexp:0.free ("flt_noram1") for free memory, which pagedaemon provides',
        "A on cpu0: runs in uvm_fault, asks memory (load)",
        "B on cpu0: waits for cpu0",
        "D on cpu1: runs in user mode",
    ]


def test_a_lock_that_was_released_between_two_answers_is_held_by_none() -> None:
    scene = deadlock()
    machine = Threads(scene)
    machine.run()
    hosts = [decode(NOW, host.now()) for host in machine.hosts.values()]
    hosts = [host._replace(state=host.state._replace(locks=[])) for host in hosts]
    assert any("for amap:1.am_l, which no context holds" in str(row) for row in doing(hosts, 4096))


def test_of_many_contexts_some_are_shown() -> None:
    rows = [Doing(f"P{number}", "cpu0", "runs in uvm_fault", False) for number in range(30)]
    assert first(rows[:MAX_ROWS]) == [f"  {row}" for row in rows[:MAX_ROWS]]
    assert len(first(rows)) == MAX_ROWS and first(rows)[-1] == f"  and {30 - MAX_ROWS + 1} more contexts"


# -- how it is shown ------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def polls(scene: Scenario, done: int) -> list[Poll]:
    poll = Poll({}, 0, 0, 0, [], [], False, 0, False, False, None)
    return [
        poll._replace(admitted=dict.fromkeys(group, done // 2), operations=done if group[0] == "cpu0" else 0)
        for group in scene.machine.actors
    ]


def test_lines_come_ever_more_seldom_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    scene = scenario("E1")
    shown, said = Shown(Output(), scene.machine), []
    rows = [Doing("A", "cpu0", "runs in uvm_fault", False)]
    for tenth in range(3000):
        shown.polled(tenth / 10, polls(scene, 100 * tenth), lambda: rows)
        if lines := capsys.readouterr().err.splitlines():
            said.append((tenth / 10, lines))
    assert [second for second, _ in said][:4] == [2.0, 4.0, 6.0, 9.0]
    assert max(later - earlier for (earlier, _), (later, _) in pairwise(said)) == SELDOM_S
    second, (head, nodes, row) = said[1]
    assert (second, head, row) == (4.0, "4,000 operations, 1,000 per second", "  A on cpu0: runs in uvm_fault")
    assert nodes.startswith("  cpu0 4,000 (1,000/s), ") and ", memory 2,000 (500/s)" in nodes


def test_on_a_terminal_they_are_shown_in_place_and_go() -> None:
    output = Output()
    output.err = Terminal()
    board = Board(output)
    assert not board.is_due(STEP_EVERY_S - 0.1) and board.is_due(STEP_EVERY_S)
    board.show(2.0, ["A runs\x1b[2J"])
    assert not board.is_due(2.0 + REFRESH_S / 2) and board.is_due(2.0 + REFRESH_S)
    text = output.err.getvalue()
    assert "A runs" in text and "\x1b[2J" not in text, "nothing in it commands the terminal"
    board.close()
    assert output.err.getvalue()[len(text) :].count("\x1b[2K") >= 1, "erased"


def test_speeds_are_of_the_time_since_the_last_look() -> None:
    assert rates({"cpu0": 300, "memory": 90}, {"cpu0": 100}, 2.0) == "cpu0 300 (100/s), memory 90 (45/s)"
    assert rates({"cpu0": 300}, {}, 0.0) == "cpu0 300"


# -- real processes -------------------------------------------------------------------------------


@live
@pytest.mark.parametrize("transport", ["leases", "ray"])
def test_a_live_run_shows_a_context_that_waits_for_a_lock(live_machine: Callable[..., Any], transport: str) -> None:
    """And is the same run: to look at it is no operation."""
    scene = deadlock()

    class Seen(Pace):
        def __init__(self) -> None:
            self.rows: list[Doing] = []
            self.ended = 0

        def polled(self, seconds: float, polls: list[Poll], now: Callable[[], list[Doing]]) -> None:
            self.rows = now()

        def over(self) -> None:
            self.ended += 1

    machine = live_machine(scene, transport=transport)
    machine.pace = seen = Seen()
    run = machine.run()
    assert [str(row) for row in seen.rows if row.waits] == WAITS and seen.ended == 1
    assert run.finding is not None and run.finding.kind == "spin-forever"
    machine.pace = Pace()
    assert digest(machine.run(follow=run.journals).journals) == run.digest
