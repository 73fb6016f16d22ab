"""The constants that the kernel shares with UVM have UVM's values."""

from __future__ import annotations

import pytest

from shared.uvm import param

#: header -> name -> value
HEADERS = {
    "uvm_aobj.h 1.10": {"UAO_FLAG_KILLME": 0x4},
    "uvm_vnode.h 1.10": {
        "UVM_VNODE_VALID": 0x001, "UVM_VNODE_CANPERSIST": 0x002, "UVM_VNODE_DYING": 0x008, "UVM_VNODE_RELKILL": 0x010,
        "UVM_VNODE_WANTED": 0x020, "UVM_VNODE_IOSYNC": 0x080,
    },
    "vm_map.h 1.34": {
        "VM_MAP_PAGEABLE": 0x01, "VM_MAP_INTRSAFE": 0x02, "VM_MAP_BUSY": 0x08, "VM_MAP_WANTLOCK": 0x10,
    },
}  # fmt: skip


@pytest.mark.parametrize("header", HEADERS)
def test_a_constant_has_the_headers_value(header: str) -> None:
    for name, value in HEADERS[header].items():
        assert getattr(param, name) == value, name


def test_what_is_the_models_own_has_no_value_of_uvms() -> None:
    """PGO_OVERWRITE, later, is 0x200."""
    assert param.PGO_SWAPOFF > 0x1000
