"""The steps of a scenario, each in one place.

A step is a class, registered by `@step(...)` (step.py). The class declares everything about the step, and these parts
of uvmp use it:

    its name, family and docstring   `uvmp steps`, the JSON Schema
    where it is allowed              the loader
    its keys, each of a kind         the loader, `uvmp steps`, the JSON Schema
    its fields                       the journal, the digest, run folders: the values of the keys
    perform()                        the action of a thread (shared/program/run.py calls it)
    effect()                         the effect on the oracle's model of memory (detectors/oracle.py calls it)
    foresee()                        facts that the oracle needs before the run begins

    step.py      the base of a step; the registry
    memory.py    mappings, accesses, advice, locked memory
    files.py     files and shared memory segments
    loans.py     pages lent to the kernel
    process.py   processes and threads; swap devices; counters
    kernel.py    steps that call functions of the kernel directly
    table.py     imports all steps; code that needs every step imports this module

To add a step: write its class in the module of its family. The parts above need no change; README.md says how to renew
what is generated from the class.

Left out: reading of keys (shared/scenario/keys.py); UVM's own functions, which perform() calls (shared/uvm).
"""
