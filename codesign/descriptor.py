"""Descriptors of steps: the integers that say what a step is, and back. hls_templates/layout.hpp checks every field."""

from __future__ import annotations

from codesign.ports import Bytes
from codesign.step import (
    POINTWISE,
    TABLE_BYTES,
    Segment,
    Step,
    branch_step,
    tile_words,
)
from codesign.windows import (
    FILTERS,
    MIXES,
    STEERED,
    TAP_WORDS,
    TAPS,
    WINDOWS,
    Branch,
    Mixing,
    Sampling,
    requant_words,
)

STEP_MARK = 0x53544550
STEP_INTS, SEGMENT_INTS = 48, 4


def int_words(count: int, lanes: int) -> int:
    """Words that `count` 32-bit integers take."""
    return -(-4 * count // lanes)


def segment_words(step: Step, lanes: int) -> int:
    """Words of the table of a step's segments."""
    return int_words(SEGMENT_INTS * (len(step.load) + len(step.store)), lanes)


def segment_ints(s: Segment) -> tuple[int, int, int, int]:
    """A row of that table."""
    return s.address, s.count, s.stride, s.up | 4 * s.signed | 8 * s.near | 16 * s.steers


def step_ints(
    step: Step, table: int, window_parameters: int, pointwise_parameters: int, second_parameters: int,
    middle_parameters: int, values: int, rows: int, varied: int,
) -> list[int]:  # fmt: skip
    if step.branch is not None:
        return _branch_ints(step, step.branch)
    offset, sampling, mixing = step.offset or Segment(0, 1, 1), step.sampling, step.mixing
    if step.window == "varied":
        offset = Segment(varied, TAP_WORDS * step.groups, TAP_WORDS * step.groups)
    last = [0, 0, 0, rows]  # fields of the window
    if sampling is not None:
        last = [sampling.grid, sampling.flags, sampling.mask_low, sampling.mask_high]
    elif mixing is not None:
        last = [MIXES.index(mixing.kind), mixing.out, mixing.threshold, rows]
    if step.weights is not None:
        pointwise_parameters, second_parameters = step.weights
    return [
        *(STEP_MARK, len(step.load), len(step.store), table),
        *(step.height, step.width, step.groups, int(step.packed)),
        *(WINDOWS.index(step.window), step.kernel, *step.stride, *step.origin, step.reach),
        *(step.out_height, step.out_width, *step.window_clamp, window_parameters),
        *(offset.address, offset.stride, offset.up, step.offset_lane),
        *(POINTWISE.index(step.pointwise), step.pointwise_in, step.pointwise_out),
        *(*step.pointwise_clamp, pointwise_parameters),
        *(POINTWISE.index(step.second), step.second_out, *step.second_clamp, second_parameters),
        *(step.middle_stride, *step.middle_clamp, middle_parameters, step.pool_stride),
        *(step.load_pixels, step.store_pixels, step.near | 2 * step.steer | 4 * offset.near, values),
        *last,
    ]


def _branch_ints(step: Step, branch: Branch) -> list[int]:
    """All fields but those that a branch has are 0."""
    found = [0] * STEP_INTS
    found[0], found[8] = STEP_MARK, WINDOWS.index("branch")
    where = step.offset or Segment(0, 1, 1)
    found[20], found[23] = where.address, step.offset_lane
    found[44:47] = branch.threshold, branch.target, int(where.signed)
    return found


def decode_step(image: Bytes, base: int, at: int, wide: bool) -> Step:
    row = requant_words(wide)
    lanes = image.shape[1]
    f = image.reshape(-1)[at * lanes : at * lanes + 4 * STEP_INTS].view("<i4").tolist()
    if WINDOWS[f[8]] == "branch":
        branch = Branch(f[44], f[45])
        return branch_step(None if branch.always else Segment(f[20], 1, 1, 0, bool(f[46])), f[23], branch)
    table = (f[3] - base) * lanes
    rows = (
        image.reshape(-1)[table : table + 4 * SEGMENT_INTS * (f[1] + f[2])]
        .view("<i4")
        .reshape(-1, SEGMENT_INTS)
    )
    segments = [
        Segment(int(a), int(n), int(s), int(g) & 3, bool(g & 4), bool(g & 8), bool(g & 16))
        for a, n, s, g in rows
    ]
    window, pointwise = WINDOWS[f[8]], POINTWISE[f[24]]
    filters = f[6] * (TAP_WORDS * (window != "varied") + row) if window in FILTERS else 0
    sampling = (
        Sampling(f[44], f[46], f[47], TAPS[f[45] >> 2 & 3], bool(f[45] & 2), bool(f[45] & 16))
        if window == "sampled"
        else None
    )
    varied = f[15] * f[16] * f[6] * TAP_WORDS if window == "varied" else 0
    mixing = Mixing(MIXES[f[44]], f[45], f[46]) if window == "mix" else None
    numbers = 1 if sampling is None else sampling.words(lanes)
    if window == "global":
        filters = f[6] * row
    if mixing is not None:
        filters = (f[4] if mixing.makes_weights else mixing.out) * row
        numbers = mixing.gate_words(f[6], lanes)
    bank = (
        (segments[0].address, f[4] * f[5] * f[6])
        if mixing is not None and mixing.makes_weights
        else (base, 0)
    )
    offset = Segment(f[20], numbers, f[21], f[22], near=bool(f[42] & 4)) if window in STEERED else None
    computed = sampling is None and f[47] != 0
    second_in = f[26] if f[35] else f[25]
    tiles = f[24] * f[25] * f[26] * tile_words(lanes) + f[26] * row if f[24] else 0
    second = f[30] * second_in * f[31] * tile_words(lanes) + f[31] * row if f[30] else 0
    if computed:
        tiles = second = 0
    middle = f[26] * (TAP_WORDS + row) if f[35] else 0

    def words(at: int, count: int) -> Bytes | None:
        return image[at - base : at - base + count] if count else None

    return Step(
        nodes=(), load=tuple(segments[: f[1]]), store=tuple(segments[f[1] :]),
        height=f[4], width=f[5], groups=f[6], packed=bool(f[7]), window=window, kernel=f[9],
        stride=(f[10], f[11]), origin=(f[12], f[13]), reach=f[14], out_height=f[15], out_width=f[16],
        window_clamp=(f[17], f[18]), offset=offset,
        offset_lane=f[23], sampling=sampling, mixing=mixing, weights=(f[29], f[34]) if computed else None,
        bank=words(*bank), rows=words(f[47], (f[26] + f[31] * bool(f[30])) * row) if computed else None,
        pointwise=pointwise, pointwise_in=f[25], pointwise_out=f[26],
        pointwise_clamp=(f[27], f[28]),
        second=POINTWISE[f[30]], second_out=f[31], second_clamp=(f[32], f[33]), middle_stride=f[35],
        middle_clamp=(f[36], f[37]), pool_stride=f[39], load_pixels=f[40], store_pixels=f[41], near=f[42] & 1,
        steer=f[42] >> 1 & 1,
        window_parameters=words(f[19], filters), pointwise_parameters=words(f[29], tiles),
        second_parameters=words(f[34], second), middle_parameters=words(f[38], middle),
        table=words(f[43], TABLE_BYTES // lanes if f[43] else 0),
        varied=words(f[20], varied),
    )  # fmt: skip
