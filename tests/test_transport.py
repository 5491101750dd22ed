"""The transport file, where the host writes it: whole or not at all, the same bytes for the same content."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from codesign.bundle import load
from codesign.deploy import pack, vectors
from codesign.digest import design_digest
from codesign.errors import BundleError, CodesignError
from codesign.ir import evaluate
from codesign.onnx_io import import_model
from codesign.transport import INDEX, check, read, unpack
from tests.board.bundles import synthesised
from tests.mini import MINI, bundle_of_mini


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthesised(bundle_of_mini(tmp_path_factory.mktemp("transport") / "mini"))


@pytest.fixture
def bundle(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "mini"))


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (70, 50, 3)).astype(np.uint8)


def test_there_and_back(bundle: Path, tmp_path: Path) -> None:
    facts = pack(bundle, tmp_path / "a" / "x.codesign", [noise(1)])
    found = unpack(tmp_path / "a" / "x.codesign", tmp_path / "out")
    assert (found.name, found.bundle.board) == ("x", "ultra96")
    assert found.index["dram_bytes_per_frame"] == facts["dram_bytes_per_frame"] > 0
    assert found.code().tobytes() == (bundle / "program.bin").read_bytes()
    assert check(bundle).index == {}, "a bundle that was not packed has no index"
    for path in bundle.rglob("*"):
        if path.is_file():
            there = tmp_path / "out" / path.relative_to(bundle)
            assert there.read_bytes() == path.read_bytes()


def test_vectors_are_what_the_integer_graph_computes(bundle: Path) -> None:
    """Pictures letterboxed, then noise; and every value is that of the definition of correct."""
    arrays = vectors(load(bundle), [noise(1), noise(2)], noise=3)
    assert arrays["images"].shape == (5, 64, 96, 3)
    expected = evaluate(import_model(MINI), {"image": arrays["images"]})
    assert set(arrays) == {"images", *expected}
    for name, array in expected.items():
        assert arrays[name].dtype.itemsize == 1
        assert np.array_equal(arrays[name], array)


def test_unpacking_replaces_what_was_unpacked_and_nothing_else(bundle: Path, tmp_path: Path) -> None:
    pack(bundle, tmp_path / "x.codesign", [noise(1)])
    unpack(tmp_path / "x.codesign", tmp_path / "out")
    unpack(tmp_path / "x.codesign", tmp_path / "out")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").touch()
    with pytest.raises(BundleError) as error:
        unpack(tmp_path / "x.codesign", tmp_path / "mine")
    assert str(error.value) == (
        f"{tmp_path / 'mine'}: exists and was not unpacked by us, expected a free name. Choose another."
    )
    assert (tmp_path / "mine" / "file").exists()


def test_a_failure_leaves_the_earlier_file(bundle: Path, tmp_path: Path) -> None:
    target = tmp_path / "x.codesign"
    pack(bundle, target, [noise(1)])
    before = target.read_bytes()
    (bundle / "design.bit").write_bytes(b"other")
    with pytest.raises(BundleError, match="design.bit is not what synthesis wrote"):
        pack(bundle, target, [noise(1)])
    assert target.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_a_file_of_another_version(bundle: Path, tmp_path: Path) -> None:
    import zipfile

    pack(bundle, tmp_path / "x.codesign", [noise(1)])
    members = read(tmp_path / "x.codesign")
    index = json.loads(members[INDEX]) | {"version": 9}
    with zipfile.ZipFile(tmp_path / "y.codesign", "w") as archive:
        for name, data in (members | {INDEX: json.dumps(index).encode()}).items():
            archive.writestr(name, data)
    with pytest.raises(BundleError) as error:
        unpack(tmp_path / "y.codesign", tmp_path / "out")
    assert str(error.value) == (
        f"{tmp_path / 'y.codesign'}: format 'codesign-transport' version 9, expected 'codesign-transport' version 1. "
        "Pack the bundle with this version of codesign."
    )
    assert not (tmp_path / "out").exists()
    with pytest.raises(BundleError, match="no such file, expected a packed bundle"):
        read(tmp_path / "z.codesign")


def locked(data: bytes) -> bytes:
    """The same archive, its first member marked as encrypted (APPNOTE 4.4.4, bit 0), as some mail gateways leave it."""
    changed = bytearray(data)
    for mark, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        changed[data.index(mark) + flags] |= 1
    return bytes(changed)


@pytest.mark.parametrize(
    "damage", [locked, lambda data: data[: len(data) // 2], lambda data: b"", lambda data: b"PK"]
)
def test_what_is_no_packed_bundle(bundle: Path, tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    file = tmp_path / "x.codesign"
    pack(bundle, file, [noise(1)])
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(
        BundleError, match=r"x[.]codesign: is damaged or no packed bundle \(.*Copy it again[.]"
    ):
        unpack(file, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_digest_names_sources_alone() -> None:
    manifest = {"files": {"hls/top.cpp": "aa", "hls/config.hpp": "bb", "model.onnx": "cc"}}
    same = {
        "files": {"hls/config.hpp": "bb", "hls/top.cpp": "aa", "model.onnx": "other", "program.bin": "dd"}
    }
    assert design_digest(manifest) == design_digest(same)
    for name in ("hls/config.hpp", "hls/top.cpp"):
        changed = {"files": {**manifest["files"], name: "00"}}
        assert design_digest(changed) != design_digest(manifest)
    moved = {"files": {"hls/top.cppaa": "", "hls/config.hpp": "bb"}}
    assert design_digest(moved) != design_digest(manifest)


def test_only_detectors_are_packed(bundle: Path) -> None:
    from dataclasses import replace

    found = load(bundle)
    (port,) = found.program.inputs.values()
    other = replace(found, program=replace(found.program, inputs={"a": port, "b": port}))
    with pytest.raises(CodesignError, match=r"its inputs are a, b, expected one picture i8\[H,W,3\]"):
        vectors(other, [])
