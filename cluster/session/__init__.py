"""A machine that stays: it stops between any two operations, can be looked at, and is given further steps."""
