"""Compile a design with the host's compiler, once for each text, compiler and host.

Kinds: `native` are the host's integers, and the product of a step at once (hls_templates/sim/whole); `loops` are native
integers in the loops that become hardware; `ap` has every width as in hardware; `cycles` counts what hardware would do;
`sanitize` is a program of its own, under AddressSanitizer and UBSan.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from codesign.errors import CodesignError, ToolMissing

# C++11 because that is what Vivado HLS reads: simulate the dialect you synthesise. Pragmas and loop labels mean
# nothing to a host compiler.
WARNINGS = ("-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas", "-Wno-unused-label")
KINDS: Mapping[str, tuple[str, ...]] = {
    "native": ("-O3", "-march=native", "-fPIC", "-shared", "-I", "sim/whole", "-I", "native"),
    "loops": ("-O3", "-march=native", "-fPIC", "-shared", "-I", "native"),
    "ap": ("-O2", "-fPIC", "-shared", "-I", "exact"),
    "cycles": ("-O2", "-fPIC", "-shared", "-I", "sim/cycles", "-I", "exact"),
    "sanitize": ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-I", "native"),
}
# Loops over lanes shall become vector instructions; unrolled completely they do not.
GCC_NATIVE = ("--param", "max-completely-peel-times=6")


def build(design: Mapping[str, str] | Path, kind: str, cxx: str | None = None) -> Path:
    """The library (or, for sanitize, program) of a design, compiled once for each text, compiler and host."""
    files = texts(design)
    compiler = find_compiler(cxx)
    flags = ["-std=c++11", *WARNINGS, *KINDS[kind]]
    gcc = "clang" not in _version(compiler)
    if kind in ("native", "loops") and gcc:
        flags += GCC_NATIVE
    if kind in ("ap", "cycles"):
        flags += ["-isystem", str(ap_types())]
        if gcc:  # ap_int's own constructors read uninitialised bits
            flags += ["-Wno-uninitialized", "-Wno-maybe-uninitialized"]
    main = {"sanitize": "main.cpp", "cycles": "sim/cycles/cycles.cpp"}.get(kind, "sim/csim.cpp")
    text = "\0".join([*(f"{k}\0{v}" for k, v in sorted(files.items())), *flags, _version(compiler), _host()])
    target = (
        cache()
        / f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:32]}{'' if kind == 'sanitize' else '.so'}"
    )
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as work:
        for name, content in files.items():
            path = Path(work) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8")
        # sim before ap_types, which has an hls_stream.h of its own that notices no misuse.
        command = [compiler, "-I.", "-isystem", "sim", *flags, "top.cpp", main, "-o", "made"]
        done = subprocess.run(command, cwd=work, capture_output=True, text=True)
        if done.returncode != 0:
            raise CodesignError(f"csim: {compiler} refuses the design.\n{done.stderr[-4000:]}")
        os.replace(Path(work) / "made", target)
    return target


def cache() -> Path:
    """Folder of compiled designs: CODESIGN_CACHE, else the user's cache directory."""
    if "CODESIGN_CACHE" in os.environ:
        return Path(os.environ["CODESIGN_CACHE"])
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "codesign"


def ap_types() -> Path:
    """Folder of ap_int.h: AP_TYPES, the Vivado or Vitis install, else the one inside hls4ml."""
    places = [Path(os.environ["AP_TYPES"])] if os.environ.get("AP_TYPES") else []
    places += [Path(os.environ[v]) / "include" for v in ("XILINX_HLS", "XILINX_VIVADO") if os.environ.get(v)]
    spec = importlib.util.find_spec("hls4ml")
    for location in (spec.submodule_search_locations or ()) if spec is not None else ():
        places.append(Path(location) / "templates" / "vivado" / "ap_types")
    for place in places:
        if (place / "ap_int.h").is_file():
            return place.resolve()
    raise ToolMissing(
        "ap_int.h: not found, expected in AP_TYPES, a Vivado install or the hls4ml package. "
        "Install hls4ml, or point AP_TYPES at its folder."
    )


def texts(design: Mapping[str, str] | Path) -> dict[str, str]:
    """Sources of a design by path, or of the directory that holds them."""
    if not isinstance(design, Path):
        return dict(design)
    paths = [p for p in sorted(design.rglob("*")) if p.suffix in (".hpp", ".h", ".cpp")]
    files = {p.relative_to(design).as_posix(): p.read_text(encoding="utf-8") for p in paths}
    if "top.cpp" not in files or "config.hpp" not in files:
        raise CodesignError(
            f"{design}: holds no design, expected config.hpp and top.cpp. Build the bundle again."
        )
    return files


def find_compiler(cxx: str | None = None) -> str:
    """Path of `cxx`, else of CXX, else of g++. Raises ToolMissing."""
    name = cxx or os.environ.get("CXX") or "g++"
    found = shutil.which(name)
    if found is None:
        raise ToolMissing(
            f"{name}: not found in PATH. C simulation needs a C++ compiler: install g++ or set CXX."
        )
    return found


@lru_cache(maxsize=8)
def _version(compiler: str) -> str:
    return subprocess.run([compiler, "--version"], capture_output=True, text=True).stdout.split("\n")[0]


@lru_cache(maxsize=1)
def _host() -> str:
    """What -march=native means here, as far as it can be told cheaply."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines() if cpuinfo.exists() else []
    return platform.machine() + next((line for line in lines if line.startswith(("flags", "Features"))), "")
