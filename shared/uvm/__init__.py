"""The kernel: one module per uvm_*.c, with UVM's names. See README, "The map"."""
