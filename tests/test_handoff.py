"""The clock that a board gives a design, read from the handoff that PYNQ reads."""

from dataclasses import replace

import pytest

from codesign.board import load_board
from codesign.handoff import SETTINGS, board_clock
from codesign.reports import ReportError
from codesign.synth_check import SynthesisFailed, check
from codesign.synth_tcl import Job
from tests.vendor import reports


def handoff(tmp_path, family, divisors=("5", "2"), source=None, modules=1):
    """The part of a .hwh that says how the clock is made."""
    kind, divisor, name, wanted = SETTINGS[family]
    settings = {f"{divisor}{i}": text for i, text in enumerate(divisors) if text is not None}
    settings[name] = wanted if source is None else source
    lines = "".join(f'<PARAMETER NAME="{k}" VALUE="{v}"/>' for k, v in settings.items())
    module = f'<MODULE MODTYPE="{kind}"><PARAMETERS>{lines}</PARAMETERS></MODULE>'
    path = tmp_path / "design.hwh"
    path.write_text(
        f'<EDKSYSTEM><MODULES><MODULE MODTYPE="axi_intc"/>{module * modules}</MODULES></EDKSYSTEM>'
    )
    return path


@pytest.mark.parametrize(("name", "mhz"), [("pynq-z2", 100.0), ("ultra96", 150.0)])
def test_the_pll_of_the_board_is_divided(tmp_path, name, mhz):
    board = load_board(name)
    assert board_clock(handoff(tmp_path, board.family), board) == mhz


def test_it_is_the_pll_that_the_board_has_not_what_vivado_thinks(tmp_path):
    board = replace(load_board("ultra96"), fabric_pll_mhz=1_000)
    assert board_clock(handoff(tmp_path, "zynqmp", ("4", "1")), board) == 250.0


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"divisors": ("5", None)}, "are 5 and missing, expected 1 to 63"),
        ({"divisors": ("0", "1")}, "are 0 and 1, expected 1 to 63"),
        ({"divisors": ("five", "1")}, "are five and 1"),
        ({"source": "RPLL"}, "comes from RPLL, expected IOPLL"),
        ({"modules": 0}, "has 0 modules zynq_ultra_ps_e, expected 1 for ultra96"),
        ({"modules": 2}, "has 2 modules"),
    ],
)
def test_what_cannot_be_a_clock_is_said(tmp_path, changed, said):
    with pytest.raises(ReportError, match=said):
        board_clock(handoff(tmp_path, "zynqmp", **changed), load_board("ultra96"))


def test_the_other_family_is_refused(tmp_path):
    with pytest.raises(ReportError, match="0 modules processing_system7, expected 1 for pynq-z2"):
        board_clock(handoff(tmp_path, "zynqmp"), load_board("pynq-z2"))


def test_files_that_are_none(tmp_path):
    board = load_board("pynq-z2")
    with pytest.raises(ReportError, match="cannot be read"):
        board_clock(tmp_path / "none.hwh", board)
    half = handoff(tmp_path, "zynq7000")
    half.write_text(half.read_text()[:90])
    with pytest.raises(ReportError, match="expected a hardware handoff"):
        board_clock(half, board)


def judged(tmp_path, name, mhz, divisors):
    """What `codesign synth` says of a bitstream with these divisors, whose timing was met."""
    work = tmp_path / "synthesis"
    for folder in ("reports", "logs", "output"):
        (work / folder).mkdir(parents=True)
    board = load_board(name)
    assert reports.main(["timing", str(work / "reports" / "timing.rpt")]) == 0
    handoff(work / "output", board.family, divisors)
    return check(
        "bitstream",
        tmp_path,
        work / "logs" / "bitstream.log",
        Job(board, mhz, "vitis_hls", "2022.1", "2022.1"),
    )


def test_a_clock_as_timed_passes(tmp_path):
    assert judged(tmp_path, "pynq-z2", 143, ("7", "1")) == "timing met, +0.412 ns of slack"


def test_a_slower_clock_is_said(tmp_path):
    assert judged(tmp_path, "pynq-z2", 143, ("4", "2")).endswith(", but PYNQ will run it at 125.0 MHz")


def test_a_faster_clock_than_timed_gives_no_bitstream(tmp_path):
    with pytest.raises(
        SynthesisFailed, match=r"would run the design at 300.0 MHz, expected 250.0, for which timing"
    ):
        judged(tmp_path, "ultra96", 250, ("5", "1"))
