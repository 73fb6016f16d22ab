"""What a run came to, and each way to see it again.

outcome   one execution in any engine: finding, results, journals, digest
parity    a live run against `sim`; the token of a live run
"""
