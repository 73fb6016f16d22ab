"""Runs the nodes of a process: admission, the port of a processor, their host, and the transport between hosts."""
