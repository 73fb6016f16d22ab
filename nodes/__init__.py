"""The parts of the machine, each a plain class that knows nothing of how it is run."""
