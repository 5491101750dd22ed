"""What the verbs share: consoles, tables, progress, json, and how an error ends the program."""

from __future__ import annotations

import errno
import functools
import json
import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from codesign.errors import CodesignError

if TYPE_CHECKING:
    from codesign.bundle import Bundle
    from codesign.switch import Decision

FAILED, BAD_INPUT, INTERRUPTED = 1, 2, 130  # exit codes: a check failed; bad input or a missing tool; Ctrl-C

_WIDE = None if sys.stdout.isatty() or "COLUMNS" in os.environ else 140  # logs and pipes are not 80 wide
out = Console(highlight=False, soft_wrap=True, width=_WIDE)
err = Console(stderr=True, highlight=False, soft_wrap=True)
debug = False  # set by main(): tracebacks instead of one line

Verb = TypeVar("Verb", bound=Callable[..., Any])
Item = TypeVar("Item")

Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout instead of a table.")]
Choose = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=WAY",
        help="What a frame decides otherwise: 0, 1, ... is a way, +4 moves its thresholds, frame is as built.",
    ),
]


def verb(function: Verb) -> Verb:
    """Turns what can go wrong into one message and an exit code; `--debug` lets it through."""

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except CodesignError as error:
            if debug:
                raise
            fail(str(error))
        except KeyboardInterrupt:
            if debug:
                raise
            err.print("Interrupted. Earlier results are as they were.")
            raise typer.Exit(INTERRUPTED) from None
        except MemoryError:
            if debug:
                raise
            fail("Not enough memory. Close other programs, or use a smaller model or fewer images.")
        except OSError as error:
            if debug or error.errno == errno.EPIPE:
                raise
            name = f"{error.filename}: " if error.filename else ""
            remedy = (
                "Free some space"
                if error.errno in (errno.ENOSPC, errno.EDQUOT)
                else "Check path and permissions"
            )
            fail(f"{name}{error.strerror or error}. {remedy}; earlier results are as they were.")

    return run  # type: ignore[return-value]


def chosen_of(bundle: Bundle, choose: Sequence[str] | None) -> dict[Decision, str]:
    """The decisions of a bundle that --choose names. Raises SwitchError."""
    from codesign.switch import parsed, resolved

    return resolved(bundle.decisions, parsed(choose or ()))


def fail(message: str) -> NoReturn:
    """One error message on stderr, and exit code 2."""
    err.print(f"[bold red]error:[/] {escape(message)}")
    raise typer.Exit(BAD_INPUT)


def note(message: str) -> None:
    """A line about the work, on stderr, so that stdout is the result alone."""
    err.print(escape(message), style="dim")


def print_json(value: Any) -> None:
    """JSON on stdout; nan, which JSON lacks, becomes null."""
    sys.stdout.write(json.dumps(finite(value), indent=2) + "\n")


def finite(value: Any) -> Any:
    """The same with None for nan and infinity."""
    if isinstance(value, dict):
        return {k: finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> None:
    """A table on stdout; the first `left` columns are text, the others numbers. Cells may hold rich markup."""
    grid = Table(title=title, title_justify="left", title_style="bold", header_style="bold", expand=False)
    for i, column in enumerate(columns):
        grid.add_column(column, justify="left" if i < left else "right", overflow="fold")
    for row in rows:
        grid.add_row(*row)
    out.print(grid, soft_wrap=False)


def figure(value: Any, form: str = ".3f") -> str:
    """A number, or a dash if there is none."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "-"
    return format(value, form)


def progress(*columns: Any) -> Progress:
    """A live line on stderr that vanishes when it is done; silent where there is no terminal."""
    shown = (SpinnerColumn(), TextColumn("{task.description}"), *columns)
    return Progress(*shown, console=err, transient=True, disable=not err.is_terminal)


def tracked(items: Iterable[Item], what: str, total: int | None = None) -> Iterator[Item]:
    """The items, with a bar on a terminal; `total` of them where `items` has no length."""
    with progress(BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn()) as bar:
        yield from bar.track(items, total=total, description=what)


@contextmanager
def working(what: str) -> Iterator[Callable[[str], None]]:
    """A spinner with the time; the yielded function changes its text."""
    with progress(TimeElapsedColumn()) as bar:
        task = bar.add_task(what, total=None)
        yield lambda text: bar.update(task, description=text)


def write_beside(path: Path, content: bytes) -> None:
    """Write a file so that it is whole or as it was: beside first, then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        beside.write_bytes(content)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def needs_torch(verb_name: str) -> None:
    """Says which extra to install, before a verb of the torch side begins."""
    from importlib.util import find_spec

    missing = [name for name in ("torch", "brevitas") if find_spec(name) is None]
    if missing:
        fail(
            f"codesign {verb_name}: {' and '.join(missing)} not installed; only the base is. "
            "Install the extra: pip install 'codesign-fpga[quant]' (in a clone: pip install -e '.[quant]')."
        )
