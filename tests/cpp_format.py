"""python -m tests.cpp_format [--fix]: clang-format for HLS headers, which leaves `#pragma HLS` lines alone.

clang-format moves pragmas to the first column and puts blanks around their `=`. As comments they keep the
indentation of their scope, so they pass through it as comments.
"""

from __future__ import annotations

import difflib
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PRAGMA, COMMENT = "#pragma HLS", "//#pragma HLS"


def sources() -> list[Path]:
    return sorted(p for p in (ROOT / "hls_templates").rglob("*") if p.suffix in (".hpp", ".h", ".cpp"))


def formatted(path: Path, text: str) -> str:
    """`text` as clang-format would have it by the .clang-format of the repository."""
    run = subprocess.run(
        [Path(sys.executable).parent / "clang-format", f"--assume-filename={path}"],
        input=text.replace(PRAGMA, COMMENT),
        capture_output=True,
        text=True,
        check=True,
    )
    return run.stdout.replace(COMMENT, PRAGMA)


def main(fix: bool) -> int:
    wrong = 0
    for path in sources():
        text = path.read_text(encoding="utf-8")
        wanted = formatted(path, text)
        if wanted == text:
            continue
        name = path.relative_to(ROOT).as_posix()
        if fix:
            path.write_text(wanted, encoding="utf-8")
            sys.stdout.write(f"formatted {name}\n")
        else:
            wrong += 1
            diff = difflib.unified_diff(text.splitlines(True), wanted.splitlines(True), name, "clang-format")
            sys.stdout.writelines(diff)
    if wrong:
        sys.stdout.write(f"{wrong} files are not formatted: python -m tests.cpp_format --fix\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main("--fix" in sys.argv[1:]))
