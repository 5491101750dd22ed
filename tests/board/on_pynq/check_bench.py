"""The bench: figures of the form that the report reads, never called measured here, and every wrong bit counted."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pynq
import pytest

from boards import __main__ as program
from boards.bench import bench, sampled, source
from boards.detector import Detector
from codesign.errors import BundleError, DataError


def check_figures(packed: Path, device: Any) -> None:
    device.seconds = 0.004
    said: list[str] = []
    with Detector(packed) as detector:
        result = bench(detector, frames=20, say=said.append)
    assert result["format"], result["version"] == ("codesign-bench", 1)
    assert (result["bundle"], result["board"], result["frames"]) == ("mini", "ultra96", 20)
    assert result["source"] == "software device"
    latency, engine = result["latency_ms"], result["engine_ms"]
    assert 4 <= latency["min"] <= latency["median"] <= latency["p95"] <= latency["max"]
    assert 4 <= engine["min"] < latency["median"]
    assert 0 < result["host_share"] < 1
    assert 0 < result["frames_per_s"] < 250, "no faster than the engine"
    assert result["dram_bytes_per_frame"] > 0
    assert result["dram_kind"] == "counted from the program"
    assert result["bit_exact"]["differences"] == 0
    assert result["bit_exact"]["vectors"] == 4
    assert result["versions"]["pynq"] == pynq.__version__
    assert result["versions"]["vivado"] == "2022.1"
    assert result["clock_mhz"] == 250
    assert result["power_w"] is None
    assert result["accuracy"] is None
    assert json.loads(json.dumps(result)) == result
    assert said == ["Comparing with the vectors", "Measuring latency", "Measuring frames a second"]
    frames = result["bit_exact"]["vectors"] + 3 + 20 + 20
    assert device.writes["CTRL"] == frames, "one start a frame"


def check_wrong_bits_are_counted(packed: Path, device: Any, capsys: Any) -> None:
    """A device that flips bits: the program fails with status 1 and says how many values differ."""
    device.fault = "flip"
    assert program.main(["check", str(packed)]) == 1
    result = json.loads(capsys.readouterr().out)
    assert result["differences"] > result["values"] // 2
    device.fault = ""
    assert program.main(["check", str(packed)]) == 0
    assert json.loads(capsys.readouterr().out) == {**result, "differences": 0}


def check_the_program_reports_errors(packed: Path, device: Any, capsys: Any) -> None:
    device.fault = "hang"
    assert program.main(["bench", str(packed), "--timeout", "0.05"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines()[-1].startswith(
        "error: codesign_engine_0: the engine is not done after 0.05 s"
    )


def check_accuracy_is_what_the_host_computes(packed: Path, device: Any) -> None:
    wanted = json.loads((Path(os.environ["CODESIGN_TEST_EXPECTED"]) / "accuracy.json").read_text())
    with Detector(packed) as detector:
        result = bench(detector, 1, Path(os.environ["CODESIGN_TEST_EXPECTED"]) / "labelled.npz")["accuracy"]
    assert result == wanted
    assert wanted["ap50"] is not None


def check_a_file_that_holds_no_pictures(packed: Path, device: Any, tmp_path: Path) -> None:
    (tmp_path / "x.npz").write_bytes(b"nothing")
    with Detector(packed) as detector, pytest.raises(DataError, match="is no file of pictures"):
        bench(detector, 1, tmp_path / "x.npz")


def check_no_vectors(bundle: Path, device: Any) -> None:
    with (
        Detector(bundle) as detector,
        pytest.raises(BundleError, match="no such file, expected test vectors"),
    ):
        bench(detector, 1)


def check_power_is_averaged_by_rail(packed: Path, device: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    readings = iter(range(1000))
    rails = {
        "INT": SimpleNamespace(power=SimpleNamespace(value=2.5)),
        "AUX": SimpleNamespace(power=SimpleNamespace(value=0.5)),
        "bare": SimpleNamespace(power=None),
    }
    monkeypatch.setattr(pynq, "get_rails", lambda: next(readings) >= 0 and rails)
    device.seconds = 0.01
    with Detector(packed) as detector:
        result = bench(detector, frames=10, idle_s=0.05)
    assert result["power_w"] == {"AUX": {"idle": 0.5, "busy": 0.5}, "INT": {"idle": 2.5, "busy": 2.5}}


def check_a_mean_is_a_mean() -> None:
    """Whatever the machine does meanwhile: every further sample is the mean of the first three."""
    values, third = iter([1.0, 3.0, 5.0]), threading.Event()

    class Sensor:
        @property
        def value(self) -> float:
            found = next(values, None)
            if found == 5.0:
                third.set()
            return 3.0 if found is None else found

    assert sampled({"INT": Sensor()}, lambda: third.wait(60) and None) == {"INT": 3.0}


def check_pynqs_own_devices_are_boards(device: Any) -> None:
    class Embedded:
        pass

    Embedded.__module__ = "pynq.pl_server.embedded_device"
    assert source(Embedded()) == "board"
    assert source(device) == "software device"
