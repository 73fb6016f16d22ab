"""The postmortem: what a run folder's journals tell about a run, after the machine is gone.

    load      DIR/*.uvmp.jsonl, scenario.json, run.json -> records, and what is wrong with the files
    order     records of all nodes -> one sequence in which they can have happened
    state     that sequence, performed again -> stacks, locks, waits, fields
    history   one page, anon or amap: its fields now, and all that was done to it
    analyse   all of it -> a Postmortem
    report    a Postmortem -> text

Imports package shared only: a journal outlives the machine that wrote it.
"""

from __future__ import annotations

from cluster.postmortem.analyse import Postmortem, analyse
from cluster.postmortem.report import render

__all__ = ["Postmortem", "analyse", "render"]
