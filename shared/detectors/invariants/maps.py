"""Invariants of maps, kernel memory and translations."""

from __future__ import annotations

from collections.abc import Iterator

from shared.detectors.invariants.register import flag_names, invariant
from shared.detectors.invariants.snapshot import FRAME, MOD, PROT, WIRED, Snapshot, Violation, Walk
from shared.uvm.param import (
    PMAP_KERNEL,
    PQ_FREE,
    UVM_ET_COPYONWRITE,
    UVM_ET_NEEDSCOPY,
    UVM_OBJ_INTRSAFE_KERN,
    UVM_OBJ_KERN,
    VM_MAP_BUSY,
    VM_MAP_WANTLOCK,
    VM_PROT_NONE,
    VM_PROT_WRITE,
)
from shared.uvm.structs import Amap, Page, UvmObject, VmMap, VmMapEntry, VmMapIntrsafe, uvm

# -- maps ----------------------------------------------------------------------------


@invariant("MAP-1", "a map's entries form a ring through its header; hint is on it", source="uvm_map.c")
def entries_form_a_ring(s: Snapshot) -> Iterator[Violation]:
    for map, ring in s.entries.items():
        yield from ((f"{map}: {text}", subject) for text, subject in ring.faults)
        if ring.faults:
            continue
        members = [*ring.items, s.get(map, "header")]
        for entry in ring.items:
            if s.get(entry, "map") != map:
                yield f"{entry} is in the list of {map} and says it is of {s.get(entry, 'map')}", entry
        hint = s.get(map, "hint")
        if hint is not None and not (hint in members and s.live(hint, VmMapEntry)):
            yield f"hint of {map} is {hint!r}, which is not one of its entries", map


@invariant("MAP-2", "entries are whole pages within the map, sorted, and do not overlap", source="uvm_map.c")
def entries_are_sorted(s: Snapshot) -> Iterator[Violation]:
    for map, ring in s.entries.items():
        at, last = s.num(map, "min_offset"), s.num(map, "max_offset")
        for entry in ring.items:
            start, end = s.num(entry, "start"), s.num(entry, "end")
            if start % s.page_size or end % s.page_size or not at <= start < end <= last:
                yield f"{entry} of {map} is [{start:#x}, {end:#x}), where [{at:#x}, {last:#x}) was left", entry
            at = max(at, end)


@invariant("MAP-3", "nentries and size are those of a map's entries", source="uvm_map.c")
def nentries_and_size_are_those_of_entries(s: Snapshot) -> Iterator[Violation]:
    for map, ring in s.entries.items():
        if ring.faults:
            continue
        size = sum(s.num(entry, "end") - s.num(entry, "start") for entry in ring.items)
        if (s.num(map, "nentries"), s.num(map, "size")) != (len(ring.items), size):
            stored = f"nentries {s.num(map, 'nentries')}, size {s.num(map, 'size')}"
            yield f"{map} has {stored}, its {len(ring.items)} entries have {size} bytes", map


@invariant("MAP-4", "an entry that needs a copy is copy-on-write", source="uvm_map.h")
def needs_copy_implies_copy_on_write(s: Snapshot) -> Iterator[Violation]:
    for entry in s.all(VmMapEntry):
        if s.num(entry, "etype") & (UVM_ET_NEEDSCOPY | UVM_ET_COPYONWRITE) == UVM_ET_NEEDSCOPY:
            yield f"{entry} is NEEDSCOPY and not COPYONWRITE", entry


@invariant("MAP-5", "an entry's amap has a slot for each of its pages", source="uvm_amap.c, amap_lookups")
def amaps_are_as_large_as_entries(s: Snapshot) -> Iterator[Violation]:
    for entry in s.all(VmMapEntry):
        amap = s.get(entry, "aref_amap")
        if amap is None:
            continue
        if not s.live(amap, Amap):
            yield f"{entry} refers to {amap!r}, which has been freed", entry
            continue
        pages, pageoff, nslot = len(s.addresses(entry)), s.num(entry, "aref_pageoff"), s.num(amap, "am_nslot")
        if pageoff < 0 or pages > nslot - pageoff:
            yield f"{entry} has {pages} pages from slot {pageoff} of {amap} on, which has {nslot}", entry


@invariant("MAP-6", "no map is BUSY or WANTED at rest", source="uvm_map.h, vm_map_busy")
def no_map_is_busy(s: Snapshot) -> Iterator[Violation]:
    for map in s.all(VmMap):
        left = s.num(map, "flags") & (VM_MAP_BUSY | VM_MAP_WANTLOCK)
        if left:
            yield f"{map} is still {flag_names(left, {VM_MAP_BUSY: 'BUSY', VM_MAP_WANTLOCK: 'WANTLOCK'})}", map


@invariant("MAP-7", "an entry's protection is within its max_protection", source="uvm_map.c, uvm_map_protect")
def protection_is_within_max_protection(s: Snapshot) -> Iterator[Violation]:
    for map, ring in s.entries.items():
        for entry in ring.items:
            protection, most = s.num(entry, "protection"), s.num(entry, "max_protection")
            if protection & ~most:
                yield f"{entry} of {map} has protection {protection}, max_protection {most}", entry


# -- kernel memory -------------------------------------------------------------------


@invariant(
    "KM-1", "a submap has the addresses and the pmap of the part of kernel_map that it takes over", source="uvm_km.c"
)
def submaps_match_their_entries(s: Snapshot) -> Iterator[Violation]:
    for submap, entry in s.submaps.items():
        parent = s.follow(entry, "map", VmMap)
        ours = s.num(submap, "min_offset"), s.num(submap, "max_offset"), s.num(submap, "pmap")
        theirs = s.num(entry, "start"), s.num(entry, "end"), -1 if parent is None else s.num(parent, "pmap")
        if ours != theirs:
            yield f"{submap} is [{ours[0]:#x}, {ours[1]:#x}) of pmap {ours[2]}, {entry} of {parent} is not", submap


@invariant(
    "KM-2", "memory of a kernel object is resident and mapped wired, and its pages are all mapped", source="uvm_km.c"
)
def kernel_memory_is_resident_and_mapped(s: Snapshot) -> Iterator[Violation]:
    table, seen = s.pmaps.get(PMAP_KERNEL, {}), set()
    for map, ring in s.entries.items():
        for entry in ring.items:
            uobj = s.follow(entry, "object", UvmObject)
            if uobj is None or s.num(uobj, "uo_refs") not in (UVM_OBJ_KERN, UVM_OBJ_INTRSAFE_KERN):
                continue
            for va in s.addresses(entry):
                _, page = s.behind(entry, va)
                pte = table.get(va // s.page_size)
                if page is None:
                    yield f"{va:#x} of {map} is that of {uobj}, which has no page there", entry
                elif pte is None or pte[FRAME] != page.frame:
                    yield f"{page} of {uobj} belongs at {va:#x} of {map}, and is not mapped there", page
                elif not pte[WIRED]:
                    yield f"{page} of {uobj} is mapped at {va:#x} of {map}, and not wired", page
                if page is not None:
                    seen.add(page.frame)
    for frame, page in s.kernel_pages.items():
        if frame not in seen:
            yield f"{page} is that of {s.get(page, 'uobject')}, and no kernel map has it", page


@invariant(
    "KM-3", "every interrupt-safe map is on vmi_list, and its entries are static ones", source="uvm_map.h, uvm_map.c"
)
def interrupt_safe_maps_are_listed(s: Snapshot) -> Iterator[Violation]:
    listed = s.walk(uvm, "vmi_list", VmMapIntrsafe, "vmi_list_next") if uvm.id in s.heap else Walk([], [])
    yield from listed.faults
    for map in s.all(VmMapIntrsafe):
        if map not in listed.items:
            yield f"{map} is not on vmi_list: the fault routine will look it up", map
    yield from s.kentries.faults
    for entry in s.kentries.items:
        if any(entry in ring.items for ring in s.entries.values()):
            yield f"{entry} is on kentry_free, and in a map", entry


# -- translations --------------------------------------------------------------------


@invariant("PTE-1", "a mapping names the page that its map entry has there", source="uvm_fault.c")
def mappings_name_the_pages_of_entries(s: Snapshot) -> Iterator[Violation]:
    for map, va, pte, entry, anon, page in s.translations:
        there = Page.at(pte[FRAME])
        free = ", which is free" if there.id in s.heap and s.num(there, "pqflags") & PQ_FREE else ""
        if entry is None:
            yield f"{va:#x} of {map} is mapped to {there}{free}, and in no map entry", there
        elif page is None:
            what = f"{anon}, not resident" if anon is not None else "nothing"
            yield f"{va:#x} of {map} is mapped to {there}{free}; {entry} has {what} there", there
        elif page.frame != pte[FRAME]:
            what = f"{page} of {anon}" if anon is not None else str(page)
            yield f"{va:#x} of {map} is mapped to {there}{free}; {entry} has {what} there", there


@invariant("PTE-2", "a mapping allows no more than its map entry", source="uvm_map.c, uvm_map_protect")
def mappings_allow_no_more_than_entries(s: Snapshot) -> Iterator[Violation]:
    for map, va, pte, entry, _, page in s.sound_translations:
        allowed = VM_PROT_NONE if entry is None else s.num(entry, "protection")
        if pte[PROT] & ~allowed:
            yield f"{va:#x} of {map} is mapped with protection {pte[PROT]}, {entry} has {allowed}", page


@invariant("PTE-3", "a page that others may see is not mapped writable", source="uvm_fault.c")
def shared_pages_are_not_writable(s: Snapshot) -> Iterator[Violation]:
    for map, va, pte, entry, anon, page in s.sound_translations:
        if entry is None or page is None or not pte[PROT] & VM_PROT_WRITE:
            continue
        etype = s.num(entry, "etype")
        why = ""
        if etype & UVM_ET_NEEDSCOPY:
            why = f"{entry} needs a copy"
        elif anon is None and etype & UVM_ET_COPYONWRITE:
            why = f"{entry} is copy-on-write"
        elif anon is not None and s.num(anon, "an_ref") > 1:
            why = f"{anon} has an_ref {s.num(anon, 'an_ref')}"
        elif s.num(page, "loan_count"):
            why = f"it has loan_count {s.num(page, 'loan_count')}"
        if why:
            yield f"{va:#x} of {map} is mapped writable to {page}, and {why}", page


@invariant("PTE-4", "a page table in memory counts its translations, and has at least one", source="i386 pmap.c")
def page_tables_count_translations(s: Snapshot) -> Iterator[Violation]:
    for pmap, number, room, frame, count in s.tables:
        live = sum(vpn // room == number for vpn in s.pmaps.get(pmap, ()))
        if count != live or not live:
            where = f"table {number} of pmap {pmap}, page:{frame},"
            yield f"{where} has {live} translations and counts {count}", Page.at(frame)


@invariant("PTE-5", "the pages of a pmap's object are its page tables", source="i386 pmap.c")
def pages_of_pmap_objects_are_page_tables(s: Snapshot) -> Iterator[Violation]:
    of = {(pmap, frame) for pmap, _, _, frame, _ in s.tables}
    owners = {obj: pmap for pmap, obj in s.pm_objs.items()}
    mine = {(owners.get(s.get(page, "uobject")), page.frame) for page in s.ptps}
    for page in s.ptps:
        if (owners.get(s.get(page, "uobject")), page.frame) not in of:
            yield f"{page} belongs to {s.get(page, 'uobject')}, and is not a page table of its pmap", page
    for pmap, frame in sorted(of):
        if (pmap, frame) not in mine:
            there = Page.at(frame)
            free = "free" if s.num(there, "pqflags") & PQ_FREE else f"a page of {s.get(there, 'uobject')}"
            yield f"page:{frame} is a page table of pmap {pmap}, and {free}", there


@invariant("TLB-1", "what a CPU has cached is in the page table, and allows no more than it", source="pmap(9)")
def cached_translations_are_in_page_tables(s: Snapshot) -> Iterator[Violation]:
    for cpu, (pmap, cached) in s.tlbs.items():
        table = s.pmaps.get(pmap, {})
        for vpn, (frame, writable, modified, *_) in sorted(cached.items()):
            pte = table.get(vpn)
            what = f"{cpu} has {vpn * s.page_size:#x} of pmap {pmap} cached"
            if pte is None:
                yield f"{what} as page:{frame}; it is not mapped", Page.at(frame)
            elif pte[FRAME] != frame:
                yield f"{what} as page:{frame}; it is mapped to page:{pte[FRAME]}", Page.at(frame)
            elif writable and not pte[PROT] & VM_PROT_WRITE:
                yield f"{what} writable; it is mapped with protection {pte[PROT]}", Page.at(frame)
            elif modified and not pte[MOD]:
                yield f"{what} as modified; the page table says it is not", Page.at(frame)
