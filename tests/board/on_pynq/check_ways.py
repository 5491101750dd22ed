"""A network that chooses its way in each frame: its own choice, and others that the driver writes into its program."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from boards import __main__ as program
from boards.bench import bench
from boards.detector import Detector
from codesign.switch import SwitchError

EXPECTED = Path(os.environ["CODESIGN_TEST_EXPECTED"])
HOWS = ("frame", "0", "1", "2", "+9")


@pytest.fixture(scope="module")
def ways() -> dict[str, Any]:
    """Codes of pictures, and all maps that C simulation gives for each choice."""
    with np.load(EXPECTED / "ways.npz") as arrays:
        return {name: arrays[name] for name in arrays.files}


def same(detector: Detector, ways: dict[str, Any], how: str) -> bool:
    found = [detector.maps(codes) for codes in ways["codes"]]
    return all(
        np.array_equal(maps[name], ways[f"{how} {name}"][i]) for i, maps in enumerate(found) for name in maps
    )


def check_ways_change_without_another_bitstream(bundle: Path, device: Any, ways: dict[str, Any]) -> None:
    with Detector(bundle) as detector:
        (decision,) = detector.decisions
        for how in (*HOWS, *reversed(HOWS)):
            detector.choose({decision.selects[0]: how})
            assert same(detector, ways, how), how
        with pytest.raises(SwitchError, match="is no decision, expected one of"):
            detector.choose({"nothing": "0"})
    assert device.downloads == 1


def check_both_memories_are_changed(bundle: Path, device: Any, expected: Any) -> None:
    """A stream uses them by turns, and coroutines one of them."""
    pictures = expected["pictures"]
    with Detector(bundle) as detector:
        detector.choose({"decoder": "0"})
        alone = [detector.run(picture) for picture in pictures]
        streamed = detector.run_batch(iter(pictures))
        waited = asyncio.run(detector.run_async(pictures[0]))
    for one, other in zip([*alone, alone[0]], [*streamed, waited], strict=True):
        assert np.array_equal(one.boxes, other.boxes)
        assert np.array_equal(one.scores, other.scores)


def check_bench_says_min_mean_and_max(packed: Path, device: Any) -> None:
    with Detector(packed) as detector:
        result = bench(detector, frames=8, pictures=EXPECTED / "labelled.npz")
        assert result["bit_exact"]["differences"] == 0
        assert result["choose"] == {}
        for key in ("latency_ms", "engine_ms"):
            assert result[key]["min"] <= result[key]["mean"] <= result[key]["max"]
        chosen = bench(detector, frames=2, choose={"decoder": "0"})
    assert chosen["choose"] == {"decoder": "0"}
    assert chosen["bit_exact"]["differences"] == 0, "vectors are those of frames that decide"


def check_the_program_takes_choices(packed: Path, device: Any, capsys: Any) -> None:
    assert program.main(["bench", str(packed), "--frames", "1", "--choose", "decoder=1"]) == 0
    assert json.loads(capsys.readouterr().out)["choose"] == {"decoder": "1"}
    assert program.main(["bench", str(packed), "--frames", "1", "--choose", "decoder=7"]) == 2
    assert "'7' is no way, expected 0, 1, 2" in capsys.readouterr().err
