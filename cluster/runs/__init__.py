"""The outcome of a run, and the ways to repeat it.

outcome   one execution in any engine: finding, results, journals, digest
parity    a live run against `sim`; the token of a live run
"""
