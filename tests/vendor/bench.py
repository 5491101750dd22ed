"""The test bench of a project, compiled as the HLS tools do, for C simulation and in place of RTL."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from tests.vendor.grammar import Refused

WRAPPER = """\
// Stands for RTL in co-simulation: every port works on a copy of its own.
#include <cstring>
#include <vector>

typedef std::vector<unsigned char> Copy;
extern "C" int __real_SYMBOL(const void *, const void *, const void *, void *, int, int);

extern "C" int __wrap_SYMBOL(const void *features, const void *offsets, const void *program_port, void *results,
                             int program, int memory_words) {
  const unsigned char *in[3] = {static_cast<const unsigned char *>(features),
                                static_cast<const unsigned char *>(offsets),
                                static_cast<const unsigned char *>(program_port)};
  const Copy a(in[0], in[0] + SIZE), b(in[1], in[1] + SIZE), c(in[2], in[2] + SIZE);
  Copy d(SIZE);
  const int status = __real_SYMBOL(&a[0], &b[0], &c[0], &d[0], program, memory_words);
  std::memcpy(results, &d[0], SIZE);
  return status;
}
"""


def binary(project: dict[str, Any], depth_words: int | None) -> Path:
    """The program; with `depth_words`, its engine sees a copy of so much memory through each port."""
    if not project["tb"]:
        raise Refused("[SIM 211-200] There is no test bench, use add_files -tb.")
    objects = [_object(Path(path), flags) for path, flags in (project["files"][0], project["tb"][0])]
    target = objects[0].with_name(f"{objects[0].stem}-{objects[1].stem[:8]}-{depth_words or 'whole'}")
    if not target.exists():
        with tempfile.TemporaryDirectory(dir=target.parent) as work:
            command = ["g++", *map(str, objects), "-o", f"{work}/made"]
            if depth_words is not None:
                symbol = _symbol(objects[0], project["top"])
                wrapper = Path(work) / "wrapper.cpp"
                word = interface(Path(project["files"][0][0]))[2] // 8
                wrapper.write_text(WRAPPER.replace("SYMBOL", symbol).replace("SIZE", str(depth_words * word)))
                command += [str(wrapper), f"-Wl,--wrap={symbol}"]
            subprocess.run(command, check=True)
            os.replace(f"{work}/made", target)
    return target


def _object(path: Path, flags: list[str]) -> Path:
    """A source compiled with the vendor's headers, once for each text."""
    from codesign.compiled import ap_types, cache

    texts = [p.read_text() for p in sorted(path.parent.rglob("*")) if p.suffix in (".hpp", ".cpp", ".h")]
    included = [flag for flag in flags if flag.startswith("-I")]
    others = ["-std=c++11" if flag == "-std=c++0x" else flag for flag in flags if flag not in included]
    common = [*others, "-isystem", str(ap_types()), "-w", "-O0"]
    names = [Path(flag[2:]).name for flag in included]
    key = hashlib.sha256("\0".join([*texts, path.name, *names, *common]).encode()).hexdigest()[:32]
    made = cache() / f"standin-{key}.o"
    if not made.exists():
        made.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=made.parent) as work:
            command = ["g++", "-c", *included, *common, str(path), "-o", f"{work}/made.o"]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise Refused(
                    f"[SIM 211-100] 'csim_design' failed: compilation error(s).\n{done.stderr[-2000:]}"
                )
            os.replace(f"{work}/made.o", made)
    return made


def _symbol(path: Path, top: str) -> str:
    names = subprocess.run(
        ["nm", "--defined-only", str(path)], capture_output=True, text=True, check=True
    ).stdout
    found = re.findall(rf"\bT (_Z{len(top)}{top}\w+)", names)
    assert len(found) == 1, found
    return str(found[0])


def depth(source: Path) -> int:
    """Words that co-simulation copies to and from each port. Raises Refused if a port does not say."""
    ports = re.findall(r"#pragma HLS INTERFACE (.*\bm_axi\b.*)", source.read_text())
    found = {int(m.group(1)) for p in ports if (m := re.search(r"\bdepth=(\d+)", p)) is not None}
    if len(found) != 1 or any("depth=" not in p for p in ports):
        raise Refused("[COSIM 212-330] a port m_axi has no depth: its size is not known.")
    return found.pop()


def interface(source: Path) -> tuple[list[str], list[tuple[str, bool]], int]:
    """Bundles of the memory ports, arguments in order (name, is a pointer), bits of a word."""
    text = source.read_text()
    masters = re.findall(r"#pragma HLS INTERFACE m_axi .*\bbundle=(\w+)", text)
    head = re.search(r"int codesign_engine\((.*?)\)\s*\{", text, re.DOTALL)
    assert head is not None
    arguments = []
    for argument in head.group(1).split(","):
        name = re.search(r"(\w+)\s*$", argument.strip())
        assert name is not None
        arguments.append((name.group(1), "*" in argument))
    lanes = re.search(r"\bkLanes = (\d+)", (source.parent / "config.hpp").read_text())
    assert lanes is not None
    return sorted(masters), arguments, 8 * int(lanes.group(1))
