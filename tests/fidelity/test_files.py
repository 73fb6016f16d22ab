"""Files and shared memory when several things happen to them at once: what must hold under every schedule."""

from __future__ import annotations

from typing import Any

from cluster.search import make
from tests.kit import answers, scene


def run(
    setup: str, programs: dict[str, str], strategy: str, schedules: int, frames: int = 24, errata: str = ""
) -> list[dict[str, Any]]:
    """What the steps with `into` answered in each schedule; none may have a finding.

    Args:
        setup, programs: their steps, one a line, without the dash.
    """
    made = scene(
        programs,
        setup,
        f"cpus: 2, frames: {frames}, swap_slots: 16, page_size: 64, disk: 4",
        "fixed: {finding: none}" + (", with_errata: {finding: none}" if errata else ""),
        f"errata: [{errata}]",
    )
    return [results for results, _ in answers(made, (make(strategy, 0, 3), schedules))]


def test_ftruncate_of_a_file_whose_object_dies_meanwhile_is_woken() -> None:
    """It waits for I/O without a reference; the end of that I/O is the end of the object too."""
    stores = "\n".join(f'write: {{at: "new[{page}]", value: 1}}' for page in range(6))
    answers = run(
        """file: {as: F, pages: 3, words: [1, 2, 3]}
           process: {as: A, cpu: 0}
           mmap: {in: A, as: map, pages: 3, file: F, flags: [shared]}
           process: {as: B, cpu: 1}
           mmap: {in: B, as: new, pages: 6}""",
        {
            "A": """write: {at: "map[0]", value: 11}
                    write: {at: "map[1]", value: 12}
                    barrier: {name: written}
                    munmap: {at: "map[0]", pages: 3}
                    uncache: {file: F}
                    ftruncate: {file: F, pages: 1, into: done}""",
            "B": "barrier: {name: written}\n" + stores,
        },
        "pct",
        schedules=60,
        frames=12,
    )
    assert answers == [{"done": 0}] * len(answers)


def test_ftruncate_does_not_free_a_locked_page_that_is_busy() -> None:
    """msync is writing it. It stays mapped, as munlock expects, and is zero when the file grows again."""
    answers = run(
        """file: {as: F, pages: 2, words: [11, 12]}
           process: {as: A, cpu: 0}
           mmap: {in: A, as: map, pages: 2, file: F, flags: [shared]}
           process: {as: B, cpu: 1}""",
        {
            "A": """mlock: {at: "map[1]", pages: 1}
                    write: {at: "map[1]", value: 3}
                    barrier: {name: written}
                    msync: {at: "map[0]", pages: 2, flags: [sync]}
                    barrier: {name: truncated}
                    munlock: {at: "map[1]", pages: 1, into: munlock}
                    read: {at: "map[1]", into: read}
                    fread: {at: "F[1]", into: fread}""",
            "B": """barrier: {name: written}
                    ftruncate: {file: F, pages: 1}
                    ftruncate: {file: F, pages: 2}
                    barrier: {name: truncated}""",
        },
        "random",
        schedules=40,
    )
    assert answers == [{"munlock": 0, "read": 0, "fread": 0}] * len(answers)


def test_madvise_free_of_shared_memory_keeps_it_also_where_files_lose_data() -> None:
    """E49 is about files: shared memory is never thrown away, since others may want it."""
    answers = run(
        """shm: {as: S, pages: 2}
           process: {as: A, cpu: 0}
           mmap: {in: A, as: map, pages: 2, shm: S}""",
        {
            "A": """write: {at: "map[1]", value: 5}
                    shm_remove: {shm: S}
                    madvise: {at: "map[0]", pages: 2, advice: free}
                    read: {at: "map[1]", into: read}"""
        },
        "random",
        schedules=4,
        errata="uvm_map_clean.free-without-clean",
    )
    assert answers == [{"read": 5}] * len(answers)
