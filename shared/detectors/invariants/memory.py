"""Invariants of amaps, anons, pages, loans, objects and wirings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from shared.detectors.invariants.register import flag_names, invariant
from shared.detectors.invariants.snapshot import AMAP_ARRAYS, PROT, WIRED, Snapshot, Violation
from shared.port.struct import LOCK_SHIFT, Array
from shared.uvm.param import (
    PG_BUSY,
    PG_CLEAN,
    PG_FAKE,
    PG_NAMES,
    PG_RELEASED,
    PG_WANTED,
    PQ_ACTIVE,
    PQ_ANON,
    PQ_AOBJ,
    PQ_FREE,
    PQ_INACTIVE,
    PQ_NAMES,
    PQ_SWAPBACKED,
    UVM_PGOPS_AOBJ,
    UVM_VNODE_CANPERSIST,
    UVM_VNODE_VALID,
    VM_PROT_NONE,
)
from shared.uvm.structs import Amap, AmapArray, Anon, Aobj, Page, PageHash, UvmObject, VmMapEntry, Vnode, uvm

# -- amaps ---------------------------------------------------------------------------


def _used(s: Snapshot, amap: Amap) -> list[int]:
    return [slot for slot, anon in enumerate(s.amap_anons[amap.id]) if anon is not None]


@invariant("AMAP-1", "am_slots[am_bckptr[i]] == i for every used slot i, and am_slots is packed", source="uvm_amap.h")
def slots_and_back_pointers_agree(s: Snapshot) -> Iterator[Violation]:
    for amap in s.all(Amap):
        slots, bckptr = s.amap_array(amap, "am_slots"), s.amap_array(amap, "am_bckptr")
        used = _used(s, amap)
        for i in used:
            at = bckptr[i] if i < len(bckptr) else None
            if not isinstance(at, int) or not 0 <= at < min(len(used), len(slots)):
                yield f"{amap} has slot {i} in use, its place in am_slots is {at} of {len(used)}", amap
            elif slots[at] != i:
                yield f"{amap} has slot {i} in use, but am_slots[{at}], its place, names slot {slots[at]}", amap


@invariant("AMAP-2", "am_nused counts the used slots", source="uvm_amap.h")
def am_nused_counts_used_slots(s: Snapshot) -> Iterator[Violation]:
    for amap in s.all(Amap):
        used, nused = len(_used(s, amap)), s.num(amap, "am_nused")
        if used != nused:
            yield f"{amap} has {used} slots in use and am_nused {nused}", amap


@invariant("AMAP-3", "slots in use are below am_nslot <= am_maxslot, the size of its own arrays", source="uvm_amap.h")
def used_slots_are_within_arrays(s: Snapshot) -> Iterator[Violation]:
    for amap in s.all(Amap):
        nslot, maxslot = s.num(amap, "am_nslot"), s.num(amap, "am_maxslot")
        if nslot > maxslot:
            yield f"{amap} has am_nslot {nslot}, am_maxslot {maxslot}", amap
        for name in AMAP_ARRAYS:
            array = s.follow(amap, name, AmapArray)
            if name == "am_ppref" and s.get(amap, name) is None:
                continue
            if array is None:
                yield f"{amap} has {s.get(amap, name)!r} for {name}, which is not a live array", amap
            elif s.get(array, "amap") != amap:
                yield f"{amap} has for {name} an array of {s.get(array, 'amap')}", amap
            elif len(s.array(array)) != maxslot:
                yield f"{amap} has am_maxslot {maxslot}, its {name} has {len(s.array(array))} slots", amap
        beyond = [slot for slot in _used(s, amap) if slot >= nslot]
        if beyond:
            yield f"{amap} has slot {beyond[0]} in use and am_nslot {nslot}", amap


@invariant("AMAP-4", "am_ref counts the map entries that refer to an amap", source="uvm_amap.h")
def am_ref_counts_entries(s: Snapshot) -> Iterator[Violation]:
    for amap in s.all(Amap):
        entries, ref = s.amap_entries[amap.id], s.num(amap, "am_ref")
        if entries and entries != ref:  # none at all: LEAK-1
            yield f"{amap} is referred to by {entries} map entries and has am_ref {ref}", amap


@invariant("AMAP-5", "an amap slot names an anon that is alive", source="uvm_amap.h")
def slots_name_live_anons(s: Snapshot) -> Iterator[Violation]:
    for amap in s.all(Amap):
        for slot, anon in enumerate(s.amap_anons[amap.id]):
            if anon is not None and not s.live(anon, Anon):
                yield f"slot {slot} of {amap} has {anon!r}, which has been freed since", amap


def _covered(s: Snapshot) -> Iterator[tuple[Amap, list[int]]]:
    """Amaps that have entries (LEAK-1), all of them within (MAP-5), with the number of entries that cover each slot."""
    cover: dict[int, list[int] | None] = {amap.id: [0] * len(s.amap_anons[amap.id]) for amap in s.all(Amap)}
    for entry in s.all(VmMapEntry):
        amap = s.follow(entry, "aref_amap", Amap)
        counts = None if amap is None else cover[amap.id]
        if amap is None or counts is None:
            continue
        first = s.num(entry, "aref_pageoff")
        last = first + len(s.addresses(entry))
        if not 0 <= first <= last <= len(counts):
            cover[amap.id] = None
            continue
        for slot in range(first, last):
            counts[slot] += 1
    for amap in s.all(Amap):
        counts = cover[amap.id]
        if counts is not None and s.amap_entries[amap.id]:
            yield amap, counts


def _ppref(s: Snapshot, amap: Amap) -> list[int | None]:
    """am_ppref slot by slot, as far as it makes sense."""
    runs, counts = s.amap_array(amap, "am_ppref"), list[int | None]()
    while len(counts) < len(runs):
        first, *rest = runs[len(counts) :]
        length = 1 if isinstance(first, int) and first > 0 else rest[0] if rest else 0
        if not isinstance(first, int) or first == 0 or not isinstance(length, int):
            break
        if not 0 < length <= len(runs) - len(counts):
            break
        counts += [abs(first) - 1] * length
    return counts + [None] * (len(runs) - len(counts))


@invariant(
    "AMAP-6", "am_ppref counts the map entries that have a slot; without it, all have every slot", source="uvm_amap.c"
)
def am_ppref_counts_entries_of_slots(s: Snapshot) -> Iterator[Violation]:
    for amap, entries in _covered(s):
        if s.get(amap, "am_ppref") is None:
            partly = [slot for slot, count in enumerate(entries) if count != max(entries)]
            if partly:
                yield f"{amap} has no ppref, and slot {partly[0]} is not that of all its map entries", amap
            continue
        for slot, (count, stored) in enumerate(zip(entries, _ppref(s, amap))):
            if count != stored:
                yield f"slot {slot} of {amap} is that of {count} map entries, its ppref says {stored}", amap


@invariant("AMAP-7", "no anon is in a slot that no map entry has", source="uvm_amap.c, amap_wiperange")
def anons_are_in_slots_of_entries(s: Snapshot) -> Iterator[Violation]:
    for amap, entries in _covered(s):
        if s.get(amap, "am_ppref") is None:
            continue  # AMAP-6
        for slot, anon in enumerate(s.amap_anons[amap.id]):
            if anon is not None and not entries[slot]:
                yield f"slot {slot} of {amap} has {anon}, and no map entry has that slot", amap


# -- anons ---------------------------------------------------------------------------


@invariant("ANON-1", "an_ref counts the amap slots and loans that hold an anon", source="uvm_anon.h")
def an_ref_counts_slots_and_loans(s: Snapshot) -> Iterator[Violation]:
    for anon in s.anons:
        slots, loans, ref = s.anon_slots[anon.id], s.loans[anon.id], s.num(anon, "an_ref")
        if slots + loans not in (0, ref):  # none at all: ANON-3
            lent = f" and {loans} loans" if loans else ""
            yield f"{anon} is in {slots} amap slots{lent} and has an_ref {ref}", anon


@invariant("ANON-2", "an anon is on the free list once, unreferenced and without a swap slot", source="uvm_anon.c")
def free_anons_are_unreferenced(s: Snapshot) -> Iterator[Violation]:
    yield from (("the free list is broken: " + text, subject) for text, subject in s.afree.faults)
    for anon in s.afree.items:
        ref, slot = s.num(anon, "an_ref"), s.num(anon, "an_swslot")
        if ref or slot:
            yield f"{anon} is on the free list with an_ref {ref} and an_swslot {slot}", anon


@invariant("ANON-3", "an anon is either on the free list or in an amap, or on loan", source="uvm_anon.c")
def anons_are_free_or_in_use(s: Snapshot) -> Iterator[Violation]:
    if s.afree.faults:
        return
    for anon in s.all(Anon):
        slots = s.anon_slots[anon.id]
        if anon.id in s.free_anons:
            if slots:
                yield f"{anon} is on the free list and in {slots} amap slots", anon
        elif not slots and not s.loans[anon.id]:
            yield f"{anon} is leaked: it is not free, and no amap has it (an_ref {s.num(anon, 'an_ref')})", anon


@invariant("ANON-4", "a free anon is unlocked", source="uvm_anon.c, uvm_analloc: the anon is returned unlocked")
def free_anons_are_unlocked(s: Snapshot) -> Iterator[Violation]:
    for key, holders, _ in s.locks:
        if holders and key >> LOCK_SHIFT in s.free_anons:
            anon, (ctx, _, since) = Anon(key >> LOCK_SHIFT), holders[0]
            yield f"{anon} is on the free list with its lock held by {ctx} since {since}", anon


# -- pages ---------------------------------------------------------------------------


@invariant("PAGE-1", "the links of every page queue agree in both directions", source="sys/queue.h, TAILQ")
def queue_links_agree(s: Snapshot) -> Iterator[Violation]:
    for name, queue in s.queues.items():
        yield from ((f"{name}: {text}", subject) for text, subject in queue.faults)


@invariant("PAGE-2", "a page is on exactly the queue that its state calls for", source="uvm_page.h, uvm_page.c")
def pages_are_on_their_queues(s: Snapshot) -> Iterator[Violation]:
    for page in s.all(Page):
        pqflags, wired = s.num(page, "pqflags"), s.num(page, "wire_count")
        on = s.queues_of.get(page.id, [])
        what = ""
        if pqflags & PQ_FREE:
            right = pqflags == PQ_FREE and on == ["page_free"]
        elif page.frame in s.kernel_pages:
            right, what = not on and not pqflags and not wired, f"a kernel object's, wire_count {wired}, "
        elif wired:
            right, what = not on and not pqflags & (PQ_ACTIVE | PQ_INACTIVE), f"wire_count {wired}, "
        elif pqflags & PQ_ACTIVE:
            right = not pqflags & PQ_INACTIVE and on == ["page_active"]
        elif pqflags & PQ_INACTIVE:
            right = on == ["page_inactive_swp" if pqflags & PQ_SWAPBACKED else "page_inactive_obj"]
        else:
            right = False
        if not right:
            what += f"pqflags {flag_names(pqflags, PQ_NAMES)}"
            yield f"{page} ({what}) is on {' and '.join(on) or 'no queue'}", page


@invariant("PAGE-3", "no page is BUSY, WANTED, RELEASED or FAKE at rest", source="uvm_page.h")
def no_page_is_busy(s: Snapshot) -> Iterator[Violation]:
    for page in s.pages:
        left = s.num(page, "flags") & (PG_BUSY | PG_WANTED | PG_RELEASED | PG_FAKE)
        if left:
            tag = s.get(page, "owner_tag")
            yield (
                f"{page} is still {flag_names(left, PG_NAMES)}" + (f" ({tag})" if tag and left & PG_BUSY else ""),
                page,
            )


@invariant("PAGE-4", "an anon and its page name each other", source="uvm_page.h, uvm_anon.h")
def anons_and_pages_name_each_other(s: Snapshot) -> Iterator[Violation]:
    for anon in s.anons:
        page = s.get(anon, "an_page")
        if page is None:
            continue
        if not s.live(page, Page):
            yield f"{anon} has {page!r}, which has been freed since", anon
        elif s.num(page, "pqflags") & PQ_FREE:
            yield f"{anon} has {page}, which is free", anon
        elif s.get(page, "uanon") != anon:
            yield f"{anon} has {page}, whose uanon is {s.get(page, 'uanon')}", anon
    for page in s.pages:
        uanon, uobj, pqflags = s.get(page, "uanon"), s.get(page, "uobject"), s.num(page, "pqflags")
        borrowed = uanon is not None and not pqflags & PQ_ANON and s.num(page, "loan_count") > 0
        if not borrowed and bool(pqflags & PQ_ANON) != (uanon is not None and uobj is None):
            yield f"{page} has pqflags {flag_names(pqflags, PQ_NAMES)}, uanon {uanon} and uobject {uobj}", page
        elif uanon is not None:
            if not s.live(uanon, Anon) or uanon.id in s.free_anons:
                yield f"{page} has uanon {uanon!r}, which has been freed", page
            elif s.get(uanon, "an_page") != page:
                yield f"{page} has uanon {uanon}, whose page is {s.get(uanon, 'an_page')}", page


@invariant("PAGE-5", "a page that is not free has an owner, or is on loan", source="uvm_page.h")
def pages_in_use_have_owners(s: Snapshot) -> Iterator[Violation]:
    for page in s.pages:
        pqflags = s.num(page, "pqflags")
        orphan = s.get(page, "uanon") is None and s.get(page, "uobject") is None
        if orphan and not pqflags & PQ_ANON and not s.num(page, "loan_count"):
            yield f"{page} is leaked: it is not free, and belongs to no anon and no object", page


@invariant("PAGE-6", "a free page is neither wired nor on loan", source="uvm_page.c, uvm_pagefree")
def free_pages_are_neither_wired_nor_lent(s: Snapshot) -> Iterator[Violation]:
    for page in s.free_pages:
        wired, loans = s.num(page, "wire_count"), s.num(page, "loan_count")
        if wired or loans:
            yield f"{page} is free with wire_count {wired} and loan_count {loans}", page


# -- loans ---------------------------------------------------------------------------


@invariant("LOAN-1", "loan_count counts the loans of a page: to the kernel, and to an anon", source="uvm_loan.c")
def loan_count_counts_loans(s: Snapshot) -> Iterator[Violation]:
    for page in s.pages:
        loans, count = s.loans[page.id], s.num(page, "loan_count")
        anon = s.get(page, "uanon") if not s.num(page, "pqflags") & PQ_ANON else None
        if count == 0 and s.get(page, "uobject") is None:
            anon = None  # PAGE-4
        if count != loans + (anon is not None):
            to = f", and to {anon}" if anon is not None else ""
            yield f"{page} is on loan to the kernel {loans} times{to}; it has loan_count {count}", page


@invariant("LOAN-2", "what is on loan to the kernel is not freed meanwhile", source="uvm_loan.c")
def lent_memory_is_not_freed(s: Snapshot) -> Iterator[Violation]:
    for loan, borrowed in s.lent:
        free = (s.live(borrowed, Page) and s.num(borrowed, "pqflags") & PQ_FREE) or (
            s.live(borrowed, Anon) and borrowed.id in s.free_anons
        )
        if free or not (s.live(borrowed, Page) or s.live(borrowed, Anon)):
            yield f"{loan} has borrowed {borrowed!r}, which has been freed", borrowed


# -- objects -------------------------------------------------------------------------


@invariant("OBJ-1", "an object's list has its pages, and uo_npages counts them", source="uvm_object.h, uvm_page.c")
def object_lists_have_their_pages(s: Snapshot) -> Iterator[Violation]:
    listed: dict[int, UvmObject] = {}
    for uobj, memq in s.memqs.items():
        yield from ((f"{uobj}: {text}", subject) for text, subject in memq.faults)
        if memq.faults:
            return
        for page in memq.items:
            listed[page.id] = uobj
            if s.get(page, "uobject") != uobj:
                yield f"{page} is in the list of {uobj}, its uobject is {s.get(page, 'uobject')}", page
        if len(memq.items) != s.num(uobj, "uo_npages"):
            yield f"{uobj} has {len(memq.items)} pages and uo_npages {s.num(uobj, 'uo_npages')}", uobj
    for page in s.pages:
        uobj_of = s.get(page, "uobject")
        if uobj_of in s.memqs and uobj_of != listed.get(page.id):
            yield f"{page} has uobject {uobj_of}, and is not in its list", page


@invariant("OBJ-2", "an object's page is found in the hash, alone at its offset", source="uvm_page.c, uvm_pagelookup")
def object_pages_are_in_the_hash(s: Snapshot) -> Iterator[Violation]:
    table: Array | None = s.follow(uvm, "page_hash", PageHash)
    buckets = [] if table is None else s.array(table)
    hashed: dict[int, int] = {}
    for number, first in enumerate(buckets):
        page, seen = first, 0
        while s.live(page, Page) and page.id not in hashed and seen <= len(s.all(Page)):
            hashed[page.id] = number
            page, seen = s.get(page, "hashq_next"), seen + 1
        if page is not None:
            yield f"bucket {number} of the hash has {page!r}, which is not a page that belongs there", table
            return
    places: dict[tuple[int, int], Page] = {}
    for memq in s.memqs.values():
        for page in memq.items:
            uobj, offset = s.get(page, "uobject"), s.num(page, "offset")
            if uobj not in s.memqs:
                continue  # OBJ-1
            if hashed.pop(page.id, None) != (uobj.index * 31 + offset // s.page_size) & (len(buckets) - 1):
                yield f"{page} of {uobj} at {offset:#x} is not in its bucket of the hash", page
            other = places.setdefault((uobj.id, offset), page)
            if other != page:
                yield f"{page} and {other} are both at {offset:#x} of {uobj}", page


@invariant("OBJ-3", "uo_refs counts the map entries and segments that refer to an object", source="uvm_object.h")
def uo_refs_counts_entries_and_segments(s: Snapshot) -> Iterator[Violation]:
    for uobj in s.objects:
        refs, count = s.num(uobj, "uo_refs"), s.object_refs[uobj.id]
        aobj = s.num(uobj, "pgops") == UVM_PGOPS_AOBJ
        if refs != count and (count or not aobj):  # an aobj without any: LEAK-1
            yield f"{uobj} is referred to {count} times and has uo_refs {refs}", uobj


@invariant("OBJ-4", "no file's object is dying, and no I/O to a file is in progress, at rest", source="uvm_vnode.c")
def no_file_is_dying(s: Snapshot) -> Iterator[Violation]:
    for vp in s.all(Vnode):
        flags, nio = s.num(vp, "u_flags"), s.num(vp, "u_nio")
        left = flags & ~(UVM_VNODE_VALID | UVM_VNODE_CANPERSIST)
        uobj = s.follow(vp, "u_obj", UvmObject)
        if left or nio:
            yield f"{vp} has u_flags {left:#x} and u_nio {nio}", vp
        elif uobj in s.memqs and not flags & UVM_VNODE_VALID and s.memqs[uobj].items:
            yield f"{vp} is not VALID, and its object has {s.memqs[uobj].items[0]}", vp


@invariant("OBJ-5", "every aobj is on uao_list", source="uvm_aobj.c, uao_swap_off")
def aobjs_are_on_uao_list(s: Snapshot) -> Iterator[Violation]:
    walk = s.walk(uvm, "uao_list_first", Aobj, "u_list_next", "u_list_prev", "uao_list_last")
    yield from ((f"uao_list: {text}", subject) for text, subject in walk.faults)
    if walk.faults:
        return
    for aobj in s.all(Aobj):
        if aobj not in walk.items:
            yield f"{aobj} is not on the list", aobj


@invariant("OBJ-6", "a page is PQ_AOBJ if and only if it is an aobj's", source="uvm_page.h")
def aobj_pages_are_marked(s: Snapshot) -> Iterator[Violation]:
    for page in s.pages:
        uobj = s.follow(page, "uobject", UvmObject)
        aobj = uobj is not None and s.num(uobj, "pgops") == UVM_PGOPS_AOBJ
        if aobj != bool(s.num(page, "pqflags") & PQ_AOBJ):
            yield f"{page} of {uobj} has pqflags {flag_names(s.num(page, 'pqflags'), PQ_NAMES)}", page


@invariant("OBJ-7", "a file's CLEAN page, unless modified since, holds what the disk holds", source="uvm_vnode.c")
def clean_file_pages_equal_the_disk(s: Snapshot) -> Iterator[Violation]:
    for vp in s.all(Vnode):
        uobj = s.follow(vp, "u_obj", UvmObject)
        for page in s.memqs[uobj].items if uobj in s.memqs else ():
            offset = s.num(page, "offset")
            block = s.num(vp, "v_block") + offset // s.page_size
            if s.num(page, "flags") & (PG_CLEAN | PG_BUSY) != PG_CLEAN or page.frame in s.modified:
                continue
            if offset >= s.num(vp, "u_size") or not 0 <= block < len(s.blocks):
                continue
            frame, disk = tuple(s.frames[page.frame]), tuple(s.blocks[block])
            if frame != disk:
                at = next(word for word, (ram, other) in enumerate(zip(frame, disk)) if ram != other)
                yield f"{page} of {uobj} has {frame[at]:#x} at byte {at * 8}, block {block} has {disk[at]:#x}", page


# -- wiring --------------------------------------------------------------------------


@invariant(
    "WIRE-1",
    "wire_count counts a page's wired map entries and its loans to the kernel, and is 1 for a page table",
    source="uvm_page.h, uvm_fault.c; uvm_loan.c; pmap.c",
)
def wire_count_counts_wirings(s: Snapshot) -> Iterator[Violation]:
    wirings: Counter[int] = Counter()
    for entry in s.all(VmMapEntry):
        if s.num(entry, "wired_count"):
            behind = (s.behind(entry, va)[1] for va in s.addresses(entry))
            wirings.update(page.id for page in behind if page is not None)
    wirings.update(page.id for page in s.ptps)
    for page in s.pages:
        count, loans = s.num(page, "wire_count"), s.loans[page.id]
        if count != wirings[page.id] + loans:
            lent = f", on loan to the kernel {loans} times," if loans else ""
            yield f"{page} is in {wirings[page.id]} wired map entries{lent} and has wire_count {count}", page


def _locked(s: Snapshot) -> Iterator[tuple[VmMapEntry, int, list[int] | None, str]]:
    """Each page of a wired, accessible map entry: the entry, its protection, the PTE, and where it is."""
    for map, ring in s.entries.items():
        table = s.pmaps.get(s.num(map, "pmap"), {})
        for entry in ring.items:
            protection = s.num(entry, "protection")
            if s.num(entry, "wired_count") and protection != VM_PROT_NONE:
                for va in s.addresses(entry):
                    where = f"{entry} of {map} is wired, {va:#x} in it"
                    yield entry, protection, table.get(va // s.page_size), where


@invariant("WIRE-2", "every page of a wired, accessible map entry is mapped wired there", source="uvm_map.c")
def wired_entries_are_mapped_wired(s: Snapshot) -> Iterator[Violation]:
    for entry, _, pte, where in _locked(s):
        if pte is None or not pte[WIRED]:
            yield f"{where} is {'not mapped' if pte is None else 'mapped unwired'}", entry


@invariant("WIRE-3", "no device is at work on any page", source="(model) physio.py: io_count")
def no_device_is_at_work(s: Snapshot) -> Iterator[Violation]:
    for page in s.pages:
        count = s.num(page, "io_count")
        if count:
            yield f"{page} has io_count {count}, and all device I/O is over", page


@invariant(
    "WIRE-4", "a wired mapping allows what its map entry allows: locked memory takes no fault", source="mlock(2)"
)
def wired_mappings_allow_what_entries_allow(s: Snapshot) -> Iterator[Violation]:
    for entry, protection, pte, where in _locked(s):
        if pte is not None and pte[WIRED] and protection & ~pte[PROT]:
            yield f"{where} is mapped with protection {pte[PROT]}, {entry} has {protection}", entry
