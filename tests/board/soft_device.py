"""A board in software, for the real pynq package: registers, memory and interrupt, with our C simulation as the engine.

It stands where the logic stands: below `pynq.Device`. Driver, overlay, detector and bench run on it as they are. It is
as unforgiving as hardware where software tends to be careless:

- The host's view of a buffer and DRAM are two arrays; only sync_to_device and sync_from_device copy between them.
- The engine works in a thread of its own from AP_START on, on DRAM, at the addresses in its registers. Addresses that
  are no buffer, or memory that is freed meanwhile, end in an engine that never finishes, and are noted in `crimes`.
- Status bits of the interrupt clear on read or toggle on write, as the HLS release at hand has it (`isr`).

CODESIGN_SOFT_ENGINE names the library that codesign/compiled.py made of the bundle's sources. CODESIGN_SOFT_FAULT
(hang, status:N, flip, allocation:N, dead) makes the device misbehave, as the attribute `fault` does.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import re
import struct
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pynq
from pynq.buffer import PynqBuffer
from pynq.interrupt import _InterruptController
from pynq.metadata.runtime_metadata_parser import RuntimeMetadataParser
from pynqmetadata.frontends import Metadata

START, DONE, IDLE, READY = 1, 2, 4, 8
FIRST_ADDRESS, PAGE = 0x1000_0000, 4096
# IO PLLs as boot leaves them: FBDIV 45 of 33.3 MHz (UG1087, IOPLL_CTRL), FDIV 20 of 50 MHz (UG585, IO_PLL_CTRL)
PLLS = {0xFF5E0020: 45 << 8, 0xF8000108: 20 << 12}
POINTERS = ("features", "offsets", "program_port", "results")


class SoftDevice(pynq.Device):
    """The only device of a process that imports this module. One at a time may be in use."""

    _probe_priority_ = 10

    @classmethod
    def _probe_(cls) -> list[SoftDevice]:
        return [cls()]

    def __init__(self) -> None:
        super().__init__("software")
        self.name, self.arch = "software", "aarch64"  # the processor whose clock registers pynq sets
        pynq.ps.CPU_ARCH = self.arch  # where pynq 3.0 looks for it
        self.capabilities = {"REGISTER_RW": True}
        self.fault = os.environ.get("CODESIGN_SOFT_FAULT", "")
        self.seconds = 0.0  # that a frame takes at least
        self.isr = "read"  # what clears a status bit of the interrupt: read, or toggle (a write)
        self.live: dict[int, tuple[np.ndarray, np.ndarray]] = {}  # address -> host's view, DRAM
        self.freed = 0
        self.crimes: list[str] = []
        self.log: list[tuple[str, float]] = []  # what happened, in order
        self.writes: Counter[str] = Counter()  # to registers of the engine, by name
        self.downloads = 0
        self.system = dict(PLLS)  # registers outside the logic
        self._next = FIRST_ADDRESS
        self._lock = threading.RLock()
        self._engine: Engine | None = None
        self._intc = Intc(self)

    # -- what pynq asks of a device ------------------------------------------------------------------------------

    def get_bitfile_metadata(self, bitfile_name: str, partial: bool = False) -> RuntimeMetadataParser:
        parser = RuntimeMetadataParser(Metadata(input=str(Path(bitfile_name).with_suffix(".hwh"))))
        self.arch = "armv7l" if parser.family_ps == "processing_system7" else "aarch64"
        pynq.ps.CPU_ARCH = self.arch  # where PYNQ 3.0 looks
        pynq.ps.CPU_ARCH = self.arch
        return parser

    def download(self, bitstream: Any, parser: Any = None) -> None:
        """The logic is what hls/ beside the bitstream says."""
        if self._engine is not None:
            self._engine.stop()
        path = Path(bitstream.bitfile_name)
        self._engine = Engine(self, path.with_suffix(".hwh"), path.parent / "hls")
        self._intc.attach(parser)
        self.downloads += 1
        super().post_download(bitstream, parser)

    def allocate(self, shape: Any, dtype: Any, **_: Any) -> PynqBuffer:
        kind, _, count = self.fault.partition(":")
        if kind == "allocation" and len(self.live) >= int(count or 0):
            raise RuntimeError("BO allocation failed: no memory")
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        host, dram = np.full(size, 0xA5, np.uint8), np.full(size, 0x5A, np.uint8)  # neither is zero at first
        with self._lock:
            address, self._next = self._next, self._next + -(-size // PAGE) * PAGE + PAGE
            self.live[address] = host, dram
        buffer = PynqBuffer(shape, dtype, buffer=host, device=self, device_address=address, bo=address)
        buffer.memory, buffer.pointer, buffer.return_to, buffer.freed = self, address, self, True
        return buffer

    def return_pointer(self, address: int) -> None:
        """What PynqBuffer.freebuffer calls."""
        with self._lock:
            if self._engine is not None and self._engine.uses(address):
                self.crimes.append(f"memory at {address:#x} was freed while the engine works on it")
            del self.live[address]
            self.freed += 1

    def flush(self, bo: int, offset: int, virtual_address: int, nbytes: int) -> None:
        host, dram = self.live[bo]
        self.note("flush")
        dram[offset : offset + nbytes] = host[offset : offset + nbytes]

    def invalidate(self, bo: int, offset: int, virtual_address: int, nbytes: int) -> None:
        host, dram = self.live[bo]
        self.note("invalidate")
        host[offset : offset + nbytes] = dram[offset : offset + nbytes]

    def read_registers(self, address: int, length: int) -> bytes:
        with self._lock:
            engine = self._engine
            if engine is not None and engine.base <= address < engine.base + engine.size:
                return struct.pack("<I", engine.read(address - engine.base))
            if self._intc.base is not None and self._intc.base <= address < self._intc.base + PAGE:
                return struct.pack("<I", self._intc.read(address - self._intc.base))
            return struct.pack("<I", self.system.get(address, 0))

    def write_registers(self, address: int, data: bytes) -> None:
        value = int.from_bytes(bytes(data), "little")
        with self._lock:
            engine = self._engine
            if engine is not None and engine.base <= address < engine.base + engine.size:
                engine.write(address - engine.base, value)
            elif self._intc.base is not None and self._intc.base <= address < self._intc.base + PAGE:
                self._intc.write(address - self._intc.base, value)
            else:
                self.system[address] = value
            self._intc.update()

    # -- for the model and for tests -----------------------------------------------------------------------------

    def note(self, event: str) -> None:
        self.log.append((event, time.monotonic()))

    def interrupt_level(self) -> bool:
        return self._engine is not None and self._engine.interrupt

    def changed(self) -> None:
        with self._lock:
            self._intc.update()

    def memory(self, address: int, size: int) -> np.ndarray | None:
        """DRAM of `size` bytes at an address, if one buffer holds it all."""
        with self._lock:
            for begin, (_, dram) in self.live.items():
                if begin <= address and address + size <= begin + dram.size:
                    return dram[address - begin : address - begin + size]
        return None


class Engine:
    """Registers of the engine, laid out as its .hwh says, and C simulation behind AP_START."""

    def __init__(self, device: SoftDevice, handoff: Path, sources: Path) -> None:
        self.device = device
        root = ElementTree.parse(handoff).getroot()
        module = next(m for m in root.iter("MODULE") if m.get("MODTYPE") == "codesign_engine")
        place = next(m for m in root.iter("MEMRANGE") if m.get("INSTANCE") == module.get("INSTANCE"))
        self.base = int(place.get("BASEVALUE", ""), 16)
        self.size = int(place.get("HIGHVALUE", ""), 16) - self.base + 1
        self.names = {
            int(next(p.get("VALUE", "") for p in reg.findall("PROPERTY") if p.get("NAME") == "ADDRESS_OFFSET"), 0):
            # HLS appends _V to arbitrary precision types, and _r to words that a hardware language keeps for itself.
            re.sub(r"(_r)?(_V)?(_[12])?$", r"\3", reg.get("NAME", "")) for reg in module.iter("REGISTER")
        }  # fmt: skip
        found = re.search(r"kLanes\s*=\s*(\d+)", (sources / "config.hpp").read_text(encoding="utf-8"))
        assert found is not None
        self.lanes = int(found.group(1))
        self.csim = ctypes.CDLL(os.environ["CODESIGN_SOFT_ENGINE"]).codesign_csim
        self.csim.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_int)
        self.registers: dict[str, int] = dict.fromkeys(self.names.values(), 0)
        self.control = 0 if device.fault == "dead" else IDLE
        self._stopped = threading.Event()
        self._at: tuple[int, int] | None = None  # address, size of the memory that it works on

    @property
    def interrupt(self) -> bool:
        r = self.registers
        return bool(r["GIER"] & 1 and r["IP_IER"] & r["IP_ISR"])

    def uses(self, address: int) -> bool:
        return self._at is not None and address <= self._at[0] < address + PAGE

    def stop(self) -> None:
        """Loading a bitstream ends whatever ran."""
        self._stopped.set()
        self._at = None

    def read(self, offset: int) -> int:
        name = self.names.get(offset, "")
        if name == "CTRL":
            value, self.control = self.control, self.control & ~DONE  # clears on read
            return value
        value = self.registers.get(name, 0)
        if name == "IP_ISR" and self.device.isr == "read":
            self.registers[name] = 0
        return value

    def write(self, offset: int, value: int) -> None:
        name = self.names.get(offset, f"{offset:#x}")
        self.device.writes[name] += 1
        if name == "CTRL":
            if value & START and self.device.fault != "dead":
                self._start()
        elif name == "IP_ISR":
            if self.device.isr == "toggle":
                self.registers[name] ^= value
        else:
            self.registers[name] = value

    def _pointer(self, name: str) -> int:
        low = self.registers.get(f"{name}_1", self.registers.get(name, 0))
        return low | self.registers.get(f"{name}_2", 0) << 32

    def _start(self) -> None:
        if not self.control & IDLE:
            self.device.crimes.append("started while it was working")
            return
        self.control = START
        self.device.note("start")
        addresses = {self._pointer(name) for name in POINTERS}
        self._at = (min(addresses), self.registers["memory_words"] * self.lanes)
        threading.Thread(target=self._work, args=(addresses, self._at[1], self._stopped), daemon=True).start()

    def _work(self, addresses: set[int], size: int, stopped: threading.Event) -> None:
        device = self.device
        memory = device.memory(min(addresses), size) if len(addresses) == 1 else None
        if memory is None:
            device.crimes.append(f"no buffer of {size} bytes at {', '.join(map(hex, sorted(addresses)))}")
        if memory is None or device.fault == "hang":
            return  # as a bus that never answers
        begin = time.monotonic()
        status = self.csim(memory.ctypes.data, size // self.lanes, self.registers["program"])
        kind, _, number = device.fault.partition(":")
        if kind == "status":
            status = int(number)
        elif kind == "flip":
            header = memory[self.registers["program"] * self.lanes :][:64].view("<i4")
            memory[header[5] * self.lanes : header[6] * self.lanes] ^= 1  # the arena, not the program
        stopped.wait(max(0.0, device.seconds - (time.monotonic() - begin)))
        if stopped.is_set():
            return
        with device._lock:
            self._at = None
            self.registers["ap_return"] = status & 0xFFFFFFFF
            self.registers["IP_ISR"] |= self.registers["IP_IER"] & 1
            self.control = DONE | IDLE | READY
            device.note("end")
        device.changed()


class Intc:
    """An AXI interrupt controller (PG099) with one input, and the kernel's UIO device behind it."""

    def __init__(self, device: SoftDevice) -> None:
        self.device, self.base = device, None
        self.enabled = self.master = 0
        self.events: list[tuple[Any, Any]] = []  # waiting: what to set, its event loop
        self.fired = 0

    def attach(self, parser: Any) -> None:
        self.base, self.enabled, self.master, self.events = None, 0, 0, []
        for name, entry in parser.interrupt_controllers.items():
            self.base = parser.ip_dict[name]["phys_addr"]
            _InterruptController._uio_devices[entry["raw_irq"]] = self

    def read(self, offset: int) -> int:
        level = int(self.device.interrupt_level())
        return {0x00: level, 0x04: level & self.enabled, 0x08: self.enabled}.get(offset, 0)

    def write(self, offset: int, value: int) -> None:
        if offset == 0x08:
            self.enabled = value
        elif offset == 0x10:
            self.enabled |= value
        elif offset == 0x14:
            self.enabled &= ~value
        elif offset == 0x1C:
            self.master = value

    def add_event(self, event: Any, number: int) -> None:
        """What pynq calls of a UioController: set `event` once when the line is high."""
        with self.device._lock:
            self.events.append((event, asyncio.get_running_loop()))
            self.update()

    def update(self) -> None:
        if self.master and self.enabled & int(self.device.interrupt_level()):
            waiting, self.events = self.events, []
            for event, loop in waiting:
                self.fired += 1
                loop.call_soon_threadsafe(event.set)
