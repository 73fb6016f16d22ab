"""The detectors that judge a run. A detector takes the events of a run, or its final state, and returns findings.

The header of each module says what its detector sees, and what it does not see.
"""
