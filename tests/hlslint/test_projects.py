"""Every project that is emitted, for every board, shipped model and number of lanes, has no finding; and the linter
reads all of it and has a planted fault for each of its rules."""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import pytest

from codesign.board import board_names
from codesign.cli_compile import build_bundle
from codesign.contract import contract
from codesign.emit import sources
from codesign.engine_config import EngineConfig
from codesign.shipped import models
from tests.engine.engines import LANES
from tests.hlslint import lint, rules, test_hlslint
from tests.hlslint.grammar import DIALECTS
from tests.hlslint.source import EXEMPT

MODELS = [shipped.name for shipped in models()]
ELSEWHERE = {  # rules whose planted fault needs a test of its own
    "include": test_hlslint.test_headers_of_the_standard_library_are_refused,
    "pragma-pack": test_hlslint.test_structs_in_structs_cannot_be_packed,
}


@pytest.fixture
def read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model is imported once, and planned once for each engine, however many boards it is built for."""
    from codesign import onnx_io, plan

    monkeypatch.setattr(onnx_io, "import_model", lru_cache(onnx_io.import_model))
    planned, kept = plan.plan, {}

    def once(graph: object, *engine: object, **options: object) -> object:
        key = (id(graph), repr(engine), repr(sorted(options.items())))
        if key not in kept:
            kept[key] = planned(graph, *engine, **options)  # type: ignore[arg-type]
        return kept[key]

    monkeypatch.setattr(plan, "plan", once)


@pytest.mark.slow
@pytest.mark.usefixtures("read_once")
@pytest.mark.parametrize("model", MODELS)
def test_every_emitted_project(model: str, tmp_path: Path) -> None:
    """Built by the verb itself. What differs in no byte is linted once."""
    seen: dict[str, Path] = {}
    built = 0
    for board in board_names():
        for lanes in (None, *LANES):
            hls = tmp_path / f"{board}-{lanes}" / "hls"
            build_bundle(model, hls.parent, board, lanes, None if lanes is None else (1, 1))
            texts = {
                p.relative_to(hls).as_posix(): p.read_bytes() for p in sorted(hls.rglob("*")) if p.is_file()
            }
            assert {"top.cpp", "config.hpp", "engine.hpp", "main.cpp"} <= texts.keys()
            seen.setdefault(hashlib.sha256(repr(texts).encode()).hexdigest(), hls)
            built += 1
    assert built == len(board_names()) * (1 + len(LANES))
    assert len(seen) >= len(LANES)
    for hls in seen.values():
        for dialect in DIALECTS:
            assert [str(f) for f in lint(hls, dialect, "codesign_engine")] == [], (hls.parent.name, dialect)
    promises = {((hls / "middle.hpp").is_file(), contract(hls).promises) for hls in seen.values()}
    arrays = {two for two, _ in promises}
    # They are of the headers, which are the same in all engines of as many arrays: tests/test_contract.py.
    assert len(promises) == len(arrays)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_file_of_a_project_is_read(dialect: str) -> None:
    """A fault at the end of each file that is synthesized is found in each, and in no other."""
    texts = sources(EngineConfig())
    faulty = {
        name: f"{text}\n#include <vector>\n" for name, text in texts.items() if name.endswith(("hpp", "cpp"))
    }
    found = {f.file for f in lint(faulty, dialect, "codesign_engine") if f.rule == "include"}
    assert found == {name for name in faulty if not name.startswith(EXEMPT)}
    assert len(found) >= 12


def test_faults_are_found_in_functions_that_the_engine_calls() -> None:
    """The planted faults of each rule again, in the emitted engine instead of in a toy: each in its own file."""
    texts, planted, calls = sources(EngineConfig()), {}, ""
    for i, (rule, globals_, body) in enumerate(test_hlslint.FAULTS.values()):
        if rule in ("parse", "pragma-interface") or "port=" in body or "Pixel" in body + globals_:
            continue  # about the ports of the top function, or about a type of the toy

        def own(text: str, i: int = i) -> str:
            return re.sub(r"\b([fgBFNS])\b", rf"\1_{i}", text)

        planted[f"planted_{i}.hpp"] = rule
        texts[f"planted_{i}.hpp"] = (
            f'#pragma once\n#include "vendor.hpp"\n{own(globals_)}\n'
            f"void planted_{i}(const int *in, int *out, int n) {{\n{own(body)}\n}}\n"
        )
        calls += f"  planted_{i}(in, out, program);\n"
    includes = "".join(f'#include "{name}"\n' for name in planted)
    engine = texts["engine.hpp"].replace("#pragma once\n", f"#pragma once\n{includes}", 1)
    texts["engine.hpp"] = engine.replace(
        "  Header header;\n", f"  Header header;\n  int in[4], out[4];\n{calls}", 1
    )
    assert len(planted) >= 50 and calls in texts["engine.hpp"]
    found = lint(texts, "vivado", "codesign_engine")
    for name, rule in planted.items():
        assert {f.rule for f in found if f.file == name} == {rule}, (
            name,
            [str(f) for f in found if f.file == name],
        )


def test_every_rule_has_a_planted_fault() -> None:
    planted = {rule for rule, _, _ in test_hlslint.FAULTS.values()} | ELSEWHERE.keys()
    assert set(reported()) == planted


def reported() -> Iterator[str]:
    """Names of rules in the code of the linter: what it gives to the functions that make a finding."""
    yield from (rule for rule, _ in rules.FORBIDDEN.values())
    for path in sorted(Path(rules.__file__).parent.glob("*.py")):
        if path.name.startswith("test_"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            place = {"finding": 1, "_finding": 1, "Finding": 2}.get(called)
            if place is not None and len(node.args) > place and isinstance(node.args[place], ast.Constant):
                yield str(node.args[place].value)
