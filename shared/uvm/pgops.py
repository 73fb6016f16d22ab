"""The pager operations: the operations on an object, for every pager; and code that the pagers share.

Each pager (vnode.py, aobj.py) enters its operations under the number that its
objects have in `pgops`; uobj->pgops->pgo_get is pgops_of(uobj).pgo_get.

    pgo_reference(uobj)                   one reference more
    pgo_detach(uobj)                      one less; the last one may end the object
    pgo_get(uobj, offset, wanted, center, flags)
                                          the pages from `offset` on that are wanted, BUSY: (0 or an error, pages).
                                          PGO_LOCKED: those that can be had at once, and EBUSY if `center` cannot.
                                          Without: it may sleep, gets `center` alone, and unlocks the object;
                                          PGO_SWAPOFF: ENOMEM, if waiting for memory is of no use
    pgo_put(uobj, pages, flags)           write a cluster of BUSY pages; unlocks the object. 0: PGO_SYNCIO: it is
                                          done, else it is started; or an error
    pgo_flush(uobj, start, stop, flags)   clean, deactivate or free pages; False if some could not be written.
                                          The object is locked again on return
    pgo_cluster(uobj, offset)             the range of offsets that may be written together
    pgo_releasepg(pg)                     free a page that was RELEASED while it was BUSY; False if that was the
                                          end of the object, and of its lock

Locks:   reference and detach: the object unlocked; all others: locked.
Left out: pgo_init, pgo_fault and pgo_asyncget, which no pager here has.
Source: uvm_pager.h of 2000; results as of 2001-03-10.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from shared.port.port import erratum, here
from shared.uvm.page import uvm_page_own, uvm_page_wait, uvm_pagealloc, uvm_pagelookup
from shared.uvm.param import EAGAIN, EBUSY, ENOMEM, PG_BUSY, PG_RELEASED, PGO_SWAPOFF
from shared.uvm.structs import Page, UvmObject
from shared.uvm.wait import uvm_wait, uvm_wait_vain


class PagerOps(NamedTuple):
    """struct uvm_pagerops"""

    pgo_reference: Callable[[UvmObject], None]
    pgo_detach: Callable[[UvmObject], None]
    pgo_get: Callable[[UvmObject, int, Sequence[bool], int, int], tuple[int, list[Page | None]]]
    pgo_put: Callable[[UvmObject, list[Page], int], int] | None
    pgo_flush: Callable[[UvmObject, int, int, int], bool]
    pgo_cluster: Callable[[UvmObject, int], tuple[int, int]] | None
    pgo_releasepg: Callable[[Page], bool]


#: UVM_PGOPS_* -> the pager's operations
PGOPS: dict[int, PagerOps] = {}


def pgops_of(uobj: UvmObject) -> PagerOps:
    """uobj->pgops"""
    return PGOPS[uobj.pgops]


# -- what pagers have in common ----------------------------------------------------------------


def reference(uobj: UvmObject) -> None:
    """pgo_reference: gain a reference. Locks: entry the object unlocked; same."""
    uobj.vmobjlock.lock()
    uobj.uo_refs += 1
    uobj.vmobjlock.unlock()


def get_resident(
    uobj: UvmObject,
    offset: int,
    wanted: Sequence[bool],
    center: int,
    tag: str,
    make: Callable[[UvmObject, int], Page | None] | None = None,
) -> tuple[int, list[Page | None]]:
    """pgo_get with PGO_LOCKED: what is resident and not BUSY.

    Args:
        tag: owner_tag of the pages.
        make: makes a page that is not resident, BUSY, if that takes no I/O and there is memory.

    Locks:   the object.
    """
    page_size = here.port.page_size
    pages: list[Page | None] = [None] * len(wanted)
    for lcv, want in enumerate(wanted):
        if not want:
            continue
        at = offset + lcv * page_size
        pg = uvm_pagelookup(uobj, at)
        if pg is not None:
            flags = pg.flags
            if flags & (PG_BUSY | PG_RELEASED):
                continue
            pg.flags = flags | PG_BUSY
        elif make is not None:
            pg = make(uobj, at)
        if pg is not None:
            uvm_page_own(pg, tag)
            pages[lcv] = pg
    return (0 if not wanted[center] or pages[center] is not None else EBUSY), pages


def get_busy(uobj: UvmObject, at: int, name: str, flags: int) -> tuple[int, Page | None, bool]:
    """pgo_get without PGO_LOCKED: the page at an offset, BUSY, and whether it is new and has to be filled.

    The caller has unlocked the map, so that another thread may unmap the object while the caller sleeps. A BUSY page of
    ours would keep the object; until we have that page, a reference does.

    Args:
        name: "uvn_get" or "uao_get": of what is slept on, the page, or (with "page" at its end) memory.
        flags: PGO_SWAPOFF or 0.

    Locks:   the object, which is unlocked meanwhile. If there is no page, it is unlocked, and may be gone.
    Sleeps:  busy page, uvm_wait; as pgo_detach, if ours was the last reference.
    Returns: (0, the page, is it new?), (EAGAIN, None, False): the object has no other reference; look at the
             map again; (ENOMEM, None, False): PGO_SWAPOFF, and waiting for memory is of no use.
    Differs: UVM held no reference.
    """
    while True:
        pg = uvm_pagelookup(uobj, at)
        pgflags = 0
        if pg is None:
            pg = uvm_pagealloc(uobj, at, None)
            if pg is not None:
                return 0, pg, True
        else:
            pgflags = pg.flags
            if not pgflags & (PG_BUSY | PG_RELEASED):
                pg.flags = pgflags | PG_BUSY
                uvm_page_own(pg, name + "2")
                return 0, pg, False

        pinned = not erratum("pgo_get.object-unreferenced")
        if pinned:
            uobj.uo_refs += 1
        error = 0
        if pg is None:
            uobj.vmobjlock.unlock()
            uvm_wait(name + "page")
            if flags & PGO_SWAPOFF and uvm_wait_vain():
                error = ENOMEM
        else:
            uvm_page_wait(pg, pgflags, name, uobj.vmobjlock)
        uobj.vmobjlock.lock()
        if pinned:
            refs = uobj.uo_refs - 1
            if refs == 0:
                uobj.vmobjlock.unlock()
                pgops_of(uobj).pgo_detach(uobj)
                return EAGAIN, None, False
            uobj.uo_refs = refs
        if error:
            uobj.vmobjlock.unlock()
            return error, None, False
