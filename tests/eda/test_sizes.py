"""Our count of memories and arithmetic beside what yosys makes of the same structure."""

from __future__ import annotations

from pathlib import Path

import pytest

from codesign.reports import Cells
from tests.eda.units import Twin, twins
from tests.eda.yosys import cells_of, runs, synthesize

pytest.importorskip("pyosys", reason="yosys is not installed: it comes with the extra [test]")
TWINS = twins()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Cells]:
    """By name and family."""
    return {
        (twin.name, family): cells for twin, family, cells in runs(TWINS, tmp_path_factory.mktemp("yosys"))
    }


CASES = [(twin, family) for twin in TWINS for family in twin.families]


@pytest.mark.slow  # some 20 s: four runs of yosys for all of them
@pytest.mark.parametrize(("twin", "family"), CASES, ids=lambda v: v if isinstance(v, str) else v.name)
def test_counted_as_yosys_makes_it(twin: Twin, family: str, made: dict[tuple[str, str], Cells]) -> None:
    """DSPs and memories exactly; LUTs within bounds that are stated with their reason; registers within 15 %."""
    found, ours = made[twin.name, family], twin.ours
    assert (found.dsp, found.bram18, found.uram) == (ours.dsp, ours.bram18, ours.uram)
    low, high, reason = twin.luts
    assert low * ours.lut <= found.lut <= high * ours.lut, reason
    assert abs(found.ff - ours.ff) <= max(0.15 * ours.ff, 17), (
        "17: the lower part of a product leaves its DSP"
    )


def test_a_cell_that_is_not_known_is_an_error() -> None:
    assert cells_of({"LUT6": 2, "RAM64M": 1, "FDRE": 3, "RAMB36E2": 1, "CARRY4": 9}) == Cells(6, 3, 0, 2, 0)
    with pytest.raises(KeyError, match="RAMD64E"):
        cells_of({"LUT6": 1, "RAMD64E": 1})


def test_modules_have_the_names_they_are_asked_for_by() -> None:
    for twin in TWINS:
        assert twin.verilog.count("endmodule") == 1 and f"module {twin.name}(" in twin.verilog


def test_a_fault_of_yosys_is_told(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"(?s)yosys: .*syntax error"):
        synthesize({"broken": "\nmodule broken(input clk;\nendmodule\n"}, "xc7", tmp_path)
