"""Run frames through a compiled design from numpy.

    engine = Engine(sources(plan.config))                  native integers: fast
    engine = Engine(Path("bundle/hls"), kind="ap")         ap_int: every width as in hardware
    outputs = Simulator(engine, plan.program).run({"image": codes})

codesign/compiled.py has all kinds. `sanitize` is a program of its own, which cannot live inside Python;
codesign/cycles.py runs `cycles`.
"""

from __future__ import annotations

import ctypes
import subprocess
import tempfile
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from codesign.compiled import KINDS, build
from codesign.errors import CodesignError
from codesign.parallel import cores, in_order
from codesign.ports import Bytes, Ints
from codesign.program import Program
from codesign.status import status_text

VECTORS_MAGIC = 0x56435453
ANY_STATUS = -2


class EngineFailed(CodesignError):
    """The engine ended with a status, or misused a stream."""

    def __init__(self, status: int, text: str) -> None:
        self.status = status
        super().__init__(f"engine: ended with status {status} ({text}), expected 0. Build the bundle again.")


@dataclass(frozen=True)
class Frame:
    """One run of a test bench: bytes to write before it, bytes expected after it where the mask is set."""

    patches: Sequence[tuple[int, Bytes]] = ()  # byte address, bytes
    checks: Sequence[tuple[int, Bytes, Bytes]] = ()  # byte address, bytes, masks
    status: int = 0  # expected, or ANY_STATUS


class Engine:
    """A compiled design. `design` is its sources by path, or the directory that holds them.

    Raises ToolMissing without a compiler or ap_int.h, CodesignError with the compiler's words if it refuses.
    """

    def __init__(
        self, design: Mapping[str, str] | Path, kind: str = "native", cxx: str | None = None
    ) -> None:
        if kind not in KINDS:
            raise CodesignError(f"csim: kind {kind!r}, expected one of {', '.join(KINDS)}. Choose one.")
        self.kind = kind
        self.path = build(design, kind, cxx)
        if kind != "sanitize":
            self._library = ctypes.CDLL(str(self.path))
            self._library.codesign_csim.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_int)
            self._library.codesign_misuse.restype = ctypes.c_char_p

    def start(self, memory: Bytes, lanes: int, program: int) -> int:
        """Run one frame on a memory, in place; returns the status word. Raises EngineFailed on misused streams."""
        if self.kind == "sanitize":
            with tempfile.TemporaryDirectory() as work:
                dump = Path(work) / "memory.bin"
                self.bench([Frame([(0, memory)])], memory.size, lanes, program, dump)
                memory[:] = np.fromfile(dump, np.uint8)
            return 0
        assert memory.flags.c_contiguous and memory.dtype == np.uint8 and memory.size % lanes == 0
        status = int(self._library.codesign_csim(memory.ctypes.data, memory.size // lanes, program))
        if status == -1:
            raise EngineFailed(status, self._library.codesign_misuse().decode())
        return status

    def bench(
        self, frames: Sequence[Frame], size: int, lanes: int, program: int, dump: Path | None = None
    ) -> None:
        """Run frames through main.cpp, a process of its own, on `size` bytes of memory. Sanitize builds only.

        Raises CodesignError with what it printed unless every status and every byte is as expected.
        """
        assert self.kind == "sanitize"
        with tempfile.TemporaryDirectory() as work:
            file = Path(work) / "vectors.bin"
            write_vectors(file, frames, size, lanes, program)
            command = [str(self.path), str(file), *([] if dump is None else [str(dump)])]
            done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            said = (done.stdout + done.stderr).strip()
            raise CodesignError(f"test bench: exit status {done.returncode}, expected 0.\n{said[-4000:]}")


class Simulator:
    """An engine with a program in its memory.

    `memory` is what the first thread to run frames works on; every other one works on a copy. The engine keeps nothing
    from one frame to the next, so that threads and their number change no result.
    """

    def __init__(self, engine: Engine, program: Program) -> None:
        self.engine, self.program = engine, program
        self.memory = program.memory()
        self._in_use = threading.Lock()  # of `memory`

    def run(
        self,
        images: Mapping[str, npt.NDArray[Any]] | npt.NDArray[Any],
        keep: Collection[str] = (),
        progress: Callable[[int], None] | None = None,
        workers: int | None = None,
    ) -> dict[str, Ints]:
        """Outputs, and tensors that the plan kept, (N, H, W, C) int64, for inputs (N, H, W, C) of integer codes.

        One array stands for the only input. `progress` hears the number of frames done. Frames run on `workers`
        threads (else one a core), and several threads may call this. Raises CodesignError on inputs of another shape,
        and EngineFailed.
        """
        program = self.program
        feeds = self._feeds(images)
        ports = {**program.outputs, **{name: program.tensors[name] for name in keep}}
        batch = len(next(iter(feeds.values())))
        results = {name: np.zeros((batch, *port.shape), np.int64) for name, port in ports.items()}

        def frame(i: int) -> None:
            with self._memory() as memory:
                for name, port in program.inputs.items():
                    port.write(memory, program.lanes, feeds[name][i])
                status = self.engine.start(memory, program.lanes, program.base)
                if status != 0:
                    raise EngineFailed(status, status_text(status))
                for name, port in ports.items():
                    results[name][i] = port.read(memory, program.lanes)

        workers = min(workers or cores(), max(batch, 1))
        for done, _ in enumerate(in_order(frame, range(batch), workers), start=1):
            if progress is not None:
                progress(done)
        return results

    @contextmanager
    def _memory(self) -> Iterator[Bytes]:
        """A memory with the program in it, which nobody else writes to."""
        if self._in_use.acquire(blocking=False):
            try:
                yield self.memory
            finally:
                self._in_use.release()
        else:
            yield self.memory.copy()

    def _feeds(
        self, images: Mapping[str, npt.NDArray[Any]] | npt.NDArray[Any]
    ) -> dict[str, npt.NDArray[Any]]:
        inputs = self.program.inputs
        if not isinstance(images, Mapping):
            if len(inputs) != 1:
                raise CodesignError(
                    f"csim: one array, expected one for each of {', '.join(inputs)}. Name them."
                )
            images = {next(iter(inputs)): images}
        feeds = {}
        for name, port in inputs.items():
            array = np.asarray(images[name]) if name in images else np.zeros(0)
            shape = ",".join(map(str, port.shape))
            if array.dtype.kind not in "iu" or array.ndim != 4 or array.shape[1:] != port.shape:
                found = f"{array.dtype}{list(array.shape)}"
                raise CodesignError(f"{name}: {found}, expected integer codes (N,{shape}). Resize the image.")
            low, high = (-128, 127) if port.signed else (0, 255)
            if array.size and (array.min() < low or array.max() > high):
                raise CodesignError(f"{name}: holds {array.min()}..{array.max()}, expected {low}..{high}. "
                                    "Pass codes (pixel - 128), not pixels.")  # fmt: skip
            feeds[name] = array
        if len({len(a) for a in feeds.values()}) > 1:
            raise CodesignError(f"{', '.join(feeds)}: batch sizes differ. Give each input the same N.")
        return feeds


def write_vectors(path: Path, frames: Sequence[Frame], size: int, lanes: int, program: int) -> None:
    """The file that main.cpp reads: `size` bytes of memory, the program at word `program`."""

    def ints(*values: int) -> bytes:
        return np.array(values, "<i4").tobytes()

    with path.open("wb") as file:
        file.write(ints(VECTORS_MAGIC, lanes, size // lanes, program, len(frames)))
        for frame in frames:
            file.write(ints(frame.status, len(frame.patches)))
            for address, data in frame.patches:
                file.write(ints(address, data.size) + data.tobytes())
            file.write(ints(len(frame.checks)))
            for address, data, mask in frame.checks:
                file.write(ints(address, data.size) + data.tobytes() + mask.tobytes())
