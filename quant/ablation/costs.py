"""What an operator costs: parameters, MACs, cycles of a frame and bytes of DRAM, in one detector on one engine.

Where the engine runs the operator, cycles and bytes are *estimated* from the program, as `codesign estimate` does.
Where it does not, they are *reckoned*: the estimate of the nearest network it runs (depthwise or dense 3x3), with each
step of the decoder made to wait for what the operator needs more. Per step, P pixels of C channels, w words of L lanes:

    depthwise KxK         a window unit has nine taps: P * w * ceil(K^2 / 9) cycles, (K^2 - 9) * C bytes of weights
    bilinear              four neighbours a tap, through the same nine: P * w * 4 cycles
    square                neighbours come from rows on chip, as now; an offset a pixel is written and read
    free                  no rows suffice: P * 36 * w * L bytes are gathered from DRAM, at the bandwidth it has
    full deformable       as free, before the dense 3x3's products

Latency of gathering, and conflicts of banks, are left out: reckoned figures favour the operators that are not run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from codesign.board import Board, load_board
from codesign.dram import dram
from codesign.engine_config import EngineConfig
from codesign.errors import CodesignError
from codesign.estimate import Estimate, StepCost, estimate
from codesign.onnx_io import import_model
from codesign.plan import plan
from codesign.resources import resources
from quant.ablation.studies import PUBLISHED, Study
from quant.ablation.variants import DENSE, PLAIN, ROUNDED, Variant
from quant.calibrate import calibrate
from quant.export import to_onnx
from quant.models import ModelConfig, build, mac_count, parameter_count
from quant.quantize import quantize_model

LANES, ARRAY = 16, (2, 1)  # one engine for all: lanes, and the array's pixels and turns
BOARD = "ultra96"
TAPS, NEIGHBOURS = 9, 4


@dataclass(frozen=True)
class Cost:
    """Of one frame. `kind` says where cycles and bytes come from: estimated or reckoned.

    `engine`: LUTs, registers, DSPs and BRAM36 of the smallest engine that runs it, estimated; of what is reckoned none.
    """

    kind: str
    parameters: int
    macs: int
    cycles: int
    read_bytes: int
    written_bytes: int
    milliseconds: float
    engine: tuple[int, int, int, int] | None = None


def engine_estimate(
    config: ModelConfig, board: Board, steering: bool = False
) -> tuple[Estimate, EngineConfig]:
    """Of a network with random weights, which change no cycle, and the engine that is just large enough.

    With `steering`, for what it generates to steer windows with as well: kernels, offsets, masks.

    Raises CodesignError where the engine lacks a unit.
    """
    torch.manual_seed(0)
    model = build(config).eval()
    for parameter in model.parameters():
        if parameter.dim() > 1 and not parameter.any():
            # Offsets begin at zero: such a file would say that windows stand still, and be planned so.
            torch.nn.init.normal_(parameter, std=0.1)
    twin = quantize_model(model)
    calibrate(twin, [torch.rand(1, 3, *config.size) * 2 - 1])
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"{config.name}.onnx"
        path.write_bytes(to_onnx(twin, config.size).SerializeToString())
        planned = plan(import_model(path), LANES, array=ARRAY)
    if steering:
        planned = planned.on(replace(planned.config, steer_words=max(1, planned.most_steering)))
    return estimate(planned.program, planned.config, board), planned.config


def costs(config: ModelConfig, study: Study = PUBLISHED, board: str = BOARD) -> dict[str, Cost]:
    """Cost of every variant of a study by name. Raises CodesignError where one does not run that has to."""
    facts = load_board(board)
    run: dict[str, Estimate] = {}
    engines: dict[str, EngineConfig] = {}
    for v in study.variants:
        changed = v.of(config)
        sampled = changed.spatial == "deformable" and changed.offsets == "bounded"
        if changed.spatial == "full-deformable" or (changed.sampling == "bilinear" and not sampled):
            continue  # no integers, so no file to ask with
        try:
            run[v.name], engines[v.name] = engine_estimate(changed, facts, study.engine_only)
        except CodesignError:
            if study.engine_only or v.name in (PLAIN, ROUNDED, DENSE):
                raise
    return {v.name: _cost(v, config, run, engines.get(v.name), facts) for v in study.variants}


def _cost(
    v: Variant, config: ModelConfig, run: Mapping[str, Estimate], engine: EngineConfig | None, board: Board
) -> Cost:
    changed = v.of(config)
    found, built = run.get(v.name), None
    if found is not None and engine is not None:
        kind, cycles, read, written = "estimated", found.cycles, found.read_bytes, found.written_bytes
        needed = resources(engine)
        dsps, luts = needed.on(board)
        built = (luts, needed.ffs, dsps, needed.bram36)
    else:
        kind, (cycles, read, written) = "reckoned", reckoned(changed, run, board)
    return Cost(
        kind,
        parameter_count(build(changed)),
        mac_count(changed),
        cycles,
        read,
        written,
        1e3 * cycles / (board.clock_mhz * 1e6),
        built,
    )


def reckoned(config: ModelConfig, run: Mapping[str, Estimate], board: Board) -> tuple[int, int, int]:
    """Cycles, bytes read and bytes written of a frame, by the arithmetic above."""
    full = config.spatial == "full-deformable"
    base, memory = run[DENSE if full else PLAIN], dram(board, LANES)
    cycles, read, written = base.cycles, base.read_bytes, base.written_bytes
    for k, cin in enumerate(_inputs(config)):
        side = [s // (32 >> k) for s in config.size]
        pixels, words = side[0] * side[1], ceil(cin / LANES)
        taken = sum(s.cycles for s in _steps(base, f"decoder.{k}."))
        if config.spatial == "depthwise":
            needed = pixels * words * ceil(config.kernel**2 / TAPS)
            read += (config.kernel**2 - TAPS) * cin
        else:
            needed = pixels * words * NEIGHBOURS
            numbers = 1 if config.offsets == "square" else 2 * TAPS
            offset = _steps(run[ROUNDED], f"decoder.{k}.offset")
            cycles += sum(s.cycles for s in offset)
            read += sum(s.read_bytes for s in offset) + numbers * pixels
            written += numbers * pixels
            if config.offsets == "free":
                gathered = pixels * TAPS * NEIGHBOURS * words * LANES
                needed = max(needed, ceil(gathered / memory.bytes_per_cycle))
                read += gathered - pixels * words * LANES
        cycles += max(0, needed - taken)
    return cycles, read, written


def _inputs(config: ModelConfig) -> tuple[int, ...]:
    """Channels that each stage of the decoder takes."""
    return (config.widths[4], *config.decoder[:2])


def _steps(found: Estimate, prefix: str) -> list[StepCost]:
    """Those that compute a node whose name begins so."""
    return [s for s in found.steps if any(n.startswith(prefix) for n in s.name.split(" + "))]
