"""The page to which each virtual address was mapped, from the records. So a request for a range of addresses is a step
of the pages that it touched.

A mapping that the setup made is known from the first walk that finds it, unless another mapping was entered before.
"""

from __future__ import annotations

from collections.abc import Iterable

from shared.journal.record import Record
from shared.uvm.param import VM_PROT_NONE, VM_PROT_READ
from shared.wire.messages import OPERATIONS

Key = tuple[int, int]


class Translations:
    """The pmaps, as far as records show them.

    Args:
        page_size: bytes; 0: not known, and then only walks are.
    """

    def __init__(self, page_size: int = 0):
        self.page_size = page_size
        self.frames: dict[Key, int] = {}  # (pmap, virtual page) -> frame

    def begin(self, records: Iterable[Record]) -> None:
        """Take from the whole run what was mapped when it began."""
        seen: set[Key] = set()
        for record in records:
            key = self._key(record) if record["event"] in ("pmap_enter", "pmap_walk") else None
            frame = _walked(record)
            if key is not None and key not in seen:
                if record["event"] == "pmap_enter":
                    seen.add(key)
                elif frame is not None:
                    seen.add(key)
                    self.frames[key] = frame

    def apply(self, record: Record) -> frozenset[int]:
        """One more record; returns the frames that it touched by way of addresses."""
        event = record["event"]
        op = OPERATIONS.get(event)
        if op is None or op.node != "mmu":
            return frozenset()
        if "start" in op.args:
            touched = self._range(record)
            if event == "pmap_remove" or not _number(record, "prot", VM_PROT_READ) & VM_PROT_READ:
                for key in touched:  # (a wired translation stays, without access; nothing is lost by forgetting it)
                    self.frames.pop(key, None)
            return frozenset(touched.values())
        if event == "pmap_page_protect" and _number(record, "prot", VM_PROT_READ) == VM_PROT_NONE:
            self.frames = {key: frame for key, frame in self.frames.items() if frame != record.get("frame")}
        if op.target != "pmap":
            return frozenset()
        place, walked = self._key(record), _walked(record)
        if place is None:
            return frozenset()
        old = self.frames.get(place)
        new = record.get("frame") if event == "pmap_enter" else walked
        if type(new) is int:
            self.frames[place] = new
        touched_by = (old, new) if event == "pmap_enter" else (new if walked is not None else old,)
        if event == "pmap_walk" and walked is None:
            return frozenset()
        return frozenset(page for page in touched_by if type(page) is int)

    def _key(self, record: Record) -> Key | None:
        pmap, vpn, va = record.get("pmap"), record.get("vpn"), record.get("va")
        if type(pmap) is not int:
            return None
        if type(vpn) is int:
            return pmap, vpn
        return (pmap, va // self.page_size) if type(va) is int and self.page_size else None

    def _range(self, record: Record) -> dict[Key, int]:
        start, end, pmap = record.get("start"), record.get("end"), record.get("pmap")
        if not self.page_size or type(start) is not int or type(end) is not int:
            return {}
        first, last = start // self.page_size, -(-end // self.page_size)
        return {key: frame for key, frame in self.frames.items() if key[0] == pmap and first <= key[1] < last}


def _walked(record: Record) -> int | None:
    """The frame that a walk has found."""
    pte = record.get("pte")
    walked = record["event"] == "pmap_walk" and isinstance(pte, list) and pte and type(pte[0]) is int
    return pte[0] if walked and pte else None


def _number(record: Record, key: str, otherwise: int) -> int:
    value = record.get(key)
    return value if type(value) is int else otherwise
