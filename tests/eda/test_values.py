"""The Verilog that is synthesized for its size computes what the engine does: simulated beside the equations.

yosys turns it into C++ (write_cxxrtl); inputs are held until the last register has them.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from tests.eda import rtl
from tests.eda.yosys import run_commands

pytest.importorskip("pyosys", reason="yosys is not installed: it comes with the extra [test]")
COMPILER = os.environ.get("CXX", "g++")
pytestmark = pytest.mark.skipif(shutil.which(COMPILER) is None, reason=f"no C++ compiler: {COMPILER}")

CHUNK = 32  # bits
CYCLES = 40  # more than any of the pipelines is long
MAIN = """
#include "modules.cc"
#include <cstdio>
template <size_t N> uint32_t chunk(const cxxrtl::value<N> &v, int i) { return v.data[i]; }
template <size_t N> uint32_t chunk(const cxxrtl::wire<N> &w, int i) { return w.curr.data[i]; }
int main() {
  cxxrtl_design::p_NAME m;
  unsigned word;
  while (true) {
READ
    for (int i = 0; i < CYCLES; ++i) {
      m.p_clk.data[0] = 0;
      m.step();
      m.p_clk.data[0] = 1;
      m.step();
    }
WRITE
  }
}
"""


def simulate(
    text: str, name: str, inputs: dict[str, tuple[int, list[int]]], outputs: dict[str, int], folder: Path
) -> dict[str, list[int]]:
    """Signed outputs for each case. Inputs and outputs by name with their bits, inputs with a value a case."""

    def member(port: str) -> str:
        return f"m.p_{port.replace('_', '__')}"

    (folder / "modules.v").write_text(text, encoding="ascii")
    run_commands(
        (f"read_verilog {folder / 'modules.v'}", "proc", f"write_cxxrtl {folder / 'modules.cc'}"), folder
    )
    chunks = {port: -(-bits // CHUNK) for port, (bits, _) in inputs.items()}
    read = [
        f'    if (scanf("%u", &word) != 1) return 0;\n    {member(port)}.data[{i}] = word;'
        for port, count in chunks.items()
        for i in range(count)
    ]
    write = [f'    printf("%u ", chunk({member(port)}, 0));' for port in outputs]
    main = MAIN.replace("NAME", name).replace("READ", "\n".join(read)).replace("WRITE", "\n".join(write))
    (folder / "main.cpp").write_text(main.replace("CYCLES", str(CYCLES)), encoding="ascii")
    found = importlib.util.find_spec("pyosys")
    assert found is not None and found.origin is not None
    runtime = Path(found.origin).parent / "share/include/backends/cxxrtl/runtime"
    command = [COMPILER, "-std=c++14", "-O1", "-w", f"-I{runtime}", "main.cpp", "-o", "model"]
    built = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr[-2000:]
    cases = len(next(iter(inputs.values()))[1])
    words = [
        str(((values[k] & ((1 << bits) - 1)) >> (CHUNK * i)) & 0xFFFFFFFF)
        for k in range(cases)
        for port, (bits, values) in inputs.items()
        for i in range(chunks[port])
    ]
    said = subprocess.run(
        [str(folder / "model")], input=" ".join(words), capture_output=True, text=True, check=True
    )
    numbers = np.array(said.stdout.split(), np.int64).reshape(cases, len(outputs))
    return {
        port: [int(n) - (int(n) >> (bits - 1) << bits) for n in numbers[:, i]]
        for i, (port, bits) in enumerate(outputs.items())
    }


def packed(values: np.ndarray, bits: int) -> list[int]:
    """Rows of numbers side by side, the first lowest."""
    return [sum((int(v) & ((1 << bits) - 1)) << (bits * i) for i, v in enumerate(row)) for row in values]


def test_two_sums_come_out_of_one_chain(tmp_path: Path) -> None:
    """Ends of the ranges and anything between: weights of -8..15, activations of -256..255."""
    rng, n = np.random.default_rng(0), 8
    ends = rng.random((400, n)) < 0.3
    low, high = (
        np.where(ends, rng.choice([-8, 15], (400, n)), rng.integers(-8, 16, (400, n))) for _ in range(2)
    )
    acts = np.where(ends, rng.choice([-256, 255], (400, n)), rng.integers(-256, 256, (400, n)))
    inputs = {
        "begins": (1, [1] * 400),
        "high_half": (1, [k % 2 for k in range(400)]),
        "acts": (9 * n, packed(acts, 9)),
        "lows": (5 * n, packed(low, 5)),
        "highs": (5 * n, packed(high, 5)),
    }
    found = simulate(rtl.packed_chain("chain", n, 26), "chain", inputs, {"low": 26, "high": 26}, tmp_path)
    scale = np.array(inputs["high_half"][1]) * 15 + 1
    # a weight has five bits: 15 is a low half of an int8 weight, which the engine extends by what it knows of it
    low5, high5 = (np.where(w > 15, w - 32, w) for w in (low, high))
    assert found["low"] == ((low5 * acts).sum(axis=1) * scale).tolist()
    assert found["high"] == ((high5 * acts).sum(axis=1) * scale).tolist()


def test_nine_products_and_their_sum(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    acts, weights = rng.integers(-256, 256, (300, 9)), rng.integers(-128, 128, (300, 9))
    acts[0], weights[0] = -256, -128
    inputs = {"acts": (81, packed(acts, 9)), "weights": (72, packed(weights, 8))}
    found = simulate(rtl.window_lane("window"), "window", inputs, {"sum": 21}, tmp_path)
    assert found["sum"] == (acts * weights).sum(axis=1).tolist()


def test_requantization_is_half_to_even(tmp_path: Path) -> None:
    rng, count = np.random.default_rng(2), 600
    shift = rng.integers(-12, 46, count)
    mult = rng.integers(0, 256, count)
    size = np.minimum(np.maximum(shift, 1), 30)
    acc = np.clip(
        rng.integers(-300, 300, count) * 2.0 ** (size - 1) / np.maximum(mult, 1), -(2**30), 2**30 - 1
    )
    acc = np.where(rng.random(count) < 0.2, rng.integers(-(2**31), 2**31, count), acc.astype(np.int64))
    mult = np.where(rng.random(count) < 0.5, 1 << rng.integers(0, 8, count), mult)
    bias = rng.integers(-(2**20), 2**20, count)
    columns = {"acc": (32, acc), "bias": (32, bias), "mult": (8, mult), "shift": (8, shift)}
    inputs = {name: (bits, [int(v) for v in values]) for name, (bits, values) in columns.items()}
    inputs |= {"low": (9, [-128] * count), "high": (9, [127] * count)}
    found = simulate(rtl.requantizer_lane("requant"), "requant", inputs, {"result": 9}, tmp_path)
    wanted = [
        max(-128, min(127, round(Fraction((int(a) + int(b)) * int(m)) / Fraction(2) ** int(s))))
        for a, b, m, s in zip(acc, bias, mult, shift, strict=True)
    ]
    assert found["result"] == wanted
    assert len(set(wanted)) > 50
