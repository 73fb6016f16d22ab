"""The catalogue of defects that a scenario can switch on.

An *erratum* is a defect kept in the kernel beside the code that repaired it:

    if erratum("amap_cow_now.nanon-freed-locked"):
        ...the lines as they were
    else:
        ...the lines as they are

An erratum is off unless it is named. Its id gives its place and its effect, in the
kernel's terms. Each entry explains itself: what the code did, which interleaving
that allowed, what a user saw, and what the repair was. Each has a `Status`: a
defect that NetBSD's UVM really had is *logged* or *in the source*; any other defect
is *inferred*, or *hypothetical*, that is, our invention. If the history gives only
the repair and not the mechanism, the story says that the mechanism is ours.

The entries are in modules by subject. The `name` of an entry begins with its row:
S1 to S12 are the change logs with which the project started, E1 to E50 are other
sources, and from E51 defects that we saw in the old source while we modelled it.
"""

from __future__ import annotations

import difflib

from shared.errata import amaps, loans, locks, maps, objects, pageout, pmap, swap
from shared.errata.big_lock import BigLock
from shared.errata.erratum import Erratum, Status
from shared.errors import UserMistake

__all__ = ["ERRATA", "Erratum", "Status", "counts", "lookup", "with_big_lock"]


def _place(erratum: Erratum) -> tuple[bool, int, str]:
    return erratum.row[0] == "E", int(erratum.row[1:]), erratum.name


CATALOGUE: tuple[Erratum, ...] = (
    *amaps.CATALOGUE,
    *loans.CATALOGUE,
    *locks.CATALOGUE,
    *maps.CATALOGUE,
    *objects.CATALOGUE,
    *pageout.CATALOGUE,
    *pmap.CATALOGUE,
    *swap.CATALOGUE,
)
#: every erratum by its id, in the order of rows
ERRATA: dict[str, Erratum] = {erratum.id: erratum for erratum in sorted(CATALOGUE, key=_place)}


def counts() -> dict[Status, int]:
    """How many errata have each status."""
    return {status: sum(erratum.status is status for erratum in ERRATA.values()) for status in Status}


def with_big_lock() -> dict[BigLock, int]:
    """How many errata show how on a machine with the big lock."""
    return {seen: sum(erratum.big_lock is seen for erratum in ERRATA.values()) for seen in BigLock}


def lookup(name: str) -> Erratum:
    """The erratum with this id, or with this short name, as E1; the row's if it has just one.

    Raises: UserMistake - there is none, or several: names those that are meant, or look like it.
    """
    if name in ERRATA:
        return ERRATA[name]
    short = name.lower()
    entries = [erratum for erratum in ERRATA.values() if erratum.name.lower() == short]
    entries = entries or [erratum for erratum in ERRATA.values() if erratum.row.lower() == short]
    if len(entries) == 1:
        return entries[0]
    shown = name if len(name) <= 60 else name[:56] + " ..."
    if entries:
        raise UserMistake(
            f"{shown!r} is a row with several errata: {', '.join(f'{entry.name} ({entry.id})' for entry in entries)}"
        )
    close = [erratum.id for erratum in ERRATA.values() if short in map(str.lower, erratum.scenarios)]
    close = close or [erratum for erratum in ERRATA if short and erratum.startswith(f"{short}.")][:3]
    close = close or difflib.get_close_matches(name, ERRATA, n=3, cutoff=0.5)
    hint = "; `uvmp errata` lists them"
    if close:
        hint = f"; did you mean {' or '.join(f'{erratum} ({ERRATA[erratum].name})' for erratum in close)}?"
    raise UserMistake(f"there is no erratum {shown!r}{hint}")
