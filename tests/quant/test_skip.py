"""Networks that decide what a frame needs: the same bits from torch to the C++ on frames of every way, and how long."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

pytest.importorskip("brevitas", reason="needs the extra [quant]")

from codesign.board import load_board
from codesign.csim import Simulator
from codesign.errors import ModelRefused
from codesign.estimate import estimate
from codesign.ir import Array, Graph, evaluate
from codesign.latency import Ways
from codesign.onnx_io import export_integer, import_model
from codesign.ops import Select
from codesign.plan import plan
from quant.dynamic.skip import chosen
from quant.dynamic.slim import Slim, SlimConvBlock
from quant.export import onnx_outputs, to_onnx, torch_outputs
from tests.engine.engines import engine, generic
from tests.onnx_models import edited, nchw, nhwc, run_onnx
from tests.quant.dynamics import assert_the_same_bits_everywhere, twin
from tests.quant.skips import SIZE, exits, frames, scores, widths
from tests.test_agreement import verb


def test_each_frame_takes_one_side():
    number = torch.tensor([-0.5, 0.0, 2.0]).view(3, 1, 1, 1).requires_grad_()
    a, b = torch.randn(3, 4, 2, 2), torch.randn(3, 4, 2, 2)
    wanted = torch.stack([b[0], a[1], a[2]])
    torch.testing.assert_close(chosen(number, a, b), wanted, rtol=0, atol=0)
    trained = chosen(number, a, b, training=True)
    torch.testing.assert_close(trained, wanted)
    trained.sum().backward()
    soft = torch.sigmoid(number.detach())
    torch.testing.assert_close(number.grad, soft * (1 - soft) * (a - b).sum((1, 2, 3), keepdim=True))


def test_a_stage_of_the_decoder_that_skips():
    graph, _ = assert_the_same_bits_everywhere(twin("skip"))
    assert [n.op for n in graph.nodes if isinstance(n.op, Select)] == [Select(0)]


def codes(x: torch.Tensor) -> dict[str, Array]:
    return {"image": (x * 128).long().permute(0, 2, 3, 1).numpy()}


def of_every_way(graph: Graph, x: torch.Tensor) -> tuple[torch.Tensor, list[str]]:
    """Frames, two for each way that some of `x` take, and the values that are selected."""
    selects = [n for n in graph.nodes if isinstance(n.op, Select)]
    values = evaluate(graph, codes(x), keep=[n.inputs[2] for n in selects])
    ways: dict[tuple[bool, ...], list[int]] = {}
    for i in range(len(x)):
        way = tuple(bool(values[n.inputs[2]][i].item() >= n.op.threshold) for n in selects)
        ways.setdefault(way, []).append(i)
    assert all(len({way[k] for way in ways}) == 2 for k in range(len(selects))), ways.keys()
    return x[[i for found in ways.values() for i in found[:2]]], [n.name for n in selects]


def test_a_skipped_block_and_an_early_exit():
    """Trained: all frames that the exit answers, and those it leaves to the rest, to the last bit."""
    net, (x, labels) = exits(), frames(256, 5000)
    with torch.no_grad():
        early, late, taken, number = net.answers(x)
    right = [float((scores(v).argmax(1) == labels).float().mean()) for v in (early, taken, late)]
    assert right[0] > 0.5 and right[2] > right[0] and right[1] > right[0], right
    file = to_onnx(net, SIZE)
    graph = import_model(file)
    some, names = of_every_way(graph, x)
    assert names == ["skip.where", "y"]
    (wanted,), (theirs,) = torch_outputs(net, some), onnx_outputs(file, some)
    np.testing.assert_array_equal(theirs, wanted)
    values = evaluate(graph, codes(some))
    np.testing.assert_array_equal(values["y"] * graph.scales["y"], wanted.transpose(0, 2, 3, 1))
    whole = run_onnx(export_integer(graph), {"image": nchw(codes(some)["image"])})
    np.testing.assert_array_equal(nhwc(whole["y"]), values["y"])
    for lanes, kind in ((4, "native"), (16, "loops"), (4, "ap")):
        planned = plan(graph, config=generic(lanes))
        got = Simulator(engine(generic(lanes), kind), planned.program).run(codes(some))
        np.testing.assert_array_equal(got["y"], values["y"])


def test_min_mean_and_max():
    """Over frames: what each takes by its own way."""
    graph, (x, _) = import_model(to_onnx(exits(), SIZE)), frames(40, 5000)
    planned, board = plan(graph, 16), load_board("pynq-z2")
    names = [s.nodes for s in planned.program.steps]
    ways = Ways(graph, planned.program, planned.config, board, names)
    found = ways.of([codes(x[:7]), codes(x[7:])])
    selects = {n.name: n for n in graph.nodes if isinstance(n.op, Select)}
    values = evaluate(graph, codes(x), keep=[n.inputs[2] for n in selects.values()])
    each = []
    for i in range(40):
        jumps = {
            at: bool(values[selects[s.nodes[0]].inputs[2]][i].item() < s.branch.threshold)
            for at, s in enumerate(planned.program.steps)
            if s.waits and s.branch
        }
        each.append(estimate(planned.program, planned.config, board, jumps=jumps).seconds)
    assert found.frames == 40 and found.least == min(each) < found.mean < found.most == max(each)
    assert found.mean == pytest.approx(np.mean(each))
    low, high = ways.bounds()
    assert (
        low <= found.least and found.most <= high == estimate(planned.program, planned.config, board).seconds
    )
    assert found.taken["y"] == (values[selects["y"].inputs[2]] >= selects["y"].op.threshold).mean()


def test_estimate_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    onnx.save(to_onnx(exits(), SIZE), tmp_path / "exits.onnx")
    bundle, spec = tmp_path / "bundle", "scenes:count=3,size=64"
    where = ("--board", "pynq-z2", "--lanes", "8", "--array", "1x1")
    assert verb(capsys, "build", tmp_path / "exits.onnx", *where, "-o", bundle)[0] == 0
    code, out, _ = verb(capsys, "estimate", bundle, "--data", spec)
    assert (
        code == 0
        and "by what branches decide" in out
        and "min / mean / max estimated over 3 pictures" in " ".join(out.split())
    )
    facts = json.loads(verb(capsys, "estimate", bundle, "--data", spec, "--limit", "2", "--json")[1])
    early = json.loads(verb(capsys, "estimate", bundle, "--data", spec, "--choose", "y=0", "--json")[1])
    assert early["frames"]["taken"].keys() == {"skip.where"}
    assert early["frames"]["milliseconds"]["max"] < facts["milliseconds"]
    code, _, said = verb(capsys, "estimate", bundle, "--choose", "y=2")
    assert code == 2 and "'2' is no way, expected 0, 1, a shift such as +4, or frame." in " ".join(
        said.split()
    )
    times = facts["branches"]["milliseconds"]
    assert facts["frames"]["frames"] == 2 and set(facts["frames"]["taken"]) == {"skip.where", "y"}
    assert times["min"] < times["max"] == pytest.approx(facts["milliseconds"])
    assert (
        times["min"]
        <= facts["frames"]["milliseconds"]["min"]
        <= facts["frames"]["milliseconds"]["max"]
        <= times["max"]
    )


def test_widths_of_one_network_share_an_engine():
    """Trained together; each is a program of its own for the engine of the widest, and the narrowest is the fastest."""
    x, labels = frames(128, 6000)
    nets = widths()
    graphs = [import_model(to_onnx(net, SIZE)) for net in nets]
    weights = [g.consts["body.0.conv.weight"].shape[-1] for g in graphs]
    assert weights == [6, 12]
    configs = [plan(g, 4).config for g in graphs]
    shared = replace(
        configs[1], **{f.name: max(getattr(c, f.name) for c in configs) for f in fields(configs[0])}
    )
    seconds, board = [], load_board("pynq-z2")
    for net, graph in zip(nets, graphs, strict=True):
        (wanted,) = torch_outputs(net, x[:3])
        planned = plan(graph, config=shared)
        got = Simulator(engine(shared), planned.program).run(codes(x[:3]))
        np.testing.assert_array_equal(got["y"] * graph.scales["y"], wanted.transpose(0, 2, 3, 1))
        seconds.append(estimate(planned.program, shared, board).seconds)
        with torch.no_grad():
            assert (scores(net(x)[0]).argmax(1) == labels).float().mean() > 0.5
    assert seconds[0] < seconds[1]


def test_a_narrower_width_is_the_first_channels_of_the_widest():
    torch.manual_seed(2)
    slim = Slim(SlimConvBlock((3, 3), (4, 8), 3, 2), SlimConvBlock((4, 8), (5, 9))).eval()
    x = torch.randn(2, 3, 8, 8)
    for width in (0, 1):
        torch.testing.assert_close(slim.at(width)(x), slim(x, width))
    first, widest = slim.at(0), slim.at(1)
    assert torch.equal(first[0].conv.weight, widest[0].conv.weight[:4])
    with pytest.raises(ValueError, match=r"slim: a block takes \(4, 8\) channels, expected \(4, 9\)"):
        Slim(SlimConvBlock((3, 3), (4, 9)), SlimConvBlock((4, 8), (5, 9)))


@pytest.mark.parametrize(
    ("op", "swap", "threshold", "first"),
    [("GreaterOrEqual", False, 0, "a"), ("Greater", False, 1, "a"), ("Less", False, 0, "b"),
     ("LessOrEqual", False, 1, "b"), ("LessOrEqual", True, 0, "a"), ("Less", True, 1, "a"),
     ("GreaterOrEqual", True, 1, "b"), ("Greater", True, 0, "b")],
)  # fmt: skip
def test_every_comparison(op, swap, threshold, first):
    """The same numbers as onnxruntime, and the threshold that it comes to."""

    def change(model: onnx.ModelProto) -> None:
        (node,) = (n for n in model.graph.node if n.op_type == "GreaterOrEqual")
        node.op_type = op
        if swap:
            node.input[:] = list(reversed(node.input))

    net = twin("skip")
    file = edited(to_onnx(net, SIZE), change)
    graph = import_model(file)
    (select,) = (n for n in graph.nodes if isinstance(n.op, Select))
    assert select.op.threshold == threshold
    assert select.inputs[0].startswith("block.skip.pw" if first == "a" else "block.pw")
    x, _ = frames(2, 1)
    (theirs,) = onnx_outputs(file, x)
    np.testing.assert_array_equal(
        evaluate(graph, codes(x))["y"] * graph.scales["y"], theirs.transpose(0, 2, 3, 1)
    )


def test_sides_of_different_steps_are_refused():
    def change(model: onnx.ModelProto) -> None:
        (node,) = (n for n in model.graph.node if n.op_type == "Where")
        node.input[2] = next(n.output[0] for n in model.graph.node if n.op_type == "Quant")  # the image

    with pytest.raises(ModelRefused) as caught:
        import_model(edited(to_onnx(twin("skip"), SIZE), change))
    said = str(caught.value)
    assert (
        "chooses between u8 in steps of" in said and "and i8 in steps of 0.0078125, expected the same" in said
    )
    assert "chooses between maps of 4x8x6 and 32x64x3" in said


def test_what_decides_is_one_number():
    def change(model: onnx.ModelProto) -> None:
        (node,) = (n for n in model.graph.node if n.op_type == "GreaterOrEqual")
        node.input[0] = next(n.output[0] for n in model.graph.node if n.op_type == "Quant")

    with pytest.raises(ModelRefused, match=r"compares a map of 32x64 and 3 channels, expected one number"):
        import_model(edited(to_onnx(twin("skip"), SIZE), change))
