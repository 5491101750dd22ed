"""C simulation of a design that hls4ml wrote: its own sources with Xilinx's types, compiled and run apart."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from codesign.compiled import cache, find_compiler
from codesign.errors import CodesignError
from codesign.hls4ml.project import PROJECT, Streaming
from codesign.ir import Array

FLAGS = ("-std=c++11", "-O1", "-w", "-fPIC", "-shared", "-Ifirmware/ap_types")
SECONDS = 3600  # a frame takes seconds; a design that waits for itself takes for ever
COMPLAINTS = ("leftover data", "read while empty")


def build(design: Streaming) -> Path:
    """The library of a design, compiled once. Raises ToolMissing without a compiler, CodesignError if that refuses."""
    cxx, folder = find_compiler(), design.hls
    sources = [p for p in sorted(folder.rglob("*")) if p.suffix in (".h", ".cpp", ".txt") and p.is_file()]
    seen = hashlib.sha256("\0".join((cxx, *FLAGS, str(folder.resolve()))).encode())
    for path in sources:
        seen.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    target = cache() / f"hls4ml-{seen.hexdigest()[:32]}.so"
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as work:
        made = Path(work) / "made"
        weights = f'-DWEIGHTS_DIR="{folder.resolve() / "firmware" / "weights"}"'
        units = [f"{PROJECT}_bridge.cpp", f"firmware/{PROJECT}.cpp"]
        units += (
            [f"firmware/{PROJECT}_axi.cpp"] if (folder / "firmware" / f"{PROJECT}_axi.cpp").exists() else []
        )
        command = [cxx, *FLAGS, weights, *units, "-o", str(made)]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        if done.returncode != 0:
            raise CodesignError(f"hls4ml: {cxx} refuses the design.\n{done.stderr[-4000:]}")
        os.replace(made, target)
    return target


def run(design: Streaming, codes: Mapping[str, npt.NDArray[Any]]) -> dict[str, Array]:
    """Outputs (N, H, W, C) as integers, for inputs of codes. Raises CodesignError where the design fails, leaves words
    in a stream, or gives what is no code.
    """
    library = build(design)
    feeds = {
        f"i{k}": np.asarray(codes[name], np.float32) * np.float32(port.scale)
        for k, (name, port) in enumerate(design.inputs.items())
    }
    sizes = [int(np.prod(port.shape)) for port in design.outputs.values()]
    with tempfile.TemporaryDirectory() as work:
        source, target = Path(work) / "in.npz", Path(work) / "out.npz"
        np.savez(source, sizes=np.array(sizes), **feeds)  # type: ignore[arg-type]
        command = [sys.executable, "-m", "codesign.hls4ml.child", str(library), f"{PROJECT}_float"]
        try:
            done = subprocess.run(
                [*command, str(source), str(target)], capture_output=True, text=True, timeout=SECONDS
            )
        except subprocess.TimeoutExpired:
            raise CodesignError(
                f"{design.directory}: its C simulation does not end. Build it again."
            ) from None
        said = done.stdout + done.stderr
        if done.returncode != 0 or any(text in said for text in COMPLAINTS):
            raise CodesignError(f"{design.directory}: its C simulation failed.\n{said.strip()[-2000:]}")
        with np.load(target) as loaded:
            found = [np.array(loaded[f"o{k}"], np.float64) for k in range(len(sizes))]
    results = {}
    for (name, port), array in zip(design.outputs.items(), found, strict=True):
        integers = array.reshape(-1, *port.shape) / port.scale
        if not np.array_equal(integers, np.rint(integers)):
            raise CodesignError(f"{design.directory}: output {name} holds no codes. Build it again.")
        results[name] = integers.astype(np.int64)
    return results
