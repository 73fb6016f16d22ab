"""The fuzzer: what executions show, programs made from others, the corpus, and what is written of a finding."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
from click.testing import CliRunner

import cluster.fuzz.hunt
import cluster.fuzz.trial
from cluster.boot import prepare
from cluster.fuzz import corpus as on_disk
from cluster.fuzz.generate import generate
from cluster.fuzz.hunt import MERGED, MUTANT, Hunt, Order, hunt
from cluster.fuzz.judge import Seen, judge
from cluster.fuzz.mutate import mutate
from cluster.fuzz.observe import FLOW, MEET, ORDER, Observed, Sight
from cluster.fuzz.program import Program, Step, read
from cluster.fuzz.rules import broken, tidy
from cluster.fuzz.trial import Worker
from cluster.search import make
from cluster.search.pool import Here
from cluster.sim.engine import Sim
from cluster.workers.dealer import Hand
from cluster.workers.processes import Processes
from shared.errata import ERRATA
from shared.errors import Exit, UserMistake
from shared.patch import applied
from shared.patch import read as read_patch
from tests.bench import rediscovery
from tests.kit import uvmp

pytestmark = pytest.mark.wide

#: programs that are cheap to run
SMALL: dict[str, Any] = {"size": 6, "schedules": {"stay": 1, "random": 1}}
#: a patch that copies pages as the kernel does
SAME_COPY = """\
from shared.patch import original, replaces

@replaces("uvm_pagecopy")
def uvm_pagecopy(src, dst):
    original("uvm_pagecopy")(src, dst)
"""
ERRATUM = "uvm_anfree.busy-page-freed"
ERRATA_OF_TWO = (ERRATUM, "uvm_loanzero.anon-unlocked")


def order(seed: str, programs: int | None, **more: Any) -> Order:
    return Order(seed, programs, **{**SMALL, **more})


# -- what executions show --------------------------------------------------------------------


def test_an_engine_that_observes_runs_as_the_other_one_does() -> None:
    for number in range(3):
        scene = generate(f"observed/{number}", frozenset(("threads", "fork", "map")), 6).load()
        engines = Sim(*prepare(scene)), Observed(*prepare(scene))
        for name in ("stay", "random", "pct"):
            seen = []
            for sim in engines:
                finding = sim.execute(make(name, number, 3))
                seen.append((finding, sim.steps, sim.points, sim.deviations, sim.results))
            assert seen[0] == seen[1]


@pytest.fixture(scope="module")
def shown() -> set[Sight]:
    """By two threads that write to a process's memory, with a fork, under some schedules."""
    program = Program(
        {"cpus": 2, "frames": 26, "swap_slots": 160},
        (
            Step("process", {"as": "A", "cpu": 0}),
            Step("thread", {"in": "A", "as": "T1", "cpu": 1}),
            Step("mmap", {"in": "A", "as": "m1", "pages": 2}),
            Step("write", {"in": "A", "at": "m1[0]", "value": 1}),
        ),
        {
            "A": (
                Step("fork", {"as": "C1"}, (Step("read", {"at": "m1[0]"}),)),
                Step("write", {"at": "m1[0]", "value": 2}),
            ),
            "T1": (Step("write", {"at": "m1[0]", "value": 3}), Step("munmap", {"at": "m1[0]", "pages": 1})),
        },
    )
    seen = Seen()
    assert judge(program.load(), 1, {"stay": 1, "random": 8}, seen=seen) is None
    return seen.sights


def test_a_value_that_flows_between_contexts_is_seen(shown: set[Sight]) -> None:
    flows = {sight[1:] for sight in shown if sight.kind == FLOW}
    assert ("amap.am_flags", "amap_copy", "amap_unref") in flows, "of the copy that one made, and another gives up"
    assert not any("sys_read" in flow or "uvm_loan" in flow for flow in flows)


def test_the_order_of_locks_is_seen(shown: set[Sight]) -> None:
    orders = {(sight.first, sight.second) for sight in shown if sight.kind == ORDER}
    assert {("map", "amap"), ("amap", "anon")} <= orders and ("anon", "amap") not in orders


def test_a_context_that_stops_while_another_uses_the_struct_is_seen(shown: set[Sight]) -> None:
    meets = {sight[1:] for sight in shown if sight.kind == MEET}
    assert any(kind in ("vmmap", "amap", "anon") for kind, _, _ in meets)
    quiet = Seen()
    assert judge(generate("quiet", frozenset()).load(), 1, {"stay": 1}, seen=quiet) is None
    assert not any(sight.kind == MEET for sight in quiet.sights), "the default schedule stops nobody"


# -- programs ----------------------------------------------------------------------------------


def test_a_programs_file_is_the_program() -> None:
    for number in range(30):
        program = generate(f"read/{number}")
        assert read(program.text(), "x.yaml") == program == tidy(program) and not broken(program)


@pytest.fixture(scope="module")
def mutants() -> list[Program]:
    """Programs made from programs, some from such ones."""
    random, made = Random("mutants"), [generate(f"read/{number}") for number in range(20)]
    for _ in range(60):
        program = mutate(random.choice(made), random.choice(made), random)
        assert program is not None
        made.append(program)
    return made[20:]


def test_a_program_made_from_others_is_another_scenario_that_keeps_the_rules(mutants: list[Program]) -> None:
    assert len({program.text() for program in mutants}) > 55
    for program in mutants:
        program.load()
        assert not broken(program) and read(program.text(), "x.yaml") == program


def test_programs_made_from_others_do_not_fail(mutants: list[Program]) -> None:
    for number, program in enumerate(mutants[::6]):
        assert judge(program.load(), number, {"stay": 1, "random": 1}) is None, program.text()


def test_the_same_dice_make_the_same_program(mutants: list[Program]) -> None:
    again = [mutate(mutants[3], mutants[4], Random("same")) for _ in range(2)]
    assert again[0] == again[1] is not None


def A(*steps: Step, **machine: Any) -> Program:
    """A process with these steps, and two pages, of which the setup locks the second."""
    setup = (
        Step("file", {"as": "F1", "pages": 2, "words": [1, 2]}),
        Step("process", {"as": "A", "cpu": 0}),
        Step("mmap", {"in": "A", "as": "m1", "pages": 2}),
        Step("mmap", {"in": "A", "as": "m2", "pages": 1}),
        Step("mlock", {"in": "A", "at": "m2[0]", "pages": 1}),
    )
    return Program({"cpus": 1, "frames": 32, "swap_slots": 160, "disk": 6, **machine}, setup, {"A": steps})


RAW = {"do": "read", "at": "m1[0]", "pages": 1, "block": 0}
ALLOC = Step("km_alloc", {"map": "kmem", "pages": 1, "as": "k1"})
FREE = Step("km_free", {"at": "k1[0]", "pages": 1})
LOANS = [Step("loan", {"at": "m1[0]", "pages": 2, "to": "page", "as": f"L{at}"}) for at in range(2)]
CHILD = Step("fork", {"as": "C1"}, (Step("pause", {}),))


@pytest.mark.parametrize(
    ("program", "why"),
    [
        (A(CHILD, Step("wait", {"for": "C1"})), "waits for C1, which pauses"),
        (A(*LOANS), "4 pages are lent"),
        (A(Step("loan", {"at": "m1[0]", "pages": 3, "to": "anon", "as": "L1"})), "a loan of more"),
        (A(Step("physio", {**RAW, "status": "m1[0]+16"})), "status in m1"),
        (A(Step("physio", {**RAW, "status": "m2[0]+16"}), Step("munmap", {"at": "m2[0]", "pages": 1})), "munmap of m2"),
        (A(Step("physio", {**RAW, "do": "write", "block": 1})), "raw block 1 of a file"),
        (A(FREE), "has not allocated"),
        (A(ALLOC, FREE, Step("kread", {"at": "k1[0]"})), "has not allocated, or has freed"),
        (A(Step("swapctl", {"do": "off", "device": 0})), "swapctl of device 0"),
        (A(swap_slots=20), "20 slots"),
        (A(frames=13), "13 frames"),
        (A(*[Step("mmap", {"as": f"m{at}", "pages": 50}) for at in range(3, 9)]), "pages"),
    ],
)  # fmt: skip
def test_a_program_that_breaks_a_rule_is_told(program: Program, why: str) -> None:
    assert why in broken(program)
    assert not broken(A(Step("physio", RAW), ALLOC, FREE))


def test_tidying_leaves_out_what_has_lost_its_sense() -> None:
    kept = (Step("read", {"at": "m1[1]"}), CHILD)
    lost = (
        FREE, Step("wait", {"for": "C1"}), Step("read", {"at": "m9[0]"}), Step("read", {"at": "m1[2]"}),
        Step("kpeek", {"of": "L1", "page": 0}), Step("fread", {"at": "F2[0]"}),
    )  # fmt: skip
    assert tidy(A(*lost[:3], *kept, *lost[1:])) == A(*kept)


# -- guidance --------------------------------------------------------------------------------------


@pytest.mark.long
def test_programs_made_from_those_that_showed_something_show_more_than_blind_ones() -> None:
    """The same seed and the same number of programs; the guided hunt also runs what shows something new again."""
    seed, programs = "guidance", 30
    result = hunt(order(seed, programs))
    blind = Seen()
    for number in range(programs):
        judge(generate(f"{seed}/{number}", None, SMALL["size"]).load(), number, SMALL["schedules"], seen=blind)
    assert len(result.corpus.entries) == programs and MUTANT in {entry.origin for entry in result.corpus.entries}
    assert len(result.corpus.sights) > 1.1 * len(blind.sights)


def test_a_hunt_is_aimed_at_the_site_of_an_erratum(tmp_path: Path) -> None:
    """Programs that come there are run with preemptions there, kept, and made into others sooner."""
    result = hunt(order("aimed", 4, errata=("uvm_fault.no-access-type",), out=tmp_path / "corpus"))
    entries = result.corpus.entries
    assert {entry.ran.get("near", 0) for entry in entries if entry.arrived} == {cluster.fuzz.trial.AIMED["near"]}
    assert not any("near" in entry.ran for entry in entries if not entry.arrived)
    assert all(entry.kept for entry in entries if entry.arrived and entry.cause is None)
    assert result.corpus.arrived == result.reached["uvm_fault.no-access-type"] > 1
    plain = hunt(order("aimed", 2))
    assert not any(entry.arrived or "near" in entry.ran for entry in plain.corpus.entries)


def test_a_hunt_is_aimed_at_the_functions_of_a_patch() -> None:
    """That copies pages as the kernel does; a program that copies none does not come there."""
    reads = (Step("read", {"at": "m1[0]"}),) * 3
    copies = Program(
        {"cpus": 2, "frames": 26, "swap_slots": 160},
        (
            Step("process", {"as": "A", "cpu": 0}),
            Step("mmap", {"in": "A", "as": "m1", "pages": 1}),
            Step("write", {"in": "A", "at": "m1[0]", "value": 1}),
        ),
        {"A": (Step("fork", {"as": "C1", "cpu": 1}, (Step("write", {"at": "m1[0]", "value": 2}),)), *reads)},
    )
    with applied(read_patch(SAME_COPY, "copy.py")):
        arrived = []
        for program in (copies, replace(copies, threads={"A": reads})):
            seen = Seen()
            assert judge(program.load(), 1, {"near": 2}, seen=seen) is None
            arrived.append(seen.arrived(()))
    assert arrived == [True, False]


# -- the corpus ----------------------------------------------------------------------------------------


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus of 14 programs, made at one go."""
    folder = tmp_path_factory.mktemp("fuzz") / "whole"
    result = hunt(order("whole", 14, out=folder))
    assert result.programs == 14 and result.failure is None and len(result.corpus.members) > 4
    return folder


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "copy"))


def test_a_hunt_that_goes_on_comes_to_the_same(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "parts"
    for programs in (5, 5, 9, 14):
        result = hunt(order("whole", programs, out=folder))
    assert result.programs == 5 and files(folder) == files(whole)
    known = result.corpus
    again = hunt(order("whole", 14, out=folder))
    assert again.programs == 0 and again.corpus.sights == known.sights and again.corpus.tally == known.tally
    assert again.corpus.entries == known.entries and list(again.corpus.members) == list(known.members)


@pytest.mark.parametrize("dice", [1, 2])
def test_the_corpus_is_the_same_for_several_workers_whoever_is_faster(whole: Path, tmp_path: Path, dice: int) -> None:
    asked = order("whole", 14, out=tmp_path / "spread")
    result = hunt(asked, pool=Here(Worker(asked.how).run, workers=3, order=dice))
    assert result.programs == 14 and files(tmp_path / "spread") == files(whole)


def test_the_corpus_is_the_same_if_a_worker_is_killed(whole: Path, tmp_path: Path) -> None:
    """It is killed at any of the programs that it has been given, or when it has answered the last of them."""
    asked = order("whole", 14, out=tmp_path / "spread")
    killed: list[tuple[Hand, set[int]]] = []

    def kill(so_far: Hunt) -> None:
        child = pool.hands[0]
        if so_far.programs > 2 and not killed and child.batches:
            killed.append((child, {number for number, _ in child.batches}))
            child.process.kill()

    with Processes(2, asked.how.setup()) as pool:
        result = hunt(asked, kill, pool)
        [(child, given)] = killed
        assert child not in pool.hands and len(pool.hands) == 2
        assert pool.deaths.total() <= 1 and set(pool.deaths) <= given
    assert result.programs == 14 and files(tmp_path / "spread") == files(whole)


@pytest.mark.parametrize("left", [1, 40, -1])
def test_what_a_killed_process_left_is_cut_off_and_done_again(copy: Path, whole: Path, left: int) -> None:
    """Of the last line a part is there, and a file is half-written."""
    log = copy / "log.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(lines[:-1]) + lines[-1][:left])
    (copy / "members" / ".abc.yaml.tmp").write_text("id: ra")
    result = hunt(order("whole", 14, out=copy))
    assert result.programs == 1 and "run again" in result.corpus.remarks[0]
    (copy / "members" / ".abc.yaml.tmp").unlink()
    assert files(copy) == files(whole)


def test_a_process_that_ends_amid_a_program_has_written_nothing_of_it(
    copy: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = (copy / "log.jsonl").read_bytes().splitlines(keepends=True)
    (copy / "log.jsonl").write_bytes(b"".join(lines[:-2]))

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(on_disk.Corpus, "_append", killed)
        result = hunt(order("whole", 14, out=copy))
    assert result.interrupted and result.programs == 0
    assert (copy / "log.jsonl").read_bytes() == b"".join(lines[:-2])
    hunt(order("whole", 14, out=copy))
    assert files(copy) == files(whole)


def damage(folder: Path, line: int, text: bytes) -> None:
    log = folder / "log.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    lines[line] = text + b"\n"
    log.write_bytes(b"".join(lines))


@pytest.mark.parametrize(
    ("line", "text", "why"),
    [
        (3, b'{"program":', "log.jsonl:4: this line is damaged"),
        (3, b'{"program":"..%2f"}', "log.jsonl:4: this line is damaged"),
        (0, b'{"schema":"uvmp-corpus/9"}', "version uvmp-corpus/9; this uvmp reads uvmp-corpus/2"),
        (0, b'{"schema":"uvmp-corpus/2"}', "log.jsonl:1: its first line is damaged"),
        (0, b'{"id":"x"}', "not the log of a corpus"),
        (0, b"\xff\xfe", "not the log of a corpus"),
    ],
)
def test_a_damaged_log_is_told_in_one_line(copy: Path, line: int, text: bytes, why: str) -> None:
    damage(copy, line, text)
    before = files(copy)
    result = uvmp("fuzz", "--out", copy, "--programs", 15)
    assert result.exit_code == Exit.USAGE and why in result.stderr and "Traceback" not in result.stderr
    assert files(copy) == before


def test_a_damaged_member_is_left_out_with_a_word(copy: Path) -> None:
    members = sorted((copy / "members").iterdir())
    members[0].write_text("id: random\n")
    members[1].unlink()
    result = hunt(order("whole", 14, out=copy))
    assert sum("missing or damaged" in remark for remark in result.corpus.remarks) == 2
    assert len(result.corpus.members) == len(members) - 2


def test_a_corpus_of_other_programs_is_not_mixed_up(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for changes, why in (({"seed": "x"}, "seed whole, not x"), ({"errata": (ERRATUM,)}, f"errata none, not {ERRATUM}")):
        with pytest.raises(UserMistake, match=why):
            hunt(replace(order("whole", 14, out=copy), **changes))
    monkeypatch.setattr(cluster.fuzz.hunt, "kernel_version", lambda: "0123abcd")
    with pytest.raises(UserMistake, match=r"made with kernel .*, not 0123abcd; .*--merge"):
        hunt(order("whole", 14, out=copy))


def test_a_corpus_is_used_by_one_process_at_a_time(copy: Path) -> None:
    first = on_disk.Corpus(order("whole", 14).about, copy)
    first.open()
    with pytest.raises(UserMistake, match="in use"):
        hunt(order("whole", 15, out=copy))
    first.close()
    hunt(order("whole", 14, out=copy))


def test_a_folder_of_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    result = uvmp("fuzz", "--out", tmp_path, "--programs", 1)
    assert result.exit_code == Exit.USAGE and "is not a corpus" in result.stderr
    assert (tmp_path / "thesis.txt").read_text() == "mine"


@pytest.mark.long
def test_merging_two_corpora_shows_what_both_have_shown(whole: Path, tmp_path: Path) -> None:
    other = hunt(order("other", 6, out=tmp_path / "other")).corpus
    corpus = hunt(order("whole", 14, out=whole)).corpus
    both = order("both", 0, out=tmp_path / "both", merge=(whole, tmp_path / "other"))
    result = hunt(both)
    assert result.corpus.sights >= corpus.sights | other.sights
    assert {entry.origin for entry in result.corpus.entries} == {MERGED}
    assert result.programs == len(corpus.members) + len(other.members)
    assert hunt(both).programs == 0, "they are merged already"
    with pytest.raises(UserMistake, match="is not a corpus"):
        hunt(order("both", 0, out=tmp_path / "both", merge=(tmp_path / "nowhere",)))


# -- findings --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hunted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Hunt, Path]]:
    """A hunt for two errata, which continues behind each finding."""
    folder = tmp_path_factory.mktemp("found") / "corpus"
    features = frozenset(("memory", "map", "fork", "free", "loan"))
    yield hunt(order("causes", 14, features=features, errata=ERRATA_OF_TWO, size=10, out=folder)), folder


@pytest.mark.long
def test_findings_are_told_apart_by_what_causes_them(hunted: tuple[Hunt, Path]) -> None:
    result, folder = hunted
    causes = [written.cause for written in result.findings]
    assert {cause.errata for cause in causes} == {(erratum,) for erratum in ERRATA_OF_TWO}
    assert len(set(causes)) == len(causes) == len(list((folder / "findings").iterdir()))
    assert result.programs == 14
    assert hunt(result.order).corpus.findings == result.findings, "they are known when it goes on"


@pytest.mark.long
def test_findings_are_the_same_for_several_workers(hunted: tuple[Hunt, Path], tmp_path: Path) -> None:
    """Two programs that run at a time may both be cut down to a finding; it is written once."""
    result, folder = hunted
    asked = replace(result.order, out=tmp_path / "spread")
    again = hunt(asked, pool=Here(Worker(asked.how).run, workers=3, order=3))
    assert [str(written) for written in again.findings] == [str(written) for written in result.findings]
    assert files(tmp_path / "spread") == files(folder)


@pytest.mark.long
def test_a_finding_is_cut_down_to_a_file_and_a_token_that_show_it(hunted: tuple[Hunt, Path]) -> None:
    result, folder = hunted
    for written in result.findings:
        file = folder / written.file
        program = read(file.read_text(), str(file))
        assert sum(len(body.steps) for body in program.bodies()) <= 12
        replayed = json.loads(uvmp("replay", written.token, "--scenario", file, "--json").stdout)
        assert (replayed["finding"]["kind"], replayed["exit"]) == (written.cause.signature[0], Exit.FINDING)
        assert replayed["errata"] == list(written.cause.errata)
        searched = uvmp("explore", file, "--expect", "--schedules", 300)
        assert searched.exit_code == Exit.NO_FINDING, searched.output
        assert uvmp("run", file, "--fixed", "--expect").exit_code == Exit.NO_FINDING


# -- the command -----------------------------------------------------------------------------------------


def test_the_command_finds_tells_and_goes_on(tmp_path: Path) -> None:
    args = ("fuzz", "--errata", ERRATUM, "--seed", "t", "--features", "memory,map,fork,free", "--out", tmp_path / "c")
    result = uvmp(*args, "--programs", 40, "--stop-at-first")
    assert result.exit_code == Exit.FINDING and f"by {ERRATUM}" in result.stdout
    line = next(line for line in result.stdout.splitlines() if line.startswith("uvmp replay"))
    assert uvmp(*line.split()[1:]).exit_code == Exit.FINDING
    told = json.loads(uvmp("fuzz", "--out", tmp_path / "c", "--programs", 1, "--json").stdout)
    assert told["exit"] == Exit.FINDING and told["programs_now"] == 0 and told["errata"] == [ERRATUM]
    assert told["findings"][0]["replay"] == line and told["seed"] == "t"


def test_the_command_is_interrupted_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cluster.fuzz.trial, "judge", killed)
    result = uvmp("fuzz", "--out", tmp_path / "c", "--json")
    assert result.exit_code == Exit.INTERRUPTED and json.loads(result.stdout)["interrupted"] is True
    assert "to continue: uvmp fuzz --out" in result.stderr


@pytest.mark.parametrize(
    ("args", "why"),
    [
        (("--features", "map,nonsense"), "--features: there is no feature 'nonsense'"),
        (("--errata", "nonsense"), "--errata: there is no erratum 'nonsense'"),
        (("--time", "soon"), "expected a time"),
        (("--seed", ""), "--seed: expected a name"),
        (("--merge", "nowhere"), "nowhere: is not a corpus"),
        (("--out", __file__), "test_fuzz.py: --out: cannot be used: "),
        (("--programs", "0"), "--programs"),
    ],
)
def test_what_the_command_does_not_know_is_told_in_words(args: tuple[str, ...], why: str, tmp_path: Path) -> None:
    result = uvmp("fuzz", "--out", tmp_path / "c", *args)
    assert result.exit_code == Exit.USAGE and why in result.stderr, result.output
    assert "Traceback" not in result.output


# -- rediscovery -----------------------------------------------------------------------------------------


def test_rediscovery_tells_what_was_found_and_why_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rediscovery, "FILE", tmp_path / "table.md")
    seen, costs = "amap_unref.amap-unlocked", next(erratum for erratum in ERRATA if not ERRATA[erratum].findings)
    once = CliRunner().invoke(rediscovery.main, ["--cap", "60", seen])
    assert once.exit_code == 0 and "1 of 1" in once.stderr, once.output
    row = rediscovery.measure(costs, 0.1)
    rows = rediscovery.read((tmp_path / "table.md").read_text())
    assert list(rows) == [seen] and rows[seen].finding and rows[seen].site > 0
    assert not row.finding and "only costs" in row.why
    both = rediscovery.table({**rows, costs: row})
    assert rediscovery.table(rediscovery.read(both)) == both
    assert f"Found: 1 of 2 measured, of {len(ERRATA)} in the catalogue; cap 0.1 to 60 seconds." in both
    again = CliRunner().invoke(rediscovery.main, ["--cap", "60", seen])
    assert again.exit_code == 0 and not again.stderr, "it is not measured again"
