"""Who may import whom. quant/, codesign/ and boards/ meet in files, so that a compiler needs no torch
and a board needs neither torch nor onnx. Checked in the text of every file, and by importing.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
STANDARD = sys.stdlib_module_names | {"tomllib"}  # of Python 3.11; older ones get tomli
PACKAGES = ("codesign", "quant", "boards", "hls_templates")

# What a file may import apart from the standard library. The longest prefix of its path decides.
# What both sides need to score a detector; it knows nothing of graphs, plans and C++.
DETECTION = {"codesign.errors", "codesign.images", "codesign.decode", "codesign.draw", "codesign.metrics"}
DETECTION |= {"codesign.accuracy", "codesign.resize", "codesign.rungs"}
COMPILER = {"codesign", "boards", "hls_templates", "numpy", "onnx", "onnxruntime", "google.protobuf", "tomli"}
# What a board needs of the compiler: numpy at most. Pillow and the library for COCO AP are used where they are there.
ON_BOARD = {
    "bundle",
    "cascade",
    "decode",
    "descriptor",
    "digest",
    "engine_config",
    "errors",
    "images",
    "metrics",
    "ports",
    "program",
    "resize",
    "status",
    "step",
    "switch",
    "transport",
    "windows",
}
ON_BOARD_MODULES = {f"codesign.{name}" for name in ON_BOARD}
QUANT = {"quant", "numpy", "PIL", "onnx", "onnxruntime", "torch", "brevitas", "onnxscript", "onnxoptimizer"}
QUANT |= {
    "codesign.onnx_bodies",
    "qonnx",
    "safetensors",
    "matplotlib",
    "skimage",
    "sklearn",
    "tomli",
} | DETECTION
ALLOWED = {
    **{f"codesign/{name}.py": ON_BOARD_MODULES | {"numpy", "PIL"} for name in ON_BOARD},
    "codesign/": COMPILER | {"PIL"},
    "codesign/hls4ml/": COMPILER | {"hls4ml"},
    "codesign/roofline.py": COMPILER | {"matplotlib"},
    "codesign/compare_pictures.py": COMPILER | {"matplotlib"},
    "codesign/explore.py": COMPILER | {"optuna"},
    "codesign/qonnx_": COMPILER | {"qonnx"},  # loaded by qonnx alone
    "codesign/draw.py": ON_BOARD_MODULES | {"numpy", "PIL"},
    "codesign/metrics.py": ON_BOARD_MODULES | {"numpy", "faster_coco_eval"},
    "codesign/cli": COMPILER | {"PIL", "typer", "rich", "click"},
    "boards/": {"boards", "numpy", "pynq", "codesign.__version__"} | ON_BOARD_MODULES,
    "boards/show.py": {"codesign.decode", "codesign.draw", "codesign.images", "PIL"},  # for notebooks
    "hls_templates/": set(),
    "quant/__init__.py": {"quant", "numpy", "PIL"},
    "quant/data/": {"quant.data", "numpy", "PIL", "skimage", "sklearn"} | DETECTION,
    "quant/": QUANT,
    "quant/hls4ml.py": QUANT,
    "quant/hls4ml_modules.py": QUANT | {"hls4ml"},
    # The ablation asks the compiler what each operator would cost.
    "quant/ablation/costs.py": QUANT
    | {
        f"codesign.{name}"
        for name in ("board", "dram", "engine_config", "estimate", "onnx_io", "plan", "resources")
    },
}
# The verbs of the torch side load it when they are called, not before.
LAZY = {"codesign/cli": {"quant"}}


class Import(NamedTuple):
    module: str
    line: int
    lazy: bool


def files() -> list[Path]:
    return [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def imports(path: Path) -> Iterator[Import]:
    """Every import of a file but those of `if TYPE_CHECKING`; lazy means inside a function."""

    def walk(node: ast.AST, lazy: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            inside = lazy or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            if isinstance(child, ast.Import):
                yield from (Import(alias.name, child.lineno, lazy) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{path}:{child.lineno}: relative import"
                for alias in child.names:
                    yield Import(f"{child.module}.{alias.name}", child.lineno, lazy)
            elif isinstance(child, ast.If) and ast.unparse(child.test) in (
                "TYPE_CHECKING",
                "typing.TYPE_CHECKING",
            ):
                yield from (i for other in child.orelse for i in walk(other, lazy))
            elif isinstance(child, ast.Call) and ast.unparse(child.func).endswith(
                ("import_module", "__import__")
            ):
                if child.args and isinstance(child.args[0], ast.Constant):
                    yield Import(str(child.args[0].value), child.lineno, lazy)
                yield from walk(child, inside)
            else:
                yield from walk(child, inside)

    yield from walk(ast.parse(path.read_text(encoding="utf-8")), False)


def rule(table: dict[str, set[str]], relative: str) -> set[str]:
    prefixes = [prefix for prefix in table if relative.startswith(prefix)]
    return table[max(prefixes, key=len)] if prefixes else set()


def within(module: str, allowed: set[str]) -> bool:
    return any(f"{module}.".startswith(f"{name}.") for name in allowed)


def violations(relative: str, found: Iterator[Import]) -> list[str]:
    allowed, lazily = rule(ALLOWED, relative), rule(LAZY, relative)
    return [
        f"{relative}:{line} imports {module}"
        for module, line, lazy in found
        if module.split(".")[0] not in STANDARD
        and not within(module, allowed)
        and not (lazy and within(module, lazily))
    ]


@pytest.mark.parametrize("path", files(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_import_table(path):
    relative = path.relative_to(ROOT).as_posix()
    assert violations(relative, imports(path)) == []


@pytest.mark.parametrize(
    ("relative", "text", "count"),
    [
        ("codesign/ir.py", "import torch", 1),
        ("codesign/ir.py", "def f():\n    import torch.nn as nn", 1),
        ("codesign/ir.py", "from quant.data import load", 1),
        ("codesign/ir.py", "import importlib\nimportlib.import_module('brevitas')", 1),
        ("codesign/ir.py", "import numpy as np\nfrom codesign.errors import CodesignError", 0),
        ("codesign/cli.py", "from quant.train import train", 1),
        ("codesign/cli.py", "def train():\n    from quant.train import train", 0),
        ("boards/driver.py", "import onnx", 1),
        ("boards/driver.py", "from codesign.errors import CodesignError", 0),
        ("boards/driver.py", "from codesign.plan import plan", 1),
        ("codesign/decode.py", "import onnx", 1),
        ("codesign/decode.py", "from codesign.board import load_board", 1),
        ("quant/data/voc.py", "def f():\n    import torch", 1),
        ("quant/train.py", "import torch\nfrom codesign.metrics import evaluate", 0),
        ("quant/train.py", "from codesign.ir import Graph", 1),
    ],
)
def test_the_check_itself(tmp_path, relative, text, count):
    path = tmp_path / "probe.py"
    path.write_text(text)
    assert len(violations(relative, imports(path))) == count


def loaded_by(statement: str) -> set[str]:
    code = f"import sys\n{statement}\nprint('\\n'.join(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    return set(run.stdout.split())


@pytest.mark.parametrize(
    "statement",
    [
        "import codesign.cli",
        "import codesign.hls4ml",
        "import quant, quant.data",
        "import quant.ptq_run, quant.ptq_write",
        "import boards",
        "import codesign; hasattr(codesign, 'anything')",
    ],
)
def test_nothing_heavy_is_loaded(statement):
    heavy = {"torch", "brevitas", "pynq", "matplotlib", "scipy", "sklearn", "skimage", "onnxscript", "qonnx"}
    # hls4ml is searched for headers, and imported by calls of codesign.hls4ml alone; quantizers comes with it.
    heavy |= {"hls4ml", "quantizers", "h5py", "optuna", "sqlalchemy"}
    assert loaded_by(statement) & heavy == set()


@pytest.mark.parametrize("name", sorted(ON_BOARD))
def test_what_a_board_needs_loads_numpy_at_most(name):
    loaded = loaded_by(f"import codesign.{name}")
    assert (
        loaded & {"onnx", "onnxruntime", "PIL", "faster_coco_eval", "typer", "rich", "boards", "quant"}
        == set()
    )


def test_boards_load_neither_onnx_nor_the_compiler():
    assert loaded_by("import boards") & {"onnx", "onnxruntime", "codesign", "quant"} == set()
