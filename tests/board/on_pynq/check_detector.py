"""The detector finds what the host finds by C simulation, to the last bit, and host and engine overlap."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import same

from boards.detector import Detector
from boards.faults import BoardFault
from codesign.errors import DataError


def check_pictures_of_any_size_give_what_the_host_finds(bundle: Path, device: Any, expected: Any) -> None:
    with Detector(bundle) as detector:
        for picture, wanted in zip(expected["pictures"], expected["found"], strict=True):
            found = detector.run(picture)
            assert len(found) > 0
            assert same(found, wanted)
    assert device.writes["CTRL"] == len(expected["pictures"]), "one start a frame"


def check_the_packed_file_is_enough(packed: Path, device: Any, expected: Any) -> None:
    with Detector(packed) as detector:
        assert same(detector.run(expected["pictures"][0]), expected["found"][0])
        unpacked = detector.deployed.bundle.directory
        assert unpacked.is_dir()
    assert not unpacked.exists()


def check_a_stream_is_in_order_with_one_start_a_frame(bundle: Path, device: Any, expected: Any) -> None:
    pictures = expected["pictures"] * 3
    with Detector(bundle) as detector:
        found = detector.run_batch(iter(pictures))
        assert detector.run_batch([]) == []
    assert [same(f, w) for f, w in zip(found, expected["found"] * 3, strict=True)] == [True] * len(pictures)
    assert device.writes["CTRL"] == len(pictures)
    assert device.downloads == 1


def check_host_and_engine_overlap(bundle: Path, device: Any, expected: Any) -> None:
    """The picture after is copied in, and the result before is copied out, between start and end of a frame."""
    device.seconds = 0.3  # far longer than the host needs, on a busy machine too
    pictures = expected["pictures"][:1] * 4
    with Detector(bundle) as detector:
        begin = len(device.log)
        detector.run_batch(pictures)
    spans: list[list[str]] = []  # what the host did while the engine worked, frame by frame
    working = False
    for event, _ in device.log[begin:]:
        if event in ("start", "end"):
            working = event == "start"
            spans += [[]] if working else []
        elif working:
            spans[-1].append("in" if event == "flush" else "out")
    assert len(spans) == len(pictures)
    assert set(spans[0]) == {"in"}
    assert all(set(span) == {"in", "out"} for span in spans[1:-1])
    assert set(spans[-1]) == {"out"}


def check_coroutines_take_turns(bundle: Path, device: Any, expected: Any) -> None:
    async def all_of(detector: Detector) -> list[Any]:
        return await asyncio.gather(*(detector.run_async(p) for p in expected["pictures"]))

    with Detector(bundle) as detector:
        for _ in range(2):  # in two event loops
            found = asyncio.run(all_of(detector))
            assert [same(f, w) for f, w in zip(found, expected["found"], strict=True)] == [True] * len(found)
    assert device.writes["CTRL"] == 2 * len(expected["pictures"])


def check_a_cancelled_coroutine_leaves_an_idle_engine(bundle: Path, device: Any, expected: Any) -> None:
    device.seconds = 1.0

    async def cancelled(detector: Detector) -> None:
        task = asyncio.ensure_future(detector.run_async(expected["pictures"][0]))
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with Detector(bundle) as detector:
        asyncio.run(cancelled(detector))
        device.seconds = 0.0
        assert same(detector.run(expected["pictures"][1]), expected["found"][1])


def check_a_stream_that_is_left_early_leaves_an_idle_engine(bundle: Path, device: Any, expected: Any) -> None:
    device.seconds = 0.02
    with Detector(bundle) as detector:
        stream = detector.stream(expected["pictures"] * 2)
        assert same(next(stream), expected["found"][0])
        with pytest.raises(BoardFault, match="is at work on other pictures"):
            detector.run(expected["pictures"][0])
        stream.close()
        assert same(detector.run(expected["pictures"][1]), expected["found"][1])


def check_what_is_no_picture_is_refused(bundle: Path, device: Any, expected: Any) -> None:
    good, wanted = expected["pictures"][0], expected["found"][0]
    with Detector(bundle) as detector:
        for bad in (good.astype(np.float32), good[..., 0], np.zeros((0, 4, 3), np.uint8)):
            with pytest.raises(DataError) as error:
                detector.run(bad)
            assert str(error.value) == (
                f"picture: {bad.dtype}{list(bad.shape)}, expected uint8 (H, W, 3) RGB. Convert it first."
            )
        with pytest.raises(DataError):
            detector.run_batch([good, good[..., 0]])
        assert same(detector.run(good), wanted)


def check_a_closed_detector_says_so(bundle: Path, device: Any, expected: Any) -> None:
    detector = Detector(bundle)
    detector.close()
    detector.close()
    with pytest.raises(BoardFault, match="detector: is closed, expected an open one. Make a new Detector."):
        detector.run(expected["pictures"][0])


def check_raw_maps(bundle: Path, packed: Path, device: Any) -> None:
    with Detector(packed) as detector:
        vectors = detector.deployed.vectors()
        for i, codes in enumerate(vectors["images"]):
            for name, array in detector.maps(codes).items():
                assert np.array_equal(array, vectors[name][i])


def check_two_detectors_can_share_a_bitstream(bundle: Path, device: Any, expected: Any) -> None:
    with Detector(bundle) as first, Detector(bundle, download=False) as second:
        assert same(first.run(expected["pictures"][0]), expected["found"][0])
        assert same(second.run(expected["pictures"][0]), expected["found"][0])
        assert same(first.run(expected["pictures"][1]), expected["found"][1])
    assert device.downloads == 1


def check_an_interrupt_of_an_earlier_frame_wakes_nobody(bundle: Path, device: Any, expected: Any) -> None:
    """Frames that are polled for leave their status bits set; the next coroutine sleeps all the same."""
    device.seconds = 0.05

    async def mixed(detector: Detector) -> None:
        for _ in range(3):
            await detector.run_async(expected["pictures"][0])
            detector.run(expected["pictures"][0])

    with Detector(bundle) as detector:
        asyncio.run(mixed(detector))
    assert 1 <= device._intc.fired <= 4


def check_the_interrupt_is_found_and_used(bundle: Path, device: Any, expected: Any) -> None:
    device.seconds = 0.02
    with Detector(bundle) as detector:
        assert detector.overlay.engine.pin is not None
        assert same(asyncio.run(detector.run_async(expected["pictures"][0])), expected["found"][0])
    assert device._intc.fired > 0
