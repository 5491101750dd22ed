"""What goes wrong becomes an exception with its figures; memory is given back, and nothing waits for ever."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
import time
import zipfile
from pathlib import Path
from typing import Any

import hwh
import pytest
from conftest import same

from boards.detector import Detector
from boards.faults import BoardFault, EngineFailed, EngineTimeout, OutOfMemory, WrongBitstream
from codesign.errors import BundleError


def check_a_status_of_the_engine(bundle: Path, device: Any, expected: Any) -> None:
    device.fault = f"status:{8 + 256 * 4}"
    with Detector(bundle) as detector:
        for attempt in (
            detector.run,
            lambda p: asyncio.run(detector.run_async(p)),
            lambda p: detector.run_batch([p]),
        ):
            with pytest.raises(EngineFailed) as error:
                attempt(expected["pictures"][0])
            assert error.value.status == 8 + 256 * 4
            assert str(error.value) == (
                "codesign_engine_0: the engine ended with status 1032 (step 3: a segment to read leaves the arena), "
                "expected 0. Deploy the bundle again; if that does not help, build it again."
            )
        device.fault = ""
        assert same(detector.run(expected["pictures"][0]), expected["found"][0])


def check_a_program_of_another_version(bundle: Path, device: Any, expected: Any) -> None:
    """The engine itself refuses a program that is none: what is in memory was overwritten."""
    with Detector(bundle) as detector:
        memory = detector._memories[0]
        start = memory.program.base * memory.program.lanes
        memory._bytes[start : start + 4] = 0
        memory._buffer.sync_to_device()
        with pytest.raises(EngineFailed, match="there is no program at that address"):
            detector.run(expected["pictures"][0])


@pytest.mark.parametrize("way", ["run", "async", "stream"])
def check_a_hang_ends_in_time_and_can_be_reset(bundle: Path, device: Any, expected: Any, way: str) -> None:
    picture, wanted = expected["pictures"][0], expected["found"][0]
    with Detector(bundle, timeout=0.1) as detector:
        attempts = {
            "run": lambda: detector.run(picture),
            "async": lambda: asyncio.run(detector.run_async(picture)),
            "stream": lambda: detector.run_batch([picture] * 3),
        }
        device.fault = "hang"
        begin = time.monotonic()
        with pytest.raises(EngineTimeout) as error:
            attempts[way]()
        assert time.monotonic() - begin < 60
        assert str(error.value) == (
            "codesign_engine_0: the engine is not done after 0.1 s (control register 0x1), expected it to be. "
            "Call reset() to load the bitstream again, or give a longer timeout."
        )
        with pytest.raises(BoardFault, match="its engine hangs since a timeout"):
            detector.run(picture)
        device.fault = ""
        detector.reset()
        detector.timeout = 10.0
        assert same(detector.run(picture), wanted)
    assert device.downloads == 2


def check_a_hanging_engine_is_stopped_before_its_memory_goes(
    bundle: Path, device: Any, expected: Any
) -> None:
    """`device` fails the test if memory is freed while the engine may write to it."""
    device.fault = "hang"
    detector = Detector(bundle, timeout=0.05)
    with pytest.raises(EngineTimeout):
        detector.run(expected["pictures"][0])
    detector.close()
    assert (device.downloads, device.freed) == (2, 2)


def check_an_engine_that_does_not_answer(bundle: Path, device: Any) -> None:
    device.fault = "dead"
    with pytest.raises(WrongBitstream) as error:
        Detector(bundle)
    assert str(error.value) == (
        "codesign_engine_0: its control register reads 0x0, expected an idle engine. "
        "Load the bitstream again; if it stays so, .bit and .hwh are of different designs."
    )


@pytest.mark.parametrize("already", [0, 1])
def check_no_memory(bundle: Path, device: Any, already: int) -> None:
    """For the first memory or for the second: what was had is given back."""
    device.fault = f"allocation:{already}"
    with pytest.raises(OutOfMemory) as error:
        Detector(bundle)
    program = json.loads((bundle / "manifest.json").read_text())["program"]
    assert str(error.value) == (
        f"memory: {program['memory_bytes'] / 1e6:.1f} MB in one piece are not to be had (BO allocation failed: no "
        "memory), expected them to be free. Close other overlays and notebooks that hold buffers, or restart the board."
    )
    assert device.freed == already


# --- before anything is loaded ----------------------------------------------------------------------------------


def refused(bundle: Path, device: Any) -> str:
    with pytest.raises(BundleError) as error:
        Detector(bundle)
    assert device.downloads == 0
    return str(error.value).replace(str(bundle), "mini")


def record(bundle: Path, **values: Any) -> None:
    path = bundle / "synthesis.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def check_a_bitstream_of_other_sources(bundle: Path, device: Any) -> None:
    record(bundle, design="0" * 64)
    wanted = "mini: design.bit was made from other sources than those in hls/. Run `codesign synth` again."
    assert refused(bundle, device) == wanted


def check_every_fault_is_named_at_once(bundle: Path, device: Any) -> None:
    record(bundle, board="pynq-z2", design="0")
    (bundle / "design.bit").write_bytes(b"another")
    (bundle / "design.hwh").write_bytes(b"")
    assert refused(bundle, device) == (
        "mini: design.bit was made from other sources than those in hls/; design.bit is not what synthesis wrote "
        "(7 bytes); design.hwh is not what synthesis wrote (0 bytes); design.bit is for pynq-z2, but the bundle is for "
        "ultra96. Run `codesign synth` again."
    )


def check_a_bundle_without_a_bitstream(bundle: Path, device: Any) -> None:
    for name in ("design.bit", "design.hwh", "synthesis.json"):
        (bundle / name).unlink()
    assert refused(bundle, device) == (
        "mini: design.bit, design.hwh, synthesis.json missing, expected a synthesised bundle. "
        "Run `codesign synth mini`."
    )


@pytest.mark.parametrize("name", ["program.bin", "hls/config.hpp", "model.onnx"])
def check_a_truncated_bundle(bundle: Path, device: Any, name: str) -> None:
    data = (bundle / name).read_bytes()[:-1]
    (bundle / name).write_bytes(data)
    assert refused(bundle, device) == (
        f"mini: {name} is not what was built ({len(data)} bytes). Build the bundle again."
    )


def check_a_synthesis_record_of_another_version(bundle: Path, device: Any) -> None:
    record(bundle, version=2)
    assert refused(bundle, device) == (
        "mini/synthesis.json: is not of format 'codesign-synthesis' version 1. Run `codesign synth` again."
    )


def check_a_packed_bundle_cut_anywhere(packed: Path, device: Any, tmp_path: Path) -> None:
    whole, cut = packed.read_bytes(), tmp_path / "cut.codesign"
    for part in range(20):
        cut.write_bytes(whole[: len(whole) * part // 20])
        with pytest.raises(BundleError, match="is damaged or no packed bundle"):
            Detector(cut)
    assert device.downloads == 0


def check_a_packed_bundle_with_another_member(packed: Path, device: Any, tmp_path: Path) -> None:
    """The zip is whole, a file in it is not what was packed, one is missing, one is too many."""
    spoilt = tmp_path / "spoilt.codesign"
    with zipfile.ZipFile(packed) as old, zipfile.ZipFile(spoilt, "w") as new:
        for info in old.infolist():
            data = old.read(info)
            if info.filename != "design.hwh":
                new.writestr(info.filename, data[::-1] if info.filename == "program.bin" else data)
        new.writestr("extra", b"")
    with pytest.raises(BundleError) as error:
        Detector(spoilt)
    assert str(error.value) == (
        f"{spoilt}: design.hwh is missing, extra does not belong there, program.bin is not what was packed. "
        "Copy it again."
    )


def check_a_member_that_leaves_the_directory(packed: Path, device: Any, tmp_path: Path) -> None:
    evil = tmp_path / "evil.codesign"
    shutil.copyfile(packed, evil)
    with zipfile.ZipFile(packed) as old, zipfile.ZipFile(evil, "w") as new:
        index = json.loads(old.read("transport.json"))
        index["files"]["../out"] = hashlib.sha256(b"x").hexdigest()
        for info in old.infolist():
            new.writestr(
                info.filename, json.dumps(index) if info.filename == "transport.json" else old.read(info)
            )
        new.writestr("../out", b"x")
    with pytest.raises(BundleError, match="leaves the directory"):
        Detector(evil)
    assert not (tmp_path / "out").exists()


def check_a_handoff_without_the_engine(bundle: Path, device: Any) -> None:
    text = hwh.text(vlnv="xilinx.com:hls:other_engine:1.0")
    (bundle / "design.hwh").write_text(text)
    record(bundle, hwh=hashlib.sha256(text.encode()).hexdigest())
    with pytest.raises(WrongBitstream) as error:
        Detector(bundle, download=False)
    assert str(error.value) == (
        f"{bundle.resolve() / 'design.bit'}: the design holds axi_intc_0, codesign_engine_0, zynq_ultra_ps_e_0, "
        "expected one xilinx.com:hls:codesign_engine. Deploy the .hwh that was made with the bitstream."
    )


def check_a_handoff_of_another_version_of_the_engine(bundle: Path, device: Any) -> None:
    text = hwh.text(vlnv="xilinx.com:hls:codesign_engine:2.0")
    (bundle / "design.hwh").write_text(text)
    record(bundle, hwh=hashlib.sha256(text.encode()).hexdigest())
    with pytest.warns(UserWarning), pytest.raises(WrongBitstream) as error:
        Detector(bundle)
    assert str(error.value) == (
        "codesign_engine_0: is of type xilinx.com:hls:codesign_engine:2.0, expected "
        "xilinx.com:hls:codesign_engine:1.0. Synthesize again with this version of codesign."
    )


def check_memory_is_given_back_at_once(bundle: Path, device: Any, expected: Any, monkeypatch: Any) -> None:
    """Not when nothing refers to it any more, which in a notebook may be never."""
    detector = Detector(bundle)
    held = list(detector._memories)
    detector.close()
    assert all(memory.closed for memory in held)
    assert device.live == {}

    def broken(*_: Any) -> None:
        raise RuntimeError("Buffer Flush Failed")

    monkeypatch.setattr(device, "flush", broken)
    with pytest.raises(RuntimeError) as error:
        Detector(bundle)
    assert device.live == {}, f"while {error.value} is held, with all that it refers to"
