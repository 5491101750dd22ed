"""What is assumed of a board's memory and of the ports that lead to it, for estimate and simulation alike.

Nothing here is fitted to a result. Bandwidth, width of the ports and clock are the board's (boards/*.toml); the rest:

    USABLE           0.75 of the peak. Refresh takes 3 to 5 % (tRFC of every tREFI, JEDEC DDR3/DDR4/LPDDR4); rows that
                     open and close, and turning from reads to writes, take the rest. Sequential traffic of several
                     ports reaches 70 to 85 % of the peak on these controllers.
    LATENCY_S        200 ns from a request of the engine to its first word, through adapter, interconnect, HP port and
                     controller, and from the last word written to its response: of the order that HP ports show.
    BURST            16 words, OUTSTANDING 16 bursts: defaults of an m_axi interface (max_read_burst_length and
                     num_read_outstanding, UG902), and 16 beats is all that an AXI3 port of a Zynq-7000 takes.
    TRANSFERS        8 transfers of the memory's pins are the least it moves (DDR3 and DDR4, BL8).
    a word           is moved in ceil(bits of a word / bits of the HP port) cycles of the engine's clock: ports and
                     engine have one clock.
    arbitration      ports in turn, one burst after the other (in the simulation), each as fast as USABLE allows.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from codesign.board import Board

USABLE = 0.75
LATENCY_S = 200e-9
BURST, OUTSTANDING = 16, 16
TRANSFERS = 8
ASSUMPTIONS = (
    f"{USABLE:.0%} of peak DRAM bandwidth, {LATENCY_S * 1e9:.0f} ns to the first word of a request, bursts of {BURST} "
    f"words, {OUTSTANDING} under way on a port, the board's default clock reached"
)


@dataclass(frozen=True)
class Dram:
    """A board's memory as an engine of so many lanes sees it. Cycles are those of the engine's clock."""

    clock_hz: int
    word_bytes: int
    bytes_per_cycle: float  # all ports together
    beats: int  # cycles that a port takes for a word
    latency: int  # cycles
    block: int  # bytes: the least that is moved
    burst: int = BURST
    outstanding: int = OUTSTANDING

    @property
    def word_cycles(self) -> float:
        """Between words of a port that has the memory to itself."""
        return max(float(self.beats), self.word_bytes / self.bytes_per_cycle)

    @property
    def streams(self) -> float:
        """Words a cycle that a port's bursts under way allow at most."""
        return self.burst * self.outstanding / self.latency

    def cycles(self, *words: int) -> int:
        """For so many words on each of several ports, together."""
        shared = ceil(sum(words) * self.word_bytes / self.bytes_per_cycle)
        return max(shared, max(words, default=0) * self.beats)


def dram(board: Board, lanes: int) -> Dram:
    clock_hz = board.clock_mhz * 1_000_000
    return Dram(
        clock_hz=clock_hz,
        word_bytes=lanes,
        bytes_per_cycle=USABLE * board.dram_bytes_per_s / clock_hz,
        beats=ceil(8 * lanes / board.hp_width_bits),
        latency=ceil(LATENCY_S * clock_hz),
        block=TRANSFERS * board.dram_width_bits // 8,
    )
