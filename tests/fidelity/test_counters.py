"""Event counters of uvmexp, counted exactly: a known program on one CPU, and what `vmstat -s` would say of it.

State counters (free, active, swpginuse ...) are recounted by the invariants after every run.
"""

from __future__ import annotations

from typing import Any

from cluster.search.strategy import Stay
from cluster.search.walk import RandomWalk
from tests.kit import answers, scene


def counted(program: str, frames: int = 32, schedules: int = 1) -> dict[str, int]:
    """Counters of a program of process A, which has `buf`, four untouched pages; the same in so many schedules."""
    steps = "\n".join(" ".join(line.split()) for line in program.strip().split("\n\n"))
    setup = "process: {as: A, cpu: 0}\nmmap: {in: A, as: buf, pages: 4}"
    made = scene({"A": steps}, setup, f"cpus: 1, frames: {frames}, swap_slots: 32")
    seen: Any = None
    for _, sim in answers(made, (Stay(), 1), (RandomWalk(0), schedules - 1)):
        assert seen in (None, sim.counters)
        seen = dict(sim.counters)
    return dict(seen)


def test_first_touches() -> None:
    """Each page: one fault, filled with zeros. The first one in the mapping gives it its amap, and starts over."""
    got = counted(
        """write: {at: "buf[0]", value: 1}

        read: {at: "buf[1]"}

        read: {at: "buf[1]"}

        write: {at: "buf[1]", value: 2}""",
        schedules=5,
    )
    assert got == {"traps": 2, "faults": 2, "fltamcopy": 1, "flt_przero": 2}


def test_copy_on_write() -> None:
    """The child's first write: its own amap, a copy of one page (an_ref 2), and two neighbours mapped on the way.

    When it has exited the parent's next write finds that the page is its own again: no copy.
    """
    got = counted(
        """write: {at: "buf[0]", value: 1}

        write: {at: "buf[1]", value: 2}

        write: {at: "buf[2]", value: 3}

        fork: {as: C, program: [{write: {at: "buf[0]", value: 4}}, {read: {at: "buf[1]"}}, {read: {at: "buf[2]"}}]}

        wait: {for: C}

        write: {at: "buf[0]", value: 5}""",
        schedules=5,
    )
    assert got == {
        "forks": 1, "traps": 5, "faults": 5, "fltamcopy": 3, "flt_przero": 3,
        "fltanget": 2, "flt_acow": 1, "flt_anon": 1, "fltnamap": 2,
    }  # fmt: skip


def test_refused_accesses_are_faults_too() -> None:
    got = counted(
        """mprotect: {at: "buf[0]", pages: 1, prot: r}

        write: {at: "buf[0]", value: 1}

        munmap: {at: "buf[0]", pages: 1}

        read: {at: "buf[0]"}"""
    )
    assert got == {"traps": 2, "faults": 2}


def test_locking_faults_without_a_trap() -> None:
    got = counted('mlock: {at: "buf[0]", pages: 4}\n\n write: {at: "buf[3]", value: 1}', schedules=5)
    assert got == {"faults": 4, "flt_przero": 4}


def test_out_to_swap_and_back() -> None:
    """Four pages go out in one cluster, and are read back one by one, each by a fault of its own."""
    writes = "\n\n".join(f'write: {{at: "buf[{page}]", value: {page}}}' for page in range(4))
    reads = "\n\n".join(f'read: {{at: "buf[{page}]"}}' for page in range(4))
    hog = "\n\n".join(f'write: {{at: "hog[{page}]", value: 1}}' for page in range(4))
    got = counted(
        f"""{writes}

        madvise: {{at: "buf[0]", pages: 4, advice: dontneed}}

        mmap: {{as: hog, pages: 4}}

        {hog}

        munmap: {{at: "hog[0]", pages: 4}}

        {reads}""",
        frames=12,
    )
    assert got == {
        # twelve pages touched, four of them twice; the eighth needs memory, of which the reserve is all that is left
        "traps": 12, "faults": 12, "fltamcopy": 2, "flt_przero": 8, "fltnoram": 1,
        # the pagedaemon: one scan starts the I/O of a cluster, the next, when that is done, frees its pages
        "pdwoke": 1, "pdrevs": 2, "pdscans": 8, "pdanscan": 8, "pdpending": 1, "pdfreed": 4, "pddeact": 3,
        # back again: each read gives up the map for the time of the I/O, relocks it, and looks again
        "fltanget": 4, "nswget": 4, "fltrelck": 4, "fltrelckok": 4, "fltanretry": 4, "flt_anon": 4,
    }  # fmt: skip
