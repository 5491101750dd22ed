"""Compiling and calling designs: the cache, missing tools, wrong inputs, misused streams."""

import os
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from codesign import compiled
from codesign.csim import Engine, EngineFailed, Simulator
from codesign.emit import emit, sources
from codesign.engine_config import EngineConfig
from codesign.errors import CodesignError, ToolMissing
from codesign.ir import evaluate
from codesign.parallel import in_order
from codesign.plan import plan
from hls_templates import HEADERS
from tests.cpp_format import ROOT
from tests.engine.cases import CASES
from tests.engine.engines import assert_equal, engine, generic
from tests.models import I8, U8, Builder, random_codenet_graph, random_feeds

SMALL = EngineConfig(lanes=2, max_offset=1, ring_rows=4, row_words=8, window_groups=2, input_words=4, output_words=2,
                     weight_tiles=4, max_segments=2)  # fmt: skip


def simulator() -> Simulator:
    return Simulator(engine(generic(4)), plan(CASES["max-pool"](), config=generic(4)).program)


def test_emitted_config(golden):
    golden(emit(EngineConfig())["config.hpp"], "hpp")


def test_emitted_top(golden):
    golden(emit(SMALL)["top.cpp"], "cpp")


def test_emitted_files_hold_constants_and_a_call():
    """config.hpp has no code and top.cpp no arithmetic; all pragmas of INTERFACE are in top.cpp."""
    texts = sources(SMALL)
    assert all(line.strip().startswith(("static const int", "//", "#pragma once", "struct", "}", ""))
               for line in texts["config.hpp"].splitlines())  # fmt: skip
    body = texts["top.cpp"].split("{", 1)[1]
    assert not set("+-/%^&") & set("".join(line for line in body.splitlines() if "pragma" not in line))
    assert all("INTERFACE" not in text for name, text in texts.items() if name != "top.cpp")


def test_headers_follow_the_rules():
    """No static locals, no macros but those of vendor.hpp, a contract at the top of each header."""
    for path in HEADERS.rglob("*.hpp"):
        text = path.read_text()
        assert text.startswith(f"// {path.relative_to(HEADERS).as_posix()} -- "), path
        assert "#pragma once" in text and len(text.splitlines()) <= 400, path
        assert "#define" not in text or path.name == "vendor.hpp", path


def test_a_design_is_compiled_once(tmp_path, monkeypatch):
    monkeypatch.setenv("CODESIGN_CACHE", str(tmp_path))
    calls = []
    run = subprocess.run
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: calls.append(a[0]) or run(*a, **k))
    first = compiled.build(sources(SMALL), "native")
    count = len([c for c in calls if "-o" in c])
    assert compiled.build(sources(SMALL), "native") == first and first.parent == tmp_path
    assert count == 1 == len([c for c in calls if "-o" in c])
    assert [p.name for p in tmp_path.iterdir()] == [first.name]  # nothing half-made is left


def test_any_changed_text_is_another_design(tmp_path, monkeypatch):
    monkeypatch.setenv("CODESIGN_CACHE", str(tmp_path))
    changed = sources(SMALL)
    changed["window.hpp"] += "\n// changed\n"
    assert compiled.build(changed, "native") != compiled.build(sources(SMALL), "native")


def test_a_directory_is_a_design(tmp_path):
    for name, text in sources(generic(4)).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert Engine(tmp_path).path == engine(generic(4)).path


def test_missing_compiler(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ToolMissing) as error:
        Engine(sources(SMALL))
    assert str(error.value) == (
        "no-such-compiler: not found in PATH. C simulation needs a C++ compiler: install g++ or set CXX."
    )


def test_missing_ap_int(monkeypatch):
    for name in ("AP_TYPES", "XILINX_HLS", "XILINX_VIVADO"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(compiled.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ToolMissing) as error:
        Engine(sources(SMALL), "ap")
    assert str(error.value) == (
        "ap_int.h: not found, expected in AP_TYPES, a Vivado install or the hls4ml package. "
        "Install hls4ml, or point AP_TYPES at its folder."
    )


def test_ap_int_is_taken_from_where_the_user_says(tmp_path, monkeypatch):
    (tmp_path / "ap_int.h").write_text("")
    monkeypatch.setenv("AP_TYPES", str(tmp_path))
    assert compiled.ap_types() == tmp_path
    monkeypatch.delenv("AP_TYPES")
    (tmp_path / "include").mkdir()
    (tmp_path / "include" / "ap_int.h").write_text("")
    monkeypatch.setenv("XILINX_HLS", str(tmp_path))
    assert compiled.ap_types() == tmp_path / "include"


def test_the_compiler_s_words_are_passed_on():
    broken = {**sources(SMALL), "config.hpp": "struct Config {};\n"}
    with pytest.raises(CodesignError, match=r"refuses the design\.\n(.|\n)*kLanes"):
        Engine(broken)
    with pytest.raises(
        CodesignError,
        match=r"^csim: kind 'fast', expected one of native, loops, ap, cycles, sanitize\. Choose one",
    ):
        Engine(sources(SMALL), "fast")


@pytest.mark.parametrize(("change", "sentence"), [
    ({"kLanes = 2": "kLanes = 3"}, "kLanes must be a power of two"),
    ({"kRingRows = 4": "kRingRows = 3"}, "kRingRows"),
    ({"kMaxOffset = 1": "kMaxOffset = 0"}, "kMaxOffset must be at least 1"),
    ({"kPackLog2 = 0": "kPackLog2 = 2"}, "kPackLog2: a word cannot hold more pixels than it has lanes"),
    ({"kAccBits = 32": "kAccBits = 40"}, "kAccBits must lie in 16..32"),
])  # fmt: skip
def test_wrong_constants_do_not_compile(change, sentence):
    texts = sources(SMALL)
    for old, new in change.items():
        assert old in texts["config.hpp"]
        texts["config.hpp"] = texts["config.hpp"].replace(old, new)
    with pytest.raises(CodesignError, match=sentence):
        Engine(texts)


def test_wrong_inputs_are_refused():
    s = simulator()
    with pytest.raises(
        CodesignError, match=r"^x: float64\[1, 6, 7, 10\], expected integer codes \(N,6,7,10\)\. Res"
    ):
        s.run({"x": np.zeros((1, 6, 7, 10))})
    with pytest.raises(CodesignError, match=r"^x: int64\[6, 7, 10\], expected integer codes \(N,6,7,10\)\."):
        s.run({"x": np.zeros((6, 7, 10), np.int64)})
    with pytest.raises(CodesignError, match=r"^x: holds 0\.\.256, expected 0\.\.255\. Pass codes"):
        s.run(np.full((1, 6, 7, 10), 256) * (np.arange(10) > 4))
    with pytest.raises(CodesignError, match=r"^x: float64\[0\], expected"):
        s.run({"y": np.zeros((1, 6, 7, 10), np.int64)})


def test_batches_must_agree():
    b = Builder(0)
    x, y = b.input("x", (2, 2, 1)), b.input("y", (2, 2, 1))
    graph = b.graph((b.conv("p", x, 2), b.conv("q", y, 2)))
    s = Simulator(engine(generic(4)), plan(graph, config=generic(4)).program)
    feeds = {"x": np.zeros((1, 2, 2, 1), np.int8), "y": np.zeros((2, 2, 2, 1), np.int8)}
    with pytest.raises(CodesignError, match=r"^x, y: batch sizes differ\. Give each input the same N\.$"):
        s.run(feeds)
    with pytest.raises(
        CodesignError, match=r"^csim: one array, expected one for each of x, y\. Name them\.$"
    ):
        s.run(feeds["x"])


def test_no_frames_give_no_results():
    assert simulator().run(np.zeros((0, 6, 7, 10), np.uint8))["y"].shape == (0, 3, 4, 10)


def test_progress_is_told():
    heard: list[int] = []
    graph = CASES["max-pool"]()
    simulator().run(random_feeds(graph, batch=3), progress=heard.append)
    assert heard == [1, 2, 3]


@pytest.mark.parametrize("workers", [1, 2, 5, None])
def test_the_number_of_workers_changes_nothing(workers):
    """Frames of a network with offsets, with results of their own."""
    graph = random_codenet_graph(seed=1, size=32, max_offset=3)
    feeds = random_feeds(graph, batch=7)
    wanted = evaluate(graph, feeds)
    s = Simulator(engine(generic(4)), plan(graph, config=generic(4)).program)
    heard: list[int] = []
    assert_equal(s.run(feeds, progress=heard.append, workers=workers), wanted)
    assert heard == [1, 2, 3, 4, 5, 6, 7]
    assert all(len({frame.tobytes() for frame in array}) > 1 for array in wanted.values())


def test_callers_in_several_threads():
    """One simulator for all of them."""
    graph = random_codenet_graph(seed=1, size=32, max_offset=3)
    feeds = random_feeds(graph, batch=6)
    wanted = evaluate(graph, feeds)
    s = Simulator(engine(generic(4)), plan(graph, config=generic(4)).program)
    one = [{name: array[i : i + 1] for name, array in feeds.items()} for i in range(6)] * 3
    for i, got in enumerate(in_order(s.run, one, workers=4)):
        assert_equal(got, {name: array[i % 6 : i % 6 + 1] for name, array in wanted.items()})


def test_an_engine_keeps_nothing():
    """No writable data of the design's own in the library but the thread's note of a misused stream."""
    symbols = subprocess.run(["nm", "-C", engine(generic(4)).path], capture_output=True, text=True).stdout
    kinds = {"b", "B", "d", "D", "u"}  # data, zeroed data, and what inline functions keep
    kept = {name for _, kind, name in (line.split(maxsplit=2) for line in symbols.splitlines() if line[0] != " ")
            if kind in kinds}  # fmt: skip
    assert {name for name in kept if "codesign" in name or "hls::" in name} == {
        "hls::Misuse::first()::message"
    }


def test_a_status_becomes_an_error():
    s = simulator()
    s.memory[:] = 0
    with pytest.raises(EngineFailed) as error:
        s.run(np.zeros((1, 6, 7, 10), np.uint8))
    assert error.value.status == 1
    assert str(error.value) == (
        "engine: ended with status 1 (there is no program at that address), expected 0. Build the bundle again."
    )


@pytest.mark.parametrize(("old", "new", "message"), [
    ("out.write(in.read());", "in.read(); out.write(in.read());", "read of an empty stream"),
    ("if (i < fetch_words) {", "if (i + 1 < fetch_words) {", "data left unread in a stream"),
])  # fmt: skip
def test_misused_streams_are_noticed(old, new, message):
    """What hardware would answer with a hang is an error of the simulation."""
    texts = sources(generic(4))
    assert old in texts["window.hpp"]
    texts["window.hpp"] = texts["window.hpp"].replace(old, new)
    for name in ("dense-3x3", "pointwise-10-to-13"):
        graph = CASES[name]()
        s = Simulator(Engine(texts), plan(graph, config=generic(4)).program)
        try:
            s.run(random_feeds(graph))
        except EngineFailed as error:
            assert message in str(error)
            return
    pytest.fail("nothing was noticed")


def test_signs_survive_memory():
    """The ends of both 8-bit types, in and out."""
    b = Builder(0)
    for name, elem in ("s", I8), ("u", U8):
        b.input(name, (1, 2, 3), elem)
    graph = b.graph(("s", "u"))
    s = Simulator(engine(generic(4)), plan(graph, config=generic(4)).program)
    feeds = {
        "s": np.array([[[[-128, 127, -1], [0, 1, -2]]]]),
        "u": np.array([[[[0, 255, 128], [127, 1, 2]]]]),
    }
    got = s.run(feeds)
    assert all((got[name] == feeds[name]).all() for name in feeds)


@pytest.mark.slow
def test_config_a_is_fast_enough():
    """One thread, native types: 200 ms a frame by processor time, plan and emit 1.5 s, compile 20 s."""
    from tests.models import CONFIG_A, random_codenet_graph

    graph = random_codenet_graph(seed=1, size=256, **CONFIG_A)
    feeds = random_feeds(graph)
    start = time.process_time()
    planned = plan(graph)
    texts = sources(planned.config)
    assert time.process_time() - start < 1.5
    before = os.times().children_user
    s = Simulator(Engine(texts), planned.program)
    assert os.times().children_user - before < 20
    s.run(feeds)
    times = []
    for _ in range(5):
        start = time.process_time()
        s.run(feeds)
        times.append(time.process_time() - start)
    assert min(times) < 0.2
    assert planned.program.memory().nbytes < 16 << 20


def test_sources_are_complete():
    """Everything the include lines name is among the sources, or is the compiler's."""
    texts = sources(SMALL)
    for name, text in texts.items():
        for line in text.splitlines():
            if line.startswith('#include "'):
                wanted = line.split('"')[1]
                places = (wanted, f"exact/{wanted}", (Path(name).parent / wanted).as_posix())
                assert any(place in texts for place in places), (name, wanted)
    assert (ROOT / "hls_templates" / "README.md").is_file()
