"""From records to a postmortem: whose run it is, whether its log is whole, what its finding is about, what is told."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from cluster.postmortem.analyse import LAST_EVENTS, LAST_STEPS, MAX_ABOUT, MAX_OBJECTS, Postmortem, analyse, of
from cluster.postmortem.load import Run
from shared.errata import ERRATA
from shared.errors import UserMistake
from shared.journal.cut import cut
from shared.journal.order import causal_past
from shared.journal.record import Journals, digest, held
from shared.scenario.model import Scenario
from shared.text import clean
from shared.uvm.param import PG_BUSY
from tests.cluster.test_history import Stored, amap_with
from tests.cluster.test_postmortem import SPINS, Story, locked_anon
from tests.kit import empty, scene

FOUND = {"kind": "panic", "text": "panic: none", "detector": "kassert", "context": "0A"}


def journals_of(story: Story) -> Journals:
    return {node: list(journal.records) for node, journal in story.journals.items()}


def pm_of(story: Story, name: str = "", scenario: Scenario | None = None, **about: Any) -> Postmortem:
    """The postmortem of a whole run, whose run.json says this besides what it has to say."""
    journals = journals_of(story)
    admitted = {node: len(records) for node, records in journals.items()}
    body = {"finding": None, "digest": digest(journals), "admitted": admitted, **about}
    run = Run("story", "story", run=body, journals=journals)
    if scenario is not None:
        run.loaded, run.scenario = scenario, json.loads(json.dumps(asdict(scenario)))
    return of(run, name)


def lettered(story: Story) -> Stored:
    """The same with contexts A, B, C for 0A, 1B, 2C: sentences name operations of contexts as the kernel calls them."""
    made = Stored()
    for node, journal in story.journals.items():
        text = re.sub(r'"\d([A-Z])"', r'"\1"', json.dumps(journal.records))
        made.journals[node].records[:] = json.loads(text)
    return made


def killed(story: Story, **more: Any) -> Postmortem:
    """The postmortem of a run that has not come to its end."""
    return of(Run("story", "story", journals=journals_of(story), **more))


def a_store(story: Story | None = None) -> Stored:
    made = Stored() if story is None else story
    made.run("0A")
    assert isinstance(made, Stored)
    return made.put("anon:5#0", "an_ref", 1)


# -- whose run it is ------------------------------------------------------------------------


def test_what_is_said_of_a_run_is_run_jsons_then_the_scenarios_then_the_headers() -> None:
    erratum = next(erratum for erratum in ERRATA.values() if len(erratum.source) > 1)
    about = {
        "scenario": {"id": "S1", "name": "one", "title": "First", "file": 7},
        "engine": "live",
        "versions": {"uvmp": "1", "kernel": 2},
        "errata": [erratum.id, "from.the-future", 7],
        "notes": [{"text": "a note"}, {}, 3],
        "schedule": [{"ctx": "0A", "n": 3, "kind": "wait", "next": "1B"}, {"ctx": "0A"}, 7],
    }
    header = {"scenario": "S3", "engine": "sim", "versions": {"uvmp": "0"}, "errata": ["z"]}
    parts: dict[str, Any] = {
        "scenario": {"id": "S2", "name": "two", "file": "s.yaml", "errata": ["x"]},
        "headers": {"cpu0": {}, "mmu": header},
    }  # fmt: skip
    pm = of(Run("story", "story", run=about, **parts))
    assert pm.scenario == {"id": "S1", "name": "one", "title": "First"} and pm.engine == "live"
    assert pm.versions == {"uvmp": "1", "kernel": "2"} and pm.notes == ["a note", "", ""]
    assert pm.errata[0] == {
        "id": erratum.id, "row": erratum.name, "sentence": erratum.sentence, "source": "; ".join(erratum.source),
    }  # fmt: skip
    assert pm.errata[1:] == [{"id": name, "row": "", "sentence": "", "source": ""} for name in ("from.the-future", "7")]
    assert pm.schedule == [
        "1. after operation 3 of 0A, which has to wait, 1B runs",
        "2. after operation ? of 0A, which has to wait, ? runs",
        "3. after operation ? of ?, which has to wait, ? runs",
    ]
    assert (pm.path, pm.replay, pm.shortened) == ("story", "uvmp replay story", "")
    pm = of(Run("story", **parts))
    assert (pm.scenario, pm.engine) == ({"id": "S2", "name": "two", "file": "s.yaml"}, "sim")
    assert [erratum["id"] for erratum in pm.errata] == ["x"] and pm.replay == ""
    pm = of(Run("story", headers=parts["headers"]))
    assert (pm.scenario, pm.versions, [erratum["id"] for erratum in pm.errata]) == ({"id": "S3"}, {"uvmp": "0"}, ["z"])
    pm = of(Run("story"))
    assert (pm.scenario, pm.engine, pm.versions, pm.errata, pm.notes, pm.schedule) == ({}, "", {}, [], [], [])


def test_as_plain_data_nothing_can_command_a_terminal() -> None:
    pm = Postmortem("a\x1bb", scenario={"i\x1bd": "x\x1b"}, notes=["\x1b"], uvmexp={"free": 3})
    plain = pm.as_dict()
    assert plain["schema"] == "uvmp-postmortem/1" and plain["path"] == "a\\x1bb" and plain["notes"] == ["\\x1b"]
    assert plain["scenario"] == {"i\\x1bd": "x\\x1b"} and plain["uvmexp"] == {"free": 3}


# -- is the log whole? -----------------------------------------------------------------------


def test_a_whole_log_is_said_to_be_whole() -> None:
    pm = pm_of(a_store())
    assert pm.complete and pm.digest_checked and pm.ended and (pm.holes, pm.warnings, pm.after) == ([], [], [])
    assert pm.records == 2 and pm.past == 0 and len(pm.digest) == 64 and pm.headline == "no finding"


def test_what_cannot_be_read_makes_a_log_incomplete() -> None:
    pm = of(Run("story", torn=["memory: torn"], run={}))
    assert not pm.complete and pm.warnings == ["memory: torn"]


def test_journals_that_are_missing_are_told_by_run_json_or_by_the_machine() -> None:
    story = a_store()
    pm = pm_of(story, admitted={"memory": 1, "cpu0": 1, "mmu": 0, "disk": 3})
    assert pm.holes == ["disk: its journal is missing"] and not pm.complete and not pm.digest_checked
    del story.journals["mmu"]
    pm = killed(story, loaded=empty())
    assert [hole for hole in pm.holes if "missing" in hole] == [
        f"{node}: its journal is missing" for node in empty().machine.nodes if node not in story.journals
    ]
    assert killed(story).holes == ["there is no run.json: the run did not end"]


def test_a_log_of_other_records_is_told_by_its_digest() -> None:
    """Not of what has holes anyway, nor where run.json has no digest."""
    pm = pm_of(a_store(), digest="0" * 64)
    assert not pm.complete and not pm.digest_checked
    assert pm.holes == [
        f"the records have digest {pm.digest[:16]}, run.json says {'0' * 12} ...: the journals were changed"
    ]
    for odd in (None, 7, ""):
        assert pm_of(a_store(), digest=odd).complete and not pm_of(a_store(), digest=odd).digest_checked
    gap = a_store()
    gap.k["cpu0"] += 1
    pm = pm_of(gap.put("anon:5#0", "an_ref", 2), digest="0" * 64)
    assert pm.holes == ["cpu0: its operation 3 is in no node's journal (1 missing in all)"]


def stopped() -> Story:
    """1B has a finding, and cpu0 runs on: a record of that is lost."""
    story = a_store()
    story.run("1B").event("1B", "finding", finding={**FOUND, "context": "1B"})
    story.k["cpu0"] += 1
    return story.put("anon:5#0", "an_ref", 2)


def test_what_is_missing_behind_a_finding_is_told_apart() -> None:
    journals = journals_of(stopped())
    past = causal_past(journals)
    pm = pm_of(stopped(), digest=digest(past))
    assert pm.complete and pm.digest_checked and pm.past == sum(map(len, held(past).values())) == 2
    assert pm.after == ["cpu0: its operation 3 is in no node's journal (1 missing in all)"]
    assert pm.digest == digest(past), "what the digest is of"


def test_a_run_that_was_ended_is_whole_up_to_its_last_operation() -> None:
    """Its scenario says how many it may have."""
    story = a_store()
    for value in range(9):
        story.put("anon:5#0", "an_ref", value)
    made = empty()
    limited = replace(made, bound=replace(made.bound, operations=5))
    assert limited.limit == 5
    part = digest(cut(journals_of(story), 5))
    pm = pm_of(story, digest=part, scenario=limited)
    assert pm.complete and pm.past == 5 and not pm_of(story, digest=part).complete
    assert pm_of(story, scenario=limited).complete and pm_of(story, scenario=limited).past == 0


def test_orders_that_contradict_each_other_are_told() -> None:
    """No record is missing, and yet they cannot have happened; what there is, is told nevertheless."""
    story = Story()
    story.op("0A", "load", "memory").op("1B", "load", "mmu").op("1B", "load", "memory").op("0A", "load", "mmu")
    story.journals["memory"].records.reverse()
    story.journals["mmu"].records.reverse()
    for journal in story.journals.values():
        for number, record in enumerate(journal.records, 1):
            record["nseq"] = number  # type: ignore[index]
    pm = pm_of(story)
    assert pm.holes == ["program order and admission order contradict each other at 0A operation 1 on memory"]
    assert pm.records == 4


def test_a_grant_that_is_lost_is_a_hole_only_once() -> None:
    """The gap explains it."""
    story = Story().run("0A").run("1B").lock("0A", "anon:2.an_lock", "f").lock("1B", "anon:2.an_lock", "g", wait=True)
    story.k["cpu0"] += 1
    story.store("1B", "anon:2#0", "an_ref", 7).run("0A")
    assert pm_of(story).holes == ["cpu0: its operation 3 is in no node's journal (1 missing in all)"]


# -- the headline ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "headline"),
    [
        ({}, "panic"),
        ({"function": "uvm_fault"}, "panic in uvm_fault"),
        ({"subject": "uvm:0.pageqlock"}, "panic, uvm.pageqlock"),
        ({"function": "uvm_fault", "subject": "anon:5"}, "panic in uvm_fault, anon:5"),
    ],
)
def test_a_finding_is_the_headline(more: dict[str, str], headline: str) -> None:
    pm = pm_of(a_store(), finding={**FOUND, **more, "detector": "deadlock"})
    assert pm.headline == headline and pm.finding is not None and pm.source == "run.json"


def test_without_a_finding_the_headline_says_how_far_the_run_came() -> None:
    assert pm_of(locked_anon()).headline == "no finding", "whoever waits: the run has ended"
    assert killed(a_store()).headline == "cut short, without a finding"
    assert killed(locked_anon()).headline == "cut short, without a finding; waiting at that moment: 1B"
    two = locked_anon().run("2C").lock("2C", "anon:5.an_lock", "f", wait=True)
    assert killed(two).headline == "cut short, without a finding; waiting at that moment: 1B, 2C"
    story = Story().run("0A").run("1B")
    story.lock("0A", "amap:1.am_l", "f").lock("1B", "anon:2.an_lock", "g")
    story.lock("0A", "anon:2.an_lock", "f", wait=True).lock("1B", "amap:1.am_l", "g", wait=True)
    assert killed(story).headline == "cut short; according to the logs, 0A and 1B wait for each other"


# -- contexts, waits and locks -------------------------------------------------------------------


def test_contexts_are_in_the_scenarios_order_also_those_that_have_not_run() -> None:
    made = scene({"T": "", "A": ""}, "process: {as: A, cpu: 0}\nthread: {in: A, as: T, cpu: 1}")
    story = Story()
    story.op("0T", "run", "cpu0").op("1Z", "run", "cpu1")
    lwps = [{"name": "1Y", "cpu": 1}, {"name": "0T", "cpu": 0}, 7]
    pm = killed(story, scenario={"lwps": lwps})
    assert [(context.name, context.cpu, context.n, context.doing) for context in pm.contexts] == [
        ("1Y", "cpu1", 0, "has not run"), ("0T", "cpu0", 1, "in user mode"), ("None", "cpuNone", 0, "has not run"),
        ("1Z", "cpu1", 1, "in user mode"),
    ]  # fmt: skip
    assert [context.name for context in pm_of(Story(), scenario=made).contexts] == ["T", "A"]


def test_a_context_is_told_with_its_stack_its_locks_and_its_wait() -> None:
    story = Story().run("0A").enter("0A", "trap").lock("0A", "uvm:0.pageqlock", "trap").enter("0A", "uvm_fault")
    story.run("1B").enter("1B", "f").lock("1B", "uvm:0.pageqlock", "f", wait=True)
    first, second = pm_of(story).contexts
    assert first.stack == [{"fn": "trap", "n": 1}, {"fn": "uvm_fault", "n": 2}]
    assert first.held == [{"ctx": "0A", "mode": "w", "since": "trap", "n": 2, "lock": "uvm.pageqlock"}]
    assert (first.doing, first.wait, first.on_cpu, first.n) == ("in uvm_fault", "", True, 2)
    assert (second.doing, second.on_cpu, second.held) == ("spins for uvm.pageqlock", True, [])
    assert second.wait == "1B spins in f for uvm.pageqlock, held by 0A since trap (its operation 2)"


@pytest.mark.parametrize(
    ("what", "on_cpu"),
    [
        ({"event": "lock", "node": "lock_manager", "lock": "anon:5.an_lock", "wait": True}, True),
        ({"event": "lock", "node": "lock_manager", "lock": "vmmap:1.lock", "wait": True}, False),
        ({"event": "upgrade", "node": "lock_manager", "lock": "vmmap:1.lock", "wait": True}, False),
        ({"event": "sleep", "node": "lock_manager", "chan": "page:3", "wmesg": "w"}, False),
        ({"event": "pmap_remove", "node": "mmu", "raised": ["1B.ipi"], "wait": True}, True),
        ({"event": "swap_get", "node": "mmu", "wait": True}, False),
        ({"event": "load", "node": "memory"}, True),
    ],
)
def test_who_waits_for_what_gives_up_its_cpu(what: dict[str, Any], on_cpu: bool) -> None:
    """Not who spins, nor who waits for a shootdown."""
    story = Story().run("0A").enter("0A", "f").op("0A", **what)
    (context,) = pm_of(story).contexts
    assert context.on_cpu == on_cpu


def test_who_has_ended_or_was_replaced_has_no_cpu() -> None:
    story = Story().run("0A").enter("0A", "exit1").leave("0A", "exit1").run("0B").run("0C")
    assert [(context.name, context.on_cpu, context.doing) for context in pm_of(story).contexts] == [
        ("0A", False, "has ended"), ("0B", False, "in user mode"), ("0C", True, "in user mode"),
    ]  # fmt: skip
    (ended,) = pm_of(Story().run("0A").enter("0A", "exit1").leave("0A", "exit1")).contexts
    assert not ended.on_cpu


def test_whom_its_own_finding_stopped_is_told_so() -> None:
    """Where its processor has recorded it; a verdict over the whole machine stops nobody."""
    story = Story().run("0A").enter("0A", "f").run("1B")
    assert next(context.doing for context in pm_of(story, finding={**FOUND, "detector": "deadlock"}).contexts) == "in f"
    story.event("0A", "finding", finding=FOUND)
    pm = pm_of(story)
    assert pm.source == "journal" and [context.doing for context in pm.contexts] == [
        "stopped by the finding, in f",
        "in user mode",
    ]


def test_waits_begin_with_the_findings_context() -> None:
    story = Story().run("0A").run("1B").run("2C").lock("2C", "anon:2.an_lock", "f")
    story.lock("0A", "anon:2.an_lock", "f", wait=True).lock("1B", "anon:2.an_lock", "f", wait=True)
    for first in ("0A", "1B"):
        pm = pm_of(story, finding={**FOUND, "detector": "deadlock", "context": first})
        assert pm.waits[0].startswith(f"{first} spins in f for anon:2.an_lock, held by 2C since f (its operation 2)")
        assert len(pm.waits) == 3 and pm.waits[1] == "2C is in user mode, so the others cannot continue"
    assert pm_of(story, finding={**FOUND, "detector": "oracle"}).waits[1] == "2C was in user mode when its log ends"
    assert pm_of(story).waits[1] == "2C was in user mode when its log ends"


def test_who_waits_for_a_processs_end_is_told_for_whom() -> None:
    """Processes are numbered in the scenario's order."""
    story = Story().run("0A").enter("0A", "sys_wait4")
    story.op("0A", "sleep", "lock_manager", chan="proc:1.p_stat", wmesg="wait", fn="sys_wait4")
    lwps = [{"name": "1B", "proc": "Q"}, {"name": "0A", "proc": "P"}, {"name": "1C", "proc": "Q"}]
    assert (
        killed(story, scenario={"procs": ["P", "Q"], "lwps": lwps})
        .waits[0]
        .endswith("for the exit of thread 1B of process Q, and for the exit of thread 1C of process Q")
    )


def test_locks_that_are_wanted_come_first_then_those_that_are_held_then_those_it_is_about() -> None:
    story = Story().run("0A").run("1B")
    for lock in ("anon:9.an_lock", "anon:5.an_lock", "anon:7.an_lock"):
        story.lock("0A", lock, "f")
    story.unlock("0A", "anon:5.an_lock").lock("1B", "anon:9.an_lock", "g", wait=True)
    story.lock("0A", "anon:8.an_lock", "f").unlock("0A", "anon:8.an_lock").lock("0A", "anon:6.an_lock", "f")
    pm = pm_of(story, finding={**FOUND, "detector": "oracle", "subject": "anon:5"})
    assert [lock["lock"] for lock in pm.locks] == [
        "anon:9.an_lock", "anon:6.an_lock", "anon:7.an_lock", "anon:5.an_lock",
    ]  # fmt: skip


# -- what it is about -----------------------------------------------------------------------------


def about(story: Story, /, **finding: Any) -> Postmortem:
    return pm_of(story, finding={**FOUND, "detector": "oracle", **finding})


def objects(pm: Postmortem) -> list[str]:
    return [struct.name for struct in pm.objects]


def many_anons() -> Stored:
    story = Stored()
    story.run("0A")
    for number in range(1, 13):
        story.put(f"anon:{number}#0", "an_ref", number).put(f"anon:{number}#0", "an_ref", 0)
    return story


def test_it_is_about_its_subject_and_those_that_its_text_names() -> None:
    """A story's names count where it says where values were; a name that no record has is nobody's."""
    words = {"subject": "anon:3.an_lock", "text": "anon:2 and anon:99, swap slot 4", "story": ["anon:5 is another"]}
    assert objects(about(many_anons(), **words)) == ["anon:3", "anon:2", "anon:5"]
    assert objects(about(many_anons(), **words, detector="race")) == ["anon:3", "anon:2"]
    assert objects(about(many_anons().put("anon:2#0", "an_swslot", 4), **words))[:3] == ["anon:3", "anon:2", "slot:4"]
    assert objects(pm_of(many_anons())) == []


def test_it_is_about_so_many_at_most() -> None:
    text = " ".join(f"anon:{number}" for number in range(1, 13))
    pm = about(many_anons(), text=text)
    assert objects(pm) == [f"anon:{number}" for number in range(1, MAX_ABOUT + 1)]
    held = many_anons()
    for number in range(1, 13):
        held.lock("0A", f"anon:{number}.an_lock", "f")
    assert objects(about(held, subject="anon:12")) == [
        "anon:12",
        *(f"anon:{number}" for number in range(1, MAX_OBJECTS)),
    ]


def test_who_waits_for_a_lock_is_what_it_is_about_too() -> None:
    """If nothing is named, whatever is waited for; in a ring, only that of the ring."""
    waiting = many_anons()
    waiting.run("1B").lock("0A", "anon:3.an_lock", "f").lock("1B", "anon:3.an_lock", "g", wait=True)
    waiting.run("2C").op("2C", "sleep", "lock_manager", chan="anon:7", wmesg="w", fn="h")
    assert objects(about(waiting, context="2C")) == ["anon:3"]
    asleep = many_anons()
    asleep.op("0A", "sleep", "lock_manager", chan="anon:7", wmesg="w", fn="h")
    assert objects(about(asleep)) == ["anon:7"] and objects(about(asleep, subject="anon:1")) == ["anon:1"]
    assert objects(about(waiting, context="2C", subject="anon:1")) == ["anon:1"]
    ring = many_anons()
    ring.run("1B").run("2C").lock("0A", "anon:3.an_lock", "f").lock("1B", "anon:4.an_lock", "g")
    ring.lock("0A", "anon:4.an_lock", "f", wait=True).lock("1B", "anon:3.an_lock", "g", wait=True)
    ring.lock("2C", "anon:5.an_lock", "h").run("2D").lock("2D", "anon:5.an_lock", "h", wait=True)
    assert pm_of(ring).steps_about == ["anon:4", "anon:3"]


def test_what_belongs_to_it_is_told_besides() -> None:
    """An anon's page is part of it; the amap that it is in, and what the finding's context holds, come behind."""
    story = amap_with("anon:5#0").put("anon:5#0", "an_page", "page:3#0").put("anon:8#0", "an_page", "page:9#0")
    story.lock("0A", "anon:8.an_lock", "f").lock("0A", "vmmap:1.lock", "f")
    pm = about(story, subject="anon:5")
    assert [text for row in pm.objects[1].history for text in row.items] == ["anon:5.an_page = page:3#0"]
    assert objects(pm) == ["anon:5", "page:3", "amap:1", "anon:8", "page:9"]
    assert pm.steps_about == ["anon:5", "page:3"]
    assert objects(about(story, subject="anon:5", context="9Z")) == ["anon:5", "page:3", "amap:1"]


def test_a_recorded_finding_is_in_the_interleaving() -> None:
    story = many_anons()
    story.event("0A", "finding", finding={**FOUND, "subject": "anon:1"})
    pm = pm_of(story)
    assert pm.source == "journal" and [row.finding for row in pm.steps] == [False, True]


def test_the_interleaving_is_what_was_done_to_it() -> None:
    """And when those who did it slept, woke each other and were noted between the first and the last of it."""
    story = Stored()
    story.run("0A").run("1B").run("2C")
    story.event("0A", "note", finding={"text": "before"})
    story.put("anon:5#0", "an_ref", 1).put("anon:6#0", "an_ref", 7)
    story.op("0A", "sleep", "lock_manager", chan="page:1", wmesg="w", fn="f")
    story.op("2C", "sleep", "lock_manager", chan="page:2", wmesg="w", fn="f")
    story.event("1B", "note", finding={"text": "between"})
    story.op("1B", "wakeup", "lock_manager", chan="page:2", woke=["2C"])
    story.op("1B", "wakeup", "lock_manager", chan="page:1", woke=["0A"])
    story.put("anon:5#0", "an_ref", 2, "1B")
    story.event("1B", "note", finding={"text": "behind"})
    pm = about(story, subject="anon:5")
    assert [(row.ctx, row.items) for row in pm.steps] == [
        ("0A", ["anon:5.an_ref = 1", 'sleeps on page:1 "w"']),
        ("1B", ["*** note: between", "wakeup page:1: wakes 0A", "anon:5.an_ref = 2 (was 1)"]),
    ]


def test_without_anything_it_is_about_the_last_steps_are_told() -> None:
    """But those that are dull: loads, functions, links."""
    story = Stored()
    story.run("0A").enter("0A", "f").put("anon:1#0", "an_nxt", "anon:2#0").put("anon:1#0", "an_ref", 5)
    story.did("load", obj="anon:1#0", field="an_ref", slot=2, value=5).leave("0A", "f")
    story.event("0A", "claim", obj="anon:1#0")
    pm = pm_of(story)
    assert pm.steps_about == [] and [row.items for row in pm.steps] == [["gets the CPU"], ["anon:1.an_ref = 5"]]
    for value in range(LAST_STEPS + 3):
        story.lock("0A", f"anon:{value}.an_lock", "f")
    texts = [text for row in pm_of(story).steps for text in row.items]
    assert len(texts) == LAST_STEPS and texts[-1] == f"locks anon:{LAST_STEPS + 2}.an_lock"


def test_of_an_unexpected_result_the_programs_steps_are_told() -> None:
    story = Stored()
    story.run("0A").event("0A", "call", op="read", args={}).put("anon:1#0", "an_ref", 5)
    story.did("word_read", frame=3, va=256, value=7).did("word_write", frame=3, va=264, value=8)
    story.event("0A", "return", op="read", result=7)
    finding = {
        "kind": "unexpected-result",
        "detector": "results",
        "text": "expected r to be 1, found 7",
        "subject": "r",
    }
    assert [text for row in pm_of(story, finding=finding).steps for text in row.items] == [
        "begins read", "reads 7 at 0x100, in page:3", "stores 8 at 0x108, in page:3", "read returns 7",
    ]  # fmt: skip


def test_addresses_are_told_in_the_scenarios_words() -> None:
    made = scene({"A": ""}, "process: {as: A, cpu: 0}\nmmap: {in: A, as: buf, pages: 2}")
    start = made.regions[0].start
    story = Stored().did("word_read", frame=3, va=start + 64, value=7)
    story.did("pmap_enter", "mmu", pmap=1, va=start, frame=4, prot=3).did(
        "pmap_remove", "mmu", pmap=1, start=start, end=start + 64
    )
    pm = pm_of(story, scenario=made, finding={**FOUND, "detector": "oracle", "subject": "page:4"})
    steps = [text for row in pm.steps for text in row.items]
    assert len(steps) == 2 and steps[0].startswith("pmap_enter(buf[0]"), (
        "by the page size it is known which page that was"
    )
    assert pm_of(story, scenario=made).steps[0].items[0] == "reads 7 at buf[1], in page:3"


def test_the_loads_of_a_race_are_half_of_the_story() -> None:
    slot = Stored().put("anon:5#0", "an_ref", 1).journals["memory"].records[0]["slot"]
    story = Stored()
    story.run("0A").run("1B").put("anon:5#0", "an_ref", 1)
    story.did("load", ctx="1B", obj="anon:5#0", field="an_ref", slot=slot, value=1)
    story.did("load", ctx="1B", obj="anon:6#0", field="an_ref", slot=slot, value=1)
    story.did("load", ctx="1B", obj="anon:5#0", field="an_swslot", slot=slot + 2, value=1)
    race = {"kind": "data-race", "detector": "race", "text": "data race on an_ref of anon:5", "subject": "anon:5"}
    steps = [text for row in about(story, **race).steps for text in row.items]
    assert steps == ["anon:5.an_ref = 1", "reads anon:5.an_ref: 1"]
    assert next(text for row in about(story, subject="anon:5").steps for text in row.items) == "gets the CPU"


def test_a_race_may_be_on_an_element_of_an_array() -> None:
    story = Stored()
    story.run("0A").run("1B").put("slotarray:2#0", "[1]", 5)
    for slot in (3, 4):
        story.did("load", ctx="1B", obj="slotarray:2#0", field="[]", slot=slot, value=5)
    race = {"kind": "data-race", "detector": "race", "text": "data race on an element of slotarray:2"}
    steps = [text for row in about(story, **race, subject="slotarray:2").steps for text in row.items]
    assert steps == ["slotarray:2[1] = 5", "reads slotarray:2[1]: 5", "reads slotarray:2[2]: 5"]


def test_of_the_globals_only_the_fields_that_are_spoken_of_are_told() -> None:
    """uvm and uvmexp have so many that the others are noise."""
    story = Stored()
    story.run("0A")
    for value in (1, 2):
        story.put("uvmexp:0#0", "free", value).put("uvmexp:0#0", "paging", value)
    steps = [text for row in about(story, text="uvmexp.free is wrong, uvmexp:0").steps for text in row.items]
    assert steps == ["uvmexp.free = 1", "uvmexp.free = 2 (was 1)"]
    steps = [text for row in about(story, text="uvmexp:0 is wrong").steps for text in row.items]
    assert len(steps) == 4
    steps = [
        text for row in about(story, text="uvmexp:0", story=["there is no free memory"]).steps for text in row.items
    ]
    assert steps == ["uvmexp.free = 1", "uvmexp.free = 2 (was 1)"]
    for name in ("free", "paging"):
        story.op("0A", "wakeup", "lock_manager", chan=f"uvmexp:0.{name}", woke=[])
    steps = [text for row in about(story, text="uvmexp.free is wrong, uvmexp:0").steps for text in row.items]
    assert steps[2:] == ["wakeup uvmexp.free: no sleeper"]


def test_data_that_were_chosen_are_told() -> None:
    """Other data than by default may be what all else comes of."""
    story = many_anons()
    for value in (0, 1, 2):
        story.op("0A", "choose", "cpu0", of=3, why="it fails", value=value)
    story.put("anon:1#0", "an_ref", 7)
    steps = [text for row in about(story, subject="anon:1").steps for text in row.items]
    assert [step for step in steps if "choice" in step] == [f"takes choice {value} of 3: it fails" for value in (1, 2)]


def test_a_value_that_is_told_of_at_the_end_was_seen_before() -> None:
    """The interleaving of an oracle's finding ends where its story does."""
    story = Stored()
    story.run("0A")
    for value in range(1, 6):
        story.put("anon:5#0", "an_ref", value)
    words = {"subject": "anon:5", "story": ["it is operation 4 of A", "stored by A (its operation 2)"]}
    story = lettered(story)
    steps = [text for row in about(story, **words).steps for text in row.items]
    assert steps[-1] == "anon:5.an_ref = 3 (was 2)"
    steps = [text for row in about(story, **{**words, "detector": "race"}).steps for text in row.items]
    assert steps[-1] == "anon:5.an_ref = 5 (was 4)"


def test_the_rows_that_explain_are_those_of_the_story_the_waits_and_the_schedule() -> None:
    story = Stored()
    story.run("0A").run("1B").enter("1B", "g").put("page:3#0", "flags", PG_BUSY, "1B").leave("1B", "g")
    story.lock("0A", "anon:5.an_lock", "f").lock("1B", "anon:5.an_lock", "g", wait=True)
    story.run("2C").op("2C", "sleep", "lock_manager", chan="page:3", wmesg="w", fn="h")
    story.put("page:3#0", "wire_count", 1).put("page:3#0", "wire_count", 2)
    schedule = [{"ctx": "A", "n": 4}, {"ctx": 7, "n": 3}, {"ctx": "A", "n": "x"}, 7]
    words = {"subject": "anon:5", "text": "page:3 (operation 3 of B)", "detector": "deadlock"}
    pm = pm_of(lettered(story), finding={**FOUND, **words}, schedule=schedule)
    key = {(row.ctx, row.ns[at]): row.key for row in pm.steps for at in row.telling}
    assert key.keys() == {("B", 3), ("A", 2), ("B", 2), ("C", 2), ("A", 4)}
    assert key["B", 3] == 0 < key["A", 2] < key["B", 2] < key["C", 2] < key["A", 4], (
        "what the text names, who took the lock and the page that are waited for, where the schedule left the default"
    )


# -- a thing that is asked for ------------------------------------------------------------------------


def test_a_struct_or_a_slot_has_its_whole_history() -> None:
    story = many_anons().put("anon:2#0", "an_swslot", 4)
    report = pm_of(story, "anon:2").about
    assert report is not None and report.name == "anon:2" and report.fields["an_ref"] == "0" and report.lock is None
    assert [text for row in report.history for text in row.items] == [
        "an_ref = 2",
        "an_ref = 0 (was 2)",
        "an_swslot = 4",
    ]
    slot = pm_of(story, "slot:4").about
    assert slot is not None and slot.history[0].items == ["anon:2.an_swslot = 4"]


def test_a_global_is_asked_for_by_its_c_name() -> None:
    story = Stored().put("uvmexp:0#0", "free", 3)
    for name in ("uvmexp", "uvmexp:0"):
        report = pm_of(story, name).about
        assert report is not None and report.fields["free"] == "3"


def test_a_lock_is_told_with_all_that_was_done_to_it() -> None:
    story = many_anons()
    story.lock("0A", "uvm:0.pageqlock", "f").lock("0A", "anon:5.an_lock", "f").unlock("0A", "uvm:0.pageqlock")
    for name in ("uvm.pageqlock", "uvm:0.pageqlock"):
        report = pm_of(story, name).about
        assert report is not None and report.lock is not None and report.lock["lock"] == "uvm.pageqlock"
        assert report.fields == {} and [row.items for row in report.history] == [
            ["locks uvm.pageqlock", "unlocks uvm.pageqlock"]
        ]


def test_a_long_history_is_folded() -> None:
    story = Stored()
    for _ in range(50):
        for ctx in ("0A", "1B"):
            story.lock(ctx, "anon:5.an_lock", "f").unlock(ctx, "anon:5.an_lock")
    report = pm_of(story, "anon:5").about
    assert report is not None and any(row.gap for row in report.history)


@pytest.mark.parametrize("name", ["anon:99", "anon", "zebra:1", "anon:5.no_lock", "uvm.nothing", "\x1b"])
def test_what_is_not_in_the_log_is_the_users_mistake(name: str) -> None:
    """Who says what there is instead."""
    story = Stored().put("anon:1#0", "an_ref", 1).put("anon:2#0", "an_ref", 1).put("anon:5#0", "an_ref", 1)
    story.put("page:7#0", "flags", 1)
    with pytest.raises(UserMistake) as caught:
        pm_of(story, name)
    assert caught.value.field == "--object" and "\x1b" not in caught.value.message
    assert caught.value.message.startswith(f"there is no object {clean(name)!r} in this log;")
    with pytest.raises(UserMistake) as caught_too:
        pm_of(story, name + "x" * 999)
    assert len(caught_too.value.message) < 220
    assert caught.value.message.endswith(
        " in this log; there are anon:1 to 5 (3 of them), page:7;"
        " and locks, for instance anon:0.an_lock or uvm.pageqlock"
    )
    with pytest.raises(UserMistake, match="there are anon:1 to 2;"):
        pm_of(Stored().put("anon:1#0", "an_ref", 1).put("anon:2#0", "an_ref", 1), "x")
    with pytest.raises(UserMistake, match="in this log; there are none;"):
        pm_of(Story(), "x")


# -- counters and nodes ---------------------------------------------------------------------------------


def test_uvmexp_is_as_it_was_looked_at_and_else_as_run_json_counts() -> None:
    story = Stored().put("uvmexp:0#0", "free", 3).put("anon:1#0", "an_ref", 9)
    story.did("load", obj="uvmexp:0#0", field="paging", slot=99, value="x")
    pm = pm_of(story, counters={"free": 7, "faults": 2, "odd": "x"})
    assert pm.uvmexp == {"free": 3, "faults": 2}


def test_a_node_is_told_with_its_process_and_its_last_records() -> None:
    story = Story().run("0A")
    for number in range(1, 9):
        story.lock("0A", f"anon:{number}.an_lock", "f")
    journals = journals_of(story)
    headers = {"lock_manager": {"pid": 7, "host": "h"}, "cpu0": {"pid": 8}, "mmu": {}}
    about = {"admitted": {"lock_manager": 8, "mmu": "x"}}
    pm = of(Run("story", run=about, journals=journals, headers=headers))
    nodes = {node.name: node for node in pm.nodes}
    assert list(nodes) == sorted(journals)
    assert [nodes[name].process for name in ("lock_manager", "cpu0", "mmu")] == ["process 7 on h", "process 8 on ?", ""]
    assert [(nodes[name].records, nodes[name].expected) for name in ("lock_manager", "cpu0", "mmu")] == [
        (8, 8), (1, None), (0, None),
    ]  # fmt: skip
    assert len(nodes["lock_manager"].last) == LAST_EVENTS
    assert nodes["lock_manager"].last[-1] == "     8  0A                  9  locks anon:8.an_lock"
    assert nodes["cpu0"].last == ["     1  0A                  1  gets the CPU"]


def test_a_folder_is_read_and_told(tmp_path: Path) -> None:
    path = locked_anon().write(tmp_path / "run", {"finding": SPINS})
    pm = analyse(path, "anon:5.an_lock")
    assert pm.complete and pm.about is not None and pm.about.name == "anon:5.an_lock"
    assert analyse(path).about is None
