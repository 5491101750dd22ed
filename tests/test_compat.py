"""Which Vivado and PYNQ go with a board: what cannot work is refused with the reason, what nobody tested is said."""

import pytest

from codesign import cli
from codesign.board import board_names, load_board
from codesign.compat import (
    PATCHED_SINCE,
    PYTHON_FIRST,
    check_image,
    check_tools,
    notes,
    parse_vivado,
    release_key,
)
from codesign.errors import BoardError
from tests.mini import bundle_of_mini
from tests.vendor.launch import install


@pytest.mark.parametrize(
    ("text", "release"),
    [
        ("2020.1", "2020.1"),
        ("Vivado v2022.1 (64-bit)", "2022.1"),
        ("Vitis HLS - High-Level Synthesis from C, C++ and OpenCL v2023.2 (64-bit)", "2023.2"),
        ("/tools/Xilinx/Vivado/2020.2.2/bin/vivado", "2020.2.2"),
    ],
)
def test_releases_are_found_in_what_tools_call_themselves(text, release):
    assert parse_vivado(text) == release


def test_text_without_a_release():
    with pytest.raises(BoardError) as error:
        parse_vivado("Vivado 12020.12")
    assert str(error.value) == (
        "Vivado version 'Vivado 12020.12': not understood, expected a release such as 2020.1. "
        "Give the path of a Vivado installation."
    )


def test_releases_compare_as_numbers():
    keys = [release_key(text) for text in ("2019.2", "2020.1", "2020.2", "2020.2.2", "2021.1", "2024.2")]
    assert keys == sorted(keys)
    assert release_key("3.10") > release_key("3.9")


@pytest.mark.parametrize("name", board_names())
def test_every_pairing_of_the_table_is_accepted(name):
    """Without a word, but for the vendor's own fault in tools older than 2022.1, which is told."""
    board = load_board(name)
    assert board.images
    for image, vivado in board.images.items():
        check_image(board, image, vivado)
        said = notes(board, vivado, image)
        assert len(said) == (1 if release_key(vivado) < release_key(PATCHED_SINCE) else 0)


def test_patch_releases_of_an_image_pass():
    check_image(load_board("pynq-z2"), "3.1.3")
    check_image(load_board("pynq-z2"), "v3.0.0")


def test_a_part_younger_than_the_tool():
    with pytest.raises(BoardError) as error:
        check_tools(load_board("kv260"), "2020.1")
    assert str(error.value) == (
        "kv260: Vivado 2020.1 is too old, expected 2020.2.2 or newer (AMD board store, change log of kv260_som: "
        "first with Vivado 2020.2.2). Install a newer one, or choose it with --vivado."
    )
    with pytest.raises(BoardError, match="kv260: Vivado 2020.1 is too old"):
        check_image(load_board("kv260"), "3.0.1", "2020.1")


def test_an_image_without_the_python_of_the_driver():
    with pytest.raises(BoardError) as error:
        check_image(load_board("ultra96"), "2.7.0")
    assert str(error.value) == (
        "ultra96: PYNQ 2.7.0 is not supported, expected 3.0.1 (its Python is 3.8 and the driver needs 3.10). "
        "Write an SD card with one of these images, or describe yours in a board TOML of your own."
    )


def test_an_image_that_dropped_the_board():
    with pytest.raises(BoardError) as error:
        check_image(load_board("pynq-z2"), "4.0.0")
    assert str(error.value) == (
        "pynq-z2: PYNQ 4.0.0 is not supported, expected 3.0.1 or 3.1.2 (PYNQ project: Vivado 2022.1 from pull "
        "request 1339 on, 2024.1 from 1470 on; release notes of 4.0.0: Pynq-Z1 and Pynq-Z2 removed). "
        "Write an SD card with one of these images, or describe yours in a board TOML of your own."
    )
    check_image(load_board("zcu104"), "4.0.0")


def test_a_version_that_is_none():
    with pytest.raises(
        BoardError, match=r"^PYNQ version 'main': not understood, expected one such as 3\.0\.1\. "
    ):
        check_image(load_board("zcu104"), "main")


def test_what_nobody_paired_is_said_and_allowed():
    board = load_board("pynq-z2")
    check_tools(board, "2020.1")
    patch, pairing = notes(board, "2020.1", "3.0.1")
    assert "y2k22_patch" in patch
    assert pairing == (
        "pynq-z2: the overlays of the PYNQ images were built with another Vivado (3.0.1 with 2022.1); "
        "a bitstream of Vivado 2020.1 may load, but this pairing is not the vendor's."
    )
    assert notes(board, "2024.1") == notes(board, "2022.1") == ()
    assert len(notes(board, "2024.1", "3.0.1")) == 1


def test_tools_newer_than_their_documents_are_said():
    newer, pairing = notes(load_board("zcu104"), "2026.1")
    assert newer == "Vivado 2026.1 is newer than 2025.2, the last whose documents the scripts follow."
    assert "4.0.0 with 2025.2" in pairing


def test_the_python_that_the_driver_needs_is_the_package_s(request):
    text = (request.config.rootpath / "pyproject.toml").read_text()
    assert f'requires-python = ">={PYTHON_FIRST[0]}.{PYTHON_FIRST[1]}"' in text


def test_synth_refuses_a_release_that_does_not_know_the_part(tmp_path, capsys):
    """Before anything is simulated or written: the tools are only asked for their version."""
    bundle = bundle_of_mini(tmp_path / "bundle", "kv260", lanes=1)
    tools = install(tmp_path / "xilinx", "2020.1")
    with pytest.raises(SystemExit) as ended:
        cli.main(["synth", str(bundle), "--tools", str(tools)])
    assert ended.value.code == 2
    assert "error: kv260: Vivado 2020.1 is too old, expected 2020.2.2 or newer" in capsys.readouterr().err
    assert not (bundle / "synthesis" / "scripts").exists()


def test_synth_notes_a_pairing_that_is_not_the_vendors(tmp_path, capsys):
    bundle = bundle_of_mini(tmp_path / "bundle", "pynq-z2", lanes=1)
    tools = install(tmp_path / "xilinx", "2020.1")
    with pytest.raises(SystemExit):
        cli.main(["synth", str(bundle), "--tools", str(tools), "--stop-after", "csynth", "--hours", "0.0001"])
    said = capsys.readouterr().err
    assert "3.0.1 with 2022.1" in said and "y2k22_patch" in said
