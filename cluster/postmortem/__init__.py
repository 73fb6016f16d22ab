"""The postmortem: what a run folder's journals tell about a run, after the machine is gone.

    load      DIR/*.uvmp.jsonl, scenario.json, run.json -> records, and what is wrong with the files
    row       a record in little room
    order     records of all nodes -> one sequence in which they can have happened
    state     that sequence, performed again -> stacks, locks, waits, fields
    history   one page, anon or amap: its fields now, and all that was done to it
    analyse   all of it -> a Postmortem
    rows      which of many steps are shown
    screen    a Postmortem -> its first screen
    report    a Postmortem -> text, all of it

Imports package shared only: a journal outlives the machine that wrote it.
"""

from __future__ import annotations

from cluster.postmortem.analyse import Postmortem, analyse
from cluster.postmortem.views.screen import render_screen
from cluster.postmortem.views.text import render, render_object

__all__ = ["Postmortem", "analyse", "render", "render_object", "render_screen"]
