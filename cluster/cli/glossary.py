"""Terms of UVM that the stories of scenarios and errata use, each in one sentence.

The commands print below a story the terms that the story uses, so that a reader who has never seen UVM understands the
story.
"""

from __future__ import annotations

import re

from cluster.cli.describe import labelled
from cluster.cli.output import Output

WORDS = {
    "active": "of a page: on the queue of pages in use; the pagedaemon deactivates pages that are no longer used",
    "amap": "the table of the anons of a mapping; processes that share memory copy on write may share it",
    "anon": "the record of one page of anonymous memory: in RAM, in swap, or both",
    "aobj": "the object behind shared memory; it stores its own swap slots",
    "BUSY": "of a page: in transit, mostly to or from a disk; a thread that needs the page sets WANTED and sleeps",
    "clean": "of a page: the same as its copy in swap or in its file, so it can be freed without being written",
    "copy on write": "two processes share a page until one of them writes to it and gets a copy",
    "DIAGNOSTIC": "a kernel compiled with assertions",
    "inactive": "of a page: on the queue of pages that the pagedaemon frees, or writes to swap first",
    "LOCKDEBUG": "a kernel that checks simple locks: their holders, and that no thread sleeps or returns with them",
    "map entry": "one range of an address space: the object that is mapped there, and its protection",
    "on loan": "of a page: lent to the kernel or to an anon without a copy; it must not change meanwhile",
    "pagedaemon": "the kernel thread that frees pages when memory is short",
    "pmap": "the machine-dependent module that fills page tables and tells CPUs to flush their TLBs",
    "RELEASED": "of a BUSY page: its owner no longer needs it; the thread that made it BUSY frees it",
    "submap": "a part of kernel_map with its own lock, for instance kmem_map for malloc()",
    "wired": "of a page: locked in memory, never paged out; wire_count says how many times",
}


def used(text: str) -> list[str]:
    """The words that a text uses, in its own spelling or in the plural."""
    return [word for word in WORDS if re.search(rf"\b{re.escape(word)}s?\b", text)]


def say_words(output: Output, text: str) -> None:
    """The meanings of the words that a text uses; no line if the text uses none of them."""
    rows = [(word, WORDS[word]) for word in used(text)]
    if rows:
        output.say()
        output.say("terms")
        labelled(output, rows)
