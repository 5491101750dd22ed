"""One memory of the engine on a board: a physically contiguous buffer with a program in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from pynq import allocate

from boards.faults import OutOfMemory
from codesign.ports import Bytes, Port
from codesign.program import Program
from codesign.switch import place
from codesign.windows import Branch


class Memory:
    """A buffer that holds a program; `close` gives it back, and so does leaving a `with` block.

    Only what changes is synchronized with DRAM: the input before a frame, the outputs after it.
    """

    def __init__(self, program: Program, code: Bytes, device: Any = None) -> None:
        """`code` is program.bin, byte for byte. Raises OutOfMemory."""
        self.program = program
        size = program.memory_words * program.lanes
        try:
            self._buffer: Any = allocate((size,), np.uint8, target=device)
        except (MemoryError, RuntimeError, OSError) as error:
            raise OutOfMemory(
                f"memory: {size / 1e6:.1f} MB in one piece are not to be had ({error}), expected them to be free. "
                "Close other overlays and notebooks that hold buffers, or restart the board."
            ) from None
        self._bytes: Bytes = self._buffer.view(np.ndarray)
        try:
            start = program.base * program.lanes
            self._bytes[:] = 0
            self._bytes[start : start + code.size] = code
            self._buffer.sync_to_device()
            self.address = int(self._buffer.device_address)
        except BaseException:
            self.close()
            raise
        self._spare = np.zeros(size, np.uint8)  # outputs are read from here: the buffer may be uncached
        self._inputs = {name: _extent(port, program.lanes) for name, port in program.inputs.items()}
        self._outputs = {name: _extent(port, program.lanes) for name, port in program.outputs.items()}

    def write(self, feeds: Mapping[str, npt.NDArray[Any]]) -> None:
        """Put codes (H, W, C) of every input into the memory."""
        for name, port in self.program.inputs.items():
            port.write(self._bytes, self.program.lanes, feeds[name])
            for begin, end in self._inputs[name]:
                self._buffer[begin:end].sync_to_device()

    def lead(self, branches: Mapping[int, Branch]) -> None:
        """Change where branches of the program lead, by step. The engine must not be using it."""
        for step, branch in branches.items():
            begin = place(self.program, step)
            self._bytes[begin : begin + 8] = np.array([branch.threshold, branch.target], "<i4").view(np.uint8)
            self._buffer[begin : begin + 8].sync_to_device()

    def read(self) -> dict[str, npt.NDArray[Any]]:
        """Every output (H, W, C) int8 or uint8, as the last frame left it. Small integers are decoded faster."""
        found = {}
        for name, port in self.program.outputs.items():
            for begin, end in self._outputs[name]:
                self._buffer[begin:end].sync_from_device()
                self._spare[begin:end] = self._bytes[begin:end]
            values = port.read(self._spare, self.program.lanes)
            found[name] = values.astype(np.int8 if port.signed else np.uint8)
        return found

    @property
    def closed(self) -> bool:
        return self._buffer is None

    def close(self) -> None:
        """Give the buffer back. The engine must not be using it."""
        buffer, self._buffer = self._buffer, None
        if buffer is not None:
            self._bytes = np.zeros(0, np.uint8)  # the view goes before what it looks at
            buffer.freebuffer()

    def __enter__(self) -> Memory:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _extent(port: Port, lanes: int) -> list[tuple[int, int]]:
    """Bytes [begin, end) of each piece of a tensor."""
    return [
        (piece.address * lanes, piece.address * lanes + (port.shape[0] >> piece.up) * piece.row)
        for piece in port.pieces
    ]
