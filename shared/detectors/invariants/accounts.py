"""Invariants of counters: uvmexp, and swap slots."""

from __future__ import annotations

from collections.abc import Iterator

from shared.detectors.invariants.register import invariant
from shared.detectors.invariants.snapshot import Snapshot, Violation
from shared.port.struct import Struct
from shared.uvm.param import PG_BUSY, PG_CLEAN, PQ_ANON, PQ_AOBJ, SWF_INUSE, SWSLOT_NONE
from shared.uvm.structs import Anon, Page, SwapDev, SwapPri, UvmObject, uvm, uvmexp

# -- uvmexp --------------------------------------------------------------------------


def _recount(s: Snapshot, name: str, count: int, what: str) -> Iterator[Violation]:
    stored = s.num(uvmexp, name)
    if stored != count:
        yield f"uvmexp.{name} is {stored}, {what} {count}", uvmexp


@invariant("COUNT-1", "uvmexp.free counts the free list", source="uvm_extern.h")
def free_counts_free_pages(s: Snapshot) -> Iterator[Violation]:
    yield from _recount(s, "free", len(s.queues["page_free"].items), "pages on the free list:")


@invariant("COUNT-2", "uvmexp.active counts the active queue", source="uvm_extern.h")
def active_counts_active_pages(s: Snapshot) -> Iterator[Violation]:
    yield from _recount(s, "active", len(s.queues["page_active"].items), "pages on the active queue:")


@invariant("COUNT-3", "uvmexp.inactive counts the inactive queues", source="uvm_extern.h")
def inactive_counts_inactive_pages(s: Snapshot) -> Iterator[Violation]:
    inactive = len(s.queues["page_inactive_swp"].items) + len(s.queues["page_inactive_obj"].items)
    yield from _recount(s, "inactive", inactive, "pages on the inactive queues:")


@invariant("COUNT-4", "uvmexp.wired counts the wired pages, page tables excepted", source="uvm_extern.h; pmap.c")
def wired_counts_wired_pages(s: Snapshot) -> Iterator[Violation]:
    wired = sum(1 for page in s.pages if s.num(page, "wire_count")) - len(s.ptps)
    yield from _recount(s, "wired", wired, "pages with a wire_count:")


@invariant("COUNT-5", "nothing is in flight to swap or to a file, nothing is to be reaped", source="uvm_pdaemon.c")
def nothing_is_in_flight(s: Snapshot) -> Iterator[Violation]:
    yield from _recount(s, "paging", 0, "pages in flight:")
    for bp in s.aio_done.items:
        yield f"{bp} is still on aio_done", bp


@invariant("COUNT-6", "uvmexp.nfreeanon counts the free anons", source="uvm_extern.h")
def nfreeanon_counts_free_anons(s: Snapshot) -> Iterator[Violation]:
    yield from _recount(s, "nfreeanon", len(s.afree.items), "anons on the free list:")


@invariant("COUNT-7", "uvmexp.swpginuse counts the swap slots in use", source="uvm_extern.h")
def swpginuse_counts_slots_in_use(s: Snapshot) -> Iterator[Violation]:
    yield from _recount(s, "swpginuse", sum(map(len, s.slots_in_use.values())), "slots in use:")


@invariant("COUNT-8", "uvmexp.swpgonly counts the swap slots whose data is nowhere in RAM", source="uvm_extern.h")
def swpgonly_counts_pages_only_in_swap(s: Snapshot) -> Iterator[Violation]:
    only = sum(
        1
        for swapped in s.swapped
        if (s.get(swapped.owner, "an_page") if isinstance(swapped.owner, Anon) else swapped.page) is None
    )
    yield from _recount(s, "swpgonly", only, "pages with a slot and not in RAM:")


@invariant("COUNT-9", "0 <= swpgonly <= swpginuse <= swpages", source="uvm_swap.c")
def swap_counters_are_in_order(s: Snapshot) -> Iterator[Violation]:
    only, inuse, pages = (s.num(uvmexp, name) for name in ("swpgonly", "swpginuse", "swpages"))
    if not 0 <= only <= inuse <= pages:
        yield f"swpgonly is {only}, swpginuse {inuse}, swpages {pages}", uvmexp


@invariant("COUNT-10", "freemin is above reserve_kernel", source="uvm_pdaemon.c 1.39, uvmpd_tune")
def freemin_is_above_reserve(s: Snapshot) -> Iterator[Violation]:
    freemin, reserve = s.num(uvmexp, "freemin"), s.num(uvmexp, "reserve_kernel")
    if freemin <= reserve:
        yield f"freemin is {freemin}, reserve_kernel {reserve}: the pagedaemon may sleep while programs wait", uvmexp


@invariant("COUNT-11", "no context is counted as a waiter for memory", source="uvm_pdaemon.c, uvm_wait")
def nobody_waits_for_memory(s: Snapshot) -> Iterator[Violation]:
    waiters = s.num(uvm, "pagedaemon_waiters")
    if waiters:
        yield f"pagedaemon_waiters is {waiters}", uvm


@invariant("COUNT-12", "swpages counts the slots of devices in use, and bad ones of the others", source="uvm_swap.c")
def swpages_counts_slots_of_devices(s: Snapshot) -> Iterator[Violation]:
    pages = 0
    for dev in s.all(SwapDev):
        pages += s.num(dev, "swd_npages" if s.num(dev, "swd_flags") & SWF_INUSE else "swd_npgbad")
    yield from _recount(s, "swpages", pages, "slots to swap to:")


# -- swap ----------------------------------------------------------------------------


@invariant("SWAP-1", "the slots in use are those that anons and aobjs have, and the bad ones", source="uvm_swap.c")
def slots_in_use_have_owners(s: Snapshot) -> Iterator[Violation]:
    everything: set[int] = set()
    for dev, used in s.slots_in_use.items():
        everything |= used
        unused, bad = sorted(used - set(s.slot_users)), s.num(dev, "swd_npgbad")
        if len(unused) != bad:
            some = f", among them slot {unused[0]}" if unused else ""
            yield f"{dev} has {len(unused)} slots in use without an owner{some}, and {bad} bad ones", dev
    for slot, anons in sorted(s.slot_users.items()):
        if slot not in everything:
            yield f"{anons[0]} has slot {slot}, which is not in use", anons[0]


@invariant("SWAP-2", "no two pages have the same swap slot", source="uvm_swap.c")
def no_slot_has_two_owners(s: Snapshot) -> Iterator[Violation]:
    for slot, anons in sorted(s.slot_users.items()):
        if len(anons) > 1:
            yield f"slot {slot} is that of {' and '.join(map(str, anons))}", anons[0]


@invariant("SWAP-3", "swd_npginuse counts the slots in use of a device", source="uvm_swap.c")
def swd_npginuse_counts_slots_in_use(s: Snapshot) -> Iterator[Violation]:
    for dev, used in s.slots_in_use.items():
        count = s.num(dev, "swd_npginuse")
        if count != len(used):
            yield f"{dev} has {len(used)} slots in use and swd_npginuse {count}", dev


def _clean(s: Snapshot) -> Iterator[tuple[Page, Struct, int]]:
    """Clean swap-backed pages, with their owners and slots. A page in transit is PAGE-3's."""
    for page in s.pages:
        if s.num(page, "flags") & (PG_CLEAN | PG_BUSY) != PG_CLEAN:
            continue
        if s.num(page, "pqflags") & PQ_ANON:
            anon = s.follow(page, "uanon", Anon)
            if anon is not None:
                yield page, anon, s.slot_of.get((anon.id, 0), SWSLOT_NONE)
        elif s.num(page, "pqflags") & PQ_AOBJ:
            uobj = s.follow(page, "uobject", UvmObject)
            if uobj is not None:
                yield page, uobj, s.slot_of.get((uobj.id, s.num(page, "offset") // s.page_size), SWSLOT_NONE)


@invariant("SWAP-4", "a swap-backed page that is CLEAN has a swap slot", source="uvm_pdaemon.c")
def clean_pages_have_slots(s: Snapshot) -> Iterator[Violation]:
    for page, owner, slot in _clean(s):
        if slot <= SWSLOT_NONE:
            yield f"{page} of {owner} is CLEAN, and its slot is {slot}", page


@invariant("SWAP-5", "a CLEAN page, unless modified since, holds what its swap slot holds", source="uvm_page.h")
def clean_pages_equal_their_slots(s: Snapshot) -> Iterator[Violation]:
    for page, owner, slot in _clean(s):
        if slot <= SWSLOT_NONE or page.frame in s.modified:
            continue
        frame = tuple(s.frames[page.frame])
        swap = s.slots.get(slot, (0,) * len(frame))
        at = next((word for word, (ram, disk) in enumerate(zip(frame, swap)) if ram != disk), None)
        if at is not None:
            yield f"{page} of {owner} has {frame[at]:#x} at byte {at * 8}, slot {slot} has {swap[at]:#x}", page


@invariant("SWAP-6", "bad slots are those that the device has failed for good", source="uvm_pager.c, 2001-03-10")
def bad_slots_have_failed(s: Snapshot) -> Iterator[Violation]:
    for dev, used in s.slots_in_use.items():
        first = s.num(dev, "swd_drumoffset")
        unused = used - set(s.slot_users)
        bad = {slot for slot in s.bad_slots if first <= slot < first + s.num(dev, "swd_npages")}
        if len(unused) != s.num(dev, "swd_npgbad"):
            continue  # SWAP-1
        if unused - bad:
            yield f"{dev} has bad slots, among them {min(unused - bad)}, which the device has never failed", dev
        elif bad - unused:
            yield f"the device has failed slot {min(bad - unused)} for good, and it is not one of {dev}'s bad ones", dev


@invariant("SWAP-7", "each device in use is on the list of its priority, lists in order", source="uvm_swap.c")
def devices_in_use_are_listed(s: Snapshot) -> Iterator[Violation]:
    lists = s.walk(uvm, "swap_priority", SwapPri, "spi_next")
    yield from lists.faults
    on: set[SwapDev] = set()
    last = -1
    for spp in lists.items:
        priority = s.num(spp, "spi_priority")
        devices = s.walk(spp, "spi_first", SwapDev, "swd_next", "swd_prev", "spi_last")
        yield from devices.faults
        if priority <= last or not devices.items:
            yield f"{spp} has priority {priority} after {last}, and {len(devices.items)} devices", spp
        last = priority
        for dev in devices.items:
            if dev in on or s.num(dev, "swd_priority") != priority:
                yield f"{dev} of priority {s.num(dev, 'swd_priority')} is on the list of {priority}", dev
        on |= set(devices.items)
    for dev in s.all(SwapDev):
        if bool(s.num(dev, "swd_flags") & SWF_INUSE) != (dev in on):
            yield f"{dev} is {'on' if dev in on else 'not on'} a list, its flags are {s.num(dev, 'swd_flags')}", dev
    if s.num(uvm, "nswapdev") != len(on):
        yield f"nswapdev is {s.num(uvm, 'nswapdev')}, devices on lists: {len(on)}", uvm


@invariant("SWAP-8", "a device not in use has nothing on it, and at rest none is being removed", source="uvm_swap.c")
def unused_devices_are_empty(s: Snapshot) -> Iterator[Violation]:
    for dev in s.all(SwapDev):
        flags, first = s.num(dev, "swd_flags"), s.num(dev, "swd_drumoffset")
        if flags == SWF_INUSE:
            yield f"{dev} is in use, and not enabled", dev
        if not flags & SWF_INUSE:
            for slot, users in sorted(s.slot_users.items()):
                if first <= slot < first + s.num(dev, "swd_npages"):
                    yield f"{users[0]} has slot {slot} of {dev}, which is not in use", dev
