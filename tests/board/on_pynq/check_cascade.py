"""Two networks take turns on one engine, whose bitstream is loaded once; answers are those of the host."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from conftest import same

from boards.cascade import Cascade
from boards.faults import WrongBitstream


def check_the_second_is_asked_where_the_first_is_not_sure(
    bundle: Path, doubting: Path, device: Any, expected: Any
) -> None:
    doubts = [sum(s * (1 - s) for s in answer["scores"] if s >= 0.1) for answer in expected["doubted"]]
    threshold = (min(doubts) + max(doubts)) / 2
    assert min(doubts) < threshold < max(doubts), "the pictures are to differ"
    asked = 0
    with Cascade([doubting, bundle], threshold) as cascade:
        for i, picture in enumerate(expected["pictures"]):
            found = cascade.run(picture)
            sure = doubts[i] <= threshold
            assert cascade.settled_by == int(not sure)
            assert same(found, expected["doubted" if sure else "found"][i])
            asked += 1 + (not sure)
    assert device.writes["CTRL"] == asked
    assert device.downloads == 1


def check_one_that_never_is_sure_settles_what_is_left(doubting: Path, device: Any, expected: Any) -> None:
    with Cascade([doubting], 0) as cascade:
        assert same(cascade.run(expected["pictures"][0]), expected["doubted"][0])
        assert cascade.settled_by == 0


def check_another_bitstream_is_refused(bundle: Path, doubting: Path, device: Any) -> None:
    (doubting / "design.bit").write_bytes(b"of another run of the tools")
    record = json.loads((doubting / "synthesis.json").read_text())
    record["bit"] = hashlib.sha256((doubting / "design.bit").read_bytes()).hexdigest()
    (doubting / "synthesis.json").write_text(json.dumps(record))
    with pytest.raises(WrongBitstream) as caught:
        Cascade([doubting, bundle], 0.5)
    assert str(caught.value) == (
        f"{bundle}: has another bitstream than {doubting}, expected the same. "
        "Build it with `codesign build --engine`."
    )
