"""The memory oracle: each of its rules, kept and broken; online in sim, and from journals."""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import Any

import pytest

from cluster.boot import prepare
from cluster.runs.replay import replay
from cluster.search.explore import explore
from cluster.search.strategy import Stay
from cluster.search.walk import RandomWalk
from cluster.sim.engine import Sim
from shared.detectors.effects import Memory
from shared.detectors.memory_model import Cell
from shared.detectors.oracle import Oracle, judge_journals
from shared.detectors.provenance import Move, innermost
from shared.findings import Finding
from shared.scenario.model import Scenario
from shared.scenario.steps.table import STEPS, make
from shared.uvm.param import (
    MADV_DONTNEED,
    MADV_FREE,
    MAP_INHERIT_COPY,
    MAP_INHERIT_NONE,
    MAP_INHERIT_SHARE,
    VM_PROT_NONE,
    VM_PROT_READ,
    VM_PROT_WRITE,
)
from tests.kit import SHIPPED, run_recorded, scenario, scene

RW = VM_PROT_READ | VM_PROT_WRITE
SIZE = 64

SETUP = """
process: {as: A, cpu: 0}
thread: {in: A, as: T, cpu: 1}
mmap: {in: A, as: buf, pages: 4}
mmap: {in: A, as: both, pages: 2, flags: [shared, anon]}
write: {in: A, at: "buf[0]", value: 1}
write: {in: A, at: "both[0]", value: 2}
mprotect: {in: A, at: "buf[3]", pages: 1, prot: r}
"""
PROGRAMS = {
    "A": "mmap: {as: new, pages: 2}\nfork: {as: C, program: []}",
    "T": 'loan: {at: "buf[0]", pages: 1, to: page, as: L}',
}


class ByHand:
    """An oracle that is told a story by hand."""

    def __init__(self, swap: int = 64) -> None:
        self.scene = scene(PROGRAMS, SETUP, f"cpus: 2, frames: 32, swap_slots: {swap}, disk: 4")
        self.oracle = Oracle(self.scene)
        self.places = {region.name: region.start for region in self.scene.regions}
        self.n = 0

    def at(self, place: str) -> int:
        name, _, rest = place.partition("[")
        page, _, byte = rest.partition("]")
        return self.places[name] + int(page) * SIZE + int(byte.removeprefix("+") or 0)

    def access(self, ctx: str, place: str, write: bool, value: int, frame: int) -> Finding | None:
        self.n += 1
        proc = self.scene.procs.index(self.oracle.proc_of[ctx])
        if write:
            args = (self.at(place) % SIZE, value, self.at(place), proc)
            self.oracle.trail.add(Move(ctx, self.n, (), "word_write", frame, args, None))
        self.oracle.access((ctx, self.n, frame), proc, self.at(place), write, value)
        return self.oracle.finding

    def read(self, ctx: str, place: str, value: int, frame: int = 1) -> Finding | None:
        return self.access(ctx, place, False, value, frame)

    def write(self, ctx: str, place: str, value: int, frame: int = 1) -> Finding | None:
        return self.access(ctx, place, True, value, frame)

    def freed(self, name: str, stack: list[str]) -> None:
        self.n += 1
        self.oracle.trail.add(Move("pagedaemon", self.n, innermost(stack), "renew", 0, (f"{name}#1", "", 0), 2))

    def begin(self, ctx: str, op: str, place: str = "", pages: int = 1, **args: Any) -> None:
        if place:
            args |= {"at": self.at(place)}
        if place and any(field.name == "length" for field in fields(STEPS[op])):
            args |= {"length": pages * SIZE}
        others = {
            field.name: "" if field.type == "str" else 0
            for field in fields(STEPS[op])
            if field.default is MISSING and field.name.rstrip("_") not in args
        }
        self.oracle.called(ctx, make(op, {**others, **args}))

    def end(self, ctx: str, op: str, result: int | str = 0) -> Finding | None:
        self.oracle.returned(ctx, result)
        return self.oracle.finding

    def call(self, ctx: str, op: str, place: str = "", pages: int = 1, result: int | str = 0, **args: Any) -> None:
        self.begin(ctx, op, place, pages, **args)
        assert self.end(ctx, op, result) is None


# -- reads and writes ----------------------------------------------------------------


def test_memory_holds_what_setup_left_and_is_zero_otherwise() -> None:
    hand = ByHand()
    assert hand.read("A", "buf[0]", 1) is None and hand.read("T", "both[0]", 2) is None
    assert hand.read("A", "buf[0]+8", 0) is None and hand.read("A", "buf[1]", 0) is None
    assert hand.read("A", "buf[1]", 1) is not None


def test_a_read_sees_the_last_write() -> None:
    hand = ByHand()
    assert hand.write("A", "buf[0]", 7, frame=3) is None and hand.read("T", "buf[0]", 7) is None
    assert hand.write("T", "buf[0]", 8, frame=3) is None and hand.read("A", "buf[0]+8", 0) is None
    finding = hand.read("A", "buf[0]", 7, frame=4)
    assert finding is not None
    assert (finding.kind, finding.detector, finding.context, finding.subject) == ("oracle", "oracle", "A", "page:4")
    assert finding.text == "memory oracle: A reads 7 at buf[0], which must be 8"
    assert finding.function == "user"
    assert finding.story == [
        "it is operation 5 of A, on page:4",
        "the 7 that was read: it was in page:4 when the run began",
        "the 8 that is missing: T stored it at buf[0] (its operation 3), in page:3; it is now in page:3",
    ]


def test_a_finding_names_the_function_that_freed_the_page_written_to() -> None:
    hand = ByHand()
    hand.freed("page:3", ["uvm_pageout", "uvm_anfree", "uvm_pagefree"])  # before the write: no affair of it
    hand.write("A", "buf[0]", 7, frame=3)
    hand.freed("anon:3", ["uvm_fault", "uvm_anfree"])
    hand.freed("page:3", ["uvm_pageout", "uvmpd_scan", "uvmpd_scan_inactive", "uvm_pagefree"])
    finding = hand.read("A", "buf[0]", 1)
    assert finding is not None and finding.function == "uvmpd_scan_inactive"
    assert finding.story[2] == (
        "the 7 that is missing: A stored it at buf[0] (its operation 2), in page:3; page:3 was freed by pagedaemon in"
        " uvm_pagefree < uvmpd_scan_inactive (its operation 4), and it had been written to no other place"
    )


def test_it_says_nothing_after_its_first_finding() -> None:
    hand = ByHand()
    first = hand.read("A", "buf[1]", 1)
    hand.begin("A", "munmap", "buf[0]", 4)
    assert hand.end("A", "munmap") is hand.write("A", "buf[0]", 1) is first is not None


# -- mappings ------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["buf[0]", "new[0]"])
def test_what_is_not_mapped_may_not_be_accessed(place: str) -> None:
    hand = ByHand()
    hand.call("A", "munmap", "buf[0]", 1)
    finding = hand.read("A", place, 0)
    assert finding is not None and "although nothing is mapped" in finding.text


def test_what_is_protected_may_not_be_accessed() -> None:
    hand = ByHand()
    assert hand.read("A", "buf[3]", 0) is None
    finding = hand.write("A", "buf[3]", 1)
    assert finding is not None and "although the protection forbids it" in finding.text
    hand = ByHand()
    hand.call("A", "mprotect", "buf[0]", 1, prot=VM_PROT_NONE)
    assert hand.read("A", "buf[0]", 1) is not None
    hand = ByHand()
    hand.call("A", "mprotect", "buf[3]", 1, prot=RW)
    assert hand.write("A", "buf[3]", 1) is None


def test_a_call_that_is_refused_changes_nothing() -> None:
    hand = ByHand()
    hand.call("A", "munmap", "buf[0]", 4, result="EINVAL")
    hand.call("A", "mprotect", "buf[0]", 1, prot=VM_PROT_NONE, result="EACCES")
    assert hand.read("A", "buf[0]", 1) is None
    hand.call("A", "mmap", "new[0]", 2, prot=RW, shared=False, result="ENOMEM")
    assert hand.read("A", "new[0]", 0) is not None


def test_new_memory_is_zero_each_time() -> None:
    hand = ByHand()
    for _ in range(2):
        hand.call("A", "mmap", "new[0]", 2, prot=RW, shared=False)
        assert hand.read("A", "new[1]", 0) is None and hand.write("A", "new[1]", 9) is None
        hand.call("T", "munmap", "new[0]", 2)
    assert hand.read("A", "new[1]", 9) is not None


def test_during_a_call_both_sides_of_it_may_be_seen() -> None:
    """An access that overlaps an munmap is let or refused; afterwards it must be refused."""
    hand = ByHand()
    hand.begin("T", "munmap", "buf[0]", 1)
    assert hand.read("A", "buf[0]", 1) is None
    hand.begin("A", "read", "buf[0]")
    assert hand.end("A", "read", "SIGSEGV") is None
    assert hand.end("T", "munmap") is None
    assert hand.read("A", "buf[0]", 1) is not None


def test_during_mprotect_a_write_is_let_or_not() -> None:
    hand = ByHand()
    hand.begin("T", "mprotect", "buf[0]", 1, prot=VM_PROT_READ)
    assert hand.write("A", "buf[0]", 5) is None
    hand.end("T", "mprotect")
    assert hand.read("A", "buf[0]", 5) is None
    assert hand.write("A", "buf[0]", 6) is not None


def test_calls_that_overlap_may_have_come_in_any_order() -> None:
    """Two protections at once: either may be the last one, but it is one of the two."""
    for write in (False, True):
        hand = ByHand()
        hand.begin("A", "mprotect", "buf[0]", 1, prot=VM_PROT_READ)
        hand.begin("T", "mprotect", "buf[0]", 1, prot=VM_PROT_NONE)
        hand.end("A", "mprotect")
        hand.end("T", "mprotect")
        finding = hand.write("A", "buf[0]", 1) if write else hand.read("A", "buf[0]", 1)
        assert (finding is not None) == write


def test_an_access_decides_which_order_it_was() -> None:
    hand = ByHand()
    hand.begin("A", "mprotect", "buf[0]", 1, prot=VM_PROT_READ)
    hand.begin("T", "mprotect", "buf[0]", 1, prot=RW)
    hand.end("A", "mprotect")
    hand.end("T", "mprotect")
    assert hand.write("A", "buf[0]", 4) is None  # so T came last
    hand.begin("A", "write", "buf[0]")
    assert hand.end("A", "write", "SIGSEGV") is not None


def test_an_unmap_and_a_map_that_overlap() -> None:
    hand = ByHand()
    hand.begin("A", "munmap", "buf[0]", 1)
    hand.begin("T", "mmap", "buf[0]", 1, prot=RW, shared=False)
    hand.end("T", "mmap")
    hand.end("A", "munmap")
    assert hand.read("A", "buf[0]", 0) is None
    assert hand.read("A", "buf[0]", 1) is not None


def test_many_calls_at_once_are_not_looked_at_one_by_one() -> None:
    """The model gets laxer, not slower."""
    hand = ByHand()
    changes = [("munmap", {}), ("mprotect", {"prot": RW}), ("mprotect", {"prot": VM_PROT_READ})] * 2
    page = hand.oracle.memory.spaces["A"].pages[hand.at("buf[0]") // SIZE]
    ends = []
    for op, args in changes:
        end = make(op, {"at": hand.at("buf[0]"), "length": SIZE, **args}).effect(hand.oracle.memory, "A")
        assert end is not None
        ends.append(end)
    for end in ends:
        end(0)
    assert len(page.views) == 3 and None in page.views


# -- refusals ------------------------------------------------------------------------


@pytest.mark.parametrize(("op", "place", "fine"), [("read", "buf[0]", False), ("write", "buf[0]", False),
                                                   ("read", "buf[3]", False), ("write", "buf[3]", True),
                                                   ("read", "new[0]", True)])  # fmt: skip
def test_what_was_allowed_all_the_time_must_not_be_refused(op: str, place: str, fine: bool) -> None:
    hand = ByHand()
    hand.begin("A", op, place)
    finding = hand.end("A", op, "SIGSEGV")
    assert (finding is None) == fine
    if finding is not None:
        assert finding.function == "uvm_fault" and "allowed throughout" in finding.text


def test_a_refusal_may_be_of_any_time_during_the_access() -> None:
    hand = ByHand()
    hand.begin("A", "read", "buf[0]")
    hand.call("T", "mprotect", "buf[0]", 1, prot=VM_PROT_NONE)
    hand.call("T", "mprotect", "buf[0]", 1, prot=RW)
    assert hand.end("A", "read", "SIGSEGV") is None
    hand.begin("A", "read", "buf[0]")
    assert hand.end("A", "read", "SIGSEGV") is not None


def test_no_memory_is_right_only_where_memory_can_run_out() -> None:
    for swap, fine in ((64, False), (4, True), (0, True)):
        hand = ByHand(swap)
        hand.begin("A", "write", "buf[0]")
        assert (hand.end("A", "write", "SIGBUS") is None) == fine


# -- fork ----------------------------------------------------------------------------


def test_a_child_has_a_copy() -> None:
    hand = ByHand()
    hand.call("A", "fork", **{"as": "C", "cpu": 0})
    hand.write("A", "buf[0]", 5)
    hand.call("C", "barrier")
    assert hand.read("C", "buf[0]", 1) is None and hand.write("C", "buf[0]", 6) is None
    assert hand.read("A", "buf[0]", 5) is None
    assert hand.write("C", "buf[3]", 1) is not None, "and its protection"


def test_a_child_shares_what_is_shared() -> None:
    hand = ByHand()
    hand.call("A", "fork", **{"as": "C", "cpu": 0})
    hand.write("A", "both[0]", 5)
    assert hand.read("C", "both[0]", 5) is None and hand.write("C", "both[1]", 6) is None
    assert hand.read("A", "both[1]", 0) is not None


@pytest.mark.parametrize("inherit", [MAP_INHERIT_NONE, MAP_INHERIT_COPY, MAP_INHERIT_SHARE])
def test_minherit_decides(inherit: int) -> None:
    for op, value in (("read", 1), ("read", 5)):
        hand = ByHand()
        hand.call("A", "minherit", "buf[0]", 1, inherit=inherit)
        hand.call("A", "fork", **{"as": "C", "cpu": 0})
        hand.write("A", "buf[0]", 5)
        right = {MAP_INHERIT_NONE: None, MAP_INHERIT_COPY: 1, MAP_INHERIT_SHARE: 5}[inherit]
        assert (getattr(hand, op)("C", "buf[0]", value) is None) == (value == right)


def test_a_write_during_a_fork_may_be_in_the_child() -> None:
    """Each word as it was at some moment of the fork; not what was there before it, nor what came after it."""
    for value, fine in ((1, True), (5, True), (6, True), (4, False), (7, False)):
        hand = ByHand()
        hand.write("T", "buf[0]", 4)
        hand.write("T", "buf[0]", 1)
        hand.begin("A", "fork", **{"as": "C", "cpu": 0})
        hand.write("T", "buf[0]", 5)
        hand.write("T", "buf[0]", 6)
        hand.end("A", "fork")
        hand.write("T", "buf[0]", 7)
        assert (hand.read("C", "buf[0]", value) is None) == fine
        if fine:
            assert hand.read("C", "buf[0]", value) is None
            assert hand.read("C", "buf[0]", 1 if value != 1 else 5) is not None, "the read has decided it"


def test_a_fork_has_done_its_work_when_the_child_runs() -> None:
    hand = ByHand()
    hand.begin("A", "fork", **{"as": "C", "cpu": 0})
    hand.begin("C", "read", "buf[0]")
    hand.write("T", "buf[0]", 5)
    assert hand.read("C", "buf[0]", 5) is not None


def test_an_unmap_during_a_fork_may_be_in_the_child() -> None:
    for gone in (True, False):
        hand = ByHand()
        hand.begin("A", "fork", **{"as": "C", "cpu": 0})
        hand.call("T", "munmap", "buf[0]", 1)
        hand.call("T", "mmap", "buf[0]", 1, prot=RW, shared=False)
        hand.write("T", "buf[0]", 9)
        hand.end("A", "fork")
        hand.begin("C", "read", "buf[0]")
        assert (hand.end("C", "read", "SIGSEGV") if gone else hand.read("C", "buf[0]", 9)) is None
        assert hand.read("A", "buf[0]", 1) is not None


# -- madvise, physio -------------------------------------------------------------------


def test_freed_memory_is_as_it_was_or_zero_until_it_is_read_or_written() -> None:
    for value, fine in ((1, True), (0, True), (5, False)):
        hand = ByHand()
        hand.call("A", "madvise", "buf[0]", 1, advice=MADV_FREE)
        assert (hand.read("A", "buf[0]", value) is None) == fine
        if fine:
            assert hand.read("A", "buf[0]", 1 - value) is not None
    hand = ByHand()
    hand.call("A", "madvise", "buf[0]", 1, advice=MADV_FREE)
    hand.write("A", "buf[0]", 5)
    assert hand.read("A", "buf[0]", 0) is not None


def test_memory_that_is_being_freed_may_turn_zero_at_any_moment() -> None:
    hand = ByHand()
    hand.begin("T", "madvise", "buf[0]", 1, advice=MADV_FREE)
    assert hand.read("A", "buf[0]", 1) is None and hand.read("A", "buf[0]", 0) is None
    hand.write("A", "buf[0]", 5)
    assert hand.read("A", "buf[0]", 5) is None
    hand.end("T", "madvise")
    assert hand.read("A", "buf[0]", 0) is None
    assert hand.read("A", "buf[0]", 5) is not None


def test_other_advice_and_advice_that_is_refused_leaves_memory_alone() -> None:
    for advice, result in ((MADV_DONTNEED, 0), (MADV_FREE, "ENOMEM")):
        hand = ByHand()
        hand.call("A", "madvise", "buf[0]", 1, advice=advice, result=result)
        assert hand.read("A", "buf[0]", 0) is not None


def test_a_disk_keeps_what_was_written_to_it() -> None:
    hand = ByHand()
    hand.call("A", "physio", "buf[0]", 1, block=2, write=True, status=0)
    hand.call("A", "physio", "buf[1]", 1, block=2, write=False, status=0)
    assert hand.read("A", "buf[1]", 1) is None
    hand.write("A", "buf[1]", 4)
    hand.call("A", "physio", "buf[1]", 1, block=3, write=False, status=0)
    assert hand.read("A", "buf[1]", 0) is None
    assert hand.read("A", "buf[1]", 4) is not None


def test_a_transfer_takes_each_word_as_it_was_at_some_moment() -> None:
    for value, fine in ((1, True), (5, True), (6, False)):
        hand = ByHand()
        hand.begin("A", "physio", "buf[0]", 1, block=0, write=True, status=0)
        hand.write("T", "buf[0]", 5)
        hand.end("A", "physio")
        hand.write("T", "buf[0]", 6)
        hand.begin("A", "physio", "buf[1]", 1, block=0, write=False, status=0)
        assert hand.read("T", "buf[1]", 0) is None, "not there yet, maybe"
        hand.end("A", "physio")
        assert (hand.read("A", "buf[1]", value) is None) == fine


def test_a_write_during_a_transfer_may_be_lost() -> None:
    for value, fine in ((0, True), (5, True), (1, False)):
        hand = ByHand()
        hand.begin("A", "physio", "buf[0]", 1, block=0, write=False, status=0)
        hand.write("T", "buf[0]", 5)
        hand.end("A", "physio")
        assert (hand.read("A", "buf[0]", value) is None) == fine


def test_two_writes_to_one_block_at_once() -> None:
    for value, fine in ((1, True), (3, True), (0, True), (5, False)):
        hand = ByHand()
        hand.write("A", "buf[1]", 3)
        hand.begin("A", "physio", "buf[0]", 1, block=0, write=True, status=0)
        hand.begin("T", "physio", "buf[1]", 1, block=0, write=True, status=0)
        hand.end("T", "physio")
        hand.end("A", "physio")
        hand.call("A", "physio", "buf[2]", 1, block=0, write=False, status=0)
        assert (hand.read("A", "buf[2]", value) is None) == fine


def test_the_borrower_sees_what_was_there_when_it_borrowed() -> None:
    for value, fine in ((1, True), (5, True), (6, False), ("EINVAL", True)):
        hand = ByHand()
        hand.begin("A", "loan", "buf[0]", 1, loan="L")
        hand.write("T", "buf[0]", 5)
        hand.end("A", "loan")
        hand.write("T", "buf[0]", 6)
        hand.begin("T", "kpeek", loan="L", page=0)
        assert (hand.end("T", "kpeek", value) is None) == fine
        assert fine or hand.oracle.finding.subject == "loan:0"


@pytest.mark.parametrize(("place", "during", "possible"), [("both[1]", True, {0, 1}), ("both[1]", False, {1})])
def test_memory_freed_while_a_device_fills_it_may_be_zero(place: str, during: bool, possible: set[int]) -> None:
    """Also if nobody has written to it before, so that there was nothing to throw away when madvise began."""
    for value in (0, 1, 5):
        hand = ByHand()
        hand.call("A", "physio", "buf[0]", 1, block=2, write=True, status=0)
        if not during:
            hand.call("T", "madvise", place, 1, advice=MADV_FREE)
        hand.begin("A", "physio", place, 1, block=2, write=False, status=0)
        if during:
            hand.call("T", "madvise", place, 1, advice=MADV_FREE)
        assert hand.end("A", "physio") is None
        assert (hand.read("T", place, value) is None) == (value in possible)


# -- files -----------------------------------------------------------------------------


def test_a_file_holds_what_was_written_to_it_last() -> None:
    for value, fine in ((5, True), (4, False), (0, False)):
        hand = ByHand()
        hand.call("A", "fwrite", file=0, at=72, value=4)
        hand.call("T", "fwrite", file=0, at=72, value=5)
        hand.begin("A", "fread", file=0, at=72)
        assert (hand.end("A", "fread", value) is None) == fine


def test_a_file_that_is_read_while_it_is_written_to() -> None:
    for value, fine in ((5, True), (0, True), (4, False)):
        hand = ByHand()
        hand.begin("A", "fread", file=0, at=0)
        hand.call("T", "fwrite", file=0, at=0, value=5)
        finding = hand.end("A", "fread", value)
        assert (finding is None) == fine
        if finding is not None:
            assert (finding.function, finding.subject) == ("user", "vnode:0")


def test_of_two_writes_to_a_file_at_once_either_is_the_last() -> None:
    for value, fine in ((5, True), (6, True), (7, False)):
        hand = ByHand()
        hand.begin("A", "fwrite", file=0, at=0, value=5)
        hand.begin("T", "fwrite", file=0, at=0, value=6)
        hand.end("T", "fwrite")
        hand.end("A", "fwrite")
        hand.begin("A", "fread", file=0, at=0)
        assert (hand.end("A", "fread", value) is None) == fine


def test_borrowed_anons_that_are_mapped_are_private_copies() -> None:
    hand = ByHand()
    hand.call("A", "loan", "buf[0]", 1, loan="L")
    hand.write("T", "buf[0]", 5)
    hand.call("T", "map_loan", "new[0]", 1, loan="L", page=0)
    assert hand.read("T", "new[0]", 1) is None
    hand.write("A", "new[0]", 6)
    hand.call("T", "kpeek", loan="L", page=0, result=1)
    assert hand.read("A", "buf[0]", 5) is None and hand.read("T", "new[0]", 6) is None
    assert hand.read("T", "new[0]", 1) is not None


# -- files ---------------------------------------------------------------------------


def with_a_file() -> ByHand:
    """A file that begins with 7 is mapped at new[0], shared, and at buf[0], privately."""
    hand = ByHand()
    hand.oracle.called("A", make("file", {"as": "F", "file": 0, "block": 0, "pages": 2, "words": [7]}))
    mapping = {"prot": RW, "file": 0, "offset": 0}
    hand.call("A", "mmap", "new[0]", 2, shared=True, **mapping)
    hand.call("A", "munmap", "buf[0]", 2)
    hand.call("A", "mmap", "buf[0]", 2, shared=False, **mapping)
    return hand


def test_a_file_is_one_cell_for_all_who_share_it_and_who_read_it() -> None:
    hand = with_a_file()
    assert hand.read("A", "new[0]", 7) is None and hand.read("T", "buf[0]", 7) is None
    assert hand.write("A", "new[0]", 8) is None
    hand.call("T", "fread", file=0, at=0, result=8)
    hand.begin("T", "fread", file=0, at=0)
    finding = hand.end("T", "fread", 7)
    assert finding is not None and finding.subject == "vnode:0"


def test_a_private_mapping_may_see_the_file_change_until_it_is_written_to() -> None:
    """Either value before; afterwards only its own."""
    for value in (7, 9):
        hand = with_a_file()
        hand.call("A", "fwrite", file=0, at=0, value=9)
        assert hand.read("T", "buf[0]", value) is None
    hand = with_a_file()
    assert hand.write("T", "buf[0]+8", 1) is None
    hand.call("A", "fwrite", file=0, at=0, value=9)
    assert hand.read("A", "new[0]", 9) is None and hand.read("A", "new[0]+8", 0) is None
    assert hand.read("T", "buf[0]", 9) is not None


@pytest.mark.parametrize(("value", "fine"), [(7, True), (9, True), (5, False)])
def test_a_file_that_is_being_written_may_be_read_either_way(value: int, fine: bool) -> None:
    hand = with_a_file()
    hand.begin("T", "fwrite", file=0, at=0, value=9)
    assert (hand.read("A", "new[0]", value) is None) == fine


def test_a_store_during_a_write_to_the_file_may_come_before_it_or_after() -> None:
    for value, fine in ((9, True), (4, True), (7, False)):
        hand = with_a_file()
        hand.begin("T", "fwrite", file=0, at=0, value=9)
        assert hand.write("A", "new[0]", 4) is None
        hand.end("T", "fwrite")
        assert (hand.read("A", "new[0]", value) is None) == fine


def test_what_is_cut_off_a_file_may_be_zero_afterwards() -> None:
    for value, fine in ((0, True), (3, False)):
        hand = with_a_file()
        hand.begin("T", "ftruncate", file=0, size=0)
        assert hand.write("A", "new[0]", 4) is None  # just before it goes
        hand.end("T", "ftruncate")
        hand.call("T", "ftruncate", file=0, size=2 * SIZE)
        assert (hand.read("A", "new[0]", value) is None) == fine


def test_madvise_free_leaves_a_file_as_it_is_and_gives_a_private_page_back_to_it() -> None:
    hand = with_a_file()
    assert hand.write("A", "new[0]", 8) is None and hand.write("T", "buf[0]", 5) is None
    hand.call("A", "madvise", "new[0]", 2, advice=MADV_FREE)
    hand.call("T", "madvise", "buf[0]", 2, advice=MADV_FREE)
    assert hand.read("T", "buf[0]", 8) is None
    assert hand.read("A", "new[0]", 0) is not None


def test_a_child_with_a_copy_of_a_shared_file_has_a_private_mapping() -> None:
    hand = with_a_file()
    hand.call("A", "minherit", "new[0]", 2, inherit=MAP_INHERIT_COPY)
    hand.call("A", "fork", **{"as": "C"})
    assert hand.write("A", "new[0]", 8) is None
    assert hand.read("C", "new[0]", 8) is None
    assert hand.write("C", "new[0]+8", 1) is None and hand.write("A", "new[0]", 9) is None
    assert hand.read("C", "new[0]", 9) is not None


# -- thrown away, lent, cut off --------------------------------------------------------


def kinds(hand: ByHand) -> dict[str, str]:
    """Kind of mapping -> a page of it whose first word is 3; all are A's. A segment is mapped at new[1] as well."""
    hand.oracle.called("A", make("file", {"as": "F", "file": 0, "block": 0, "pages": 2, "words": [7, 7]}))
    hand.call("A", "munmap", "buf[1]", 3)
    mapping = {"prot": RW, "file": 0}
    hand.call("A", "mmap", "buf[1]", 1, shared=True, offset=0, **mapping)
    hand.call("A", "mmap", "buf[2]", 1, shared=False, offset=SIZE, **mapping)
    hand.call("A", "mmap", "buf[3]", 1, shared=True, prot=RW, shm=0, offset=0)
    hand.call("A", "mmap", "new[1]", 1, shared=True, prot=RW, shm=0, offset=0)
    places = {"anon": "buf[0]", "shared": "both[0]", "file": "buf[1]", "private": "buf[2]", "shm": "buf[3]"}
    for place in places.values():
        assert hand.write("A", place, 3) is None
    return places


KINDS = ["anon", "shared", "file", "private", "shm"]


@pytest.mark.parametrize("kind", KINDS)
def test_what_freed_memory_may_hold(kind: str) -> None:
    """Nothing is lost of what is an object's; the others may show what is below them: zeros, or the file."""
    below = {"anon": 0, "shared": 0, "file": 3, "private": 7, "shm": 3}[kind]
    for value in (0, 3, 7):
        hand = ByHand()
        place = kinds(hand)[kind]
        hand.call("A", "madvise", place, 1, advice=MADV_FREE)
        assert (hand.read("T", place, value) is None) == (value in (3, below))


@pytest.mark.parametrize("kind", KINDS)
def test_borrowed_memory_that_is_freed_is_zero_whatever_it_was_borrowed_from(kind: str) -> None:
    """It is a copy, mapped as private memory; what is written to where it was lent is not seen there."""
    for value, fine in ((0, True), (3, True), (5, False), (7, False)):
        hand = ByHand()
        place = kinds(hand)[kind]
        hand.call("A", "loan", place, 1, loan="L")
        hand.write("T", place, 5)
        hand.call("T", "map_loan", "new[0]", 1, loan="L", page=0)
        hand.call("A", "madvise", "new[0]", 1, advice=MADV_FREE)
        assert (hand.read("T", "new[0]", value) is None) == fine


@pytest.mark.parametrize("kind", KINDS)
def test_raw_io_from_memory_that_another_thread_maps_while_it_begins(kind: str) -> None:
    for value, fine in ((3, True), (0, False), (5, False)):
        hand = ByHand()
        place = kinds(hand)[kind]
        hand.call("A", "loan", place, 1, loan="L")
        hand.begin("A", "physio", "new[0]", 1, block=3, write=True, status=0)
        hand.begin("T", "map_loan", "new[0]", 1, loan="L", page=0)
        hand.end("T", "map_loan")
        hand.end("A", "physio")
        hand.write("A", "new[0]", 5)
        hand.call("A", "physio", "both[1]", 1, block=3, write=False, status=0)
        assert (hand.read("A", "both[1]", value) is None) == fine


def test_borrowed_memory_may_be_mapped_while_it_is_only_being_lent() -> None:
    for value, fine in ((3, True), (6, True), (1, False)):
        hand = ByHand()
        place = kinds(hand)["shm"]
        hand.begin("T", "map_loan", "new[0]", 1, loan="L", page=0)
        hand.begin("A", "loan", place, 1, loan="L")
        hand.write("A", "new[1]", 6)
        hand.end("A", "loan")
        hand.end("T", "map_loan")
        assert (hand.read("T", "new[0]", value) is None) == fine


def test_a_private_page_that_was_freed_shows_the_file_until_it_is_written_to_again() -> None:
    for child in (False, True):
        for value, fine in ((3, True), (7, True), (9, True), (8, False)):
            hand = ByHand()
            place = kinds(hand)["private"]
            hand.call("A", "madvise", place, 1, advice=MADV_FREE)
            if child:
                hand.call("A", "fork", **{"as": "C"})
            hand.call("T", "fwrite", file=0, at=SIZE, value=9)
            assert (hand.read("C" if child else "A", place, value) is None) == fine
    hand = ByHand()
    place = kinds(hand)["private"]
    hand.call("A", "madvise", place, 1, advice=MADV_FREE)
    hand.write("A", place, 4)
    hand.call("T", "fwrite", file=0, at=SIZE, value=9)
    assert hand.read("A", place, 9) is not None


@pytest.mark.parametrize("first", ["fork", "madvise"])
def test_a_child_whose_fork_overlaps_with_a_free_may_show_the_file(first: str) -> None:
    hand = ByHand()
    place = kinds(hand)["private"]
    free = {"place": place, "pages": 1, "advice": MADV_FREE}
    calls = [("A", "fork", {"as": "C"}), ("T", "madvise", free)]
    for ctx, op, args in calls if first == "fork" else reversed(calls):
        hand.begin(ctx, op, **args)
    hand.end("A", "fork")
    hand.end("T", "madvise")
    hand.call("T", "fwrite", file=0, at=SIZE, value=9)
    assert hand.read("C", place, 9) is None
    assert hand.read("C", place, 8) is not None


def test_a_private_copy_of_a_segment_shows_it_again() -> None:
    hand = ByHand()
    place = kinds(hand)["shm"]
    hand.call("A", "minherit", place, 1, inherit=MAP_INHERIT_COPY)
    hand.call("A", "fork", **{"as": "C"})
    hand.write("C", place, 4)
    hand.write("A", "new[1]", 5)
    assert hand.read("C", place, 4) is None
    hand.call("C", "madvise", place, 1, advice=MADV_FREE)
    hand.write("A", "new[1]", 6)
    assert hand.read("C", place, 6) is None
    assert hand.read("C", place, 3) is not None


def test_memory_freed_before_the_disk_erred_is_gone() -> None:
    for result, fine in (("EIO", True), ("ENOMEM", False)):
        hand = ByHand()
        hand.call("A", "madvise", "buf[0]", 1, advice=MADV_FREE, result=result)
        assert (hand.read("A", "buf[0]", 0) is None) == fine


@pytest.mark.parametrize("last", ["madvise", "physio"])
def test_memory_that_is_freed_while_a_device_writes_to_it(last: str) -> None:
    for value, fine in ((0, True), (4, True), (9, False)):
        hand = ByHand()
        hand.write("A", "buf[1]", 4)
        hand.call("A", "physio", "buf[1]", 1, block=2, write=True, status=0)
        hand.begin("A", "physio", "buf[0]", 1, block=2, write=False, status=0)
        hand.begin("T", "madvise", "buf[0]", 1, advice=MADV_FREE)
        for op, ctx in sorted([("madvise", "T"), ("physio", "A")], key=lambda pair: pair[0] == last):
            hand.end(ctx, op)
        assert (hand.read("A", "buf[0]", value) is None) == fine


def test_a_write_to_one_word_of_a_file_leaves_the_others_alone() -> None:
    for value, fine in ((7, True), (0, False)):
        hand = with_a_file()
        hand.begin("T", "fwrite", file=0, at=8, value=9)
        hand.call("A", "munmap", "buf[2]", 1)
        hand.call("A", "mmap", "buf[2]", 1, shared=False, prot=RW, file=0, offset=0)
        hand.end("T", "fwrite")
        assert (hand.read("A", "buf[2]", value) is None) == fine


def test_a_files_own_block_read_into_its_page() -> None:
    """The page follows what is read, that the block, and that the page."""
    for value, fine in ((7, True), (5, True), (0, False)):
        hand = with_a_file()
        hand.begin("A", "physio", "new[0]", 1, block=0, write=False, status=0)
        hand.write("T", "new[0]", 5)
        hand.call("T", "fwrite", file=0, at=8, value=9)
        hand.end("A", "physio")
        assert (hand.read("A", "new[0]", value) is None) == fine


def test_what_is_written_beyond_the_end_of_a_file_may_be_gone_at_any_moment() -> None:
    for value, fine in ((5, True), (0, True), (7, False)):
        hand = with_a_file()
        hand.call("T", "ftruncate", file=0, size=0)
        hand.write("A", "new[0]", 5)
        assert hand.read("A", "new[0]", 5) is None
        hand.call("T", "ftruncate", file=0, size=SIZE)
        assert (hand.read("A", "new[0]", value) is None) == fine
        hand.write("A", "new[0]", 6)
        assert hand.read("A", "new[0]", 0 if fine else 6) is not None


def test_of_two_truncations_at_once_either_is_the_last() -> None:
    hand = with_a_file()
    hand.begin("A", "ftruncate", file=0, size=0)
    hand.call("T", "ftruncate", file=0, size=2 * SIZE)
    hand.end("A", "ftruncate")
    hand.write("A", "new[0]", 5)
    assert hand.read("A", "new[0]", 0) is None
    hand.call("A", "ftruncate", file=0, size=2 * SIZE)
    hand.write("A", "new[0]", 5)
    assert hand.read("A", "new[0]", 0) is not None


def test_a_segment_that_was_removed_is_not_what_is_mapped_afterwards() -> None:
    hand = ByHand()
    mapping = {"prot": RW, "shared": True, "shm": 0, "offset": 0}
    hand.call("A", "mmap", "new[0]", 1, **mapping)
    hand.write("A", "new[0]", 5)
    hand.call("T", "shm_remove", shm=0)
    assert hand.read("A", "new[0]", 5) is None, "who has mapped it keeps it"
    hand.call("A", "munmap", "new[0]", 1)
    hand.call("A", "mmap", "new[0]", 1, **mapping)
    assert hand.read("A", "new[0]", 5) is not None


# -- the whole ---------------------------------------------------------------------------


def test_the_default_is_to_ask_it_and_off_is_off() -> None:
    scene = scenario("S1a").without_errata()
    machine, image = prepare(scene)
    sim = Sim(machine, image)
    sim.execute(Stay())
    assert sim.execution.oracle is not None and sim.execution.oracle.now > 0
    machine, image = prepare(scene.with_detect({"oracle": "off"}))
    sim = Sim(machine, image)
    sim.execute(Stay())
    assert sim.execution.oracle is None


def test_noted_it_ends_nothing() -> None:
    scene = scenario("E31-shipped").with_detect({"oracle": "note"})
    result = explore(scene, schedules=300)
    assert result.finding is None and result.notes == {"oracle user page": result.notes["oracle user page"]}


def lost() -> Scenario:
    return scenario("E31-shipped")


def test_online_and_from_journals_it_says_the_same() -> None:
    result = explore(lost())
    assert result.finding is not None and result.finding.kind == "oracle"
    once = replay(lost(), result.deviations)
    assert once.finding == result.finding
    assert judge_journals(lost(), once.journals) == once.finding


@pytest.mark.wide
@pytest.mark.parametrize("name", SHIPPED)
def test_of_a_sound_run_it_says_nothing(name: str) -> None:
    """Neither online nor from its journals."""
    scene = scenario(name).without_errata()
    for seed in range(2):
        once = run_recorded(scene, RandomWalk(seed))
        assert once.finding is None
        assert judge_journals(scene, once.journals) is None


def test_a_forged_value_and_a_forged_refusal_are_seen_in_a_journal() -> None:
    scene = scenario("S3d").without_errata()
    journals = run_recorded(scene, Stay()).journals
    read = next(record for record in journals["memory"] if record["event"] == "word_read")
    read["value"] += 1
    finding = judge_journals(scene, journals)
    assert finding is not None and finding.context == read["ctx"] and f"reads {read['value']} at" in finding.text
    read["value"] -= 1
    cpu = journals[read["cpu"]]
    answer = next(record for record in cpu if record["event"] == "return" and record["op"] == "read")
    answer["result"] = "SIGSEGV"
    finding = judge_journals(scene, journals)
    assert finding is not None and "gets SIGSEGV at" in finding.text


def drawing(memory: Memory) -> object:
    """All that a model of memory holds; cells are numbered in the order in which they are met."""
    numbers: dict[Cell, int] = {}

    def number(cell: Cell | None) -> int | None:
        return None if cell is None else numbers.setdefault(cell, len(numbers))

    spaces = {
        proc: {
            vpn: ([view and (number(view.cell), view.prot, view.inherit) for view in page.views], page.left)
            for vpn, page in space.pages.items()
        }
        for proc, space in memory.spaces.items()
    }
    going_on = [part for space in memory.spaces.values() for part in (space.forks, space.stores, space.takes)]
    files = memory.files
    shared = {object: {page: number(cell) for page, cell in pages.items()} for object, pages in files.objects.items()}
    blocks = {at: (number(block), block.mixed, block.writers) for at, block in files.blocks.items()}
    loans = {loan: [number(cell) for cell in cells] for loan, cells in memory.loans.items()}
    cells: dict[int, object] = {}
    while len(cells) < len(numbers):  # those that are met now are drawn next
        for cell, at in list(numbers.items()):
            about = type(cell), sorted(cell.words.items()), cell.beyond, cell.stores
            others = number(cell.source), number(cell.below), [number(follower) for follower in cell.followers]
            cells[at] = about, others
    plain = memory.threads, memory.enough, memory.mapped, memory.may_lack_pages, memory.births, memory.page_size
    more = files.sizes, files.ends, files.resizing, files.disputed, files.lossy, files.page_size
    return spaces, going_on, shared, blocks, loans, cells, plain, more


BEYOND = """
file: {as: f, pages: 1, words: [1]}
process: {as: A, cpu: 0}
mmap: {in: A, as: buf, file: f, pages: 2, flags: [shared]}
"""


@pytest.mark.parametrize("name", [*SHIPPED, "beyond the end of a file"])
def test_each_execution_begins_with_the_memory_that_the_setup_leaves(name: str) -> None:
    machine = "cpus: 1, frames: 32, swap_slots: 16, page_size: 64, disk: 4"
    sim = Sim(*prepare(scenario(name) if name in SHIPPED else scene({"A": ""}, BEYOND, machine)))
    oracle = sim.oracle
    if oracle is None:
        return
    begin = drawing(oracle.begin)
    for seed in range(2):
        oracle.restart()
        assert drawing(oracle.memory) == drawing(oracle.begin) == begin
        sim.execute(RandomWalk(seed))
