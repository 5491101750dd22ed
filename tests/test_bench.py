"""The benchmark runner itself, with a clock that needs no waiting; the benchmarks are run by `make bench`."""

import json

import pytest

from tests.bench import __main__ as runner
from tests.bench.harness import Table, Times, milliseconds, ratio, side_by_side


def test_rivals_take_turns():
    calls = []
    times = side_by_side({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, repeats=3)
    assert calls == ["a", "b"] * 4, "one call each to warm up, then in turn"
    assert [len(times[name].seconds) for name in ("a", "b")] == [3, 3]


def test_figures():
    times = Times((0.3, 0.1, 0.2))
    assert (times.median, times.best) == (0.2, 0.1)
    assert (milliseconds(0.0123), milliseconds(0.2), ratio(1.0, 4.0)) == ("12.30", "200", "0.25")


def test_runner_prints_and_writes(tmp_path, monkeypatch, capsys):
    class Fake:
        @staticmethod
        def tables():
            yield Table("speed of nothing", ("what", "ms"), [("this", "1.00")], "compared with itself")

    monkeypatch.setattr(runner, "names", lambda: ["fake"])
    monkeypatch.setattr(runner.importlib, "import_module", lambda name: Fake)
    out = tmp_path / "bench.json"
    assert runner.main(["fake", "--json", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "speed of nothing" in printed and "compared with itself" in printed
    assert json.loads(out.read_text())["tables"]["fake"][0]["rows"] == [["this", "1.00"]]


def test_runner_names_what_there_is(capsys):
    with pytest.raises(SystemExit) as stop:
        runner.main(["nonsense"])
    assert stop.value.code == 2
    assert "no benchmark nonsense; there are " in capsys.readouterr().err
