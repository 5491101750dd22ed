"""What goes to a board: a bundle with its bitstream and test vectors, checked, and packed into one file.

A bundle that was synthesised holds design.bit, design.hwh and synthesis.json beside what `build` wrote. The file is a
zip of all that, vectors.npz and an index with the sha256 of every member:

    transport.json   format, version, name, facts about the program, sha256 of every other member
    vectors.npz      `images` (N, H, W, C) codes, and the outputs that C simulation gives for them

Numpy only: the board reads the same files with this module.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from codesign.bundle import MANIFEST, Bundle, load, replace_directory
from codesign.digest import design_digest
from codesign.errors import BundleError

FORMAT, VERSION, SUFFIX = "codesign-transport", 1, ".codesign"
INDEX, VECTORS, IMAGES = "transport.json", "vectors.npz", "images"
BITSTREAM, HANDOFF, SYNTHESIS = "design.bit", "design.hwh", "synthesis.json"
SYNTHESIS_FORMAT, SYNTHESIS_VERSION = "codesign-synthesis", 1
AGAIN = "Run `codesign synth` again"


@dataclass(frozen=True)
class Deployable:
    """A bundle whose bitstream was made from its own sources."""

    bundle: Bundle
    synthesis: Mapping[str, Any]  # synthesis.json: tool, board, part, clock_mhz, digests
    index: Mapping[str, Any]  # transport.json, empty for a bundle that was not packed

    @property
    def name(self) -> str:
        return str(self.index.get("name", self.bundle.directory.name))

    @property
    def bitstream(self) -> Path:
        return self.bundle.directory / BITSTREAM

    def code(self) -> npt.NDArray[np.uint8]:
        """program.bin as the board's memory gets it."""
        return np.fromfile(self.bundle.directory / "program.bin", np.uint8)

    def vectors(self) -> dict[str, npt.NDArray[Any]]:
        """`images` and the outputs expected of them. Raises BundleError where there are none."""
        path = self.bundle.directory / VECTORS
        if not path.is_file():
            raise BundleError(
                f"{path}: no such file, expected test vectors. Pack the bundle with `codesign bundle`."
            )
        with np.load(path, allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in arrays.files}
        missing = [name for name in (IMAGES, *self.bundle.program.outputs) if name not in found]
        if missing:
            raise BundleError(
                f"{path}: lacks {', '.join(missing)}, expected images and every output. Pack the bundle again."
            )
        return found


def check(directory: Path) -> Deployable:
    """A bundle directory, if its bitstream is whole and was made from its sources.

    Raises BundleError that names every fault at once.
    """
    bundle = load(directory)
    missing = [name for name in (BITSTREAM, HANDOFF, SYNTHESIS) if not (directory / name).is_file()]
    if missing:
        raise BundleError(
            f"{directory}: {', '.join(missing)} missing, expected a synthesised bundle. "
            f"Run `codesign synth {directory}`."
        )
    synthesis = _json(directory / SYNTHESIS, SYNTHESIS_FORMAT, SYNTHESIS_VERSION)
    manifest = json.loads((directory / MANIFEST).read_text(encoding="utf-8"))
    faults = []
    if synthesis.get("design") != design_digest(manifest):
        faults.append(f"{BITSTREAM} was made from other sources than those in hls/")
    for name, key in ((BITSTREAM, "bit"), (HANDOFF, "hwh")):
        if synthesis.get(key) != _sha256(directory / name):
            size = (directory / name).stat().st_size
            faults.append(f"{name} is not what synthesis wrote ({size} bytes)")
    if synthesis.get("board") != bundle.board:
        faults.append(f"{BITSTREAM} is for {synthesis.get('board')}, but the bundle is for {bundle.board}")
    if faults:
        raise BundleError(f"{directory}: {'; '.join(faults)}. {AGAIN}.")
    index: dict[str, Any] = {}
    if (directory / INDEX).is_file():
        index = _json(directory / INDEX, FORMAT, VERSION)
    return Deployable(bundle, synthesis, index)


def pack(
    directory: Path, target: Path, vectors: Mapping[str, npt.NDArray[Any]], facts: Mapping[str, Any]
) -> Deployable:
    """Write the transport file of a synthesised bundle: whole, or as it was. Raises BundleError as `check` does.

    `vectors` as in vectors.npz; `facts` go into the index as they are.
    """
    found = check(directory)
    manifest = json.loads((directory / MANIFEST).read_text(encoding="utf-8"))
    names = [MANIFEST, *manifest["files"], BITSTREAM, HANDOFF, SYNTHESIS]
    members = {name: (directory / name).read_bytes() for name in sorted(names)}
    stream = io.BytesIO()
    np.savez_compressed(stream, allow_pickle=False, **vectors)
    members[VECTORS] = stream.getvalue()
    index = {"format": FORMAT, "version": VERSION, "name": target.name.removesuffix(SUFFIX), **facts,
             "files": {name: hashlib.sha256(data).hexdigest() for name, data in members.items()}}  # fmt: skip
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_name(f".{target.name}.{os.getpid()}.new")
    try:
        with zipfile.ZipFile(beside, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(_member(INDEX), json.dumps(index, indent=1) + "\n")
            for name, data in members.items():
                archive.writestr(_member(name), data)
        os.replace(beside, target)
    finally:
        beside.unlink(missing_ok=True)
    return found


def unpack(file: Path, target: Path) -> Deployable:
    """Check a transport file and put its content at `target`: whole, or as it was. Raises BundleError."""
    members = read(file)

    def fill(work: Path) -> None:
        for name, data in members.items():
            path = work / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        try:
            check(work)
        except BundleError as error:
            raise BundleError(str(error).replace(str(work), str(file))) from None

    if target.exists() and not (target / INDEX).is_file():
        raise BundleError(
            f"{target}: exists and was not unpacked by us, expected a free name. Choose another."
        )
    replace_directory(target, fill)
    return check(target)


def read(file: Path) -> dict[str, bytes]:
    """Every member of a transport file by name, each as the index says it is. Raises BundleError."""
    if not file.is_file():
        raise BundleError(f"{file}: no such file, expected a packed bundle. Make one with `codesign bundle`.")
    try:
        with zipfile.ZipFile(file) as archive:
            members = {info.filename: archive.read(info) for info in archive.infolist()}
        index = json.loads(members[INDEX])
        files = dict(index["files"])
    except (
        zipfile.BadZipFile,
        EOFError,
        KeyError,
        TypeError,
        ValueError,
        RuntimeError,
        OSError,
    ) as error:
        raise BundleError(
            f"{file}: is damaged or no packed bundle ({error}), expected what `codesign bundle` writes. Copy it again."
        ) from None
    if index.get("format") != FORMAT or index.get("version") != VERSION:
        raise BundleError(
            f"{file}: format {index.get('format')!r} version {index.get('version')!r}, expected {FORMAT!r} "
            f"version {VERSION}. Pack the bundle with this version of codesign."
        )
    faults = [f"{name} is missing" for name in files if name not in members]
    faults += [f"{name} does not belong there" for name in members if name not in files and name != INDEX]
    faults += [f"{name} leaves the directory" for name in files if not _inside(name)]
    for name in files.keys() & members.keys():
        if hashlib.sha256(members[name]).hexdigest() != files[name]:
            faults.append(f"{name} is not what was packed")
    if faults:
        raise BundleError(f"{file}: {', '.join(sorted(faults))}. Copy it again.")
    return members


def _inside(name: str) -> bool:
    parts = name.split("/")
    return bool(name) and "\\" not in name and all(part not in ("", ".", "..") for part in parts)


def _member(name: str) -> zipfile.ZipInfo:
    """Without a date, so that equal contents are equal files."""
    info = zipfile.ZipInfo(name)
    info.compress_type = zipfile.ZIP_DEFLATED
    info.external_attr = 0o644 << 16
    return info


def _json(path: Path, form: str, version: int) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BundleError(f"{path}: cannot be read ({error}). {AGAIN}.") from None
    if not isinstance(content, dict) or content.get("format") != form or content.get("version") != version:
        raise BundleError(f"{path}: is not of format {form!r} version {version}. {AGAIN}.")
    return content


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
