"""Exits and nested widths that each frame chooses, or that are chosen at run time: the same bits in every rung."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("brevitas", reason="needs the extra [quant]")

from codesign.board import load_board
from codesign.csim import Simulator
from codesign.estimate import estimate
from codesign.ir import Array, Graph, evaluate
from codesign.latency import Ways, decided
from codesign.onnx_io import export_integer, import_model
from codesign.ops import Select
from codesign.plan import plan
from codesign.program import Program, decode
from codesign.switch import SwitchError, decisions, parsed, resolved, switched
from quant.calibrate import calibrate, correct_bias
from quant.dynamic.ways import Chooser, NestedStages, choosers, teach
from quant.export import onnx_outputs, to_onnx, torch_outputs
from quant.models import CoDeNet, build, mac_count
from quant.quantize import quantize_model
from tests.engine.engines import engine, generic
from tests.onnx_models import nchw, nhwc, run_onnx
from tests.quant.twins import SMALL, images

KINDS = {"exit": replace(SMALL, spatial="depthwise", exit=2), "nested": replace(SMALL, spatial="nested")}
WAYS = {"exit": 2, "nested": 3}


def pictures(count: int, seed: int) -> Tensor:
    """Some darker, some brighter, so that there is something to decide by."""
    light = torch.linspace(-0.6, 0.6, count)[:, None, None, None]
    return ((images(count, SMALL.size, seed) * 0.4 + light) * 128).round().clamp(-128, 127) / 128


def regret(outputs: list[Tensor], target: Tensor) -> tuple[Tensor, dict[str, float]]:
    """A loss by which the brighter a picture is, the less its way matters."""
    return ((1 - target.mean()) * outputs[0]).mean(), {}


@cache
def net(kind: str) -> CoDeNet:
    """Float; what it decides by was learned, not drawn."""
    torch.manual_seed(3)
    model = build(KINDS[kind]).train()
    with torch.no_grad():
        for head in model.heads.values():
            head[-1].conv.weight.normal_(0, 0.2)
    for k in range(6):
        model(pictures(6, k))
    batches = [(x, x[:, :1]) for x in (pictures(16, 40 + k) for k in range(4))]
    teach(model, batches, regret)
    return model


@cache
def case(kind: str) -> tuple[nn.Module, Graph, Program]:
    twin = quantize_model(net(kind), "w4a8")
    batches = [pictures(8, k) for k in range(2)]
    calibrate(twin, batches)
    correct_bias(twin, batches)
    graph = import_model(to_onnx(twin.eval(), SMALL.size))
    return twin, graph, plan(graph, config=generic(4)).program


def codes(x: Tensor) -> dict[str, Array]:
    return {"image": (x * 128).long().permute(0, 2, 3, 1).numpy()}


def taken(graph: Graph, x: Tensor) -> list[int]:
    """The way of each frame, by the number that decides."""
    selects = [n for n in graph.nodes if isinstance(n.op, Select)]
    (number,) = {n.inputs[2] for n in selects}
    values = evaluate(graph, codes(x), keep=[number])[number].reshape(-1)
    return [sum(v < n.op.threshold for n in selects if isinstance(n.op, Select)) for v in values.tolist()]


def of_every_way(kind: str, graph: Graph) -> Tensor:
    x = pictures(24, 77)
    ways = taken(graph, x)
    assert set(ways) == set(range(WAYS[kind])), ways
    return x[[ways.index(way) for way in range(WAYS[kind])]]


@pytest.mark.parametrize("kind", KINDS)
def test_every_way_has_the_same_bits_everywhere(kind: str):
    twin, graph, program = case(kind)
    x = of_every_way(kind, graph)
    wanted, theirs = torch_outputs(twin, x), onnx_outputs(to_onnx(twin, SMALL.size), x)
    values = evaluate(graph, codes(x))
    whole = run_onnx(export_integer(graph), {"image": nchw(codes(x)["image"])})
    for name, ours, other in zip(graph.outputs, wanted, theirs, strict=True):
        np.testing.assert_array_equal(other, ours)
        np.testing.assert_array_equal(values[name] * graph.scales[name], ours.transpose(0, 2, 3, 1))
        np.testing.assert_array_equal(nhwc(whole[name]), values[name])
    for lanes, types, some in ((4, "native", x), (16, "loops", x), (4, "ap", x[:1])):
        run = program if lanes == 4 else plan(graph, config=generic(lanes)).program
        got = Simulator(engine(generic(lanes), types), run).run(codes(some))
        for name in graph.outputs:
            np.testing.assert_array_equal(got[name], values[name][: len(some)])


@pytest.mark.parametrize("kind", KINDS)
def test_ways_chosen_at_run_time(kind: str):
    """Forced and shifted: the program computes what the graph with other thresholds does, and torch on a forced way."""
    twin, graph, program = case(kind)
    x = of_every_way(kind, graph)
    (decision,) = known = decisions(program)
    assert decision.ways == WAYS[kind]
    asked = ["frame", "+20", "-20", *map(str, range(decision.ways))]
    (chooser,) = choosers(twin)
    for how in asked:
        chosen = resolved(known, {decision.selects[0]: how})
        other = decided(graph, chosen)
        changed = switched(program, chosen)
        values = evaluate(other, codes(x))
        got = Simulator(engine(generic(4), "native"), changed).run(codes(x))
        for name in graph.outputs:
            np.testing.assert_array_equal(got[name], values[name])
        if how.isdecimal():
            chooser.forced = int(how)
            try:
                forced = torch_outputs(twin, x)
            finally:
                chooser.forced = None
            for name, ours in zip(graph.outputs, forced, strict=True):
                np.testing.assert_array_equal(values[name] * graph.scales[name], ours.transpose(0, 2, 3, 1))
    assert switched(program, resolved(known, {decision.number: "frame"})) == program


def test_only_numbers_of_branches_change():
    """Eight bytes a branch, so that a driver writes them in place; and the program reads back."""
    from codesign.switch import branches, place

    _, _, program = case("nested")
    (decision,) = known = decisions(program)
    chosen = resolved(known, {decision.number: "1"})
    before, after = program.encode(), switched(program, chosen).encode()
    changed = branches(program, chosen)
    assert len(changed) == 2
    start = program.base * program.lanes
    flat = before.reshape(-1).copy()
    for step, branch in changed.items():
        at = place(program, step) - start
        flat[at : at + 8] = np.array([branch.threshold, branch.target], "<i4").view(np.uint8)
    np.testing.assert_array_equal(flat, after.reshape(-1))
    assert len(decode(after.reshape(-1), program.base)[2]) == len(program.steps)


@pytest.mark.parametrize("kind", KINDS)
def test_time_of_each_way(kind: str):
    """The first way is the fastest; a chosen way takes the same time in every frame, within what the slowest takes."""
    _, graph, _ = case(kind)
    planned, board = plan(graph, 4), load_board("pynq-z2")
    (decision,) = known = decisions(planned.program)
    names = [s.nodes for s in planned.program.steps]
    low, high = Ways(graph, planned.program, planned.config, board, names).bounds()
    seconds = []
    for way in range(decision.ways):
        chosen = resolved(known, {decision.number: str(way)})
        run, other = switched(planned.program, chosen), decided(graph, chosen)
        ways = Ways(other, run, planned.config, board, names)
        least, most = ways.bounds()
        assert least == most == estimate(run, planned.config, board).seconds
        found = ways.of([codes(pictures(3, 1))])
        assert found.frames == 3 and found.least == found.most == least
        seconds.append(least)
    assert seconds == sorted(seconds) and seconds[0] < seconds[-1]
    assert seconds[-1] <= high and seconds[0] <= low


def test_what_is_refused():
    _, _, program = case("nested")
    (decision,) = known = decisions(program)
    with pytest.raises(SwitchError) as caught:
        resolved(known, {"decoder": "3"})
    assert str(caught.value) == (
        f"{decision.number}: '3' is no way, expected 0, 1, 2, a shift such as +4, or frame. Choose one."
    )
    with pytest.raises(SwitchError) as caught:
        resolved(known, {"exit": "0"})
    assert str(caught.value) == (
        f"exit: is no decision, expected one of {decision.number} (3 ways, of {', '.join(decision.selects)}). "
        "Name one of them."
    )
    with pytest.raises(SwitchError) as caught:
        resolved((), {"exit": "0"})
    assert (
        str(caught.value)
        == "exit: is no decision, expected one of a program that has some. Name one of them."
    )
    with pytest.raises(SwitchError) as caught:
        parsed(["exit"])
    assert str(caught.value) == "'exit': is no choice, expected NAME=WAY, such as frame for WAY. Correct it."
    assert parsed(["a=b=1", "exit=+3"]) == {"a=b": "1", "exit": "+3"}


def test_widths_are_the_first_channels_of_one_set_of_weights():
    torch.manual_seed(4)
    stages = NestedStages(8, (8, 6)).eval()
    x = torch.randn(2, 8, 4, 4)
    apart = [stages.way(k, x) for k in range(3)]
    first, widest = (stages.stages[0][1].at(k).conv.weight for k in (0, 2))
    assert torch.equal(first, widest[:2, :2])
    stages.fold()
    for k in range(3):
        torch.testing.assert_close(stages.way(k, x), apart[k])
    convolutions = [m for m in NestedStages(8, (8, 6)).modules() if isinstance(m, nn.Conv2d)]
    weights = sum(m.weight.numel() for m in convolutions) - 8 * 8 - 8  # but for what decides
    assert weights == 9 * 8 + 8 * 8 + 9 * 8 + 8 * 6


def test_in_training_frames_take_turns():
    chooser = Chooser(3, 3).train()
    ways = [lambda x, k=k: x * 0 + k for k in range(3)]
    y = chooser(torch.randn(7, 3, 4, 4), ways)
    assert y[:, 0, 0, 0].tolist() == [0, 1, 2, 0, 1, 2, 0]
    with pytest.raises(ValueError, match="Chooser: 5 ways, expected 2 or 3"):
        Chooser(3, 5)


def test_choices_are_learned():
    """The number falls as the regret of the cheapest way grows; nothing else of the network changes."""
    torch.manual_seed(5)
    model = build(KINDS["exit"]).train()
    for k in range(3):
        model(pictures(6, k))
    model.eval()
    before = {k: v.clone() for k, v in model.state_dict().items() if "decision" not in k}

    def loss(outputs: list[Tensor], target: Tensor) -> tuple[Tensor, dict[str, float]]:
        (chooser,) = choosers(model)
        return (target.mean() if chooser.forced == 0 else target.mean() * 0), {}

    batches = [(x, x.clamp(min=0)) for x in (pictures(16, 40 + k) for k in range(6))]
    teach(model, batches, loss)
    after = model.state_dict()
    assert all(torch.equal(after[k], v) for k, v in before.items())
    (chooser,) = choosers(model)
    x = torch.cat([x for x, _ in batches])
    seen: list[Tensor] = []
    hook = chooser.decision.register_forward_hook(lambda _, __, out: seen.append(out))
    with torch.no_grad():
        model(x)
    hook.remove()
    number, light = seen[0].flatten(), x.clamp(min=0).mean((1, 2, 3))
    assert abs(float(number.mean())) < 1e-3 and abs(float(number.std()) - 1) < 1e-3
    assert torch.corrcoef(torch.stack([number, light]))[0, 1] < -0.8
    assert chooser.forced is None


def test_multiplications_of_the_slowest_frame():
    """The widest way, what decides, and nothing of the narrower ones."""
    plain = mac_count(replace(SMALL, spatial="depthwise"))
    assert plain < mac_count(KINDS["nested"]) < 1.05 * plain
