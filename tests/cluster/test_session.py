"""A machine that stays: its session replays, its views are true, its server serves several and refuses strangers."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from errno import ENOSPC
from io import FileIO
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import msgpack
import pytest

from cluster.configs import shipped
from cluster.postmortem.load import load
from cluster.runs.folder import write_scenario
from cluster.runs.replay import beginning, replay, replay_journals
from cluster.search.explore import explore
from cluster.search.walk import RandomWalk
from cluster.session.client import Client
from cluster.session.console import COMMANDS, Console
from cluster.session.folder import Writer, found_there, read_token, save, snapshot
from cluster.session.session import Going, Session, opened
from shared.errors import Diverged, Infrastructure, UserMistake
from shared.journal.cut import cut
from shared.journal.order import operations
from shared.journal.record import digest, held, holes
from shared.port.port import here
from shared.scenario.load import load_scenario
from tests.cluster.test_resume import SCENES, torn
from tests.kit import run_recorded, scenario, uvmp

OPEN = """\
id: open
machine: {cpus: 2, frames: 24, swap_slots: 32}
setup:
  - process: {as: P0, cpu: 0}
  - process: {as: P1, cpu: 1}
programs:
  P0: [{pause: {}}]
  P1: [{pause: {}}]
"""
#: steps of which random sessions are made, with a name of their own where they need one
STEPS = (
    "mmap: {{as: r{n}, pages: 2}}", 'write: {{at: "r{n}[1]", value: 7}}', 'read: {{at: "r{n}[0]"}}',
    'munmap: {{at: "r{n}[0]", pages: 1}}', 'fork: {{as: C{n}, cpu: 1, program: [{{pause: {{}}}}]}}', "exit: {{}}",
    'mlock: {{at: "r{n}[0]", pages: 1}}', "wait: {{for: C{n}}}", "kload: {{word: w{n}}}",
    "kstore: {{word: w{n}, value: 3}}",
)  # fmt: skip


def begun(text: str = OPEN) -> Session:
    return Session(opened(load_scenario(text, "open.yaml")))


def console(session: Session) -> Console:
    return Console(session, lambda name: save(session, name), lambda name: snapshot(session, name))


def lines(console: Console, *commands: str) -> list[str]:
    """What commands say that are not refused."""
    said: list[str] = []
    for command in commands:
        answer = console.run(command)
        assert answer.exit < 2, answer.lines
        said += answer.lines
    return said


def assert_replays(session: Session) -> None:
    """What the session has done so far is done again by its journals alone."""
    outcome = session.outcome()
    assert holes(outcome.journals) == []
    assert outcome.operations == session.machine.operations
    again = replay_journals(session.scenario, outcome.journals, outcome.cut)
    assert again.digest == outcome.digest and again.results == outcome.results
    assert (None if again.finding is None else again.finding.as_dict()) == (
        None if outcome.finding is None else outcome.finding.as_dict()
    )


def perform_at_random(session: Session, rng: random.Random, commands: int) -> int:
    """Steps, and picks of contexts; returns how many steps there were room for."""
    added = 0
    for _ in range(commands):
        if session.machine.ended:
            break
        if rng.random() < 0.4:
            thread = rng.choice([lwp.name for lwp in session.scenario.lwps])
            try:
                session.spawn(thread, rng.choice(STEPS).format(n=rng.randrange(3)))
                added += 1
            except UserMistake:
                pass
        else:
            able = [*session.enabled(), None, None]
            session.go(Going(rng.choice(able), rng.choice((1, 3, 20, 300))))
    return added


@pytest.mark.parametrize("seed", range(8))
def test_a_random_session_replays_whenever_it_is_looked_at(seed: int) -> None:
    """Of processes that are open, and of a scenario with a defect of its own."""
    rng = random.Random(seed)
    session = begun() if seed % 4 else Session(opened(shipped("S3a-shipped")))
    added = 0
    for _ in range(3):
        added += perform_at_random(session, rng, 12)
        assert_replays(session)
    assert added >= 3 or seed % 4 == 0
    session.close()


def test_a_machine_that_is_stopped_leaves_no_port_behind() -> None:
    """Another execution may begin and end meanwhile."""
    session, other = (Session(opened(shipped("S3a-shipped"))) for _ in range(2))
    for _ in range(3):
        session.go(Going(None, 5))
        other.go(Going(None, 3))
        assert not hasattr(here, "port")
    assert (session.machine.operations, other.machine.operations) == (15, 9)


@pytest.mark.parametrize("name", SCENES)
def test_a_session_takes_a_run_over_wherever_it_was_cut(name: str) -> None:
    """It performs what the journals have, nothing more, and can go on; the whole replays."""
    scene, rng = opened(SCENES[name]()), random.Random(name)
    whole = run_recorded(scene, RandomWalk(5)).journals
    parts = [cut(whole, count) for count in (1, *(rng.randrange(operations(whole)) for _ in range(2)))]
    for part in (*parts, torn(whole, rng), {**whole, "cpu0": whole["cpu0"][:-4]}):
        journals = beginning(scene, part)
        assert operations(journals) == operations(part) or part not in parts
        session, count = Session(scene), operations(journals)
        session.resume(journals)
        assert session.machine.operations == count
        if not session.machine.ended:
            session.go(Going(None, 50))
        assert session.machine.operations > count or session.machine.ended
        assert_replays(session)
        session.close()
    session = Session(scene)
    session.resume(beginning(scene, whole))
    assert session.machine.operations == operations(whole)
    assert session.machine.ended == (name in ("finding", "deadlock")) or not session.enabled()


def test_journals_that_the_machine_cannot_repeat_are_not_taken_over() -> None:
    scene = opened(SCENES["locks"]())
    journals = held(cut(run_recorded(scene, RandomWalk(5)).journals, 60))
    at = max(at for at, record in enumerate(journals["memory"]) if record["event"] == "load")
    journals["memory"][at] = {**journals["memory"][at], "value": "another"}
    with pytest.raises(Diverged, match="another"):
        Session(scene).resume(journals)


def test_a_session_that_is_replayed_as_a_run_to_its_end_is_told_apart() -> None:
    """Without the word that it was cut, the replay does not end where the session did."""
    session = begun()
    session.spawn("P0", "mmap: {as: a, pages: 1}")
    session.go(Going("P0", 5))
    outcome = session.outcome()
    assert outcome.cut
    with pytest.raises(Exception, match="the run to end here"):
        replay_journals(session.scenario, outcome.journals)


def test_a_step_that_is_added_changes_nothing_of_what_was_done() -> None:
    """Names get their numbers in the order of time, whichever thread makes them."""
    session = begun()
    session.spawn("P1", "mmap: {as: x, pages: 2}")
    session.spawn("P1", "kload: {word: first}")
    session.go(Going(None, 10_000))
    before = session.outcome()
    session.spawn("P0", "mmap: {as: y, pages: 2}")
    session.spawn("P0", "kload: {word: second}")
    session.spawn("P0", "fork: {as: C, cpu: 0, program: [{kload: {word: third}}, {pause: {}}]}")
    assert session.outcome().digest == before.digest
    session.go(Going(None, 10_000))
    assert session.outcome().results["C"] == [{"step": 0, "op": "kload", "result": 0, "into": None}]
    assert session.scenario.words == ("first", "second", "third")
    starts = {region.name: region.start for region in session.scenario.regions}
    assert starts["x"] < starts["y"]


@pytest.mark.parametrize(
    ("command", "wrong"),
    [
        ("spawn P0 mmap: {pages: 2}", "mmap: missing key 'as'"),
        ("spawn P0 mmap: {as: a, pages: 0}", "mmap.pages: 0 is out of range: 1 to 4096"),
        ("spawn P9 exit: {}", "there is no thread 'P9'; known: P0, P1"),
        ("spawn P0 exits: {}", "unknown step 'exits' (did you mean exit?)"),
        ("spawn P0 exit: {}}, P1: {exit: {}", "not YAML"),
        ("spawn P0 process: {as: D, cpu: 0}", "process is a step of setup"),
        ("spawn P0", "expected: spawn THREAD STEP"),
        ("stepp", "there is no command 'stepp' (did you mean step?)"),
        ("step P9", "there is no context 'P9'; there are: P0, P1"),
        ("continue random", "expected: continue"),
        ("schedule randomly 3", "expected: schedule default, schedule random SEED, or schedule TOKEN"),
        ("schedule uvmp1.x", "not a schedule token"),
        ("history page 99", "there is no page:99"),
        ("step P0 0", "N is 1 to 1,000,000"),
        ("break uvm_falt", "there is no kernel function 'uvm_falt' (did you mean uvm_fault"),
        ("delete uvm_fault", "there is no breakpoint 'uvm_fault'"),
        ("show page 99", "there is no page:99; there are 24 of them, 0 to 23"),
        ("show nothing 1", "there is no object 'nothing:1'"),
        ("show page:1.lock", "there is no lock 'page:1.lock'"),
        ("show map P9", "there is no process 'P9'"),
        ("trace P9", "there is no context 'P9'"),
        ("show", "expected: show WHAT"),
        ("save", "expected: save DIR"),
        ("snapshot /nonexistent/x", "cannot be written: no such file or directory"),
        ('save "', "no closing quotation"),
        ("x" * 5000, "a command has at most 4000 characters"),
    ],
)
def test_a_command_that_is_wrong_says_so_and_changes_nothing(command: str, wrong: str) -> None:
    session = begun()
    answer = console(session).run(command)
    assert answer.exit == 2 and wrong in answer.lines[0], answer.lines
    assert (session.machine.operations, session.scenario.text) == (0, OPEN)


def test_a_thread_takes_no_step_beyond_its_end() -> None:
    """Neither behind an exit of its own, nor when its program has ended without one."""
    session = begun(OPEN.replace("P1: [{pause: {}}]", "P1: [{mmap: {as: a, pages: 1}}]"))
    session.spawn("P0", "exit: {}")
    with pytest.raises(UserMistake, match="never reached: P0 exits on line"):
        session.spawn("P0", "mmap: {as: b, pages: 1}")
    session.spawn("P1", 'munmap: {at: "a[0]", pages: 1}')
    session.go(Going("P1", 100_000))
    assert [step["op"] for step in session.threads()["P1"].results] == ["mmap", "munmap"]
    before = session.scenario, session.machine
    with pytest.raises(UserMistake, match="P1 is beyond this step"):
        session.spawn("P1", "mmap: {as: b, pages: 1}")
    assert (session.scenario, session.machine) == before
    assert_replays(session)


def test_the_views_show_the_machine_as_it_is() -> None:
    session = begun()
    said = console(session)
    assert "P0 cannot go on: it waits for a step (spawn P0 STEP)" in lines(said, "step P0")[0]
    lines(said, "spawn P0 mmap: {as: buf, pages: 2}", 'spawn P0 write: {at: "buf[1]", value: 77}')
    assert "    P0             cpu0            0  has not run" in lines(said, "ps")
    assert lines(said, "until uvm_fault")[-1].endswith("P0 enters uvm_fault")
    stack = lines(said, "bt P0")
    assert "<- here" in stack[1] and "uvm_fault()" in stack[1] and "trap()" in stack[2]
    assert lines(said, "break uvm_pagealloc_strat") == ["breakpoints: uvm_pagealloc_strat"]
    assert lines(said, "c")[-1].endswith("P0 enters uvm_pagealloc_strat")
    locks = lines(said, "show locks")
    assert "    held by P0 since" in " ".join(locks) and any("vmmap:0.lock" in line for line in locks)
    assert "class map" in lines(said, "show vmmap:0.lock")[0]
    assert lines(said, "delete") == ["breakpoints: none"]
    told = lines(said, "step P0 2")
    assert [line.split()[0] for line in told[:2]] == ["P0", "P0"] and "next of P0: " in told[-1]
    assert lines(said, "continue")[-1].endswith(
        "the machine is at rest; nothing can go on without a further step (spawn)"
    )
    space = lines(said, "show map P0")
    assert "1 entries" in space[0] and "buf[0]: prot=rw/rwx, inherit=copy" in space[1]
    assert space[3].startswith("    buf[1] -> page:") and space[3].endswith("rw, first word 77")
    page = space[3].split("page:")[1].split()[0]
    assert f"PAGE page:{page}" in lines(said, f"show page {page}")[0]
    assert any("uanon=anon:" in line for line in lines(said, f"show page:{page}"))
    assert "faults=1" in " ".join(lines(said, "show uvmexp"))
    assert "an_page=(an_nxt=anon:" in " ".join(lines(said, "show anon 9"))
    assert any("am_anon[" in line for line in lines(said, "show amap:0"))
    assert "in user mode, waits for a step" in lines(said, "ps")[2]
    assert lines(said, "show scenario")[-1] == '  - P0: {write: {at: "buf[1]", value: 77}}'
    assert [line.split()[0] for line in lines(said, "help")] == list(COMMANDS)
    assert said.run("detach").leaves == "detach" and said.run("halt").leaves == "halt"


def test_two_clients_words_for_the_same_state_agree_with_the_kernel() -> None:
    """The fields that the heap has are those that the records show, wherever they show one."""
    session = begun()
    said = console(session)
    lines(said, "spawn P0 mmap: {as: buf, pages: 2}", 'spawn P0 write: {at: "buf[0]", value: 1}', "c")
    story, compared = said.look.read(), 0
    for (name, _), known in story.fields.items():
        if known.field != "[]" and name.partition(":")[0] in ("page", "anon", "amap", "vmmap", "entry"):
            report = said.look.struct(name)
            if report.life == story.lives[name] and not report.fields[known.field].startswith("("):
                from cluster.postmortem.words import ddb

                assert report.fields[known.field] == ddb(report.kind, known.field, known.value), (name, known)
                compared += 1
    assert compared > 20


DEADLOCK = """\
id: deadlock
machine: {cpus: 3, frames: 24, swap_slots: 32}
setup:
  - process: {as: P0, cpu: 0}
  - process: {as: P1, cpu: 1}
  - process: {as: Q, cpu: 2}
programs:
  P0: [{klock: {word: a}}, {klock: {word: b}}]
  P1: [{klock: {word: b}}, {klock: {word: a}}]
  Q: [{pause: {}}]
"""


def test_a_deadlock_is_found_at_rest_though_another_thread_is_open() -> None:
    """That could continue with a further step, so the machine has not come to its end by itself."""
    session = begun(DEADLOCK)
    said = console(session)
    session.go(Going("P0", 4))
    while not session.threads()["P1"].held:
        session.go(Going("P1", 1))
    answer = said.run("continue")
    assert answer.exit == 1 and session.finding is not None and session.finding.detector == "deadlock"
    assert answer.lines[-1].endswith("the machine has ended, with a finding")
    assert said.run("ps").exit == 1 and "spins" in " ".join(said.run("ps").lines)
    assert said.run("step").lines == [f"error: the machine has ended: {session.finding.kind}"]
    assert_replays(session)


@pytest.mark.parametrize(
    ("steps", "kind", "then"),
    [
        (("P0 fork: {as: C, cpu: 1, program: [{pause: {}}]}", "P0 wait: {for: C}"), "lost-wakeup", "C exit: {}"),
        (("P0 kwait: {word: w}",), "lost-wakeup", "P1 kwakeup: {word: w, value: 1}"),
        (("P0 klock: {word: w}", "P1 klock: {word: w}"), "spin-forever", "P0 kunlock: {word: w}"),
        (("P0 klock: {word: w}",), "invariant", "P0 kunlock: {word: w}"),
    ],
)
def test_a_wait_that_a_further_step_ends_is_a_finding_only_if_none_comes(
    steps: tuple[str, ...], kind: str, then: str
) -> None:
    said, other = console(begun()), console(begun())
    for asked in (said, other):
        for step in steps:
            lines(asked, f"spawn {step}", "continue")
        answer = asked.run("step")
        assert answer.exit == 0 and answer.data["doubt"]["kind"] == kind  # type: ignore[index]
        assert f"if nothing more comes, this is a finding: {kind}: " in answer.lines[-1]
    lines(said, f"spawn {then}")
    assert said.run("end").lines == ["error: the machine is not at rest; continue first"]
    assert "doubt" not in said.run("continue").data or len(steps) > 1  # (the next one has the lock now)
    ended = other.run("end")
    assert ended.exit == 1 and ended.data["finding"] is not None
    for asked in (said, other):
        assert_replays(asked.session)


@pytest.mark.parametrize("seed", [6, 7])
def test_a_machine_goes_on_at_random_by_a_seed(seed: int) -> None:
    """With the same picks each time, and others than by the default schedule."""
    picks = []
    for schedule in (f"random {seed}", f"random {seed}", "default"):
        session = Session(opened(shipped("S3a-shipped")))
        said = console(session)
        assert lines(said, f"schedule {schedule}", "schedule") == [f"schedule: {schedule}"] * 2
        answer = said.run("continue")
        assert answer.lines[0] == f"  ({session.machine.operations:,} operations)" and session.machine.ended
        picks.append(session.machine.hand.picks.runs)
        if schedule != "default":
            assert_replays(session)
    assert picks[0] == picks[1] and len(picks[0]) > 10 * len(picks[2])


@pytest.mark.parametrize("name", ["S3a-shipped", "S1d-maybe"])
def test_a_token_is_stepped_through_to_its_finding(name: str) -> None:
    """The second has a choice of data."""
    scene = shipped(name)
    result = explore(scene, seed=6)
    assert result.finding is not None and result.token is not None
    session = Session(opened(scene))
    said = console(session)
    lines(said, f"schedule {result.token}", "step 40", "step")
    answer = said.run("continue")
    assert answer.exit == 1 and session.finding is not None
    assert session.finding.signature == replay(scene, list(result.token.deviations)).finding.signature  # type: ignore[union-attr]
    assert_replays(session)
    other = console(Session(opened(shipped("S3a"))))
    assert "the token was made for" in other.run(f"schedule {result.token}").lines[0]
    late = console(Session(opened(scene)))
    lines(late, "step")
    assert "has behind it" in late.run(f"schedule {result.token}").lines[0]


def test_the_history_of_a_struct_is_told() -> None:
    said = console(begun())
    lines(said, "spawn P0 mmap: {as: buf, pages: 1}", 'spawn P0 write: {at: "buf[0]", value: 7}', "continue")
    told = lines(said, "history anon 0")
    assert told[0].startswith("ANON anon:0") and "  history" in told
    assert any("P0" in line and "an_page = page:0" in line for line in told)


def test_a_machine_at_rest_can_be_ended_without_a_finding() -> None:
    said = console(begun())
    lines(said, "spawn P0 mmap: {as: buf, pages: 1}", "continue")
    assert lines(said, "end")[0].endswith("the machine has ended, without a finding")
    assert not said.session.outcome().cut
    assert_replays(said.session)


def test_a_panic_stops_the_machine_which_can_still_be_looked_at() -> None:
    session = Session(opened(load_scenario(OPEN, "open.yaml").with_errata(["S3h"])))
    said = console(session)
    lines(said, "spawn P0 mmap: {as: buf, pages: 1}", 'spawn P0 write: {at: "buf[0]", value: 1}')
    lines(said, "spawn P0 exit: {}")
    answer = said.run("continue")
    assert answer.exit == 1 and answer.data["finding"]["kind"] == "lock-assert"  # type: ignore[index]
    assert "amap_wipeout()" in said.run("trace P0").lines[1]
    assert_replays(session)


def test_a_data_race_ends_the_machine_as_soon_as_it_stops() -> None:
    session = begun()
    for thread in ("P0", "P1"):
        session.spawn(thread, "kstore: {word: w, value: 1}")
    stop = session.go(Going(None, 10_000))
    assert stop.why == "ended" and session.finding is not None and session.finding.kind == "data-race"
    outcome = session.outcome()
    assert outcome.cut
    assert_replays(session)


def test_a_snapshot_is_the_same_in_both_forms(tmp_path: Path) -> None:
    session = begun()
    said = console(session)
    lines(said, "spawn P0 mmap: {as: buf, pages: 1}", "step P0 9")
    lines(said, f"snapshot {tmp_path}/a.json", f"snapshot {tmp_path}/a.msgpack")
    document = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert msgpack.unpackb((tmp_path / "a.msgpack").read_bytes(), strict_map_key=False) == document
    assert document["operations"] == 9 and {"memory", "mmu", "cpu0"} <= document["nodes"].keys()
    assert {context["name"]: context["n"] for context in document["contexts"]}["P0"] == 9


def test_a_disk_that_is_full_for_a_while_costs_no_line_and_repeats_none(tmp_path: Path) -> None:
    class Full(FileIO):
        """Takes half of what it is given, then nothing, then everything."""

        calls = 0

        def write(self, data: Any) -> int:
            self.calls += 1
            if self.calls == 2:
                raise OSError(ENOSPC, "no space left on device")
            return super().write(data[: len(data) // 2] if self.calls == 1 else data)

    (tmp_path / "run").mkdir()
    session = begun()
    write_scenario(tmp_path / "run", session.scenario, "1" * 16)
    writer = Writer(tmp_path, session, "1" * 16)
    file = tmp_path / "run" / "memory.uvmp.jsonl"
    writer.files["memory"].close()
    writer.files["memory"] = full = Full(file, "a")
    session.spawn("P0", "mmap: {as: buf, pages: 2}")
    session.go(Going("P0", 20))
    with pytest.raises(OSError, match="no space"):
        writer.flush()
    assert full.calls == 2 and load(tmp_path / "run").torn != []
    session.spawn("P0", "munmap: {at: 'buf[0]', pages: 1}")
    session.go(Going(None, 1000))
    outcome = writer.finish()
    run = load(tmp_path / "run")
    assert run.torn == [] and digest(run.journals) == outcome.digest


# -- the server ----------------------------------------------------------------------------


def attach(*commands: str, session: str = "uvmp.session") -> Any:
    """The document of `uvmp attach`."""
    words = [word for command in commands for word in ("-c", command)]
    return json.loads(uvmp("attach", session, *words, "--json").stdout)


def waited(true: Callable[[], bool]) -> bool:
    """Does it come true within a minute?"""
    end = monotonic() + 60
    while not true() and monotonic() < end:
        sleep(0.02)
    return true()


def test_a_session_from_boot_to_the_replay_of_its_folder(sessions: Path) -> None:
    booted = json.loads(uvmp("boot", "laptop", "--json").stdout)
    folder = sessions / "uvmp.session"
    assert [oct((folder / name).stat().st_mode)[-3:] for name in (".", "token", "socket")] == ["700", "600", "600"]
    assert booted["token"] == read_token(folder)

    again = uvmp("boot", "laptop")
    assert again.exit_code == 2 and "a machine runs in it already; to use it: uvmp attach uvmp.session" in again.stderr
    stranger = uvmp("attach", "--token", "0" * 32, "-c", "ps")
    assert stranger.exit_code == 2 and "the session refuses this token" in stranger.stderr

    # two clients, each of which sees what the other has done; one pauses what the other has let go
    first, second = Client(folder, booted["token"]), Client(folder, booted["token"])
    assert first.ask("spawn P0 mmap: {as: buf, pages: 1}")["exit"] == 0
    assert second.ask("step P0 3")["data"]["operations"] == 3
    number = first.send("continue")
    assert "operations" in second.ask("pause")["data"]
    assert first.receive(number)["data"]["stop"] in ("rest", "pause")
    first.close()
    assert second.ask("ps")["data"]["contexts"][0]["name"] == "P0"
    second.close()

    assert attach("continue", "save kept")["exit"] == 0
    wrong = attach("stepp", "ps")
    assert wrong["exit"] == 2 and len(wrong["answers"]) == 1  # the rest is not performed
    halted = attach("halt")
    assert halted["exit"] == 0 and waited(lambda: not (folder / "socket").exists())
    for run in ("kept", "uvmp.session/run"):
        replayed = json.loads(uvmp("replay", run, "--json").stdout)
        assert replayed["equal"] and replayed["digest"]["kept"] in " ".join(halted["answers"][0]["lines"])
        assert load(run).torn == []
    live = uvmp("replay", "kept", "--live")
    assert live.exit_code == 2 and live.stderr.endswith(" run --resume kept --engine live\n"), live.stderr
    continued = json.loads(uvmp("run", "--resume", "kept", "--json").stdout)
    assert continued["exit"] == 0 and continued["operations"] >= 3, continued
    ended = uvmp("attach", "-c", "ps")
    assert ended.exit_code == 2 and "the session in it has ended" in ended.stderr
    assert "the session in it has ended; remove the folder" in uvmp("boot", "laptop").stderr


def busy(writes: int) -> str:
    """A machine with a process that writes so often, and then is open."""
    steps = "\n".join(f'    - write: {{at: "buf[{number % 40}]", value: {number}}}' for number in range(writes))
    return OPEN.replace("  P0: [{pause: {}}]", f"  P0:\n    - mmap: {{as: buf, pages: 40}}\n{steps}\n    - pause: {{}}")


def test_a_machine_that_goes_on_is_looked_at_and_paused_by_another_client(sessions: Path) -> None:
    """And commands that would let it continue are refused meanwhile."""
    (sessions / "busy.yaml").write_text(busy(150), encoding="utf-8")
    assert uvmp("boot", "busy.yaml", "--session", "busy").exit_code == 0
    token = read_token(sessions / "busy")
    goer, other = Client(sessions / "busy", token), Client(sessions / "busy", token)
    number = goer.send("continue")
    assert waited(lambda: other.ask("ps")["data"]["goes_on"])
    asked = [other.ask("step"), other.ask("ps"), other.ask("pause")]
    assert asked[0]["data"] == {"error": "the machine continues; pause it first"}
    assert asked[1]["exit"] == 0 and asked[2]["data"]["stop"] == "pause"
    assert goer.receive(number)["data"]["stop"] == "pause"
    before = asked[2]["data"]["operations"]
    assert goer.ask("step 5")["data"]["operations"] == before + 5
    goer.close(), other.close()


def test_a_killed_server_leaves_whole_lines_and_a_stale_socket_is_recognised(sessions: Path) -> None:
    booted = json.loads(uvmp("boot", "laptop", "--json").stdout)
    assert attach("spawn P1 mmap: {as: buf, pages: 2}", "continue")["exit"] == 0
    client = Client(sessions / "uvmp.session", booted["token"])
    (sessions / "uvmp.session" / "log").write_text("Traceback:\n  ...\nMemoryError\n\n")
    os.kill(booted["pid"], signal.SIGKILL)
    with pytest.raises(Infrastructure, match="the session has ended: MemoryError"):
        client.ask("ps")
    assert (sessions / "uvmp.session" / "socket").exists()
    # the system closes the socket a moment after the connection
    assert waited(lambda: "was killed; its journals are in run/" in found_there(sessions / "uvmp.session"))
    assert "the session in it was killed" in uvmp("attach", "-c", "ps").stderr
    assert "the session in it was killed" in uvmp("boot", "laptop").stderr
    run = load("uvmp.session/run")
    assert run.torn == [] and holes(run.journals) == [] and digest(run.journals)
    assert run.loaded is not None and [step.op for step in run.loaded.lwp("P1").program] == ["mmap", "pause"]
    again = replay_journals(run.loaded, run.journals, cut=True)
    assert again.digest == digest(run.journals) and again.results["P1"][0]["op"] == "mmap"
    assert uvmp("postmortem", "uvmp.session/run").exit_code == 4
    (sessions / "uvmp.session" / "socket").unlink()


def test_a_run_is_taken_over_by_a_session_and_goes_on_from_it(sessions: Path) -> None:
    assert uvmp("run", "E1", "--fixed", "--strategy", "random", "--out", "first").exit_code == 0
    for words, why in (
        (["E1", "--resume", "first"], "SCENARIO: cannot be given with --resume"),
        (["--resume", "first", "--fixed"], "--resume: "),
        (["--resume", "first", "--after", "A:99999"], "--after: the run has "),
        (["E1", "--after", "A:1"], "--after: is only for --resume"),
        (["--resume", "none"], "none: there is no such folder"),
        ([], "missing argument"),
    ):
        result = uvmp("boot", *words)
        assert result.exit_code == 2 and why in result.stderr, result.stderr
        assert not (sessions / "uvmp.session").exists()
    result = uvmp("boot", "--resume", "first", "--after", "A:40", "--json")
    booted = json.loads(result.stdout)
    assert f"the first {booted['operations']} operations of first are followed" in result.stderr
    told = attach("ps", "step A 3", "halt")["answers"]
    assert next(context["n"] for context in told[0]["data"]["contexts"] if context["name"] == "A") == 40
    assert told[1]["data"]["operations"] == booted["operations"] + 3
    assert uvmp("replay", "uvmp.session/run").exit_code == 0
    result = uvmp("run", "--resume", "uvmp.session/run", "--strategy", "random", "--out", "second")
    assert result.exit_code == 0 and f"the first {booted['operations'] + 3} operations of" in result.stderr
    assert uvmp("replay", "second").exit_code == 0
    result = uvmp("boot", "--resume", "second")
    assert result.exit_code == 2 and "has ended; remove the folder" in result.stderr
    assert "is up, ended, and can be looked" in uvmp("boot", "--resume", "second", "--session", "third").stdout
    assert uvmp("attach", "third", "-c", "ps", "-c", "halt").exit_code == 0


@pytest.mark.live
@pytest.mark.usefixtures("ray_session")
def test_real_processes_and_a_session_take_turns(sessions: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cluster.cli.board.STEP_EVERY_S", 0.0)
    result = uvmp("run", "E1", "--fixed", "--engine", "live", "--out", "first")
    assert result.exit_code == 0 and re.search(r"^[\d,]+ operations?, [\d,]+ per second", result.stderr, re.MULTILINE)
    booted = json.loads(uvmp("boot", "--resume", "first", "--after", "A:40", "--json").stdout)
    assert attach("step A 3", "halt")["exit"] == 0
    result = uvmp("run", "--resume", "uvmp.session/run", "--engine", "live", "--out", "second")
    assert result.exit_code == 0 and "equal in sim" in result.output, result.output
    assert f"the first {booted['operations'] + 3} operations of" in result.stderr
    assert uvmp("replay", "second").exit_code == 0


def test_a_signal_ends_the_machine_with_a_complete_folder(sessions: Path) -> None:
    booted = json.loads(uvmp("boot", "laptop", "--json").stdout)
    os.kill(booted["pid"], signal.SIGTERM)
    assert waited(lambda: (sessions / "uvmp.session" / "run" / "run.json").exists())
    assert uvmp("replay", "uvmp.session/run").exit_code == 0
    assert waited(lambda: not (sessions / "uvmp.session" / "socket").exists())


def test_what_cannot_boot_leaves_no_folder(sessions: Path) -> None:
    (sessions / "braces.yaml").write_text(
        "{id: x, machine: laptop, setup: [{process: {as: A, cpu: 0}}], programs: {A: []}}"
    )
    (sessions / "small.yaml").write_text(
        OPEN.replace("programs:", "  - mmap: {in: P0, as: b, pages: 1}\n  - munmap: {in: P0, at: 'b[0]', pages: 1}\n"
                                  "  - write: {in: P0, at: 'b[0]', value: 1}\nprograms:")
    )  # fmt: skip
    for what, why in (("nosuch", "there is no scenario"), ("braces.yaml", "not one mapping in braces"),
                      ("small.yaml", "setup[4].write")):  # fmt: skip
        result = uvmp("boot", what)
        assert result.exit_code == 2 and why in result.stderr, result.stderr
    assert not (sessions / "uvmp.session").exists()
    long = "d" * 120
    assert "has at most" in uvmp("boot", "laptop", "--session", long).stderr and not (sessions / long).exists()


def test_ctrl_c_pauses_the_machine_and_the_prompt_s_end_leaves_it(sessions: Path) -> None:
    """Commands from stdin, in a process that gets the signal of the terminal."""
    assert uvmp("boot", "laptop").exit_code == 0
    command = [sys.executable, "-m", "cluster.cli", "attach", str(sessions / "uvmp.session")]
    done = subprocess.run(command, input="# a remark\nps\n", capture_output=True, text=True, timeout=120,
                          cwd=Path(__file__).parents[2], check=False)  # fmt: skip
    assert done.returncode == 0 and done.stdout.startswith("uvmp> ps\n")
    client = Client(sessions / "uvmp.session", read_token(sessions / "uvmp.session"))
    sent: list[str] = []
    client.send = lambda command: sent.append(command) or len(sent)  # type: ignore[method-assign,func-returns-value]
    client.receive = lambda number: (signal.raise_signal(signal.SIGINT), {"number": number})[1]  # type: ignore[method-assign]
    assert threading.current_thread() is threading.main_thread()
    assert client.ask("continue") == {"number": 1} and sent == ["continue", "pause"] and client.interrupted
    client.close()
    assert attach("ps")["exit"] == 0  # it is still there


# -- how it goes on --------------------------------------------------------------------------


def test_top_tells_how_far_each_node_is_and_who_waits_for_whom() -> None:
    session = Session(opened(scenario("E1").with_detect({"lockdebug": "off"})))
    told = console(session)
    assert lines(told, "top") == ["0 operations; the machine stands still"]
    answer = told.run("continue")
    assert answer.data["stop"] == "ended"
    answer = told.run("top")
    assert answer.lines[0] == f"{session.machine.operations:,} operations; the machine stands still"
    assert "memory " in answer.lines[1] and "/s" not in answer.lines[1]
    spins = "  C on cpu1: spins in uvm_fault for amap:1.am_l, held by A since amap_cow_now"
    assert any(line.startswith(spins) for line in answer.lines), answer.lines


def test_a_client_that_waits_is_told_how_the_machine_goes_on(sessions: Path) -> None:
    """With the speed of each node since it was let go, and the answer comes all the same."""
    (sessions / "busy.yaml").write_text(busy(150), encoding="utf-8")
    assert uvmp("boot", "busy.yaml", "--session", "busy").exit_code == 0
    client = Client(sessions / "busy", read_token(sessions / "busy"))
    said: list[list[str]] = []

    def pace(seconds: float, lines: list[str]) -> float:
        said.append(lines)
        return 0.0

    answer = client.ask("continue", pace)
    assert answer["command"] == "continue" and answer["data"]["stop"] == "rest"
    client.close()
    assert said[0] == [] and len(said) > 1
    assert any("operations" in lines[0] and "/s)" in lines[1] and " on cpu0: " in lines[2] for lines in said[1:]), said
