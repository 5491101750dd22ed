"""The driver alone: registers by their names in the .hwh, one start a frame, waiting in both ways."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import hwh
import pynq
import pytest
import soft_device

from boards.driver import POLL_S, Engine, offsets
from boards.faults import EngineTimeout, WrongBitstream
from boards.memory import Memory
from boards.overlay import Accelerator

SPELLINGS = {
    "Vitis HLS": {name: name for name in ("program", "memory_words")} | {"pointer": "{}_{}"},
    "Vivado HLS": {"program": "program_r", "memory_words": "memory_words", "pointer": "{}_V_{}"},
}


def described(names: dict[str, int]) -> dict[str, dict[str, Any]]:
    return {name: {"address_offset": offset, "size": 32} for name, offset in names.items()}


BASE = {"CTRL": 0, "GIER": 4, "IP_IER": 8, "IP_ISR": 12, "ap_return": 16}


@pytest.mark.parametrize("tool", SPELLINGS)
def check_both_spellings_of_64_bit_pointers(tool: str) -> None:
    spelling = SPELLINGS[tool]
    names, at = dict(BASE), 0x20
    for pointer in ("features", "offsets", "program_port", "results"):
        for half in (1, 2):
            names[spelling["pointer"].format(pointer, half)] = at + 4 * half
        at += 16
    names |= {spelling["program"]: 0x80, spelling["memory_words"]: 0x88}
    found = offsets(described(names), "engine")
    assert found["features"] == (0x24, 0x28)
    assert found["results"] == (0x54, 0x58)
    assert (found["program"], found["memory_words"]) == ((0x80,), (0x88,))


def check_one_register_of_64_bits_is_two_words() -> None:
    regs = described({**BASE, **dict.fromkeys(("program", "memory_words"), 0x40)})
    for i, pointer in enumerate(("features", "offsets", "program_port", "results")):
        regs[pointer] = {"address_offset": 0x50 + 8 * i, "size": 64}
    assert offsets(regs, "engine")["offsets"] == (0x58, 0x5C)


def check_missing_registers_are_named() -> None:
    with pytest.raises(WrongBitstream) as error:
        offsets(described({"CTRL": 0, "features_1": 24, "GIER": 4, "IP_IER": 8, "IP_ISR": 12}), "engine_0")
    assert str(error.value) == (
        "engine_0: the .hwh names no register ap_return, offsets, program_port, results, program, memory_words (it has "
        "CTRL, features_1, GIER, IP_IER, IP_ISR), expected those of the engine. "
        "Deploy the .hwh that was made with the bitstream."
    )


def started(overlay: Accelerator, memory: Memory) -> Engine:
    program = memory.program
    overlay.engine.start(memory.address, program.base, program.memory_words)
    return overlay.engine


def memory_of(overlay: Accelerator) -> Memory:
    return Memory(overlay.deployed.bundle.program, overlay.deployed.code())


def check_a_frame_is_one_start_and_eleven_writes(bundle: Path, device: Any) -> None:
    overlay = Accelerator(bundle)
    with memory_of(overlay) as memory:
        for _ in range(3):
            started(overlay, memory).wait(10.0)
    assert device.writes["CTRL"] == 3
    assert set(device.writes.values()) == {3}
    assert len(device.writes) == 11  # four addresses in halves, two numbers, the start


def check_the_clock_of_the_design_is_set(bundle: Path, device: Any) -> None:
    """By PYNQ, from the .hwh: 1500 MHz by 6 is the 250 MHz that the handoff asks for."""
    Accelerator(bundle)
    assert device.system[0xFF5E00C0] >> 8 & 0x3F == 6  # CRL_APB.PL0_REF_CTRL, DIVISOR0 (UG1087)


@pytest.mark.parametrize("isr", ["read", "toggle"])
def check_a_coroutine_is_woken_by_the_interrupt(bundle: Path, device: Any, isr: str) -> None:
    device.isr, device.seconds = isr, 0.2
    overlay = Accelerator(bundle)

    async def frames(memory: Memory) -> int:
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0.002)

        beside = asyncio.ensure_future(other())
        for _ in range(3):
            await started(overlay, memory).wait_async(10.0)
        beside.cancel()
        return turns

    with memory_of(overlay) as memory:
        turns = asyncio.run(frames(memory))
    assert device._intc.fired >= 1
    assert turns >= 3, "other coroutines run meanwhile"
    assert not device.interrupt_level(), "the status bits are cleared"


def check_a_coroutine_polls_where_there_is_no_interrupt(bundle: Path, device: Any) -> None:
    rewrite(bundle, hwh.text(interrupt=False))
    overlay = Accelerator(bundle)
    assert overlay.engine.pin is None

    async def frame(memory: Memory) -> None:
        await started(overlay, memory).wait_async(10.0)

    with memory_of(overlay) as memory:
        asyncio.run(frame(memory))
    assert device.writes["IP_IER"] == 0


def check_a_lost_interrupt_costs_time_and_nothing_else(bundle: Path, device: Any) -> None:
    overlay = Accelerator(bundle)
    device._intc.add_event = lambda event, number: None

    async def frame(memory: Memory) -> None:
        await started(overlay, memory).wait_async(10.0)

    with memory_of(overlay) as memory:
        asyncio.run(frame(memory))
    assert device._intc.fired == 0


def check_timeouts_are_kept(bundle: Path, device: Any) -> None:
    device.fault = "hang"
    overlay = Accelerator(bundle)
    with memory_of(overlay) as memory:
        with pytest.raises(EngineTimeout) as error:
            started(overlay, memory).wait(0.05)
        assert (error.value.control, error.value.seconds) == (soft_device.START, 0.05)
        with pytest.raises(EngineTimeout):
            asyncio.run(overlay.engine.wait_async(0.05))
        overlay.reload()  # before the memory goes
    assert POLL_S < 0.01


@pytest.mark.skipif(pynq.__version__ >= "4", reason="PYNQ 4 dropped Zynq-7000")
def check_zynq_7000_and_32_bit_addresses(bundle: Path, device: Any) -> None:
    rewrite(bundle, hwh.text("zynq7000", 100, hwh.registers(pointer_bits=32)))
    overlay = Accelerator(bundle)
    with memory_of(overlay) as memory:
        started(overlay, memory).wait(10.0)
    assert device.writes["features"] == 1
    assert device.system[0xF8000170] >> 8 & 0x3F == 10  # SLCR.FPGA0_CLK_CTRL, DIVISOR0 (UG585)
    with pytest.raises(WrongBitstream, match="expected below 4 GiB"):
        overlay.engine.start(1 << 32, 0, 1)


def rewrite(bundle: Path, text: str) -> None:
    """Another handoff, as if synthesis had written it."""
    import hashlib
    import json

    (bundle / "design.hwh").write_text(text)
    record = json.loads((bundle / "synthesis.json").read_text())
    record["hwh"] = hashlib.sha256(text.encode()).hexdigest()
    (bundle / "synthesis.json").write_text(json.dumps(record))
