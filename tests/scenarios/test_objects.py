"""Ends of objects: pages that are busy when nobody wants them any more, whatever the schedule."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from typing import Any

import pytest

from cluster.search import make
from tests.kit import answers, replaced, scene

SCHEDULES = 80

HOG = "\n".join(f'write: {{at: "hog[{page}]", value: {page}}}' for page in range(7))


def outcomes(
    a: str, b: str = HOG, setup: str = "", schedules: int = SCHEDULES, count: tuple[str, ...] = ()
) -> tuple[list[dict[str, Any]], Counter[str]]:
    """Results under many schedules, and how often the kernel functions of `count` were called."""
    setup = f"""file: {{as: F, pages: 4, words: [1, 2, 3, 4]}}
                process: {{as: A, cpu: 0}}
                process: {{as: B, cpu: 1}}
                mmap: {{in: B, as: hog, pages: 7}}
                {setup}"""
    made = scene({"A": a, "B": b}, setup, "cpus: 2, frames: 13, swap_slots: 24, disk: 4")
    searches = [(make(strategy, 0, 3), schedules // 2) for strategy in ("random", "pct")]
    called = Counter[str]()
    with ExitStack() as stack:
        for name in count:
            _count(name, called, stack)
        seen = [results for results, _ in answers(made, *searches)]
    return seen, called


def _count(name: str, called: Counter[str], stack: ExitStack) -> None:
    """Have the calls of a kernel function counted until `stack` ends."""

    def counting(*args: Any, **named: Any) -> Any:
        called[name] += 1
        return function(*args, **named)

    function = stack.enter_context(replaced(name, counting))


def test_a_file_that_is_not_cached_ends_with_its_last_page() -> None:
    """The pagedaemon has one in its hands when the last mapping goes. Whoever opens the file next waits for the end."""
    seen, called = outcomes(
        """- mmap: {as: map, pages: 4, file: F, flags: [shared]}
           - uncache: {file: F}
           - write: {at: "map[0]", value: 11}
           - write: {at: "map[1]", value: 12}
           - write: {at: "map[2]", value: 13}
           - munmap: {at: "map[0]", pages: 4}
           - fread: {at: "F[0]", into: f0}
           - fread: {at: "F[2]", into: f2}""",
        schedules=3 * SCHEDULES,
        count=("uvn_releasepg",),
    )
    assert all((outcome["f0"], outcome["f2"]) == (11, 13) for outcome in seen)
    assert called["uvn_releasepg"] > 0


def test_a_page_that_is_being_read_when_its_file_is_truncated_is_gone() -> None:
    seen, called = outcomes(
        """- mmap: {as: map, pages: 4, file: F, flags: [shared]}
           - read: {at: "map[3]", into: r3}
           - read: {at: "map[0]", into: r0}""",
        """- ftruncate: {file: F, pages: 3}
           - fread: {at: "F[3]", into: f3}""",
        count=("uvn_releasepg",),
    )
    assert {outcome["r3"] for outcome in seen} == {4, "SIGBUS"}
    assert all(outcome["r0"] == 1 and outcome["f3"] == "EINVAL" for outcome in seen)
    assert called["uvn_releasepg"] > 0


def test_two_who_ask_for_a_page_get_the_same() -> None:
    """One reads it, the other waits; neither has to read it again."""
    seen, called = outcomes(
        """- mmap: {as: map, pages: 4, file: F, flags: [shared]}
           - read: {at: "map[1]", into: ra}""",
        """- mmap: {as: map, pages: 4, file: F, flags: [private]}
           - read: {at: "map[1]", into: rb}""",
        count=("uvn_io",),
    )
    assert all((outcome["ra"], outcome["rb"]) == (2, 2) for outcome in seen)
    assert called["uvn_io"] == len(seen)


def test_shared_memory_ends_with_its_last_page() -> None:
    """A page of it is on its way to swap, or back, when the segment goes; slots and pages all return."""
    seen, called = outcomes(
        """- write: {at: "s[0]", value: 11}
           - write: {at: "s[1]", value: 12}
           - write: {at: "s[2]", value: 13}
           - read: {at: "s[0]", into: r0}
           - madvise: {at: "s[0]", pages: 3, advice: dontneed}
           - barrier: {name: short}
           - shm_remove: {shm: seg}
           - munmap: {at: "s[0]", pages: 3}""",
        HOG.replace('write: {at: "hog[5]"', 'barrier: {name: short}\nwrite: {at: "hog[5]"'),
        """- shm: {as: seg, pages: 3}
                 - mmap: {in: A, as: s, pages: 3, shm: seg}""",
        count=("uao_free", "uao_releasepg"),
    )
    assert all(outcome["r0"] == 11 for outcome in seen)
    assert called["uao_free"] == len(seen)
    assert called["uao_releasepg"] > 0


@pytest.mark.parametrize("flags", ["[sync]", "[invalidate]", "[async]"])
def test_what_msync_has_written_is_on_the_disk_whoever_else_is_at_it(flags: str) -> None:
    """The pagedaemon may have been faster, with a page that is still on its way."""
    seen, called = outcomes(
        f"""- mmap: {{as: map, pages: 3, file: F, flags: [shared]}}
           - mmap: {{as: raw, pages: 1}}
           - write: {{at: "map[0]", value: 11}}
           - write: {{at: "map[1]", value: 12}}
           - msync: {{at: "map[0]", pages: 3, flags: {flags}, into: sync}}
           - physio: {{do: read, at: "raw[0]", pages: 1, block: 1}}
           - read: {{at: "raw[0]", into: disk}}""",
        count=("uvm_aio_aiodone",),
    )
    assert all((outcome["sync"], outcome["disk"]) == (0, 12) for outcome in seen)
    assert called["uvm_aio_aiodone"] > 0  # some were


def test_a_private_page_may_be_copied_while_its_file_is_written() -> None:
    """A promotion sees the old word or the new one, never a page half of each, and what comes later not at all."""
    seen, _ = outcomes(
        """- mmap: {as: own, pages: 2, file: F, flags: [private]}
           - write: {at: "own[0]+8", value: 5}
           - barrier: {name: both}
           - read: {at: "own[0]", into: first}
           - barrier: {name: read}
           - barrier: {name: written}
           - read: {at: "own[0]", into: second}""",
        """- fwrite: {at: "F[0]", value: 21}
           - barrier: {name: both}
           - barrier: {name: read}
           - fwrite: {at: "F[0]", value: 22}
           - barrier: {name: written}""",
    )
    assert {outcome["first"] for outcome in seen} == {1, 21}
    assert all(outcome["first"] == outcome["second"] for outcome in seen)
