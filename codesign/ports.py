"""Where inputs and outputs lie in the engine's memory, for whoever writes the one and reads the other.

Numpy only: the driver on a board uses this module as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Piece:
    """Channels of a tensor that lie together: pixel (y, x) at byte y*row + x*record of word `address`."""

    address: int
    row: int  # bytes
    record: int  # bytes of one pixel
    up: int  # log2 of nearest-neighbour upsampling when read
    channels: tuple[int, ...]
    positions: tuple[int, ...]  # byte of each channel in the record


@dataclass(frozen=True)
class Port:
    """Where a tensor lies in memory, for whoever writes inputs and reads outputs."""

    name: str
    shape: tuple[int, int, int]
    signed: bool
    pieces: tuple[Piece, ...]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Port:
        pieces = [
            Piece(**{**p, "channels": tuple(p["channels"]), "positions": tuple(p["positions"])})
            for p in data["pieces"]
        ]
        h, w, c = data["shape"]
        return cls(str(data["name"]), (int(h), int(w), int(c)), bool(data["signed"]), tuple(pieces))

    def _blocks(self, memory: Bytes, lanes: int) -> Iterator[tuple[Piece, Bytes]]:
        for piece in self.pieces:
            h, w = self.shape[0] >> piece.up, self.shape[1] >> piece.up
            start = piece.address * lanes
            rows = memory[start : start + h * piece.row].reshape(h, piece.row)
            yield piece, rows[:, : w * piece.record].reshape(h, w, piece.record)

    def write(self, memory: Bytes, lanes: int, tensor: npt.NDArray[Any]) -> None:
        """Put a tensor (H, W, C) of codes into memory; lanes that carry no channel become 0."""
        assert tensor.shape == self.shape, (self.name, tensor.shape)
        for piece in self.pieces:
            rows = np.zeros((self.shape[0], piece.row), np.uint8)
            block = rows[:, : self.shape[1] * piece.record].reshape(*self.shape[:2], piece.record)
            block[..., list(piece.positions)] = (
                tensor[..., list(piece.channels)].astype(np.int16).astype(np.uint8)
            )
            rows[:, : self.shape[1] * piece.record] = block.reshape(self.shape[0], -1)
            start = piece.address * lanes
            memory[start : start + rows.size] = rows.reshape(-1)

    def read(self, memory: Bytes, lanes: int) -> Ints:
        """The tensor (H, W, C), int64."""
        out = np.zeros(self.shape, np.int64)
        for piece, block in self._blocks(memory, lanes):
            part = block[..., list(piece.positions)]
            values = part.view(np.int8) if self.signed else part
            if piece.up:
                values = values.repeat(1 << piece.up, axis=0).repeat(1 << piece.up, axis=1)
            out[..., list(piece.channels)] = values
        return out
