"""The postmortem: explains a run from the journals of its folder, when the machine no longer exists.

    load      DIR/*.uvmp.jsonl, scenario.json, run.json -> records, and the defects of the files
    row       a record in compact form
    order     records of all nodes -> one sequence in which they can have happened
    state     performs that sequence again -> stacks, locks, waits, fields
    history   one page, anon or amap: its present fields, and every operation on it
    analyse   combines all of these -> a Postmortem
    rows      selects the steps to show
    screen    a Postmortem -> its first screen
    text      a Postmortem -> the whole report

Imports package shared only: a journal outlives the machine that wrote it.
"""
