"""The clock that a design gets on its board, by its hardware handoff (design.hwh).

PYNQ divides the PLL that the board booted with by the two divisors that it finds there, whatever Vivado took for the
PLL's rate: the processing system's settings in a bitstream do not reach the PLL any more (pynq.ps, pynq 3 and 4).
"""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from codesign.board import Board
from codesign.reports import ReportError

SETTINGS = {  # family -> module, divisors of the fabric's first clock, its source, what that has to be
    "zynq7000": ("processing_system7", "PCW_FCLK0_PERIPHERAL_DIVISOR", "PCW_FCLK0_PERIPHERAL_CLKSRC", "IO PLL"),
    "zynqmp": ("zynq_ultra_ps_e", "PSU__CRL_APB__PL0_REF_CTRL__DIVISOR", "PSU__CRL_APB__PL0_REF_CTRL__SRCSEL",
               "IOPLL"),
}  # fmt: skip


def board_clock(hwh: Path, board: Board) -> float:
    """MHz of the fabric's first clock when PYNQ loads a design with this handoff on a board.

    Raises ReportError if it is no handoff of the board's family, or divides another PLL than the TOML has.
    """
    kind, divisor, source, wanted = SETTINGS[board.family]
    try:
        root = ElementTree.parse(hwh).getroot()
    except OSError:
        raise ReportError(
            f"{hwh}: cannot be read, expected a hardware handoff. Run `codesign synth`."
        ) from None
    except ElementTree.ParseError as error:
        raise ReportError(
            f"{hwh}: {error}, expected a hardware handoff. Run `codesign synth` again."
        ) from None
    found = [
        {p.get("NAME"): p.get("VALUE", "") for p in module.iter("PARAMETER")}
        for module in root.iter("MODULE")
        if module.get("MODTYPE") == kind
    ]
    if len(found) != 1:
        raise ReportError(
            f"{hwh}: has {len(found)} modules {kind}, expected 1 for {board.name}. Name its board."
        )
    settings = found[0]
    taken = settings.get(source)
    if taken is not None and taken != wanted:
        raise ReportError(
            f"{hwh}: the fabric's clock comes from {taken}, expected {wanted}, which the board's image leaves alone. "
            "Set it in the block design."
        )
    by = [settings.get(f"{divisor}{i}", "") for i in (0, 1)]
    if not all(text.isdecimal() and 1 <= int(text) <= 63 for text in by):
        raise ReportError(
            f"{hwh}: {divisor}0 and 1 are {by[0] or 'missing'} and {by[1] or 'missing'}, expected 1 to 63."
            " Run `codesign synth` again."
        )
    return board.fabric_pll_mhz / (int(by[0]) * int(by[1]))
