"""A directory like a bundle, of a model that became one streaming design of hls4ml instead of an engine's program.

manifest.json   version, board, backend, ends, what is estimated, sha256 of every file
model.onnx      what was compiled
hls4ml/         the project as hls4ml writes it: firmware/, build_prj.tcl, and with a board project its scripts
board.toml      facts of the board, where it is none of the package's
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from codesign import bundle
from codesign.board import CARRIED, Board
from codesign.bundle import MANIFEST, MODEL, STREAMING
from codesign.errors import BundleError, ModelRefused
from codesign.hls4ml.design import convert
from codesign.hls4ml.limits import cost, refusals
from codesign.hls4ml.qonnx import output_order
from codesign.ir import Graph

VERSION = 1
FOLDER, PROJECT = "hls4ml", "network"


@dataclass(frozen=True)
class End:
    """An input or output: shape (H, W, C), and the real value of 1 LSB."""

    shape: tuple[int, int, int]
    scale: float


@dataclass(frozen=True)
class Streaming:
    """A directory that was read and found whole. Outputs are in hls4ml's order."""

    directory: Path
    board: str
    backend: str
    io_type: str
    version: str  # of hls4ml
    inputs: Mapping[str, End]
    outputs: Mapping[str, End]
    estimated: Mapping[str, Any]

    @property
    def model(self) -> Path:
        return self.directory / MODEL

    @property
    def hls(self) -> Path:
        return self.directory / FOLDER


def backend_of(graph: Graph, board: Board) -> tuple[str, str]:
    """hls4ml's backend for a board, and why it makes no whole board project ("" where it does)."""
    import hls4ml

    path = Path(hls4ml.__file__).parent / "backends" / "vivado_accelerator" / "supported_boards.json"
    boards = json.loads(path.read_text(encoding="utf-8"))
    if board.name not in boards:
        return "Vitis", f"hls4ml has no project for {board.name} ({', '.join(boards)})"
    if len(graph.inputs) > 1 or len(graph.outputs) > 1:
        ends = f"{len(graph.inputs)} inputs and {len(graph.outputs)} outputs"
        return "Vitis", f"hls4ml's board projects have one input and one output, the model has {ends}"
    return "VivadoAccelerator", ""


def build(
    graph: Graph, path: Path, output: Path, board: Board, io_type: str, say: Callable[[str], None]
) -> dict[str, Any]:
    """Write the directory, in the place of an earlier one or of a bundle. Returns what there is to say about it.

    Raises ToolMissing without hls4ml, ModelRefused naming each layer that hls4ml does not have, or that is too large
    and for which limit; BundleError if the place is taken.
    """
    from codesign.hls4ml.registry import register

    bundle.check_free(output)
    register()
    import hls4ml

    backend, instead = backend_of(graph, board)
    options = {"board": board.name} if backend == "VivadoAccelerator" else {}
    facts: dict[str, Any] = {}

    def fill(work: Path) -> None:
        say("Converting")
        design = convert(
            graph, str(path), work / FOLDER, backend=backend, io_type=io_type, part=board.part,
            clock_period=round(1e3 / board.clock_mhz, 3), project_name=PROJECT, **options,
        )  # fmt: skip
        found = cost(design)
        problems = refusals(design, board, found)
        if problems:
            raise ModelRefused(str(path), problems)
        say("Writing")
        with contextlib.redirect_stdout(io.StringIO()):
            design.write()
        _forget(work / FOLDER, work)
        shutil.copyfile(path, work / MODEL)
        if board.own:
            (work / CARRIED).write_text(board.own, encoding="utf-8")
        types = graph.types()
        estimated = {
            "layers": len(design.get_layers()),
            "bram36": found.bram36,
            "streams": [asdict(s) | {"bram36": s.bram36} for s in found.streams],
            "multipliers": found.multipliers,
            "turns": found.turns,
        }
        ends = {
            key: {
                name: {"shape": list(types[name].shape), "scale": graph.scales.get(name, 1.0)}
                for name in names
            }
            for key, names in (("inputs", graph.inputs), ("outputs", output_order(graph)))
        }
        facts.update(
            format=STREAMING, version=VERSION, board=board.name, backend=backend, io_type=io_type,
            hls4ml=hls4ml.__version__, **ends, estimated=estimated, meta=dict(graph.meta),
        )  # fmt: skip
        manifest = facts | {"files": {name: bundle.digest(work / name) for name in bundle.files(work)}}
        (work / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")

    try:
        bundle.replace_directory(Path(os.path.abspath(output)), fill)
    except OSError as error:
        raise BundleError(f"{output}: cannot be written ({error.strerror or error}). Free the disk, or choose "
                          "another -o.") from None  # fmt: skip
    return facts | {"bundle": str(output), "instead": instead}


def _forget(project: Path, work: Path) -> None:
    """hls4ml notes where it wrote, which is where nothing will be."""
    config = project / "hls4ml_config.yml"
    text = config.read_text(encoding="utf-8").replace(str(project), ".")
    config.write_text(text.replace(str(work), ".."), encoding="utf-8")


def load(directory: Path) -> Streaming:
    """Read a directory that `build` wrote. Raises BundleError naming every file that is missing or differs."""
    manifest = bundle.manifest_of(directory, STREAMING, VERSION)
    bundle.check_whole(directory, manifest)
    try:
        inputs, outputs = (
            {
                str(name): End(tuple(int(n) for n in end["shape"]), float(end["scale"]))  # type: ignore[arg-type]
                for name, end in manifest[key].items()
            }
            for key in ("inputs", "outputs")
        )
        board, backend, io_type, version = (
            str(manifest[k]) for k in ("board", "backend", "io_type", "hls4ml")
        )
        estimated = dict(manifest["estimated"])
        return Streaming(directory, board, backend, io_type, version, inputs, outputs, estimated)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise BundleError(f"{directory}: {MANIFEST} does not have the form of version {VERSION} ({error!r}). "
                          "Build it again.") from None  # fmt: skip
