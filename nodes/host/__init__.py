"""What carries nodes: admission, the port of a processor, the host of both, and what hosts talk by."""
