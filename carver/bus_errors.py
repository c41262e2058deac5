"""Bus errors: a mapped file that breaks while it is scanned must not kill the scan.

Touching a page of a mapping that the disk cannot deliver any more, or that lies behind the end of a file cut short,
raises SIGBUS in the thread that touches it. Python cannot handle it, as its handlers run between instructions of its
own, and the faulting one would be tried again forever. So the handler is machine code, made by llvmlite (as numba's
is): it looks whether the address lies in a window that is being watched, maps zeros over the rest of that window, and
notes that the window is torn; the scan goes on over zeros, and whoever watched throws away what it found and reads. A
bus error anywhere else gets the handler that was there before.
"""

from __future__ import annotations

import ctypes
import mmap
import signal
import sys
import threading
from functools import cache

import numpy as np
from llvmlite import binding as llvm
from llvmlite import ir

SLOTS = 32  # windows watched at a time: one a thread that scans
START, END, TORN = range(3)
SI_ADDR_BYTES = 16  # where siginfo_t keeps the address, on 64-bit Linux
SA_SIGINFO = 4
MAP_PRIVATE, MAP_FIXED, MAP_ANONYMOUS = 0x02, 0x10, 0x20
FAMILIES = ("x86_64", "aarch64")  # what the two structures below are known for

I32, I64 = ir.IntType(32), ir.IntType(64)


class _SigAction(ctypes.Structure):
    """`struct sigaction` of glibc and musl on 64-bit Linux."""

    _fields_ = (
        ("handler", ctypes.c_void_p),
        ("mask", ctypes.c_ubyte * 128),
        ("flags", ctypes.c_int),
        ("restorer", ctypes.c_void_p),
    )


class Watch:
    """One window of memory under watch; `close` ends it, before the memory is given back."""

    def __init__(self, slot: int, address: int, size_bytes: int) -> None:
        self._slot = slot
        _slots[slot, TORN] = 0
        _slots[slot, END] = address + size_bytes
        _slots[slot, START] = address

    @property
    def torn(self) -> bool:
        """Whether some of it could not be had and was zeros."""
        return bool(_slots[self._slot, TORN])

    def close(self) -> None:
        """Watch no longer."""
        _slots[self._slot, : END + 1] = 0
        with _lock:
            _free.append(self._slot)


_slots = np.zeros((SLOTS, 3), dtype=np.int64)  # its address is compiled into the handler: never another array
_free = list(range(SLOTS))
_lock = threading.Lock()


def watch(address: int, size_bytes: int) -> Watch | None:
    """Watch a window of mapped memory; None where that cannot be, or too many are watched: then do not touch it."""
    with _lock:
        if not _installed() or not _free:
            return None
        return Watch(_free.pop(), address, size_bytes)


@cache
def _installed() -> bool:
    """Install the handler once; tell whether this system is one that it is known to work on."""
    machine = llvm.get_process_triple().split("-")[0]
    if sys.platform != "linux" or machine not in FAMILIES or sys.maxsize < 1 << 32:
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    before = _SigAction()
    _kept.append(before)
    addresses = [ctypes.cast(function, ctypes.c_void_p).value or 0 for function in (libc.mmap, libc.sigaction)]
    module = _handler(_slots.ctypes.data, ctypes.addressof(before), *addresses)
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(str(module)), _target_machine())
    engine.finalize_object()
    _kept.append(engine)
    ours = _SigAction(handler=engine.get_function_address("on_bus_error"), flags=SA_SIGINFO)
    return bool(libc.sigaction(int(signal.SIGBUS), ctypes.byref(ours), ctypes.byref(before)) == 0)


_kept: list[object] = []  # what the handler uses must live as long as the process


def _target_machine() -> llvm.TargetMachine:
    return llvm.Target.from_default_triple().create_target_machine(opt=0)


def _handler(slots: int, before: int, mmap_address: int, sigaction_address: int) -> ir.Module:
    """Build `on_bus_error(number, siginfo_t *, context)`; all addresses are constants in it."""
    module = ir.Module()
    module.triple = llvm.get_process_triple()
    pointer = ir.IntType(8).as_pointer()
    handler = ir.Function(module, ir.FunctionType(ir.VoidType(), [I32, pointer, pointer]), "on_bus_error")
    builder = ir.IRBuilder(handler.append_basic_block())

    def call(address: int, result: ir.Type, *arguments: ir.Value) -> None:
        kind = ir.FunctionType(result, [argument.type for argument in arguments]).as_pointer()
        builder.call(builder.inttoptr(I64(address), kind), arguments)

    place = builder.gep(handler.args[1], [I64(SI_ADDR_BYTES)])
    address = builder.load(builder.bitcast(place, I64.as_pointer()))
    for slot in range(SLOTS):
        start, end, torn = (I64(slots + 8 * (3 * slot + i)).inttoptr(I64.as_pointer()) for i in (START, END, TORN))
        end_address = builder.load(end)
        inside = builder.and_(
            builder.icmp_unsigned(">=", address, builder.load(start)), builder.icmp_unsigned("<", address, end_address)
        )
        with builder.if_then(inside):
            builder.store(I64(1), torn)
            page = builder.and_(address, I64(-mmap.PAGESIZE))
            rest = builder.sub(end_address, page)
            flags = I32(MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS)
            call(mmap_address, I64, page, rest, I32(mmap.PROT_READ), flags, I32(-1), I64(0))
            builder.ret_void()
    call(sigaction_address, I32, I32(int(signal.SIGBUS)), I64(before), I64(0))
    builder.ret_void()  # to the same instruction, which now meets the handler of before
    return module
