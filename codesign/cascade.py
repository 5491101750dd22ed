"""Networks of unequal cost on one engine: a picture that the cheaper one is sure of never reaches the dearer one.

An engine runs whatever program its memory holds, so the networks share one bitstream and are switched from one frame
to the next. The host decides on what the cheaper network found, by its *doubt*: were scores probabilities that
there is an object, the variance of the number of objects,

    doubt = sum of  s * (1 - s)  over detections of score s >= 0.1

It counts every object that may be there. The score of the best detection alone says little of a picture with several:
docs/cascade.md compares them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from codesign.decode import Detections

COUNTED = 0.1  # lower scores are of cells without an object


def doubt(found: Detections) -> float:
    """0 where nothing is in doubt, 0.25 a detection that may as well be none."""
    scores = found.scores[found.scores >= COUNTED].astype(np.float64)
    return float((scores * (1 - scores)).sum())


def answered_by(found: Sequence[Detections], most: float) -> int:
    """Index of the answer that is taken, cheapest network first: the first in no more doubt, else the last."""
    return next((i for i, seen in enumerate(found[:-1]) if doubt(seen) <= most), len(found) - 1)
