"""pmap(9): what concerns a page and no translation: filling, copying. Below page.py, as the rest is above it."""

from __future__ import annotations

from shared.port import here
from shared.uvm.structs import Page


def pmap_zero_page(pg: Page) -> None:
    """Fill the page's frame with zeros."""
    here.port.op("frame_zero", pg.frame)


def pmap_is_mapped(pg: Page) -> bool:
    """Is `pg` mapped anywhere? Whoever frees it asks.

    Locks:   the page's owner is held by the caller, if the page has one: else the answer may be out of date.
    Source:  none; the model's. A pmap of the period finds out when it removes the page's mappings.
    """
    return bool(here.port.op("pmap_is_mapped", pg.frame))


def pmap_copy_page(src: Page, dst: Page) -> None:
    """Copy a frame's bytes."""
    here.port.copy_frame(src.frame, dst.frame)
