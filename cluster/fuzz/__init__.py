"""Random programs: scenarios that nobody has thought of, run under random schedules, against models of what must be.

    program    a random scenario as data that can be cut down, and its text
    generate   makes one from a random number generator
    plain      what the steps of a process with one thread must answer
    judge      runs a program under several strategies: findings, results, replay
    shrink     the smallest part of a program that still fails

`python -m cluster.fuzz` runs programs until one fails.
"""
