"""What judges a run: each detector is told what happened, or shown the machine at its end, and says what is wrong.

Each module's header says what its detector sees, and what it does not.
"""
