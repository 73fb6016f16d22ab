"""Every constant that nodes share, with the source's names and values; what is the model's own says so.

One definition of each: a node that was started with another table must not
join the machine (NetBSD's header clean-up of June 2000 made that mistake
possible, by moving definitions between headers while users were being built).

Source: uvm_page.h, uvm_map.h, uvm_amap.h, uvm_extern.h, uvm_pager.h, uvm_swap.h
and pmap.h of early 2001; errno(2).
"""

from __future__ import annotations

# errno(2); pagers and the fault handler answer 0 or one of these
EPERM, EIO, ENXIO, ENOMEM, EACCES, EFAULT, EBUSY, EEXIST, EINVAL, EAGAIN = 1, 5, 6, 12, 13, 14, 16, 17, 22, 35
ERESTART = -3
ERRNO_NAMES = {
    EPERM: "EPERM", EIO: "EIO", ENXIO: "ENXIO", ENOMEM: "ENOMEM", EACCES: "EACCES", EFAULT: "EFAULT", EBUSY: "EBUSY",
    EEXIST: "EEXIST", EINVAL: "EINVAL", EAGAIN: "EAGAIN", ERESTART: "ERESTART",
}  # fmt: skip


def errno_name(error: int) -> str:
    """An errno as a message tells it: `EIO (5)`."""
    return f"{ERRNO_NAMES[error]} ({error})" if error in ERRNO_NAMES else str(error)


# what a pager answered before it answered an errno, 2001-03-10; of use to errata alone
VM_PAGER_OK, VM_PAGER_ERROR, VM_PAGER_AGAIN = 0, 4, 5

# vm_page.flags, under the owner's lock
PG_CLEAN = 0x0008  # page has not been modified
PG_BUSY = 0x0010  # page is in transit: long-term lock
PG_WANTED = 0x0020  # someone is waiting for page
PG_TABLED = 0x0040  # page is in VP table (object hash)
PG_FAKE = 0x0200  # page is not yet initialized
PG_RELEASED = 0x1000  # page to be freed when unbusied
PG_CLEANCHK = 0x4000  # clean bit has been checked; set and never read
PG_NAMES = {
    PG_CLEAN: "CLEAN", PG_BUSY: "BUSY", PG_WANTED: "WANTED", PG_TABLED: "TABLED", PG_FAKE: "FAKE",
    PG_RELEASED: "RELEASED", PG_CLEANCHK: "CLEANCHK",
}  # fmt: skip

# vm_page.pqflags, under pageqlock (PQ_FREE: under the free list's lock)
PQ_FREE = 0x01
PQ_INACTIVE = 0x02
PQ_ACTIVE = 0x04
PQ_ANON = 0x10
PQ_AOBJ = 0x20
PQ_SWAPBACKED = PQ_ANON | PQ_AOBJ
PQ_NAMES = {PQ_FREE: "FREE", PQ_INACTIVE: "INACTIVE", PQ_ACTIVE: "ACTIVE", PQ_ANON: "ANON", PQ_AOBJ: "AOBJ"}

# uvm_object: uo_refs of an object of the kernel's own, which has no reference count; who pages an object
UVM_OBJ_KERN = -2
UVM_OBJ_INTRSAFE_KERN = -3
UVM_PGOPS_NONE, UVM_PGOPS_VNODE, UVM_PGOPS_AOBJ = 0, 1, 2

# uvm_pagealloc flags
UVM_PGA_USERESERVE = 0x0001
UVM_PGA_ZERO = 0x0002

# uvm_loan flags: to whom
UVM_LOAN_TOANON, UVM_LOAN_TOPAGE = 0x01, 0x02

# vm_map.flags, vm_map_entry.etype
VM_MAP_PAGEABLE, VM_MAP_INTRSAFE, VM_MAP_BUSY, VM_MAP_WANTLOCK = 0x01, 0x02, 0x08, 0x10
UVM_ET_OBJ, UVM_ET_SUBMAP, UVM_ET_COPYONWRITE, UVM_ET_NEEDSCOPY = 0x01, 0x02, 0x04, 0x08

# the kernel's address space (its end is the machine's affair); uvm_km_kmemalloc flags
VM_MIN_KERNEL_ADDRESS = 0xC0000000
UVM_KMF_NOWAIT = 0x1

# protection and inheritance
VM_PROT_NONE, VM_PROT_READ, VM_PROT_WRITE, VM_PROT_EXECUTE = 0, 1, 2, 4
VM_PROT_ALL = 7
MAP_INHERIT_SHARE, MAP_INHERIT_COPY, MAP_INHERIT_NONE = 0, 1, 2

# mmap, uvm_map
MAP_SHARED, MAP_PRIVATE, MAP_ANON = 0x0001, 0x0002, 0x1000
UVM_FLAG_OVERLAY, UVM_FLAG_COPYONW = 0x020000, 0x080000

# madvise
MADV_NORMAL, MADV_RANDOM, MADV_SEQUENTIAL, MADV_WILLNEED, MADV_DONTNEED, MADV_SPACEAVAIL, MADV_FREE = range(7)

# msync
MS_ASYNC, MS_INVALIDATE, MS_SYNC = 0x01, 0x02, 0x04

# faults
VM_FAULT_INVALID, VM_FAULT_PROTECT, VM_FAULT_WIRE = 0, 1, 2
# the model's: wire for device I/O
VM_FAULT_WIREIO = 4
# what an MMU without R and M bits answers when one of them has to be set; no fault of UVM's
VM_FAULT_REFERENCE = 3

# amap
AMAP_SHARED = 0x1

# the number of the kernel's pmap
PMAP_KERNEL = 0

# pmap_enter flags: the low bits are the access that caused it (0: unknown)
PMAP_WIRED = 0x10
PMAP_CANFAIL = 0x20

# pagers: what pgo_get, pgo_put and pgo_flush are to do; largest cluster (MAXBSIZE) in pages
PGO_CLEANIT = 0x001  # flush: write dirty pages
PGO_SYNCIO = 0x002  # the I/O is done when the call returns
PGO_DEACTIVATE = 0x004  # flush: make inactive
PGO_FREE = 0x008  # flush: throw away
PGO_ALLPAGES = 0x010  # flush: the whole object
PGO_DOACTCLUST = 0x020  # put: active pages may be in the cluster
PGO_LOCKED = 0x040  # get: the fault's data structures are locked, so do not sleep
PGO_PDFREECLUST = 0x080  # pageout was a success: un-busy the cluster's pages
PGO_REALLOCSWAP = 0x100  # pageout was none: drop the swap slots allocated for it
PGO_SWAPOFF = 0x10000  # get: fail if there is no memory to be had (the model's; no value of UVM's)
MAXBSIZE_PAGES = 16

# vnode objects (uvm_vnode.u_flags)
UVM_VNODE_VALID = 0x001  # the object is attached to its vnode
UVM_VNODE_CANPERSIST = 0x002  # its pages may stay when the last reference is gone
UVM_VNODE_DYING = 0x008  # its pages are being thrown away
UVM_VNODE_RELKILL = 0x010  # the release of its last page is its end
UVM_VNODE_WANTED = 0x020  # someone sleeps until it is dead
UVM_VNODE_IOSYNC = 0x080  # someone sleeps until u_nio is 0

# anonymous objects (uvm_aobj.u_flags)
UAO_FLAG_KILLME = 0x4  # the release of its last page is its end

# swap
SWSLOT_NONE = 0
SWSLOT_BAD = -1
SWF_INUSE, SWF_ENABLE = 0x1, 0x2  # swapdev.swd_flags: on a list; slots may be allocated
SWAP_ON, SWAP_OFF = 1, 2  # swapctl(2)

# process states
SIDL, SRUN, SZOMB = 1, 2, 5
