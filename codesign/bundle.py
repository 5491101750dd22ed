"""The bundle: everything a board or a simulation needs of a compiled model, in one directory.

    manifest.json   version, board, constants, where tensors lie, meta data, sha256 of every file
    model.onnx      what was compiled
    program.bin     descriptors, weights and tables: the memory from the program's address on
    hls/            the sources of the design
    board.toml      facts of the board, where it is none of the package's

A bundle is written beside its place and then renamed, so that an interrupted build leaves an earlier one alone.
Numpy only: the driver on a board reads bundles with this module.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from codesign.digest import design_digest
from codesign.engine_config import EngineConfig
from codesign.errors import BundleError
from codesign.ports import Port
from codesign.program import Program, decode
from codesign.switch import Decision, decisions

FORMAT, VERSION = "codesign-bundle", 1
STREAMING = "codesign-hls4ml"  # format of what codesign.hls4ml.project writes
MANIFEST, MODEL, CODE, DESIGN = "manifest.json", "model.onnx", "program.bin", "hls"
SYNTHESIZED = ("synthesis", "design.bit", "design.hwh", "synthesis.json")  # what codesign synth adds


@dataclass(frozen=True)
class Bundle:
    """A bundle that was read and found whole."""

    directory: Path
    board: str
    config: EngineConfig
    program: Program
    scales: Mapping[str, float]  # real value of 1 LSB of inputs and outputs
    meta: Mapping[str, str]  # text properties of the model file
    decisions: tuple[Decision, ...] = ()  # of a frame, which can be changed at run time

    @property
    def model(self) -> Path:
        return self.directory / MODEL

    @property
    def hls(self) -> Path:
        """The directory of HLS sources."""
        return self.directory / DESIGN

    def meta_json(self, key: str) -> Any:
        """A property that is JSON, such as codesign.detector; None where the model has none."""
        try:
            return json.loads(self.meta[key]) if key in self.meta else None
        except json.JSONDecodeError as error:
            raise BundleError(
                f"{self.directory}: {key} is not JSON ({error}). Export the model again."
            ) from None


def write(
    out_dir: Path,
    config: EngineConfig,
    program: Program,
    design: Mapping[str, str],
    model: Path,
    *,
    board: str,
    scales: Mapping[str, float],
    meta: Mapping[str, str],
    carried: Mapping[str, str] | None = None,
) -> Bundle:
    """Write a bundle; `design` is the sources by path, `carried` other texts by name. Replaces an earlier bundle,
    and nothing else. A synthesis of the same sources stays: it takes hours, and other weights do not change it.

    Raises BundleError if the place is taken by something else or the disk refuses.
    """
    check_free(out_dir)
    # Absolute, so that a relative name such as "." or "a/.." has a parent to be written beside.
    out_dir = Path(os.path.abspath(out_dir))

    def fill(work: Path) -> None:
        (work / DESIGN).mkdir()
        shutil.copyfile(model, work / MODEL)
        (work / CODE).write_bytes(program.encode().tobytes())
        for name, text in design.items():
            path = work / DESIGN / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        for name, text in (carried or {}).items():
            (work / name).write_text(text, encoding="utf-8")
        manifest = {
            "format": FORMAT,
            "version": VERSION,
            "board": board,
            "config": asdict(config),
            "program": {"base": program.base, "arena": program.arena, "steps": len(program.steps),
                        "memory_bytes": program.memory_words * program.lanes},
            "nodes": [step.nodes for step in program.steps],
            **({"decisions": [d.to_json() for d in found]} if (found := decisions(program)) else {}),
            "inputs": {name: port.to_json() for name, port in program.inputs.items()},
            "outputs": {name: port.to_json() for name, port in program.outputs.items()},
            "scales": dict(scales),
            "meta": dict(meta),
            "files": {name: digest(work / name) for name in files(work)},
        }  # fmt: skip
        (work / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")

    try:
        replace_directory(out_dir, fill, _keep_synthesis)
    except OSError as error:
        raise BundleError(f"{out_dir}: cannot be written ({error.strerror or error}). Free the disk, or choose "
                          "another -o.") from None  # fmt: skip
    return load(out_dir)


def check_free(out_dir: Path) -> None:
    """Raise BundleError if the place is taken by something that no build wrote."""
    if out_dir.exists() and not (out_dir.is_dir() and _replaceable(out_dir)):
        raise BundleError(f"{out_dir}: exists and is no bundle, expected a free name. Choose another -o.")


def replace_directory(
    target: Path, fill: Callable[[Path], None], carry: Callable[[Path, Path], None] | None = None
) -> None:
    """Make a directory with `fill` beside its place, then put it there; on any failure the old one stays.

    carry: hears the old and the new directory once the new one is in place, and may move files over.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    old = work.with_name(work.name + "-old")
    try:
        work.chmod(0o755)
        fill(work)
        if target.exists():
            os.rename(target, old)
        try:
            os.rename(work, target)
        except BaseException:
            if old.exists():
                os.rename(old, target)
            raise
        if carry is not None and old.exists():
            carry(old, target)
    finally:
        shutil.rmtree(work, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _keep_synthesis(old: Path, new: Path) -> None:
    """Move what `codesign synth` has made for hours, where the sources it was made from are the same."""
    try:
        before, after = manifest_of(old), manifest_of(new)
    except BundleError:  # the old one was empty, or of another version: there is nothing to keep
        return
    if design_digest(before) == design_digest(after) and before.get("board") == after.get("board"):
        for name in SYNTHESIZED:
            if (old / name).exists():
                os.rename(old / name, new / name)


def load(directory: Path) -> Bundle:
    """Read a bundle. Raises BundleError naming every file that is missing or differs from the manifest."""
    manifest = manifest_of(directory)
    check_whole(directory, manifest)
    try:
        config = EngineConfig(**{f.name: int(manifest["config"][f.name]) for f in fields(EngineConfig)})
        base = int(manifest["program"]["base"])
        code = np.frombuffer((directory / CODE).read_bytes(), np.uint8)
        lanes, arena, steps = decode(code, base)
        ports = {
            key: {name: Port.from_json(p) for name, p in manifest[key].items()}
            for key in ("inputs", "outputs")
        }
        program = Program(lanes, base, arena, steps, ports["inputs"], ports["outputs"], wide=config.is_wide)
        scales = {name: float(value) for name, value in manifest["scales"].items()}
        meta = {str(k): str(v) for k, v in manifest["meta"].items()}
        known = tuple(Decision.from_json(d) for d in manifest.get("decisions", ()))
        return Bundle(directory, str(manifest["board"]), config, program, scales, meta, known)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise BundleError(f"{directory}: {MANIFEST} does not have the form of version {VERSION} ({error!r}). "
                          "Build the bundle again.") from None  # fmt: skip


def check_whole(directory: Path, manifest: Mapping[str, Any]) -> None:
    """Raise BundleError naming every file that is missing or differs from the manifest."""
    faults = []
    for name, expected in manifest["files"].items():
        path = directory / name
        if not path.is_file():
            faults.append(f"{name} is missing")
        elif digest(path) != expected:
            faults.append(f"{name} is not what was built ({path.stat().st_size} bytes)")
    if faults:
        raise BundleError(f"{directory}: {', '.join(faults)}. Build the bundle again.")


def manifest_of(directory: Path, wanted: str = FORMAT, version: int = VERSION) -> dict[str, Any]:
    """The manifest of a directory that a build wrote. Raises BundleError if it is of another format or version."""
    path = directory / MANIFEST
    if not directory.is_dir():
        raise BundleError(
            f"{directory}: no such directory, expected a bundle. Make one with `codesign build`."
        )
    if not path.is_file():
        raise BundleError(
            f"{directory}: has no {MANIFEST}, expected a bundle. Make one with `codesign build`."
        )
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise BundleError(f"{path}: cannot be read ({error}). Build the bundle again.") from None
    if isinstance(manifest, dict) and (wanted, manifest.get("format")) == (FORMAT, STREAMING):
        raise BundleError(
            f"{directory}: holds a design of hls4ml, expected one for the engine. Only `codesign verify` and `codesign "
            "report` read it; build it without --flow hls4ml for the others."
        )
    if not isinstance(manifest, dict) or manifest.get("format") != wanted:
        raise BundleError(f"{path}: is no manifest of a bundle. Build the bundle again.")
    if manifest.get("version") != version:
        raise BundleError(
            f"{path}: version {manifest.get('version')}, expected {version}. Build the bundle again."
        )
    if not isinstance(manifest.get("files"), dict):
        raise BundleError(f"{path}: lists no files. Build the bundle again.")
    return manifest


def is_streaming(directory: Path) -> bool:
    """Whether a directory says that it holds a design of hls4ml."""
    try:
        manifest = json.loads((directory / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError):
        return False
    return isinstance(manifest, dict) and manifest.get("format") == STREAMING


def _replaceable(directory: Path) -> bool:
    if not any(directory.iterdir()):
        return True
    try:
        manifest = json.loads((directory / MANIFEST).read_text(encoding="utf-8"))
        return bool(manifest.get("format") in (FORMAT, STREAMING))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, AttributeError):
        return False


def files(directory: Path) -> list[str]:
    return sorted(p.relative_to(directory).as_posix() for p in directory.rglob("*") if p.is_file())


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
