"""A linter of emitted C++: what Vivado HLS or Vitis HLS would refuse, and the rules of hls_templates.

    findings = lint(sources(plan.config), "vivado", "codesign_engine")

A real C++ parser (libclang) reads top.cpp as synthesis does, with __SYNTHESIS__ defined. Only functions and
types that the top function reaches count; main.cpp and sim/ are never read. Templates are judged as written,
not as instantiated: a call whose target depends on a template parameter may go to any function of that name,
so recursion is found also where only the template's arguments would end it.

The headers ap_int.h and hls_stream.h are stand-ins from include/, which makes this take a fraction of a second;
that the real ones accept the sources is for simulation to show.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from tests.hlslint.checks import check_pragmas
from tests.hlslint.rules import check_code
from tests.hlslint.source import EXEMPT, Finding, Unit

__all__ = ["Finding", "lint"]


def lint(design: Mapping[str, str] | Path, dialect: str, top: str) -> list[Finding]:
    """Findings in a design (its texts by path, or their directory), by file and line.

    `dialect` is "vivado" or "vitis". Without libclang, importing this module raises RuntimeError.
    """
    if isinstance(design, Path):
        found = (p for p in sorted(design.rglob("*")) if p.suffix in (".hpp", ".h", ".cpp"))
        design = {p.relative_to(design).as_posix(): p.read_text(encoding="utf-8") for p in found}
    with tempfile.TemporaryDirectory() as work:
        root = Path(work).resolve()
        for name, text in design.items():
            if not name.startswith(EXEMPT):
                path = root / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
        unit = Unit(root, dialect, top)
        code = set(check_code(unit))
        refused = {(f.file, f.line) for f in code if f.rule == "include"}
        errors = {f for f in unit.errors() if (f.file, f.line) not in refused}
        return sorted({*errors, *code, *check_pragmas(unit)})
