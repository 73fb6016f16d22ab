"""Simple locks, map locks, sleep queues and lock order, as pure state machines."""
