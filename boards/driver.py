"""The engine as PYNQ sees it: a DefaultIP with the registers that the .hwh names.

Offsets come from the .hwh, never from here: HLS decides them, and how it spells a port (`features`, `features_V`, two
halves `features_1` and `features_2` of a 64-bit address) depends on its version. Control is a handful of raw register
accesses a frame; `register_map` stays for people.

An interrupt is used by `wait_async` where the design has one and the image knows it, in the first event loop that
waits; else registers are polled. Its status bits are cleared by reading (Vitis HLS since 2022.1) or by writing them
back (before): both work.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Mapping
from typing import Any

from pynq import DefaultIP

from boards.faults import EngineFailed, EngineTimeout, WrongBitstream

VLNV = "xilinx.com:hls:codesign_engine:1.0"
POINTERS = ("features", "offsets", "program_port", "results")  # all four are given the same address
SCALARS = ("program", "memory_words")
START, DONE, IDLE = 1, 2, 4  # bits of the control register (UG1399, block-level control protocols)
POLL_S = 100e-6  # between two looks at the control register
INTERRUPT_S = (
    5e-3  # after which a waiting coroutine looks itself: an interrupt may be lost to another event loop
)


class Engine(DefaultIP):
    """One engine. `start` returns at once; `wait` or `wait_async` end with its status checked."""

    bindto = [VLNV]

    def __init__(self, description: Mapping[str, Any]) -> None:
        super().__init__(description)
        self.name = str(description["fullpath"])
        found = offsets(description.get("registers") or {}, self.name)
        self._control, self._status = found["CTRL"][0], found["ap_return"][0]
        self._interrupts_at = (found["GIER"][0], found["IP_IER"][0], found["IP_ISR"][0])
        self._pointers_at = [found[name] for name in POINTERS]
        self._scalars_at = [found[name][0] for name in SCALARS]
        self._interrupting = False
        self._loop: Any = None  # the event loop that the interrupt is bound to
        self.forget()

    @property
    def pin(self) -> Any:
        """The interrupt, or None where the design, or the image, has none."""
        return getattr(self, "interrupt", None)

    def forget(self) -> None:
        """After a bitstream was loaded: interrupts are off. Raises WrongBitstream if nothing idle answers."""
        self._interrupting = False
        control = self.read(self._control)
        if not control & IDLE or control & START:
            raise WrongBitstream(
                f"{self.name}: its control register reads {control:#x}, expected an idle engine. "
                "Load the bitstream again; if it stays so, .bit and .hwh are of different designs."
            )

    def start(self, address: int, program: int, memory_words: int) -> None:
        """Begin one frame: the memory at physical `address`, its program at word `program`.

        Registers are written each time: another driver of the same engine may have written them since.
        """
        if address >> (32 * min(map(len, self._pointers_at))):
            raise WrongBitstream(
                f"{self.name}: memory lies at {address:#x}, expected below 4 GiB, all that its 32-bit registers "
                "reach. Synthesize again with 64-bit addresses."
            )
        for halves in self._pointers_at:
            for i, at in enumerate(halves):
                self.write(at, address >> (32 * i) & 0xFFFFFFFF)
        for at, value in zip(self._scalars_at, (program, memory_words), strict=True):
            self.write(at, value)
        self.write(self._control, START)

    def done(self) -> bool:
        """Whether the frame that was started has ended."""
        return bool(self.read(self._control) & (DONE | IDLE))

    def wait(self, timeout: float) -> None:
        """Returns when the frame has ended well. Raises EngineTimeout after `timeout` seconds, and EngineFailed."""
        deadline = time.monotonic() + timeout
        while not self.done():
            if time.monotonic() > deadline:
                raise EngineTimeout(self.name, self.read(self._control), timeout)
            time.sleep(POLL_S)
        self._check()

    async def wait_async(self, timeout: float) -> None:
        """As `wait`, and lets other coroutines run: woken by the interrupt where there is one."""
        deadline = time.monotonic() + timeout
        pin = self._pin_of(asyncio.get_running_loop())
        if pin is not None and not self._interrupting:
            self.write(self._interrupts_at[0], 1)
            self.write(self._interrupts_at[1], 1)  # when done; not when ready
            self._interrupting = True
        if self._interrupting:
            self._acknowledge()  # of frames that were waited for without; this one may be over too, and done() tells
        while not self.done():
            if time.monotonic() > deadline:
                raise EngineTimeout(self.name, self.read(self._control), timeout)
            if pin is None:
                await asyncio.sleep(POLL_S)
                continue
            try:
                await asyncio.wait_for(pin.wait(), INTERRUPT_S)
            except asyncio.TimeoutError:
                continue
        if self._interrupting:
            self._acknowledge()
        self._check()

    def _pin_of(self, loop: Any) -> Any:
        """The interrupt where this event loop may wait for it: pynq binds it to the first that does."""
        if self._loop is None:
            self._loop = loop
        return self.pin if self._loop is loop else None

    def _acknowledge(self) -> None:
        """Clear the interrupt's status bits, in HLS where reading clears and in HLS where writing back does."""
        at = self._interrupts_at[2]
        self.read(at)
        pending = self.read(at)
        if pending:
            self.write(at, pending)

    def _check(self) -> None:
        status = self.read(self._status)
        if status:
            raise EngineFailed(self.name, status)


def offsets(registers: Mapping[str, Mapping[str, Any]], where: str) -> dict[str, tuple[int, ...]]:
    """Byte offsets of each register the driver needs, two for a 64-bit one, by our name for it.

    Raises WrongBitstream naming all that the .hwh lacks.
    """
    found: dict[str, tuple[int, ...]] = {}
    for name in ("CTRL", "GIER", "IP_IER", "IP_ISR", "ap_return", *POINTERS, *SCALARS):
        # HLS appends _V to arbitrary precision types, _r to words that a hardware language keeps for itself.
        pattern = re.compile(rf"{re.escape(name)}(?:_r)?(?:_V)?(?:_([12]))?")
        parts = {}
        for key, register in registers.items():
            match = pattern.fullmatch(key)
            if match and (match.group(1) is None or name in POINTERS):
                parts[int(match.group(1) or 1)] = int(register["address_offset"])
                if name in POINTERS and int(register.get("size", 32)) == 64:
                    parts[2] = parts[1] + 4
        if 1 in parts:
            found[name] = tuple(at for _, at in sorted(parts.items()))
    missing = [
        n for n in ("CTRL", "GIER", "IP_IER", "IP_ISR", "ap_return", *POINTERS, *SCALARS) if n not in found
    ]
    if missing:
        raise WrongBitstream(
            f"{where}: the .hwh names no register {', '.join(missing)} (it has {', '.join(registers) or 'none'}), "
            "expected those of the engine. Deploy the .hwh that was made with the bitstream."
        )
    return found
