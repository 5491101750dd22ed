"""Boards are data: every fact in range and with a source, and errors that name the file and the key."""

import re
from pathlib import Path

import pytest

from boards import TOMLS
from codesign.board import FAMILIES, FORM, LANES, board_names, load_board
from codesign.compat import release_key
from codesign.errors import BoardError
from codesign.vivado import FIRST_HLS

MADE_UP = """
title = "A board that does not exist"
[part]
name = "xc7z010clg400-1"
family = "zynq7000"
source = "this test"
[resources]
luts = 17_600
ffs = 35_200
bram36 = 60
uram = 0
dsps = 80
source = "this test"
[dram]
capacity_mib = 512
width_bits = 16
bytes_per_s = 2_000_000_000
source = "this test"
[hp]
ports = 4
width_bits = 64
source = "this test"
[ps]
fabric_pll_mhz = 1_000
properties = { PCW_CRYSTAL_PERIPHERAL_FREQMHZ = "33.333333" }
source = "this test"
[vivado]
first = "2019.2"
source = "this test"
[pynq]
images = { "3.0.1" = "2022.1" }
source = "this test"
[default]
clock_mhz = 100
lanes = 4
source = "this test"
"""


def test_the_boards_are_there():
    assert board_names() == (
        "aup-zu3",
        "kv260",
        "pynq-z1",
        "pynq-z2",
        "pynq-zu",
        "ultra96",
        "ultra96-v1",
        "zcu104",
    )


@pytest.mark.parametrize("name", board_names())
def test_facts_are_in_range(name):
    board = load_board(name)
    assert board.name == name and board.title
    assert board.family in FAMILIES
    assert board.part.startswith({"zynq7000": "xc7z", "zynqmp": ("xczu", "xck")}[board.family])
    assert board.ffs == 2 * board.luts, "both families have two flip-flops a look-up table"
    assert board.lanes in LANES
    assert board.hp_width_bits == {"zynq7000": 64, "zynqmp": 128}[board.family]
    assert board.dram_width_bits in (16, 32, 64)
    transfers = board.dram_bytes_per_s * 8 / board.dram_width_bits
    assert 800e6 <= transfers <= 2666e6, "data rate of DDR3-800 to DDR4-2666"
    assert board.clock_mhz <= {"zynq7000": 200, "zynqmp": 333}[board.family]
    assert set(board.sources) == set(FORM) and all(len(s) > 8 for s in board.sources.values())


@pytest.mark.parametrize(
    ("name", "dsps", "bram36", "uram", "gigabytes_per_s"),
    [
        ("pynq-z1", 220, 140, 0, 2.1),
        ("pynq-z2", 220, 140, 0, 2.1),
        ("ultra96-v1", 360, 216, 0, 4.264),
        ("ultra96", 360, 216, 0, 4.264),
        ("pynq-zu", 1248, 144, 64, 19.2),
        ("zcu104", 1728, 312, 96, 17.064),
        ("kv260", 1248, 144, 64, 19.2),
        ("aup-zu3", 360, 216, 0, 9.6),
    ],
)
def test_figures_that_designs_hang_on(name, dsps, bram36, uram, gigabytes_per_s):
    board = load_board(name)
    assert (board.dsps, board.bram36, board.uram) == (dsps, bram36, uram)
    assert board.dram_bytes_per_s == round(gigabytes_per_s * 1e9)


# LUTs, BRAM36, URAM, DSPs of a device: AMD DS190 (Zynq-7000), DS891 (Zynq UltraScale+), DS987 (K26).
DEVICES = {
    "xc7z020": (53_200, 140, 0, 220),
    "xczu3eg": (70_560, 216, 0, 360),
    "xczu5eg": (117_120, 144, 64, 1_248),
    "xczu7ev": (230_400, 312, 96, 1_728),
    "xck26": (117_120, 144, 64, 1_248),
}


@pytest.mark.parametrize("name", board_names())
def test_resources_are_those_of_the_device(name):
    board = load_board(name)
    assert (board.luts, board.bram36, board.uram, board.dsps) == DEVICES[
        board.part.split("-")[0].split("clg")[0]
    ]


@pytest.mark.parametrize("name", board_names())
def test_memory_in_the_facts_is_the_memory_that_the_processing_system_is_set_up_for(name):
    """Capacity and peak bandwidth follow from the settings of the memory controller: one source checks the other."""
    board = load_board(name)
    if board.family == "zynq7000":
        assert board.ps["PCW_UIPARAM_DDR_PARTNO"] == "MT41J256M16 RE-125", "256 Mi x 16 bits"
        clock, bits, chip_bits, chip_megabits, ranks = board.ps["PCW_UIPARAM_DDR_FREQ_MHZ"], 16, 16, 4_096, 1
        assert board.ps["PCW_UIPARAM_DDR_BUS_WIDTH"] == "16 Bit"
    else:
        ddr = {key.removeprefix("PSU__DDRC__"): text for key, text in board.ps.items()}
        clock = ddr["PSU__CRF_APB__DDR_CTRL__FREQMHZ"]
        bits, chip_bits, chip_megabits = (
            int(ddr[key].split()[0]) for key in ("BUS_WIDTH", "DRAM_WIDTH", "DEVICE_CAPACITY")
        )
        ranks = 1 + int(ddr.get("RANK_ADDR_COUNT", "0"))
        rate = int(re.search(r"_(\d+)", ddr["SPEED_BIN"]).group(1))
        assert rate == pytest.approx(2 * float(clock), rel=1e-3)
    assert board.dram_width_bits == bits
    assert board.dram_bytes_per_s == pytest.approx(2e6 * float(clock) * bits / 8, rel=1e-3)
    assert board.dram_bytes == chip_megabits * (bits // chip_bits) * ranks << 17


@pytest.mark.parametrize("name", board_names())
def test_settings_are_of_the_family_and_the_clock_can_be_had(name):
    board = load_board(name)
    prefix = {"zynq7000": "PCW_", "zynqmp": "PSU_"}[board.family]
    assert board.ps and all(re.fullmatch(rf"{prefix}[A-Z0-9_]+", key) for key in board.ps)
    assert not any(set('[]${}"\\') & set(text) for text in board.ps.values()), "nothing that Tcl would expand"
    source, pll = {
        "zynq7000": ("PCW_FCLK0_PERIPHERAL_CLKSRC", "IO PLL"),
        "zynqmp": ("PSU__CRL_APB__PL0_REF_CTRL__SRCSEL", "IOPLL"),
    }[board.family]
    assert board.ps[source] == pll, "the only source that PYNQ leaves the fabric's clock on"
    assert abs(board.fabric_mhz(board.clock_mhz) - board.clock_mhz) < 0.5


def test_the_fabric_gets_the_nearest_clock_not_above():
    board = load_board("pynq-z2")  # 1000 MHz
    assert [board.fabric_divisor(mhz) for mhz in (1_000, 500, 167, 166, 150, 143, 142, 100)] == [
        1, 2, 6, 7, 7, 7, 8, 10,
    ]  # fmt: skip
    assert board.fabric_mhz(150) == pytest.approx(142.857, abs=1e-3)
    assert board.fabric_divisor(25) <= 63, "six bits"


def test_a_board_is_one_toml(tmp_path: Path):
    path = tmp_path / "mine.toml"
    path.write_text(MADE_UP)
    board = load_board(path)
    assert (board.name, board.luts, board.dram_bytes, board.lanes) == ("mine", 17_600, 512 << 20, 4)
    assert load_board(str(path)) == board


def test_unknown_board():
    with pytest.raises(BoardError) as error:
        load_board("Ultra_96")
    assert str(error.value) == (
        "board 'Ultra_96': not known, expected one of aup-zu3, kv260, pynq-z1, pynq-z2, pynq-zu, ultra96, "
        "ultra96-v1, zcu104. Did you mean ultra96 or ultra96-v1? "
        "Another board is described by a TOML like those in boards/: give its path."
    )


def test_unknown_board_far_from_all():
    with pytest.raises(BoardError) as error:
        load_board("de10-nano-xyz")
    assert "Did you mean" not in str(error.value) and "zcu104" in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("luts = 17_600\n", ""), "resources.luts is missing, expected an integer from 1000 to 10000000"),
        (
            ("luts = 17_600", "luts = 17.6"),
            "resources.luts is 17.6, expected an integer from 1000 to 10000000",
        ),
        (("dsps = 80", "dsps = -80"), "resources.dsps is -80, expected an integer from 1 to 20000"),
        (("bram36 = 60", "bram36 = true"), "resources.bram36 is True, expected an integer from 1 to 10000"),
        (("zynq7000", "artix7"), "part.family is 'artix7', expected zynq7000 or zynqmp"),
        (
            ('"33.333333"', "33"),
            "ps.properties is {'PCW_CRYSTAL_PERIPHERAL_FREQMHZ': 33}, expected a table of texts",
        ),
        (('"2019.2"', '"18.3"'), "vivado.first is '18.3', expected a release of Vivado such as 2020.1"),
        (('"2022.1"', '"new"'), "pynq.images.3.0.1 is 'new', expected a release of Vivado such as 2020.1"),
        (('"3.0.1"', '"latest"'), "pynq.images.latest is not a release of PYNQ such as 3.1.2"),
        (("lanes = 4", "lanes = 3"), "default.lanes is 3, expected one of (1, 2, 4, 8, 16)"),
        (("ports = 4", "ports = 4\nspeed = 1"), "hp.speed is not known"),
        (("title =", "name ="), "title is missing, expected text; name is not known"),
    ],
)
def test_wrong_values_are_named(tmp_path: Path, change, message):
    path = tmp_path / "mine.toml"
    path.write_text(MADE_UP.replace(*change))
    with pytest.raises(BoardError) as error:
        load_board(path)
    assert str(error.value) == f"{path}: {message}. Compare it with a file in boards/."


def test_all_faults_at_once(tmp_path: Path):
    path = tmp_path / "mine.toml"
    path.write_text("title = 'x'\n[part]\nname = 'xc7z010clg400-1'\n")
    with pytest.raises(BoardError) as error:
        load_board(path)
    for fault in (
        "part.family is missing",
        "part.source is missing",
        "[resources] is missing",
        "[hp] is missing",
    ):
        assert fault in str(error.value)


def test_broken_toml_and_missing_file(tmp_path: Path):
    path = tmp_path / "mine.toml"
    with pytest.raises(BoardError, match=r"mine\.toml: cannot be read \(No such file or directory\)\. Check"):
        load_board(path)
    path.write_text("title = \n")
    with pytest.raises(BoardError, match=r"mine\.toml: not TOML: .*line 1.*\. Correct that line\.$"):
        load_board(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BoardError, match=r"mine\.toml: not TOML: "):
        load_board(path)


def test_tomls_carry_no_addresses():
    for path in TOMLS.glob("*.toml"):
        assert not re.search(r"https?://", path.read_text()), path.name


@pytest.mark.parametrize("name", board_names())
def test_oldest_vivado_is_one_that_is_used_at_all(name):
    """`codesign synth` takes no HLS tool before FIRST_HLS, whatever the board."""
    assert release_key(load_board(name).vivado_first) >= release_key(FIRST_HLS)
