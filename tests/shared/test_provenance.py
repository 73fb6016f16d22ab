"""Where words of memory came from: held against what was read, in every scenario; and told for each sort of way."""

from __future__ import annotations

import re
from typing import Any

import pytest

from cluster.boot import boot
from cluster.runs.replay import replay
from cluster.search.explore import explore
from cluster.search.walk import RandomWalk
from shared.detectors.oracle import judge_journals
from shared.detectors.provenance import MOVES, Move, Place, Provenance, Trail
from shared.journal.order import in_order
from shared.scenario.model import Scenario
from shared.wire.messages import OPERATIONS
from tests.kit import SHIPPED, run_recorded, scenario


def test_it_is_told_of_every_operation_that_moves_words() -> None:
    """All that name frames, except those about translations, and those that say that I/O is done or a page is free."""
    moving = {code for code, op in OPERATIONS.items() if op.frames and op.node != "mmu"} - {"word_read"}
    about = {"pmap_enter", "pmap_protect", "pmap_remove"}  # why an access was let
    assert moving | {"io_done", "disk_done", "disk_format", "renew"} | about == MOVES


#: scenarios whose only reads are refused in this run
REFUSED = ("S1d", "S1d-maybe", "E67", "E67-vnode")


@pytest.mark.wide
@pytest.mark.parametrize("name", SHIPPED)
def test_what_it_says_of_a_word_is_what_was_read_there(name: str) -> None:
    """At each read of a run the origin has the value that was read: no store, copy or transfer was forgotten."""
    scene = scenario(name).without_errata()
    image, reads = boot(scene), 0
    run = run_recorded(scene, RandomWalk(1))
    history, trail = Provenance(image), Trail({})
    for record in in_order(run.journals):
        if record["event"] in MOVES:
            trail.add_record(record, [])
            history.move(Move(*trail.moves[-1]))
        elif record["event"] == "word_read":
            word = record["offset"] >> 3
            origin = history.of(Place("page", record["frame"])).item(word).origin
            assert (origin.value, origin.word) == (record["value"], word), record
            reads += 1
    reading = any(step.op in ("read", "kread") for lwp in scene.lwps for step in lwp.program)
    assert (reads > 0) == (reading and name not in REFUSED)


def story_of(scene: Scenario) -> list[str]:
    """The oracle's story, online and from the journals alike."""
    result = explore(scene)
    assert result.finding is not None and result.finding.kind == "oracle"
    once = replay(scene, result.deviations)
    assert once.finding is not None
    assert judge_journals(scene, once.journals, boot(scene)) == once.finding == result.finding
    return result.finding.story


def test_of_a_lost_write_the_page_and_who_freed_it_are_told() -> None:
    story = story_of(scenario("S2a"))
    assert re.search(r"it was in swap slot (\d+) when the run began; read from swap slot \1 to page:", story[1])
    assert story[2].startswith("the 2 that is missing: T stored it at buf[")
    assert "was freed by pagedaemon in uvm_pagefree < uvmpd_scan_inactive (its operation " in story[2]
    assert story[2].endswith("and it had been written to no other place")


def test_of_what_a_device_wrote_the_transfer_and_the_page_are_told() -> None:
    """9 was not there "from the beginning": it came by DMA to a page that was then freed unwritten."""
    story = story_of(scenario("S11c"))
    assert story[0].startswith("the 7 that was read: it was in disk block 0 when the run began; read from disk block 0")
    assert (
        "it is now in disk block 2 and in page:0; page:1, into which it was read by DMA from disk block 2" in story[1]
    )
    assert "for A in sys_physio (its operation " in story[1] and "freed by A in uvm_pagefree < uvn_flush" in story[1]


# -- each operation ------------------------------------------------------------------------


class History:
    """A history told by hand; every operation is one of A's, in function f, called by g."""

    def __init__(self, **image: Any) -> None:
        self.trail, self.n = Provenance(image), 0

    def op(self, code: str, target: int, *args: Any, result: Any = None, ctx: str = "A") -> History:
        self.n += 1
        self.trail.move(Move(ctx, self.n, ("g", "f"), code, target, args, result))
        return self

    def write(self, frame: int, value: int, ctx: str = "A") -> History:
        return self.op("word_write", frame, 0, value, 0x1000, 0, ctx=ctx)

    def came(self, frame: int, value: int) -> str:
        item = self.trail.of(Place("page", frame)).item(0)
        assert item.origin.value == value
        return self.trail.came_from(item, value, lambda va: f"[{va:x}]").removeprefix(f"the {value} that was read: ")

    def fate(self, value: int) -> str:
        return self.trail.fate(self.trail.origins(0, value)[0])


def test_a_store_a_copy_and_zero() -> None:
    story = History().write(3, 6, ctx="B").op("frame_copy", 4, 3).op("frame_zero", 3)
    assert story.came(4, 6) == (
        "B stored it at [1000] (its operation 1), in page:3;"
        " copied from page:3 to page:4 by A in f < g (its operation 2)"
    )
    assert story.came(3, 0) == "page:3 was zeroed by A in f < g (its operation 3)"
    assert story.fate(6) == "it is now in page:4; a copy, in page:3, was zeroed by A in f < g (its operation 3)"


def test_a_copy_between_two_shards_is_one_copy() -> None:
    story = History().write(3, 6).op("frame_read", 3).op("frame_write", 4, None)
    assert story.came(4, 6).endswith("copied from page:3 to page:4 by A in f < g (its operation 3)")


def test_what_went_out_to_swap_and_came_back_and_the_slot_that_was_overwritten() -> None:
    story = History().write(3, 6).op("swap_put", 7, "buf", [2, 3], result=0)
    story.op("frame_read", 2, ctx="swap").op("frame_read", 3, ctx="swap").op("io_done", 1, 0, None, ctx="swap")
    story.op("renew", 0, "page:3#1", "", 0).op("swap_get", 8, 5).op("frame_write", 5, None, ctx="swap")
    story.op("io_done", 2, 0, None, ctx="swap")
    assert story.came(5, 6) == (
        "A stored it at [1000] (its operation 1), in page:3; written from page:3 to swap slot 8 for A in f < g"
        " (its operation 2); read from swap slot 8 to page:5 for A in f < g (its operation 7)"
    )
    assert story.fate(6) == "it is now in page:5 and in swap slot 8; page:3 was freed by A in f < g (its operation 6)"
    story.op("swap_put", 8, "buf", [4], result=0).op("frame_read", 4, ctx="swap").op("io_done", 3, 0, None, ctx="swap")
    story.write(5, 7)
    assert story.fate(6).startswith("page:3 was freed by A")
    story.op("frame_zero", 3)
    assert story.fate(6) == "its last copy, in page:3, was zeroed by A in f < g (its operation 14)"


def test_what_a_device_refuses_or_fails_to_write_moved_nothing() -> None:
    story = History().write(3, 6).op("swap_put", 7, "buf", [3], result=35)
    story.op("swap_put", 9, "buf", [3]).op("io_done", 1, 5, None, ctx="swap")
    assert story.fate(6) == "it is now in page:3"


def test_raw_io_and_the_kernels_own_stores_are_told_as_such() -> None:
    story = History(disk=[[0], [9]]).op("disk_start", 1, [4], 0, "bp", "cpu0").op("frame_write", 4, None, ctx="disk")
    story.op("disk_done", 1, 0, None, ctx="disk").op("frame_store", 5, 0, 8)
    assert story.came(4, 9) == (
        "it was in disk block 1 when the run began; read by DMA from disk block 1 to page:4 for A in f < g"
        " (its operation 1)"
    )
    assert story.came(5, 8) == "it was stored in page:5 by A in f < g (its operation 4)"


def test_a_value_that_was_overwritten_everywhere_names_the_last_store() -> None:
    story = History().write(3, 6).write(3, 7, ctx="B")
    assert story.fate(6) == "its last copy, in page:3, was overwritten by B in f < g (its operation 2)"


def test_an_access_that_was_let_names_who_entered_the_translation_and_who_wanted_it_away() -> None:
    story = History()
    there = "its translation to page:3 was there when the run began"
    assert story.trail.let(3, 128) == [there, "no context has requested to remove or restrict it since"]
    story.op("pmap_protect", 1, 64, 256, 1, "cpu0").op("pmap_protect", 1, 256, 512, 1, "cpu0")
    assert story.trail.let(3, 128) == [there, "A in f < g (its operation 1) requested pmap_protect of it"]
    story.op("pmap_enter", 1, 128, 3, 3, 0, "cpu0", result=0).op("pmap_remove", 2, 64, 256, "cpu0")
    entered = "its translation to page:3 was entered by A in f < g (its operation 3)"
    assert story.trail.let(3, 128) == [entered, "no context has requested to remove or restrict it since"]
    story.op("pmap_remove", 1, 64, 256, "cpu0")
    assert story.trail.let(3, 128) == [entered, "A in f < g (its operation 5) requested pmap_remove of it"]


def test_a_refused_request_is_not_taken_for_the_one_that_is_done() -> None:
    story = History().write(3, 6).op("swap_put", 7, "buf", [3], result=35).op("swap_put", 9, "buf", [3], result=0)
    story.op("frame_read", 3, ctx="swap").op("io_done", 1, 0, None, ctx="swap")
    assert story.fate(6) == "it is now in page:3 and in swap slot 9"


def test_a_frame_that_was_freed_and_is_filled_again_is_not_free() -> None:
    story = History().write(3, 6).op("renew", 0, "page:4#1", "", 0).op("frame_copy", 4, 3)
    assert story.fate(6) == "it is now in page:3 and in page:4"
