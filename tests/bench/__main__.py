"""python -m tests.bench [NAME...] [--json FILE]: run bench_NAME.py of this folder, all of them by default.

A bench module has one function, `tables() -> Iterable[Table]`, and a docstring that says what is compared.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table as RichTable

from tests.bench.harness import Table, machine

HERE = Path(__file__).resolve().parent


def names() -> list[str]:
    return sorted(path.stem.removeprefix("bench_") for path in HERE.glob("bench_*.py"))


def show(console: Console, table: Table) -> None:
    shown = RichTable()
    for index, column in enumerate(table.columns):
        shown.add_column(column, justify="left" if index == 0 else "right")
    for row in table.rows:
        shown.add_row(*row)
    console.print(f"\n[bold]{table.title}[/]")
    console.print(shown)
    if table.note:
        console.print(table.note, style="dim")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"any of: {', '.join(names())}")
    parser.add_argument("--json", type=Path, help="also write the tables and the machine to this file")
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.names) - set(names()))
    if unknown:
        parser.error(f"no benchmark {', '.join(unknown)}; there are {', '.join(names())}")
    console = Console(width=max(100, Console().width))
    facts = machine()
    console.print(", ".join(f"{key} {value}" for key, value in facts.items()), style="dim")
    done: dict[str, list[Table]] = {}
    for name in options.names or names():
        module = importlib.import_module(f"tests.bench.bench_{name}")
        done[name] = []
        for table in module.tables():
            show(console, table)
            done[name].append(table)
    if options.json:
        report = {
            "machine": facts,
            "tables": {name: [asdict(t) for t in found] for name, found in done.items()},
        }
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
