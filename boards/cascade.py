"""Networks of unequal cost on one bitstream: the next one is asked only where one is not sure.

    with Cascade(["small", "big"], doubt=0.3) as cascade:      cheapest first; bundles of one engine
        found = cascade.run(image)                             cascade.settled_by: which network's answer it is

The engine takes its program anew with every frame, so that nothing is loaded in between. The rule is that of
codesign/cascade.py; `codesign cascade` says on a data set what a threshold costs and finds.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from boards.detector import TIMEOUT_S, Detector
from boards.faults import WrongBitstream
from codesign.cascade import doubt
from codesign.decode import Detections
from codesign.images import Pixels


class Cascade:
    """Raises WrongBitstream if the bundles are not of one bitstream, else what Detector raises."""

    def __init__(
        self, networks: Sequence[Path | str], doubt: float, *, timeout: float = TIMEOUT_S, device: Any = None
    ) -> None:
        self.most = doubt
        self.settled_by: int | None = None  # of the last `run`
        self.detectors: list[Detector] = []
        try:
            for i, where in enumerate(networks):
                self.detectors.append(Detector(where, timeout=timeout, download=i == 0, device=device))
                digests = [d.deployed.synthesis["bit"] for d in self.detectors]
                if digests[i] != digests[0]:
                    raise WrongBitstream(
                        f"{where}: has another bitstream than {networks[0]}, expected the same. "
                        "Build it with `codesign build --engine`."
                    )
        except BaseException:
            self.close()
            raise

    def run(self, image: Pixels) -> Detections:
        """Boxes of one picture, of the first network that is sure, else of the last. Raises as Detector.run."""
        for i, detector in enumerate(self.detectors):
            found = detector.run(image)
            self.settled_by = i
            if doubt(found) <= self.most:
                break
        return found

    def close(self) -> None:
        """Give all memory back."""
        for detector in self.detectors:
            detector.close()

    def __enter__(self) -> Cascade:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
