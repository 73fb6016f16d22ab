"""The pager operations: what can be done with an object, whoever pages it.

Each pager (vnode.py, aobj.py) enters its operations under the number that its
objects have in `pgops`; uobj->pgops->pgo_get is pgops_of(uobj).pgo_get.

    pgo_reference(uobj)                   one reference more
    pgo_detach(uobj)                      one less; the last one may end the object
    pgo_get(uobj, offset, wanted, center, flags)
                                          the pages from `offset` on that are wanted, BUSY: (0 or an error, pages).
                                          PGO_LOCKED: those that can be had at once, and EBUSY if `center` cannot.
                                          Without: it may sleep, gets `center` alone, and unlocks the object
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

from shared.uvm.structs import Page, UvmObject


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
