"""What NetBSD's manual pages of 2000 promise, page by page and sentence by sentence.

Each test runs one process's program (its children in it) under the default
schedule and under some random ones, and looks at what its steps answered.
"""

from __future__ import annotations

from typing import Any

import pytest

from cluster.search.strategy import Stay
from cluster.search.walk import RandomWalk
from tests import kit

SCHEDULES = 12


def answers(program: str, setup: str = "", frames: int = 32, disk: int = 8) -> dict[str, Any]:
    """Run process A, which has `buf`, four untouched pages; what each step with `into` answered.

    Args:
        program: its steps, one a line, without the dash.
        setup: further steps of the setup, in the same way.
    """
    setup = f"process: {{as: A, cpu: 0}}\nmmap: {{in: A, as: buf, pages: 4}}\n{setup}"
    made = kit.scene({"A": program}, setup, f"cpus: 2, frames: {frames}, swap_slots: 32, disk: {disk}")
    seen = [(results, sim.counters) for results, sim in kit.answers(made, (Stay(), 1), (RandomWalk(0), SCHEDULES - 1))]
    results, counters = seen[-1]
    assert all(each == results for each, _ in seen), "the schedule makes a difference"
    return results | {"faults": counters.get("faults", 0)}


# -- mmap(2) -------------------------------------------------------------------------


def test_mmap_anonymous_memory_is_zero() -> None:
    got = answers('read: {at: "buf[3]", into: first}\n read: {at: "buf[3]+56", into: last}')
    assert (got["first"], got["last"]) == (0, 0)


@pytest.mark.parametrize(("prot", "read", "write"), [("none", "SIGSEGV", "SIGSEGV"), ("r", 0, "SIGSEGV"), ("rw", 0, 0)])
def test_mmap_pages_are_as_accessible_as_prot_says(prot: str, read: Any, write: Any) -> None:
    """PROT_READ: may be read. PROT_WRITE: may be written. PROT_NONE: may not be accessed."""
    got = answers(f"""mmap: {{as: new, pages: 1, prot: {prot}}}
                      read: {{at: "new[0]", into: read}}
                      write: {{at: "new[0]", value: 1, into: write}}""")
    assert (got["read"], got["write"]) == (read, write)


def test_mmap_private_modifications_are_private() -> None:
    got = answers("""write: {at: "buf[0]", value: 1}
                     fork: {as: C, program: [{write: {at: "buf[0]", value: 2}}, {read: {at: "buf[0]", into: child}}]}
                     wait: {for: C}
                     read: {at: "buf[0]", into: parent}""")
    assert (got["child"], got["parent"]) == (2, 1)


def test_mmap_shared_modifications_are_shared() -> None:
    """Both ways, and for a page that nobody had touched before the fork."""
    got = answers("""mmap: {as: both, pages: 2, flags: [shared, anon]}
                     write: {at: "both[0]", value: 1}
                     fork: {as: C, program: [{read: {at: "both[0]", into: child}}, {write: {at: "both[1]", value: 2}}]}
                     wait: {for: C}
                     read: {at: "both[1]", into: parent}""")
    assert (got["child"], got["parent"]) == (1, 2)


def test_mmap_private_memory_is_copied_again_for_a_grandchild() -> None:
    """Modifications are private to each process, however many generations share the pages."""
    grandchild = '{write: {at: "buf[0]", value: 3}}, {read: {at: "buf[0]", into: grandchild}}'
    child = f"""{{write: {{at: "buf[1]", value: 2}}}}, {{fork: {{as: D, program: [{grandchild}]}}}},
        {{wait: {{for: D}}}}, {{read: {{at: "buf[0]", into: child}}}}"""
    got = answers(f"""write: {{at: "buf[0]", value: 1}}
                      fork: {{as: C, program: [{" ".join(child.split())}]}}
                      wait: {{for: C}}
                      read: {{at: "buf[0]", into: parent}}
                      read: {{at: "buf[1]", into: other}}""")
    assert (got["grandchild"], got["child"], got["parent"], got["other"]) == (3, 1, 1, 0)


FILE = "file: {as: F, pages: 3, words: [11, 12, 13]}"
SHARED = "mmap: {as: map, pages: 3, file: F, flags: [shared]}"
PRIVATE = "mmap: {as: own, pages: 3, file: F, flags: [private]}"


def test_mmap_maps_a_file_from_an_offset() -> None:
    got = answers(
        """mmap: {as: map, pages: 2, file: F, offset: 1, flags: [shared]}
                     read: {at: "map[0]", into: first}
                     read: {at: "map[1]", into: second}
                     read: {at: "map[1]+8", into: rest}""",
        FILE,
    )
    assert (got["first"], got["second"], got["rest"]) == (12, 13, 0)


def test_mmap_shared_modifications_change_the_file_and_private_ones_do_not() -> None:
    """And who else has the file mapped, or reads it, sees the ones and not the others."""
    got = answers(
        f"""{SHARED}
                      {PRIVATE}
                      mmap: {{as: too, pages: 3, file: F, flags: [shared]}}
                      write: {{at: "own[0]", value: 1}}
                      write: {{at: "map[1]", value: 2}}
                      read: {{at: "too[0]", into: t0}}
                      read: {{at: "too[1]", into: t1}}
                      fread: {{at: "F[0]", into: f0}}
                      fread: {{at: "F[1]", into: f1}}
                      read: {{at: "own[0]", into: o0}}""",
        FILE,
    )
    assert (got["t0"], got["t1"], got["f0"], got["f1"], got["o0"]) == (11, 2, 11, 2, 1)


def test_mmap_sees_what_is_written_to_the_file() -> None:
    read, write = 'read: {at: "map[0]", into: r}', 'fwrite: {at: "F[0]", value: 5}'
    got = answers(f'{SHARED}\n read: {{at: "map[0]"}}\n {write}\n {read}', FILE)
    assert got["r"] == 5


def test_mmap_beyond_the_end_of_the_file_is_sigbus() -> None:
    """Also when the file becomes shorter; what is mapped privately and has been written to stays."""
    got = answers(
        f"""mmap: {{as: map, pages: 4, file: F, flags: [shared]}}
                      {PRIVATE}
                      read: {{at: "map[3]", into: beyond}}
                      read: {{at: "map[2]", into: last}}
                      write: {{at: "own[2]", value: 7}}
                      ftruncate: {{file: F, pages: 2, into: done}}
                      read: {{at: "map[2]", into: gone}}
                      read: {{at: "own[2]", into: own}}
                      read: {{at: "map[1]", into: there}}
                      ftruncate: {{file: F, pages: 3}}
                      read: {{at: "map[2]", into: hole}}""",
        FILE,
    )
    assert (got["beyond"], got["last"], got["done"], got["gone"]) == ("SIGBUS", 13, 0, "SIGBUS")
    assert (got["own"], got["there"], got["hole"]) == (7, 12, 0)


def test_a_locked_page_beyond_the_end_of_the_file_is_zero() -> None:
    """It stays in memory, as mlock(2) says; what the file held there is gone, as ftruncate(2) says, and stays so."""
    got = answers(
        """mmap: {as: map, pages: 3, file: F, flags: [shared]}
           write: {at: "map[2]", value: 7}
           mlock: {at: "map[2]", pages: 1}
           ftruncate: {file: F, pages: 2}
           read: {at: "map[2]", into: locked}
           munlock: {at: "map[2]", pages: 1, into: munlock}
           ftruncate: {file: F, pages: 3}
           read: {at: "map[2]", into: read}
           fread: {at: "F[2]", into: fread}""",
        FILE,
    )
    assert (got["locked"], got["munlock"], got["read"], got["fread"]) == (0, 0, 0, 0)


def test_a_file_stays_mapped_when_nothing_else_refers_to_it() -> None:
    """The mapping holds a reference; pages of a file that is not cached go with the last one, and are written."""
    got = answers(
        f"""{SHARED}
                      write: {{at: "map[0]", value: 9}}
                      uncache: {{file: F}}
                      read: {{at: "map[0]", into: still}}
                      munmap: {{at: "map[0]", pages: 3}}
                      fread: {{at: "F[0]", into: written}}""",
        FILE,
    )
    assert (got["still"], got["written"]) == (9, 9)


# -- msync(2) ------------------------------------------------------------------------


@pytest.mark.parametrize("flags", ["sync", "async", "invalidate", "sync, invalidate"])
def test_msync_writes_modified_pages_back_to_the_filesystem(flags: str) -> None:
    """Then it makes no difference that they are thrown away; with MS_INVALIDATE they have been."""
    got = answers(
        f"""{SHARED}
                      write: {{at: "map[0]", value: 1}}
                      msync: {{at: "map[0]", pages: 3, flags: [{flags}], into: done}}
                      mincore: {{at: "map[0]", pages: 3, into: core}}
                      physio: {{do: read, at: "buf[0]", pages: 1, block: 0}}
                      read: {{at: "buf[0]", into: disk}}
                      read: {{at: "map[0]", into: r0}}""",
        FILE,
    )
    assert (got["done"], got["disk"], got["r0"]) == (0, 1, 1)
    assert got["core"] & 1 == ("invalidate" not in flags)


def test_msync_leaves_the_rest_of_the_file_alone() -> None:
    """Only the pages of the range; others are written when the kernel likes."""
    got = answers(
        f"""{SHARED}
                      write: {{at: "map[0]", value: 1}}
                      write: {{at: "map[1]", value: 2}}
                      msync: {{at: "map[1]", pages: 1, flags: [sync]}}
                      physio: {{do: read, at: "buf[0]", pages: 2, block: 0}}
                      read: {{at: "buf[0]", into: first}}
                      read: {{at: "buf[1]", into: second}}""",
        FILE,
    )
    assert (got["first"], got["second"]) == (11, 2)


def test_msync_refuses_what_makes_no_sense() -> None:
    got = answers(
        f"""{SHARED}
                      msync: {{at: "map[0]", pages: 1, flags: [sync, async], into: both}}
                      munmap: {{at: "map[1]", pages: 1}}
                      msync: {{at: "map[0]", pages: 3, flags: [sync], into: hole}}
                      mlock: {{at: "map[0]", pages: 1}}
                      msync: {{at: "map[0]", pages: 1, flags: [invalidate], into: locked}}
                      msync: {{at: "map[0]", pages: 1, flags: [sync], into: fine}}""",
        FILE,
    )
    assert (got["both"], got["hole"], got["locked"], got["fine"]) == ("EINVAL", "ENOMEM", "EBUSY", 0)


# -- shared memory: shmget(2), shmat(2), shmctl(2) ---------------------------------------


def test_a_segment_is_zero_and_shared_and_survives_its_removal_while_it_is_mapped() -> None:
    got = answers(
        """shm: {as: seg, pages: 2}
                     mmap: {as: one, pages: 2, shm: seg}
                     mmap: {as: two, pages: 1, shm: seg, offset: 1}
                     read: {at: "one[1]", into: zero}
                     write: {at: "one[1]", value: 5}
                     read: {at: "two[0]", into: other}
                     fork: {as: C, program: [{write: {at: "one[0]", value: 6}}]}
                     wait: {for: C}
                     shm_remove: {shm: seg, into: removed}
                     shm_remove: {shm: seg, into: again}
                     read: {at: "one[0]", into: child}
                     mmap: {as: three, pages: 1, shm: seg, into: gone}"""
    )
    assert (got["zero"], got["other"], got["child"]) == (0, 5, 6)
    assert (got["removed"], got["again"], got["gone"]) == (0, "EINVAL", "EINVAL")


def test_a_segment_goes_to_swap_and_comes_back() -> None:
    got = answers(
        f"""mmap: {{as: s, pages: 2, shm: seg}}
                      write: {{at: "s[0]", value: 5}}
                      {HOG}
                      {HOG.replace("hog", "hug")}
                      mincore: {{at: "s[0]", pages: 1, into: core}}
                      read: {{at: "s[0]", into: back}}""",
        "shm: {as: seg, pages: 2}",
        frames=20,
    )
    assert (got["core"], got["back"]) == (0, 5)


# -- munmap(2) -----------------------------------------------------------------------


def test_munmap_makes_further_references_invalid() -> None:
    got = answers("""write: {at: "buf[1]", value: 7}
                     munmap: {at: "buf[1]", pages: 2, into: done}
                     read: {at: "buf[1]", into: r1}
                     write: {at: "buf[2]", value: 1, into: w2}
                     write: {at: "buf[0]", value: 1, into: w0}
                     write: {at: "buf[3]", value: 1, into: w3}""")
    assert got["done"] == 0
    assert (got["r1"], got["w2"]) == ("SIGSEGV", "SIGSEGV")
    assert (got["w0"], got["w3"]) == (0, 0)


def test_munmap_of_what_is_not_all_mapped_is_einval_and_unmaps_nothing() -> None:
    got = answers("""munmap: {at: "buf[1]", pages: 1}
                     munmap: {at: "buf[0]", pages: 4, into: hole}
                     write: {at: "buf[0]", value: 1, into: w0}""")
    assert (got["hole"], got["w0"]) == ("EINVAL", 0)


def test_munmap_is_of_ones_own_address_space_only() -> None:
    got = answers("""mmap: {as: both, pages: 2, flags: [shared, anon]}
                     write: {at: "both[0]", value: 1}
                     fork: {as: C, program: [{munmap: {at: "both[0]", pages: 2}}, {read: {at: "both[0]", into: child}}]}
                     wait: {for: C}
                     read: {at: "both[0]", into: parent}""")
    assert (got["child"], got["parent"]) == ("SIGSEGV", 1)


# -- mlock(2) ------------------------------------------------------------------------


def test_mlock_needs_the_entire_range_allocated() -> None:
    """ENOMEM: some portion of the indicated range is not allocated; the locked status of all pages is unchanged."""
    got = answers("""munmap: {at: "buf[2]", pages: 1}
                     mlock: {at: "buf[0]", pages: 4, into: lock}
                     munlock: {at: "buf[0]", pages: 2, into: unlock}""")
    assert (got["lock"], got["unlock"]) == ("ENOMEM", "ENOMEM")


def test_mlock_cannot_make_inaccessible_pages_resident() -> None:
    assert (
        answers('mprotect: {at: "buf[1]", pages: 1, prot: none}\n mlock: {at: "buf[0]", pages: 4, into: r}')["r"]
        == "ENOMEM"
    )


def test_mlocked_pages_cause_no_fault() -> None:
    """Neither a non-resident page nor an address-translation fault."""
    lock = 'mlock: {at: "buf[0]", pages: 4, into: lock}'
    use = "\n".join(f'write: {{at: "buf[{page}]", value: {page}}}\n read: {{at: "buf[{page}]"}}' for page in range(4))
    assert answers(f"{lock}\n {use}")["faults"] == answers(lock)["faults"]


HOG = "\n".join(["mmap: {as: hog, pages: 16}", *(f'write: {{at: "hog[{page}]", value: {page}}}' for page in range(16))])


def test_mlocked_pages_remain_in_memory() -> None:
    """Whatever else wants memory; unlocked ones do not."""
    write = "\n".join(f'write: {{at: "buf[{page}]", value: {page}}}' for page in range(4))
    lock, ask = 'mlock: {at: "buf[0]", pages: 4}', 'mincore: {at: "buf[0]", pages: 4, into: core}'
    assert answers(f"{write}\n {lock}\n {HOG}\n {HOG.replace('hog', 'hug')}\n {ask}", frames=24)["core"] == 0b1111


def test_one_munlock_undoes_any_number_of_mlocks() -> None:
    """The page of 1998 says that mlock nests; since 1999 the kernel does as POSIX 1003.1b."""
    got = answers("""mlock: {at: "buf[0]", pages: 2}
                     mlock: {at: "buf[0]", pages: 2}
                     munlock: {at: "buf[0]", pages: 2, into: once}
                     munlock: {at: "buf[0]", pages: 2, into: twice}""")
    assert (got["once"], got["twice"]) == (0, "ENOMEM")


def test_munlock_needs_the_entire_range_locked() -> None:
    got = answers("""mlock: {at: "buf[0]", pages: 2}
                     munlock: {at: "buf[0]", pages: 4, into: more}
                     munlock: {at: "buf[0]", pages: 2, into: right}""")
    assert (got["more"], got["right"]) == ("ENOMEM", 0)


def test_munmap_unlocks_implicitly() -> None:
    """What was locked is free again: as much can be locked anew, up to the system's limit."""
    got = answers(
        """mlock: {at: "buf[0]", pages: 4}
                     munmap: {at: "buf[0]", pages: 4}
                     mmap: {as: new, pages: 8}
                     mlock: {at: "new[0]", pages: 8, into: again}""",
        frames=24,
    )
    assert got["again"] == 0


def test_mlock_has_a_limit_for_the_whole_system() -> None:
    """EAGAIN: a third of memory."""
    got = answers(
        """mmap: {as: big, pages: 8}
                     mlock: {at: "big[0]", pages: 8, into: most}
                     mlock: {at: "buf[0]", pages: 1, into: more}""",
        frames=24,
    )
    assert (got["most"], got["more"]) == (0, "EAGAIN")


def test_locked_mappings_are_not_inherited() -> None:
    got = answers("""mlock: {at: "buf[0]", pages: 4}
                     fork: {as: C, program: [{munlock: {at: "buf[0]", pages: 4, into: child}}]}
                     wait: {for: C}
                     munlock: {at: "buf[0]", pages: 4, into: parent}""")
    assert (got["child"], got["parent"]) == ("ENOMEM", 0)


def test_pages_remain_until_all_locked_mappings_are_removed() -> None:
    """Multiple processes may have the same physical pages locked."""
    got = answers(
        f"""mmap: {{as: both, pages: 2, flags: [shared, anon]}}
                      write: {{at: "both[0]", value: 1}}
                      mlock: {{at: "both[0]", pages: 2}}
                      fork: {{as: C, program: [{{mlock: {{at: "both[0]", pages: 2, into: child}}}}]}}
                      wait: {{for: C}}
                      {HOG}
                      mincore: {{at: "both[0]", pages: 2, into: core}}""",
        frames=24,
    )
    assert (got["child"], got["core"]) == (0, 0b11)


def test_munlocked_pages_may_leave_memory_again() -> None:
    write = "\n".join(f'write: {{at: "buf[{page}]", value: {page + 1}}}' for page in range(4))
    lock, unlock = 'mlock: {at: "buf[0]", pages: 4}', 'munlock: {at: "buf[0]", pages: 4}'
    hogs = f"{HOG}\n {HOG.replace('hog', 'hug')}"
    ask = 'mincore: {at: "buf[0]", pages: 4, into: core}\n read: {at: "buf[3]", into: r3}'
    got = answers(f"{write}\n {lock}\n {unlock}\n {hogs}\n {ask}", frames=20)
    assert (got["core"], got["r3"]) == (0, 4)


def test_what_a_process_has_locked_is_unlocked_when_it_exits() -> None:
    got = answers(
        """fork: {as: C, program: [{mlock: {at: "buf[0]", pages: 4, into: child}}]}
                     wait: {for: C}
                     mmap: {as: new, pages: 8}
                     mlock: {at: "new[0]", pages: 8, into: again}""",
        frames=24,
    )
    assert (got["child"], got["again"]) == (0, 0)


def test_a_failed_mlock_locks_nothing() -> None:
    """The status of all pages is unchanged: those locked before stay locked, the others are not."""
    got = answers("""mlock: {at: "buf[1]", pages: 1, into: one}
                     munmap: {at: "buf[3]", pages: 1}
                     mlock: {at: "buf[0]", pages: 4, into: all}
                     munlock: {at: "buf[0]", pages: 1, into: not}
                     munlock: {at: "buf[1]", pages: 1, into: still}""")
    assert (got["one"], got["all"], got["not"], got["still"]) == (0, "ENOMEM", "ENOMEM", 0)


# -- minherit(2) ---------------------------------------------------------------------


@pytest.mark.parametrize(("inherit", "child", "parent"), [("none", "SIGSEGV", 1), ("copy", 1, 1), ("share", 1, 2)])
def test_minherit_decides_what_a_child_gets(inherit: str, child: Any, parent: Any) -> None:
    """On a page basis: the page behind keeps its own."""
    got = answers(
        f"""write: {{at: "buf[0]", value: 1}}
                      write: {{at: "buf[1]", value: 9}}
                      minherit: {{at: "buf[0]", pages: 1, inherit: {inherit}, into: done}}
                      fork: {{as: C, program: [{{read: {{at: "buf[0]", into: child}}}},
                        {{write: {{at: "buf[0]", value: 2}}}}, {{read: {{at: "buf[1]", into: other}}}}]}}
                      wait: {{for: C}}
                      read: {{at: "buf[0]", into: parent}}""".replace("\n                        ", " ")
    )
    assert (got["done"], got["child"], got["parent"], got["other"]) == (0, child, parent, 9)


def test_minherit_is_inherited_and_may_be_changed_back() -> None:
    """What a child got as a share it shares with its own children too; what is set back to copy is private again."""
    grandchild = '{write: {at: "buf[0]", value: 2}}'
    got = answers(f"""write: {{at: "buf[0]", value: 1}}
                      minherit: {{at: "buf[0]", pages: 1, inherit: share}}
                      fork: {{as: C, program: [{{fork: {{as: D, program: [{grandchild}]}}}}, {{wait: {{for: D}}}}]}}
                      wait: {{for: C}}
                      read: {{at: "buf[0]", into: shared}}
                      minherit: {{at: "buf[0]", pages: 1, inherit: copy}}
                      fork: {{as: E, program: [{{write: {{at: "buf[0]", value: 3}}}}]}}
                      wait: {{for: E}}
                      read: {{at: "buf[0]", into: copied}}""")
    assert (got["shared"], got["copied"]) == (2, 2)


def test_minherit_of_shared_memory_to_copy() -> None:
    got = answers("""mmap: {as: both, pages: 1, flags: [shared, anon]}
                     write: {at: "both[0]", value: 1}
                     minherit: {at: "both[0]", pages: 1, inherit: copy}
                     fork: {as: C, program: [{write: {at: "both[0]", value: 2}}, {read: {at: "both[0]", into: child}}]}
                     wait: {for: C}
                     read: {at: "both[0]", into: parent}""")
    assert (got["child"], got["parent"]) == (2, 1)


@pytest.mark.parametrize(("inherit", "child", "parent"), [("none", "SIGSEGV", 11), ("copy", 1, 11), ("share", 1, 1)])
def test_minherit_of_a_mapped_file(inherit: str, child: Any, parent: Any) -> None:
    """A copy is what a private mapping of the file is."""
    write = '{write: {at: "map[0]", value: 1}}'
    got = answers(
        f"""{SHARED}
                      minherit: {{at: "map[0]", pages: 3, inherit: {inherit}}}
                      fork: {{as: C, program: [{write}, {{read: {{at: "map[0]", into: child}}}}]}}
                      wait: {{for: C}}
                      read: {{at: "map[0]", into: parent}}""",
        FILE,
    )
    assert (got["child"], got["parent"]) == (child, parent)


def test_a_child_with_a_copy_of_a_mapped_file_sees_its_parent_write_until_it_writes_itself() -> None:
    child = """{barrier: {name: written}}, {read: {at: "map[0]", into: before}}, {write: {at: "map[0]+8", value: 1}},
        {barrier: {name: own}}, {barrier: {name: again}}, {read: {at: "map[0]", into: after}}"""
    got = answers(
        f"""{SHARED}
                      minherit: {{at: "map[0]", pages: 3, inherit: copy}}
                      fork: {{as: C, cpu: 1, program: [{" ".join(child.split())}]}}
                      write: {{at: "map[0]", value: 21}}
                      barrier: {{name: written}}
                      barrier: {{name: own}}
                      write: {{at: "map[0]", value: 22}}
                      barrier: {{name: again}}
                      wait: {{for: C}}""",
        FILE,
    )
    assert (got["before"], got["after"]) == (21, 21)


# -- mprotect(2) ---------------------------------------------------------------------


def test_mprotect_changes_the_specified_pages() -> None:
    """And no others; what the pages hold stays."""
    got = answers("""write: {at: "buf[0]", value: 1}
                     write: {at: "buf[1]", value: 2}
                     mprotect: {at: "buf[1]", pages: 1, prot: r, into: done}
                     write: {at: "buf[0]", value: 3, into: before}
                     write: {at: "buf[1]", value: 3, into: inside}
                     write: {at: "buf[2]", value: 3, into: behind}
                     read: {at: "buf[1]", into: kept}""")
    assert (got["done"], got["before"], got["inside"], got["behind"], got["kept"]) == (0, 0, "SIGSEGV", 0, 2)


def test_mprotect_gives_access_back() -> None:
    got = answers("""write: {at: "buf[0]", value: 1}
                     mprotect: {at: "buf[0]", pages: 1, prot: none}
                     read: {at: "buf[0]", into: none}
                     mprotect: {at: "buf[0]", pages: 1, prot: r}
                     read: {at: "buf[0]", into: r}
                     mprotect: {at: "buf[0]", pages: 1, prot: rw}
                     write: {at: "buf[0]", value: 4, into: w}""")
    assert (got["none"], got["r"], got["w"]) == ("SIGSEGV", 1, 0)


def test_mprotect_does_not_undo_copy_on_write() -> None:
    got = answers(
        """write: {at: "buf[0]", value: 1}
                     fork: {as: C, program: [{mprotect: {at: "buf[0]", pages: 1, prot: r}},
                       {mprotect: {at: "buf[0]", pages: 1, prot: rw}}, {write: {at: "buf[0]", value: 2}}]}
                     wait: {for: C}
                     read: {at: "buf[0]", into: parent}""".replace("\n                       ", " ")
    )
    assert got["parent"] == 1


def test_mprotect_of_locked_pages_leaves_them_locked() -> None:
    """No access, then some, then all; they are locked all the time, and munlock finds every one of them."""
    got = answers("""write: {at: "buf[0]", value: 1}
                     mlock: {at: "buf[0]", pages: 4}
                     mprotect: {at: "buf[0]", pages: 2, prot: none}
                     read: {at: "buf[0]", into: none}
                     mincore: {at: "buf[0]", pages: 4, into: core}
                     munlock: {at: "buf[0]", pages: 4, into: unlocked}
                     mprotect: {at: "buf[0]", pages: 2, prot: rw}
                     read: {at: "buf[0]", into: back}""")
    assert (got["none"], got["core"], got["unlocked"], got["back"]) == ("SIGSEGV", 0b1111, 0, 1)


def test_pages_locked_read_only_may_be_made_writable() -> None:
    """A child locks what it still shares with its parent, makes it writable, writes: its copy is the locked page."""
    child = """{mprotect: {at: "buf[0]", pages: 1, prot: r}}, {mlock: {at: "buf[0]", pages: 1, into: lock}},
        {mprotect: {at: "buf[0]", pages: 1, prot: rw}}, {write: {at: "buf[0]", value: 2}},
        {munlock: {at: "buf[0]", pages: 1, into: unlock}}, {read: {at: "buf[0]", into: child}}"""
    got = answers(f"""write: {{at: "buf[0]", value: 1}}
                      fork: {{as: C, program: [{" ".join(child.split())}]}}
                      wait: {{for: C}}
                      read: {{at: "buf[0]", into: parent}}""")
    assert (got["lock"], got["unlock"], got["child"], got["parent"]) == (0, 0, 2, 1)


def test_mprotect_passes_over_holes() -> None:
    got = answers("""munmap: {at: "buf[1]", pages: 1}
                     mprotect: {at: "buf[0]", pages: 4, prot: r, into: done}
                     write: {at: "buf[3]", value: 1, into: w3}
                     read: {at: "buf[1]", into: r1}""")
    assert (got["done"], got["w3"], got["r1"]) == (0, "SIGSEGV", "SIGSEGV")


def test_mprotect_is_of_ones_own_address_space_only() -> None:
    child = '{mprotect: {at: "both[0]", pages: 1, prot: none}}, {read: {at: "both[0]", into: child}}'
    got = answers(f"""mmap: {{as: both, pages: 1, flags: [shared, anon]}}
                      fork: {{as: C, program: [{child}]}}
                      wait: {{for: C}}
                      write: {{at: "both[0]", value: 1, into: parent}}""")
    assert (got["child"], got["parent"]) == ("SIGSEGV", 0)


# -- madvise(2) ----------------------------------------------------------------------


@pytest.mark.parametrize("advice", ["normal", "random", "sequential", "willneed", "dontneed"])
def test_madvise_does_not_change_what_memory_holds(advice: str) -> None:
    got = answers(f"""write: {{at: "buf[1]", value: 7}}
                      madvise: {{at: "buf[0]", pages: 4, advice: {advice}, into: done}}
                      read: {{at: "buf[1]", into: r1}}
                      read: {{at: "buf[2]", into: r2}}""")
    assert (got["done"], got["r1"], got["r2"]) == (0, 7, 0)


def test_madvise_random_and_sequential_decide_what_a_fault_maps() -> None:
    """Random: only the page that was asked for. Otherwise its neighbours too, if they are resident."""
    touch = """fork: {as: C, program: [{madvise: {at: "buf[0]", pages: 4, advice: ADVICE}},
        {read: {at: "buf[0]"}}, {read: {at: "buf[1]"}}, {read: {at: "buf[2]"}}, {read: {at: "buf[3]"}}]}"""
    write = "\n".join(f'write: {{at: "buf[{page}]", value: {page}}}' for page in range(4))

    def faults(advice: str) -> int:
        return int(
            answers(f"{write}\n {' '.join(touch.split()).replace('ADVICE', advice)}\n wait: {{for: C}}")["faults"]
        )

    assert faults("random") - faults("normal") == 3
    assert faults("sequential") == faults("normal")


def test_madvise_dontneed_lets_pages_go_first() -> None:
    """They go to swap before those that are needed; and come back."""
    got = answers(
        f"""write: {{at: "buf[0]", value: 7}}
                      madvise: {{at: "buf[0]", pages: 1, advice: dontneed}}
                      {HOG}
                      mincore: {{at: "buf[0]", pages: 1, into: core}}
                      read: {{at: "buf[0]", into: back}}""",
        frames=20,
    )
    assert (got["core"], got["back"]) == (0, 7)


def test_madvise_free_throws_pages_away() -> None:
    """Pages are empty, free them: their memory is free at once, and they read as zero."""
    got = answers("""write: {at: "buf[0]", value: 7}
                     write: {at: "buf[1]", value: 8}
                     madvise: {at: "buf[0]", pages: 4, advice: free, into: done}
                     mincore: {at: "buf[0]", pages: 4, into: core}
                     read: {at: "buf[0]", into: r0}""")
    assert (got["done"], got["core"], got["r0"]) == (0, 0, 0)


def test_madvise_free_is_nobody_elses_affair() -> None:
    """A child throws away pages that it still shares with its parent; neither sees what the other does then."""
    child = """{write: {at: "buf[0]", value: 1}}, {read: {at: "buf[1]"}},
        {madvise: {at: "buf[0]", pages: 4, advice: free}},
        {barrier: {name: freed}}, {barrier: {name: written}}, {read: {at: "buf[1]", into: child}}"""
    got = answers(f"""write: {{at: "buf[1]", value: 7}}
                      fork: {{as: C, cpu: 1, program: [{" ".join(child.split())}]}}
                      barrier: {{name: freed}}
                      read: {{at: "buf[1]", into: before}}
                      write: {{at: "buf[1]", value: 9}}
                      barrier: {{name: written}}
                      wait: {{for: C}}
                      read: {{at: "buf[1]", into: parent}}""")
    assert (got["before"], got["child"], got["parent"]) == (7, 0, 9)


def test_madvise_refuses_what_it_does_not_know_and_what_is_not_mapped() -> None:
    got = answers("""madvise: {at: "buf[0]", pages: 1, advice: spaceavail, into: unknown}
                     munmap: {at: "buf[1]", pages: 1}
                     madvise: {at: "buf[0]", pages: 4, advice: free, into: hole}""")
    assert (got["unknown"], got["hole"]) == ("EINVAL", "ENOMEM")


def test_madvise_free_of_a_file_writes_it_first() -> None:
    """The pages are not needed any more; the file is."""
    got = answers(
        f"""{SHARED}
                      {PRIVATE}
                      write: {{at: "map[0]", value: 7}}
                      write: {{at: "own[1]", value: 8}}
                      madvise: {{at: "map[0]", pages: 3, advice: free}}
                      madvise: {{at: "own[0]", pages: 3, advice: free}}
                      mincore: {{at: "map[0]", pages: 3, into: core}}
                      read: {{at: "map[0]", into: r0}}
                      read: {{at: "own[1]", into: own}}""",
        FILE,
    )
    assert (got["core"], got["r0"], got["own"]) == (0, 7, 12)


# -- mincore(2) ----------------------------------------------------------------------


def test_mincore_says_which_pages_are_resident() -> None:
    got = answers("""mincore: {at: "buf[0]", pages: 4, into: none}
                     write: {at: "buf[1]", value: 1}
                     read: {at: "buf[3]"}
                     mincore: {at: "buf[0]", pages: 4, into: some}
                     mincore: {at: "buf[1]", pages: 2, into: part}""")
    assert (got["none"], got["some"], got["part"]) == (0, 0b1010, 0b01)


def test_mincore_goes_over_several_mappings() -> None:
    got = answers("""write: {at: "buf[0]", value: 1}
                     write: {at: "buf[3]", value: 1}
                     mprotect: {at: "buf[1]", pages: 1, prot: none}
                     mincore: {at: "buf[0]", pages: 4, into: core}""")
    assert got["core"] == 0b1001


def test_mincore_of_what_is_not_all_mapped_is_enomem() -> None:
    got = answers("""munmap: {at: "buf[1]", pages: 1}
                     mincore: {at: "buf[0]", pages: 4, into: hole}
                     mincore: {at: "buf[1]", pages: 1, into: nothing}""")
    assert (got["hole"], got["nothing"]) == ("ENOMEM", "ENOMEM")


def test_mincore_knows_pages_of_files() -> None:
    """Resident is resident, whoever has asked for it."""
    got = answers(
        f"""{SHARED}
                      {PRIVATE}
                      fread: {{at: "F[2]"}}
                      mincore: {{at: "map[0]", pages: 3, into: before}}
                      write: {{at: "own[0]", value: 1}}
                      mincore: {{at: "own[0]", pages: 3, into: own}}""",
        FILE,
    )
    assert (got["before"], got["own"]) == (0b100, 0b101)


# -- fork(2) -------------------------------------------------------------------------


def test_fork_makes_an_exact_copy() -> None:
    """Touched pages and untouched ones, read-only ones and holes; and what either does later is its own."""
    child = """{read: {at: "buf[0]", into: c0}}, {read: {at: "buf[1]", into: c1}},
        {write: {at: "buf[2]", value: 5, into: c2}},
        {read: {at: "buf[3]", into: c3}}, {write: {at: "buf[0]", value: 6}}"""
    got = answers(f"""write: {{at: "buf[0]", value: 1}}
                      write: {{at: "buf[2]", value: 2}}
                      mprotect: {{at: "buf[2]", pages: 1, prot: r}}
                      munmap: {{at: "buf[3]", pages: 1}}
                      fork: {{as: C, cpu: 1, program: [{" ".join(child.split())}]}}
                      write: {{at: "buf[1]", value: 3}}
                      wait: {{for: C}}
                      read: {{at: "buf[0]", into: p0}}""")
    assert (got["c0"], got["c1"], got["c2"], got["c3"]) == (1, 0, "SIGSEGV", "SIGSEGV")
    assert got["p0"] == 1


def test_fork_shares_shared_files_and_copies_private_ones() -> None:
    child = """{write: {at: "map[0]", value: 1}}, {write: {at: "own[0]", value: 2}}, {read: {at: "own[1]", into: c1}},
        {read: {at: "own[0]", into: c0}}"""
    got = answers(
        f"""{SHARED}
                      {PRIVATE}
                      write: {{at: "own[1]", value: 3}}
                      fork: {{as: C, cpu: 1, program: [{" ".join(child.split())}]}}
                      wait: {{for: C}}
                      read: {{at: "map[0]", into: m0}}
                      read: {{at: "own[1]", into: p1}}
                      read: {{at: "own[2]", into: p2}}""",
        FILE,
    )
    assert (got["c1"], got["c0"], got["m0"], got["p1"], got["p2"]) == (3, 2, 1, 3, 13)


def test_fork_copies_what_is_in_swap() -> None:
    got = answers(
        f"""write: {{at: "buf[0]", value: 7}}
                      {HOG}
                      {HOG.replace("hog", "hug")}
                      fork: {{as: C, program: [{{read: {{at: "buf[0]", into: child}}}}]}}
                      wait: {{for: C}}""",
        frames=20,
    )
    assert got["child"] == 7


def test_fork_copies_what_is_locked() -> None:
    """A locked page of the parent is copied at once; both continue with their own."""
    child = '{read: {at: "buf[0]", into: c0}}, {write: {at: "buf[0]", value: 2}}'
    got = answers(f"""write: {{at: "buf[0]", value: 1}}
                      mlock: {{at: "buf[0]", pages: 1}}
                      fork: {{as: C, cpu: 1, program: [{child}]}}
                      write: {{at: "buf[0]", value: 3}}
                      wait: {{for: C}}
                      read: {{at: "buf[0]", into: p0}}""")
    assert (got["c0"], got["p0"]) == (1, 3)
