"""The pages in docs/: tables are made from the data, commands are ones that the program understands."""

from __future__ import annotations

import difflib
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

from codesign.board import Board, board_names, load_board
from codesign.compat import PATCHED_SINCE, PYTHONS, VIVADO_LAST, check_image, check_tools, release_key
from codesign.errors import BoardError

DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGES = sorted(path.name for path in DOCS.glob("*.md"))


def markdown(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def boards() -> list[Board]:
    return [load_board(name) for name in board_names()]


def facts() -> str:
    head = ("board", "", "part", "LUT", "BRAM36", "URAM", "DSP", "DRAM", "MHz", "lanes")
    return markdown(
        head,
        (
            (f"`{b.name}`", b.title, b.part, f"{b.luts:,}", b.bram36, b.uram, f"{b.dsps:,}")
            + (f"{b.dram_bytes / 2**30:g} GiB, {b.dram_bytes_per_s / 1e9:.2f} GB/s", b.clock_mhz, b.lanes)
            for b in boards()
        ),
    )


def pairs() -> str:
    rows = []
    for b in boards():
        for image, vivado in b.images.items():
            python = PYTHONS[tuple(release_key(image)[:2])]
            rows.append((f"`{b.name}`", image, vivado, python, b.vivado_first))
    return markdown(("board", "image", "its Vivado", "its Python", "oldest Vivado"), rows)


def clocks() -> str:
    rates: dict[tuple[int, str], list[str]] = {}
    for b in boards():
        rates.setdefault((b.fabric_pll_mhz, b.family), []).append(f"`{b.name}`")
    rows = []
    for (pll, family), names in rates.items():
        top = {"zynq7000": 200, "zynqmp": 334}[family]
        divisors = [d for d in range(1, 64) if 90 <= pll / d <= top]
        rows.append((", ".join(names), pll, ", ".join(f"{pll / d:g}" for d in divisors)))
    return markdown(("boards", "PLL, MHz", "clocks from 90 MHz on"), rows)


@pytest.mark.parametrize("table", [facts, pairs, clocks], ids=lambda table: table.__name__)
def test_tables_of_boards_are_the_data(table, request):
    """`--update-golden` writes them into the page."""
    page = DOCS / "boards.md"
    pattern = re.compile(rf"<!-- {table.__name__} -->\n\n(?:\|.*\n)*\n*")
    text = page.read_text(encoding="utf-8")
    assert len(pattern.findall(text)) == 1
    wanted = pattern.sub(lambda _: f"<!-- {table.__name__} -->\n\n{table()}\n\n", text)
    if request.config.getoption("--update-golden"):
        page.write_text(wanted, encoding="utf-8")
        text = wanted
    assert text == wanted, "run `make golden` and read the diff"


def test_releases_named_in_prose_are_those_of_the_code():
    text = (DOCS / "boards.md").read_text(encoding="utf-8")
    assert f"with a note beyond {VIVADO_LAST}" in text
    assert f"Releases before {PATCHED_SINCE} need a patch" in text


def test_errors_quoted_are_the_errors(tmp_path):
    text = (DOCS / "boards.md").read_text(encoding="utf-8")
    for name, call, version in (
        ("kv260", check_tools, "2020.1"),
        ("ultra96", check_image, "2.7.0"),
        ("pynq-z2", check_image, "4.0.0"),
    ):
        with pytest.raises(BoardError) as error:
            call(load_board(name), version)
        quoted = [part for part in re.findall(r"error: `([^`]+)`", text) if part in str(error.value)]
        assert len(quoted) == 1, str(error.value)


def test_the_board_of_the_page_can_be_loaded(tmp_path):
    (toml,) = re.findall(r"^```toml\n(.*?)^```", (DOCS / "boards.md").read_text(), re.MULTILINE | re.DOTALL)
    path = tmp_path / "my-board.toml"
    path.write_text(toml)
    board = load_board(path)
    assert board.fabric_divisor(board.clock_mhz) == 7


def commands():
    import typer.main

    from codesign.cli import app

    return typer.main.get_command(app).commands


def lines_of(page: str) -> list[str]:
    code = "\n".join(re.findall(r"^```bash\n(.*?)^```", (DOCS / page).read_text(), re.MULTILINE | re.DOTALL))
    return re.findall(r"^codesign ([a-z]+[^#\n|>]*)", code, re.MULTILINE)


@pytest.mark.parametrize(("page", "line"), [(page, line) for page in PAGES for line in lines_of(page)])
def test_commands_are_understood(page, line):
    """Parsed as the program parses them, and not run."""
    verb, *arguments = line.split()
    commands()[verb].make_context(verb, arguments)


# --- commands that are run, and what the page says they print ----------------------------------------------------

SHOWN = re.compile(r"^```bash\n(.*?)^```\n<!-- prints -->\n```text\n(.*?)^```", re.MULTILINE | re.DOTALL)


def shown(page: str) -> list[tuple[str, str]]:
    """Pairs of commands and text from a page. In the text, `…` stands for what is left out."""
    return SHOWN.findall((DOCS / page).read_text(encoding="utf-8"))


def is_printed(text: str, printed: str) -> bool:
    """Whether the text is in what was printed, in this order, with anything where it has `…`."""
    parts = [re.escape(part.strip("\n")) for part in text.strip("\n").split("…")]
    return re.search(r"(?s)" + ".*?".join(parts), printed) is not None


@pytest.fixture
def desk(tmp_path):
    """A folder with a picture, where commands of a page find what those before them made."""
    shutil.copy(DOCS.parent / "codesign" / "zoo" / "samples" / "scene-611.jpg", tmp_path / "photo.jpg")
    return tmp_path


def type_in(line: str, folder: Path) -> str:
    """What a command prints, stderr too, where no vendor's tools, no board and no settings are."""
    program, *arguments = shlex.split(line, comments=True)
    assert program == "codesign"
    keep = {
        k: v
        for k, v in os.environ.items()
        if not k.startswith("XILINX") and k not in ("CI", "GITHUB_ACTIONS")
    }
    tools = os.pathsep.join(
        p for p in os.environ["PATH"].split(os.pathsep) if not (Path(p) / "vivado").exists()
    )
    settings = {"COLUMNS": "100", "NO_COLOR": "1", "PYTHONPATH": str(DOCS.parent), "PATH": tools}
    done = subprocess.run(
        [sys.executable, "-m", "codesign.cli", *arguments],
        cwd=folder, env={**keep, **settings}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode in (0, 1, 2), done.stderr
    return done.stdout + done.stderr


def refreshed(text: str, printed: str) -> str:
    """The text with each line as it is printed now: the printed line that is most like it. `…` stays."""
    lines = [line.rstrip() for line in printed.splitlines()]

    def now(line: str) -> str:
        return line if "…" in line else (difflib.get_close_matches(line, lines, 1, 0.5) or [line])[0]

    return "".join(now(line) + "\n" for line in text.splitlines())


@pytest.mark.parametrize("page", [page for page in PAGES if shown(page)])
def test_pages_show_what_is_printed(page, desk, request):
    """`--update-golden` puts figures of today into the lines that a page shows."""
    path, different = DOCS / page, []
    for commands, text in shown(page):
        lines = [line for line in commands.splitlines() if line.startswith("codesign ")]
        assert lines
        printed = "".join(type_in(line, desk) for line in lines)
        if request.config.getoption("--update-golden"):
            fresh = refreshed(text, printed)
            path.write_text(path.read_text(encoding="utf-8").replace(text, fresh), encoding="utf-8")
            text = fresh
        if not is_printed(text, printed):
            different.append(f"{lines} prints:\n{printed}\n{page} shows:\n{text}")
    assert not different, "\n\n".join([*different, "run `make golden` and read the diff"])


def test_a_page_that_shows_something_else_is_found_out():
    assert is_printed("one …\nthree", "zero\none two\nthree\n")
    assert not is_printed("one …\nthree", "three\none two\n")
    assert not is_printed("29.1 frames/s", "29.2 frames/s")


def anchors(page: Path) -> set[str]:
    """Of the headings of a page, as GitHub names them."""
    heads = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES)
def test_links_into_pages_name_a_heading(page):
    text = (DOCS / page).read_text(encoding="utf-8")
    for target, anchor in re.findall(r"\]\(([\w./-]*)#([^)]+)\)", text):
        assert anchor in anchors(DOCS / (target or page)), f"{page}: {target}#{anchor}"


def test_figures_of_a_page_can_be_brought_up_to_date():
    printed = "zero\n30.0 frames/s estimated (1 cycle)\n│ all │ 17 of 20 │\n"
    text = "29.1 frames/s estimated (2 cycles)\n…\n│ all │ 16 of 20 │\n"
    fresh = refreshed(text, printed)
    assert fresh == "30.0 frames/s estimated (1 cycle)\n…\n│ all │ 17 of 20 │\n"
    assert is_printed(fresh, printed)
