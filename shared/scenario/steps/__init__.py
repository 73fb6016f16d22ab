"""The steps of a scenario, each in one place.

A step is a class, registered by `@step(...)` (step.py). The class has everything that anybody needs to know of it:

    its name, family and docstring   `uvmp steps`, the JSON Schema
    where it is allowed              the loader
    its keys, each of a kind         the loader, `uvmp steps`, the JSON Schema
    its fields                       the journal, the digest, run folders: what the keys came to
    perform()                        what a thread does (shared/program/run.py calls it)
    effect()                         what that does to the oracle's model of memory (detectors/oracle.py calls it)
    foresee()                        what the oracle must know of it before the run begins

    step.py      what a step is; the registry
    memory.py    mappings, accesses, advice, locked memory
    files.py     files and shared memory segments
    loans.py     pages lent to the kernel
    process.py   processes and threads; swap devices; counters
    kernel.py    steps of the kernel's own, which no user call reaches
    table.py     imports them all: whoever needs the whole registry imports it from there

To add a step: write its class in the module that it belongs to. Nothing else needs to know.

Left out: how keys are read (shared/scenario/keys.py); UVM's own functions, which perform() calls (shared/uvm).
"""
