"""Random programs: random scenarios, run under random schedules, compared with models of their results.

    program    a random scenario as data that can be reduced, and its text
    generate   makes a random scenario from a random number generator
    mutate     makes one from another
    plain      the results that the steps of a single-threaded process must have
    judge      runs a program under several strategies: findings, results, replay
    shrink     finds the smallest part of a program that still fails
    observe    what executions show of how contexts met
    corpus     the programs that showed something new, and the findings, on disk
    hunt       runs one program after another

The command is `uvmp fuzz`.
"""
