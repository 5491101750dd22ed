"""The package that is installed on a board: boards/, and of codesign/ only the modules that it imports.

A wheel of its own (PEP 427), because the whole project needs onnx and more, which boards lack: this one asks for
numpy and pynq. Which modules go into it is found by following imports, so the list cannot be forgotten;
tests/test_imports.py holds what they may import.
"""

from __future__ import annotations

import ast
import base64
import hashlib
import io
import zipfile
from pathlib import Path

from codesign import __version__

NAME = "codesign_board"
ROOT = Path(__file__).resolve().parent.parent  # where the packages lie, in a clone and when installed
FILE = f"{NAME}-{__version__}-py3-none-any.whl"
ENTRY_POINTS = """[pynq.notebooks]
codesign = boards.notebooks

[pynq.overlays]
codesign = boards.overlays
"""
METADATA = f"""Metadata-Version: 2.1
Name: codesign-board
Version: {__version__}
Summary: Runs what codesign-fpga compiled on a PYNQ board
License: Apache-2.0
Requires-Python: >=3.10
Requires-Dist: numpy
Requires-Dist: pynq (>=3.0,<5)
"""
KIND = "Wheel-Version: 1.0\nGenerator: codesign\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def files() -> dict[str, bytes]:
    """Content by path: every file of boards/, and what it imports of codesign/."""
    found = {
        path.relative_to(ROOT).as_posix(): path.read_bytes()
        for pattern in ("*.py", "overlays/__init__.py", "notebooks/*.py", "notebooks/*.ipynb")
        for path in sorted((ROOT / "boards").glob(pattern))
    }
    waiting = [name for name in found if name.endswith(".py")]
    while waiting:
        for module in _imports(found[waiting.pop()]):
            name = module.replace(".", "/")
            for path in (ROOT / f"{name}.py", ROOT / name / "__init__.py"):
                key = path.relative_to(ROOT).as_posix()
                if path.is_file() and key not in found:
                    found[key] = path.read_bytes()
                    waiting.append(key)
    return dict(sorted(found.items()))


def wheel() -> bytes:
    """The wheel's bytes; the same every time for the same sources."""
    info = f"{NAME}-{__version__}.dist-info"
    members = files()
    members |= {
        f"{info}/METADATA": METADATA.encode(),
        f"{info}/WHEEL": KIND.encode(),
        f"{info}/entry_points.txt": ENTRY_POINTS.encode(),
    }
    rows = [f"{name},sha256={_hash(data)},{len(data)}" for name, data in members.items()]
    members[f"{info}/RECORD"] = ("\n".join([*rows, f"{info}/RECORD,,"]) + "\n").encode()
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            member = zipfile.ZipInfo(name)  # without a date
            member.compress_type = zipfile.ZIP_DEFLATED
            member.external_attr = 0o644 << 16
            archive.writestr(member, data)
    return stream.getvalue()


def _imports(text: bytes) -> set[str]:
    """Modules of ours that a file imports, with their packages; `from a import b` may mean a module a.b."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            parts = name.split(".")
            if parts[0] in ("codesign", "boards"):
                found |= {".".join(parts[: i + 1]) for i in range(len(parts))}
    return found


def _hash(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
