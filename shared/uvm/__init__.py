"""The kernel: a module or a few per uvm_*.c, with UVM's names; in pyproject.toml, contract "uvm", in reading order."""
