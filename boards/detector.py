"""A detector on a board: pictures in, boxes out.

    with Detector("codenet-tiny") as detector:         a name of boards.overlays, a directory, or a packed file
        found = detector.run(image)                    image: (H, W, 3) uint8 RGB of any size
        found = await detector.run_async(image)        other coroutines run meanwhile
        detector.choose({"exit": "0"})                 from now on every frame leaves early; {"exit": "frame"}: as built
        for found in detector.stream(images): ...      the host copies and decodes while the engine computes

Boxes are those of C simulation, to the last bit: the same letterbox, the same bytes in memory, the same decode.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from boards.faults import BoardFault, EngineTimeout
from boards.memory import Memory
from boards.overlay import Accelerator
from boards.overlays import HOME
from codesign.decode import Detections, decode
from codesign.decode import Detector as Heads
from codesign.errors import BundleError, DataError
from codesign.images import Pixels, Placement, letterbox, to_codes
from codesign.switch import Choices, Decision, branches, resolved
from codesign.transport import unpack

TIMEOUT_S = 2.0  # of a frame: many times what the slowest model takes


@dataclass(frozen=True)
class Times:
    """Seconds of one picture: letterbox and copy, engine from start to done as the host sees it, copy and decode."""

    before: float
    engine: float
    after: float


class Detector:
    """A network on the accelerator. Holds two memories, so that one is filled while the engine computes on the other.

    where: the name of an installed bundle, else a directory, else a packed bundle, unpacked for the time being.
    timeout: seconds a frame may take before EngineTimeout.
    download: load the bitstream; False where it is there already, from the same bundle.
    Raises BundleError, WrongBitstream, OutOfMemory, NotADetector.
    """

    def __init__(
        self, where: Path | str, *, timeout: float = TIMEOUT_S, download: bool = True, device: Any = None
    ) -> None:
        self.timeout = timeout
        self.times: Times | None = None  # of the last `run`
        self._temporary: Path | None = None
        self._memories: list[Memory] = []
        self._stalled = False
        self._busy = threading.Lock()
        self._queue: tuple[Any, asyncio.Lock] | None = None  # of coroutines, with their event loop
        try:
            self.overlay = Accelerator(self._directory(Path(where)), download=download, device=device)
            self.deployed = self.overlay.deployed
            bundle = self.deployed.bundle
            self.input, self.height, self.width = _picture_input(bundle.program.inputs, str(where))
            scales = {name: bundle.scales[name] for name in bundle.program.outputs}
            self.heads = Heads.from_meta(bundle.meta, scales, str(where))
            code = self.deployed.code()
            for _ in range(2):
                self._memories.append(Memory(bundle.program, code, device))
        except BaseException:
            self.close()
            raise

    @property
    def classes(self) -> tuple[str, ...]:
        return self.heads.classes

    def run(self, image: Pixels) -> Detections:
        """Boxes of one picture, in its own pixels, best first. Raises EngineFailed and EngineTimeout."""
        with self._alone():
            begin = time.perf_counter()
            placement = self._fill(0, image)
            filled = time.perf_counter()
            self._start(0)
            self._wait()
            done = time.perf_counter()
            found = self._decode(0, placement)
            self.times = Times(filled - begin, done - filled, time.perf_counter() - done)
            return found

    async def run_async(self, image: Pixels) -> Detections:
        """As `run`; waits for the engine's interrupt, or polls, so that other coroutines go on.

        Calls from several coroutines of one event loop take turns.
        """
        async with self._turn():
            with self._alone():
                placement = self._fill(0, image)
                self._start(0)
                try:
                    await self.overlay.engine.wait_async(self.timeout)
                except EngineTimeout:
                    self._stalled = True
                    raise
                except asyncio.CancelledError:  # the engine still writes to the memory
                    self._wait()
                    raise
                return self._decode(0, placement)

    def stream(self, images: Iterable[Pixels]) -> Iterator[Detections]:
        """Boxes of each picture in order. While the engine computes one, the host decodes the one before and
        letterboxes and copies the one after.
        """
        with self._alone():
            running: tuple[int, Placement] | None = None
            slot = 0
            try:
                for image in images:
                    placement = self._fill(slot, image)  # the engine computes in the other memory
                    before, running = running, None
                    if before is not None:
                        self._wait()
                    self._start(slot)
                    running = (slot, placement)
                    if before is not None:
                        yield self._decode(*before)
                    slot = 1 - slot
                if running is not None:
                    last, running = running, None
                    self._wait()
                    yield self._decode(*last)
            finally:
                if running is not None:  # left early, or a picture was refused: let the frame end
                    self._wait()

    def run_batch(self, images: Iterable[Pixels]) -> list[Detections]:
        """`stream` as a list."""
        return list(self.stream(images))

    def maps(self, codes: npt.NDArray[np.int8]) -> dict[str, npt.NDArray[Any]]:
        """Raw integer outputs (H, W, C) for input codes (H, W, 3), as C simulation gives them."""
        with self._alone():
            self._memory(0).write({self.input: codes})
            self._start(0)
            self._wait()
            return self._memory(0).read()

    @property
    def decisions(self) -> tuple[Decision, ...]:
        """What each frame decides, where its network skips steps."""
        return self.deployed.bundle.decisions

    def choose(self, given: Choices) -> None:
        """Change decisions from the next frame on (codesign.switch says how); the bitstream stays as it is.

        Decisions that are not named stay as they are. Raises SwitchError.
        """
        with self._alone():
            changed = branches(self.deployed.bundle.program, resolved(self.decisions, given))
            for slot in range(2):
                self._memory(slot).lead(changed)

    def reset(self) -> None:
        """After a timeout: load the bitstream again, which stops the engine; then frames can run again."""
        self.overlay.reload()
        self._stalled = False

    def close(self) -> None:
        """Give all memory back. An engine that hangs is stopped first, because it may still write."""
        try:
            if self._stalled:
                self.reset()
        finally:
            memories, self._memories = self._memories, []
            for memory in memories:
                memory.close()
            if self._temporary is not None:
                shutil.rmtree(self._temporary, ignore_errors=True)

    def __enter__(self) -> Detector:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _directory(self, where: Path) -> Path:
        if where.name == str(where) and (HOME / where).is_dir():
            return HOME / where
        if where.is_dir():
            return where
        self._temporary = Path(tempfile.mkdtemp(prefix="codesign-"))
        unpack(where, self._temporary / "bundle")
        return self._temporary / "bundle"

    def _memory(self, slot: int) -> Memory:
        if not self._memories:
            raise BoardFault("detector: is closed, expected an open one. Make a new Detector.")
        return self._memories[slot]

    def _fill(self, slot: int, image: Pixels) -> Placement:
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
            raise DataError(
                f"picture: {image.dtype}{list(image.shape)}, expected uint8 (H, W, 3) RGB. Convert it first."
            )
        memory = self._memory(slot)
        boxed, placement = letterbox(image, self.height, self.width)
        memory.write({self.input: to_codes(boxed)})
        return placement

    def _start(self, slot: int) -> None:
        if self._stalled:
            raise BoardFault("detector: its engine hangs since a timeout, expected it idle. Call reset().")
        memory = self._memory(slot)
        program = memory.program
        self.overlay.engine.start(memory.address, program.base, program.memory_words)

    def _decode(self, slot: int, placement: Placement) -> Detections:
        return decode(self._memory(slot).read(), self.heads, placement)

    def _wait(self) -> None:
        try:
            self.overlay.engine.wait(self.timeout)
        except EngineTimeout:
            self._stalled = True
            raise

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """The engine for one caller; another one is refused, because it would start a frame over a running one."""
        if not self._busy.acquire(blocking=False):
            raise BoardFault(
                "detector: is at work on other pictures, expected one caller at a time. Finish or close that stream "
                "first; for pictures from several places, use run_async."
            )
        try:
            yield
        finally:
            self._busy.release()

    def _turn(self) -> asyncio.Lock:
        loop = asyncio.get_running_loop()
        if self._queue is None or self._queue[0] is not loop:
            self._queue = (loop, asyncio.Lock())
        return self._queue[1]


def _picture_input(inputs: Mapping[str, Any], where: str) -> tuple[str, int, int]:
    """Name, height and width of the one input, which takes pictures. Raises BundleError."""
    (name, port), *others = inputs.items()
    if others or port.shape[2] != 3 or not port.signed:
        raise BundleError(
            f"{where}: its inputs are {', '.join(inputs)}, expected one picture i8[H,W,3]. Use boards.memory instead."
        )
    return name, port.shape[0], port.shape[1]
