"""The loop contract: what the pragmas promise, found without a C++ parser and checked with one; and its comparison
with reports of every version, for each loop that could differ."""

from __future__ import annotations

from pathlib import Path

import pytest

from codesign.contract import Contract, ContractError, Promise, broken, compare, contract, unproven
from codesign.csynth import Csynth, csynth
from codesign.emit import sources
from codesign.engine_config import EngineConfig
from codesign.scan import scan
from tests.emitted import DESIGN, emitted
from tests.engine.engines import generic
from tests.vendor import reports as vendor
from tests.vendor.design import read

CONFIGS = {"default": EngineConfig(), "one lane": generic(1), "8 lanes": DESIGN}
VERSIONS = ("2020.1", "2023.2")
PROMISES = contract(sources(DESIGN)).promises
BY_NAME = {promise.name: promise for promise in PROMISES}


@pytest.fixture(scope="module")
def design(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return emitted(tmp_path_factory.mktemp("design"))


def places(promise: Promise, found: Csynth) -> list[str]:
    """FUNCTION.LOOP as the reports name it, once for each function that it was inlined into."""
    design = contract(sources(DESIGN))
    (verdict,) = (v for v in compare(design, found) if v.promise == promise)
    assert verdict.state == "met"
    return sorted({f"{design.owner(loop.module)}.{loop.name}" for loop in verdict.found})


def synthesis(folder: Path, design: Path, **values: object) -> Csynth:
    vendor.main(["csynth", str(folder), f"sources={design}", *(f"{k}={v}" for k, v in values.items())])
    return csynth(folder)


def parsed(texts: dict[str, str], folder: Path) -> set[tuple[object, ...]]:
    """Pipelined loops of all reached functions, by a real C++ parser."""
    ci = pytest.importorskip("clang.cindex", reason="libclang: not installed")
    from tests.hlslint.source import Unit

    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    unit = Unit(folder.resolve(), "vivado", "codesign_engine")
    assert not list(unit.errors())
    label = {unit.key(loop): parent.spelling if parent.kind is ci.CursorKind.LABEL_STMT else None
             for loop, parent, _ in unit.loops}  # fmt: skip
    found = set()
    for scope in unit.scopes:
        pipeline = scope.has("pipeline") if scope.kind == "loop" else None
        if pipeline is None or not unit.is_synthesized(scope.function):
            continue
        outer, around = [], scope.parent
        while around is not None:
            if around.kind == "loop" and not around.has("unroll"):
                outer.insert(0, label[unit.key(around.owner)])
            around = around.parent
        ii = next((int(w.split("=")[1]) for w in pipeline.words if w.lower().startswith("ii=")), None)
        line = scope.owner.location.line
        name = label[unit.key(scope.owner)]
        found.add((scope.file, line, scope.function.spelling, name, tuple(outer), ii))
    return found


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_the_promises_are_those_that_a_parser_finds(config: EngineConfig, tmp_path: Path) -> None:
    texts = sources(config)
    ours = {(p.file, p.line, p.function, p.label, p.outer, p.ii) for p in contract(texts).promises}
    assert ours == parsed(texts, tmp_path)
    assert len(ours) >= 10


def test_calls_are_those_that_a_parser_finds(design: Path) -> None:
    """Between functions that have loops, or call some that do."""
    modules = {module.name: module for module in read(design)}
    found = contract(design)
    functions = {module.function for module in modules.values()}
    assert len(functions) >= 15
    for module in modules.values():
        reached, todo = set(), list(module.calls)
        while todo:
            name = todo.pop()
            reached.add(modules[name].function)
            todo += modules[name].calls
        assert found.reach(module.function) & functions == reached, module.name


def test_every_stage_of_the_engine_is_under_contract() -> None:
    """Each process of the region that a step is has a loop with a stated interval, itself or in what it calls."""
    design = contract(sources(DESIGN))
    stated = {p.function for p in PROMISES if p.ii is not None}
    stages = {name for name in design.calls["run_step"] if "::" not in name}
    assert {"load", "load_offsets", "window", "pointwise", "store"} <= stages
    for stage in stages:
        assert stated & {stage, *design.reach(stage)}, stage


TEXT = """
// for (;;) { #pragma HLS PIPELINE II=9 }
namespace a {
struct S {
  int f() const { return 0; }
  static int g(int n) {
  Copy:
    for (int i = 0; i < n; ++i) {
      #pragma HLS PIPELINE II=3
      use("{ for (");
    }
  }
};
template <class C, int N>
void outer(const int (&table)[N], int n) {
  #pragma HLS INLINE off
Bare:
  for (int i = 0; i < n; ++i) table[i] = ')';
First:
  for (int i = 0; i < n; ++i) {
  Both:
    for (int j = 0; j < (n + 1); ++j) {
      #pragma HLS pipeline ii = 2 rewind
    Unrolled:
      for (int k = 0; k < 4; ++k) {
        #pragma HLS UNROLL
        inside();
      }
    }
  }
Off:
  for (int i = 0; i < n; ++i) {
    #pragma HLS PIPELINE off
    if (i) {
      #pragma HLS LATENCY max=3
      S::g(i);
    }
  }
Any:
  for (int i = 0; i < n; ++i) {
    /* #pragma HLS PIPELINE II=7 */
    #pragma HLS PIPELINE
  }
}
}
int codesign_engine(int n) {
  switch (n) {
    case 1: return 0;
  }
  const int list[2] = {1, 2};
  return outer<C, 2>(list, n);
}
int unused(int n) {
Word:
  for (int i = 0; i < n; ++i) {
    #pragma HLS PIPELINE II=5
  }
}
"""


def test_what_the_scan_finds() -> None:
    """Members, nests, loops without braces, comments and strings that look like code."""
    bodies = {body.name: body for body in scan(TEXT)}
    assert list(bodies) == ["S::f", "S::g", "outer", "codesign_engine", "unused"]
    outer = bodies["outer"]
    assert [loop.label for loop in outer.loops] == ["Bare", "First", "Off", "Any"]
    lines = TEXT.splitlines()
    assert [loop.line for loop in outer.loops] == [
        lines.index(f"{label}:") + 2 for label in ("Bare", "First", "Off", "Any")
    ]
    assert outer.loops[1].loops[0].loops[0].pragma("UNROLL") == ""
    found = contract({"top.cpp": TEXT})
    assert [(p.function, p.label, p.outer, p.ii) for p in found.promises] == [
        ("S::g", "Copy", (), 3),
        ("outer", "Both", ("First",), 2),
        ("outer", "Any", (), None),
    ]
    assert found.promises[1].spellings == ("First_Both", "Both")
    assert found.reach("codesign_engine") == {"outer", "S::g"}
    assert found.calls["S::g"] == found.calls["S::f"] == frozenset()


def test_sources_that_state_no_contract() -> None:
    text = TEXT.replace("  Both:", "").replace("II=3", "II=kInterval")
    with pytest.raises(ContractError) as error:
        contract({"top.cpp": text})
    lines = text.splitlines()
    copy, both = lines.index("  Copy:") + 2, lines.index("    for (int j = 0; j < (n + 1); ++j) {") + 1
    assert str(error.value) == (
        f"top.cpp:{copy}: II=kInterval, expected a number for the reports to be compared with; "
        f"top.cpp:{both}: a pipelined loop has no label, expected one for the reports to name it. Correct the sources."
    )


def test_sources_of_nothing(tmp_path: Path) -> None:
    (tmp_path / "top.cpp").write_text("int other() { return 0; }\n")
    with pytest.raises(ContractError) as error:
        contract(tmp_path)
    assert str(error.value) == (
        f"{tmp_path}: has no function codesign_engine, expected the sources of a bundle. Build the bundle again."
    )


@pytest.mark.parametrize(
    ("module", "function"),
    [
        ("load_Config_s", "load"),
        ("load_offsets_Config_s", "load_offsets"),
        ("load_requant_Config_64_s", "load_requant"),
        ("load_requant_Config_64_s_3", "load_requant"),
        ("window_Config_Pipeline_Word", "window"),
        ("check_window_Config_s", "check_window"),
        ("design_1_codesign_engine_0_0_window_Config_s", "window"),
        ("load_0_s", "load"),
        ("load_0_0_s", "load"),
        ("design_1_codesign_engine_0_0", "codesign_engine"),
        ("codesign_engine", "codesign_engine"),
        ("codesign_engine_Pipeline_Byte", "codesign_engine"),
        ("codesign_engine_fifo_w72_d2_S", None),
        ("codesign_engine_features_m_axi", None),
        ("dataflow_parent_loop_proc", None),
        ("axi_store_buffer", None),
    ],
)
def test_whose_module_it_is(module: str, function: str | None) -> None:
    names = ("load", "load_offsets", "load_requant", "check_window", "window", "store", "codesign_engine")
    design = Contract((), dict.fromkeys(names, frozenset()), frozenset())
    assert design.owner(module) == function


@pytest.mark.parametrize("version", VERSIONS)
def test_a_synthesis_that_keeps_the_contract(design: Path, tmp_path: Path, version: str) -> None:
    verdicts = compare(contract(design), synthesis(tmp_path, design, version=version))
    assert [v.promise for v in verdicts] == list(PROMISES)
    assert {v.state for v in verdicts} == {"met"}
    assert broken(verdicts) == unproven(verdicts) == []


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", BY_NAME)
def test_one_loop_that_differs(design: Path, tmp_path: Path, name: str, version: str) -> None:
    """Each loop in turn, at twice its interval: it is named, and no other."""
    promise = BY_NAME[name]
    ii = 2 * (promise.ii or 0) or "none"
    where = ",".join(f"{p}:{ii}" for p in places(promise, synthesis(tmp_path, design, version=version)))
    verdicts = compare(contract(design), synthesis(tmp_path, design, version=version, ii=where))
    assert [v.promise.name for v in verdicts if v.state != "met"] == [name]
    (line,) = broken(verdicts)
    said = "not pipelined" if ii == "none" else f"II={ii}"
    expected = "pipelined" if promise.ii is None else f"II={promise.ii}"
    assert line.startswith(
        f"{promise.file}:{promise.line}: loop {promise.label} of {promise.function}: {said} in "
    )
    assert line.endswith(f", expected {expected}")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", BY_NAME)
def test_a_loop_that_is_in_no_report(design: Path, tmp_path: Path, name: str, version: str) -> None:
    promise = BY_NAME[name]
    where = ",".join(places(promise, synthesis(tmp_path, design, version=version)))
    verdicts = compare(contract(design), synthesis(tmp_path, design, version=version, drop=where))
    assert broken(verdicts) == []
    expected = "pipelined" if promise.ii is None else f"II={promise.ii}"
    assert unproven(verdicts) == [
        f"{promise.file}:{promise.line}: loop {promise.label} of {promise.function}: in no report, expected {expected}"
    ]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("function", sorted({p.function for p in PROMISES} | {"run_program", "run_step"}))
def test_a_function_that_was_inlined(design: Path, tmp_path: Path, version: str, function: str) -> None:
    """Its loops are found in its callers, under the number that the tool gives to the second of a name."""
    found = synthesis(tmp_path, design, version=version, inline=function)
    assert not any(module.startswith(f"{function}_Config") for module in found.modules)
    assert {v.state for v in compare(contract(design), found)} == {"met"}


def test_everything_in_one_module(design: Path, tmp_path: Path) -> None:
    everything = ",".join(
        name for name in contract(design).calls if "::" not in name and name != "codesign_engine"
    )
    found = synthesis(tmp_path, design, inline=everything)
    assert list(found.modules) == ["codesign_engine"]
    assert {v.state for v in compare(contract(design), found)} == {"met"}


TOY = """#include "config.hpp"
void fill(int *a, int n) {
Word:
  for (int i = 0; i < n; ++i) {
    #pragma HLS PIPELINE II=1
    a[i] = i;
  }
}
void drain(int *a, int n) {
Word:
  for (int i = 0; i < n; ++i) {
    #pragma HLS PIPELINE II=2
    a[i] = a[i + 1];
  }
}
int codesign_engine(int *a, int n) {
  fill(a, n);
  drain(a, n);
  return 0;
}
"""


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    """Two functions with a loop of one name and of different intervals."""
    folder = tmp_path / "toy"
    folder.mkdir()
    (folder / "config.hpp").write_text("struct Config { static const int kLanes = 8; };\n")
    (folder / "top.cpp").write_text(TOY)
    return folder


@pytest.mark.parametrize(
    ("ii", "differ"),
    [
        ("", []),
        ("codesign_engine.Word:3", ["drain", "fill"]),  # which one it is cannot be told
        ("codesign_engine.Word1:1", ["drain"]),  # both loops keep what fill promises, none what drain does
        ("codesign_engine.Word:2", ["fill"]),
    ],
)
def test_inlined_loops_of_one_name(toy: Path, tmp_path: Path, ii: str, differ: list[str]) -> None:
    """A loop that keeps none of the promises counts against all, and a promise that none keeps is not met."""
    found = synthesis(tmp_path, toy, inline="fill,drain", ii=ii)
    verdicts = compare(contract(toy), found)
    assert sorted(v.promise.function for v in verdicts if v.state != "met") == differ


def test_an_interval_that_the_tool_does_not_know(toy: Path, tmp_path: Path) -> None:
    synthesis(tmp_path, toy)
    path = tmp_path / "fill_csynth.xml"
    path.write_text(path.read_text().replace("<PipelineII>1<", "<PipelineII>undef<"))
    lines = broken(compare(contract(toy), csynth(tmp_path)))
    assert lines == ["top.cpp:4: loop Word of fill: II unknown in fill, expected II=1"]
