"""What the status word of an engine says, in words: codes of hls_templates/layout.hpp."""

from __future__ import annotations

STATUS = {  # of layout.hpp, in words
    0: "done",
    1: "there is no program at that address",
    2: "the program was written for another version of the engine",
    3: "the program was written for another number of lanes",
    4: "the program's regions or counts are not inside the memory",
    5: "a descriptor has no mark, or sets unused fields",
    6: "height, width or words a pixel are out of range",
    7: "the number of segments or their words a pixel are out of range",
    8: "a segment to read leaves the arena",
    9: "a segment to write leaves the arena or overlaps what is read",
    10: "kind, kernel, stride, origin or reach of the window are out of range",
    11: "rows are too long or too many for the row buffer",
    12: "the offsets leave the arena or overlap what is written",
    13: "mode or size of the pointwise array are out of range",
    14: "weights or requantization rows lie outside the program",
    15: "a clamp is not an 8-bit range",
    16: "stride or size of what lies between the arrays are out of range",
    17: "stride or size of the max-pool behind the arrays are out of range",
    18: "a chunk is larger than the buffers of load and store",
    19: "which memories on chip are read is none of the ways that there are",
    20: "grid, masks, taps or border of a sampled window are out of range",
    22: "the sum of a map is no pixel, or its words or the map are too many",
    23: "kind, parts, gates or sides of what gates multiply are out of range",
    24: "the table lies outside the program, or the engine has none",
    25: "a branch looks outside the arena, leads back, or sets unused fields",
    26: "its rows of requantization are of another kind than the engine's",
}


def status_text(status: int) -> str:
    """What a status word of the engine says: `step 3: a segment to read leaves the arena`."""
    code, step = status & 255, (status >> 8) - 1
    return ("" if step < 0 else f"step {step}: ") + STATUS.get(code, f"unknown status {code}")
