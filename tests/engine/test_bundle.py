"""Bundles: written whole or not at all, and read with every fault named."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from codesign import bundle
from codesign.csim import Engine, Simulator
from codesign.emit import sources
from codesign.errors import BundleError
from codesign.ir import evaluate
from codesign.plan import plan
from tests.engine.engines import assert_equal, generic
from tests.models import random_codenet_graph, random_feeds

GRAPH = random_codenet_graph(seed=4, size=32)


def write(out: Path, model: Path) -> bundle.Bundle:
    planned = plan(GRAPH, config=generic(4))
    return bundle.write(out, planned.config, planned.program, sources(planned.config), model, board="ultra96",
                        scales=GRAPH.scales, meta={"codesign.card": '{"ap50": 0.5}', "bad": "{"})  # fmt: skip


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "some.onnx"
    path.write_bytes(b"a model")
    return path


@pytest.fixture
def made(tmp_path, model):
    return write(tmp_path / "bundle", model)


def test_a_bundle_runs_as_it_was_planned(made):
    found = bundle.load(made.directory)
    assert (found.board, found.config, found.scales) == ("ultra96", generic(4), dict(GRAPH.scales))
    assert found.model.read_bytes() == b"a model"
    feeds = random_feeds(GRAPH, batch=2)
    got = Simulator(Engine(found.hls), found.program).run(feeds["image"])
    assert_equal(got, evaluate(GRAPH, feeds))


def test_program_bin_is_the_memory_from_its_base(made):
    code = np.fromfile(made.directory / "program.bin", np.uint8)
    np.testing.assert_array_equal(code, plan(GRAPH, config=generic(4)).program.encode())


def test_meta_data(made):
    assert made.meta_json("codesign.card") == {"ap50": 0.5} and made.meta_json("other") is None
    with pytest.raises(BundleError, match=r"bad is not JSON \(.*\)\. Export the model again\.$"):
        made.meta_json("bad")


def test_every_missing_or_changed_file_is_named(made):
    (made.directory / "program.bin").write_bytes(b"short")
    (made.directory / "hls" / "window.hpp").unlink()
    with pytest.raises(BundleError) as error:
        bundle.load(made.directory)
    assert str(error.value) == (
        f"{made.directory}: hls/window.hpp is missing, program.bin is not what was built (5 bytes). "
        "Build the bundle again."
    )


@pytest.mark.parametrize(("text", "message"), [
    ("", r"manifest\.json: cannot be read \(.*\)\. Build the bundle again\.$"),
    ("[]", r"manifest\.json: is no manifest of a bundle\. Build the bundle again\.$"),
    ('{"format": "codesign-bundle", "version": 9}', r"version 9, expected 1\. Build the bundle again\.$"),
    ('{"format": "codesign-bundle", "version": 1}', r"lists no files\. Build the bundle again\.$"),
    ('{"format": "codesign-bundle", "version": 1, "files": {}}', r"does not have the form of version 1 \(KeyError.*$"),
])  # fmt: skip
def test_damaged_manifests(made, text, message):
    (made.directory / "manifest.json").write_text(text)
    with pytest.raises(BundleError, match=message):
        bundle.load(made.directory)


def test_what_is_no_bundle(tmp_path):
    with pytest.raises(
        BundleError, match=r"no such directory, expected a bundle\. Make one with `codesign build`\.$"
    ):
        bundle.load(tmp_path / "nothing")
    with pytest.raises(BundleError, match=r"has no manifest\.json, expected a bundle\. Make one with"):
        bundle.load(tmp_path)


def test_a_bundle_replaces_a_bundle_and_nothing_else(tmp_path, model, made):
    (made.directory / "extra").write_text("old")
    assert not (write(made.directory, model).directory / "extra").exists()
    (tmp_path / "empty").mkdir()
    write(tmp_path / "empty", model)
    home = tmp_path / "home"
    home.mkdir()
    (home / "letter").write_text("dear")
    with pytest.raises(
        BundleError, match=r"home: exists and is no bundle, expected a free name\. Choose another"
    ):
        write(home, model)
    assert [p.name for p in home.iterdir()] == ["letter"]
    with pytest.raises(BundleError, match="some.onnx: exists and is no bundle"):
        write(model, model)


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_an_interrupted_build_leaves_the_old_bundle(tmp_path, model, made, monkeypatch, failure):
    before = {p: p.read_bytes() for p in made.directory.rglob("*") if p.is_file()}

    def fail(*args):
        raise failure

    monkeypatch.setattr(shutil, "copyfile", fail)
    with pytest.raises((BundleError, KeyboardInterrupt)) as error:
        write(made.directory, model)
    if isinstance(failure, OSError):
        assert str(error.value) == (
            f"{made.directory}: cannot be written (No space left on device). Free the disk, or choose another -o."
        )
    assert {p: p.read_bytes() for p in made.directory.rglob("*") if p.is_file()} == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bundle", "some.onnx"]
    monkeypatch.undo()
    bundle.load(made.directory)


def test_a_failed_rename_puts_the_old_bundle_back(made, model, monkeypatch):
    rename, calls = bundle.os.rename, []

    def once(a, b):
        calls.append((a, b))
        if len(calls) == 2:
            raise OSError(5, "Input/output error")
        rename(a, b)

    monkeypatch.setattr(bundle.os, "rename", once)
    with pytest.raises(BundleError, match="Input/output error"):
        write(made.directory, model)
    monkeypatch.undo()
    assert bundle.load(made.directory).board == "ultra96"


def test_the_manifest_says_where_tensors_lie(made):
    manifest = json.loads((made.directory / "manifest.json").read_text())
    assert set(manifest["outputs"]) == {"hm", "wh", "reg"} and set(manifest["inputs"]) == {"image"}
    assert manifest["inputs"]["image"]["shape"] == [32, 32, 3]
    assert manifest["program"]["memory_bytes"] == made.program.memory_words * 4
    assert set(manifest["files"]) >= {
        "model.onnx",
        "program.bin",
        "hls/config.hpp",
        "hls/top.cpp",
        "hls/main.cpp",
    }
