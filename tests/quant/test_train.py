"""The training loop: deterministic, resumable, honest about what it cannot do."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from quant.data.augment import augment
from quant.data.scenes import Scenes
from quant.data.types import Sample
from quant.feed import TrainingCrops, TrainingImages, shrunk
from quant.models import ModelConfig, build
from quant.objectives import Classifier, classification_loss, detector_loss
from quant.recipe import Phase, Stage
from quant.train import TrainingError, load_weights, schedule, train

SMALL = ModelConfig(
    "small", (64, 64), "stride4", (8, 16, 24, 32, 40), (1, 1, 1), (24, 16, 16), 16, classes=12
)


@pytest.fixture(scope="module")
def scenes():
    return Scenes("train", 16, 64, seed=3)


def run(out, data, stage, model=None, seed=0, loss=detector_loss):
    torch.manual_seed(seed)
    model = model or build(SMALL)
    lines = []
    images = lambda phase: TrainingImages(data, phase, seed)  # noqa: E731
    train(model, stage, images, loss(model, stage), out, "t", lines.append, workers=0, every=2)
    return model, lines


STAGE = Stage((Phase(64, 24, 4), Phase(96, 16, 4, window=128)), lr=2e-3)


def test_the_same_run_twice_and_an_interrupted_one_end_alike(scenes, tmp_path):
    whole, lines = run(tmp_path / "a", scenes, STAGE)
    again, _ = run(tmp_path / "b", scenes, STAGE)

    class Stop(Exception):
        pass

    class Limited(TrainingImages):
        def __getitem__(self, k):
            if k >= 28:
                raise Stop
            return super().__getitem__(k)

    torch.manual_seed(0)
    model = build(SMALL)
    with pytest.raises(Stop):
        limited = lambda phase: Limited(scenes, phase, 0)  # noqa: E731
        loss = detector_loss(model, STAGE)
        train(model, STAGE, limited, loss, tmp_path / "c", "t", workers=0, every=1, save_every_s=0)
    with (tmp_path / "c" / "t.log.jsonl").open("a") as log:
        log.write(json.dumps({"step": 9, "loss": 0.0}) + "\n")  # done after the last save
    resumed, rest = run(tmp_path / "c", scenes, STAGE, seed=0)
    assert lines[-1].step == STAGE.steps == rest[-1].step and rest[0].step == 8
    steps = [json.loads(line)["step"] for line in (tmp_path / "c" / "t.log.jsonl").read_text().splitlines()]
    assert steps == [1, 2, 3, 4, 5, 6, 7, 8, 10]
    for key, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[key]), key
        assert torch.equal(value, resumed.state_dict()[key]), key
    assert len((tmp_path / "a" / "t.log.jsonl").read_text().splitlines()) == STAGE.steps // 2


def test_a_finished_run_returns_at_once(scenes, tmp_path):
    model, _ = run(tmp_path, scenes, STAGE)
    again, lines = run(tmp_path, scenes, STAGE, seed=5)
    assert lines == []
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


def test_every_parameter_learns(scenes, tmp_path):
    """The published training freezes the offset, deformable and last head convolutions by mistake."""
    torch.manual_seed(0)
    model = build(SMALL)
    before = {k: p.detach().clone() for k, p in model.named_parameters()}
    run(tmp_path, scenes, Stage((Phase(64, 32, 4),), lr=5e-3), model)
    assert [k for k, p in model.named_parameters() if torch.equal(p, before[k])] == []


def test_pretraining_learns_the_backbone_of_the_same_network(scenes, tmp_path):
    torch.manual_seed(0)
    model = build(SMALL)
    stem = model.stem.conv.conv.weight.detach().clone()
    stage = Stage((Phase(64, 16, 8),), lr=1e-3)
    crops = lambda phase: TrainingCrops(scenes, phase, 0)  # noqa: E731
    lines = []
    train(
        Classifier(model), stage, crops, classification_loss, tmp_path, "p", lines.append, workers=0, every=1
    )
    assert not torch.equal(stem, model.stem.conv.conv.weight)
    assert set(lines[0].parts) == {"last", "accuracy"}


def test_a_loss_that_is_not_finite_stops_the_run(scenes, tmp_path):
    def broken(model, stage):
        return lambda outputs, target: (outputs[0].sum() * torch.nan, {})

    with pytest.raises(
        TrainingError, match=r"^train: loss is nan at step 0\. Lower lr \(0\.002\) and resume\.$"
    ):
        run(tmp_path, scenes, STAGE, loss=broken)


def test_checkpoints_of_another_model_are_refused(tmp_path, scenes):
    run(tmp_path, scenes, Stage((Phase(64, 4, 4),), lr=1e-3))
    other = build(
        ModelConfig("o", (64, 64), "stride4", (8, 16, 24, 32, 48), (1, 1, 1), (24, 16, 16), 16, classes=12)
    )
    with pytest.raises(
        TrainingError, match=r"t\.safetensors: \d+ tensors are not this model's, the first is neck"
    ):
        load_weights(other, tmp_path / "t.safetensors")
    (tmp_path / "x.safetensors").write_bytes(b"junk")
    with pytest.raises(TrainingError, match="expected a safetensors checkpoint"):
        load_weights(other, tmp_path / "x.safetensors")


def test_learning_rate_rises_then_falls_to_zero():
    rates = [schedule(STAGE, s) for s in range(STAGE.steps)]
    assert max(rates) == STAGE.lr and rates[-1] < 0.1 * STAGE.lr and rates[0] > 0


class Photos:
    classes = ("a", "b")

    def __len__(self):
        return 3

    def __getitem__(self, k):
        image = np.full((40, 60, 3), 50 * k, np.uint8)
        boxes = np.array([[5, 5, 30, 30]], np.float32)
        return Sample(image, boxes, np.array([k % 2]), np.array([False]), k)


def test_other_data_sets_are_permuted_per_epoch_augmented_and_letterboxed():
    images = TrainingImages(Photos(), Phase(64, 1), 0)
    epochs = [sorted(int(images.source(3 * e + k).image_id) for k in range(3)) for e in range(4)]
    assert epochs == [[0, 1, 2]] * 4
    pixels, target = images[1]
    again, _ = TrainingImages(Photos(), Phase(64, 1), 0)[1]
    assert pixels.shape == (64, 64, 3) and target.shape == (8, 16, 16) and torch.equal(pixels, again)
    crop, label = TrainingCrops(Photos(), Phase(32, 1), 0)[1]
    assert crop.shape == (32, 32, 3) and int(label) in (-1, 0, 1)


def test_photographs_are_shrunk_once_and_fill_a_frame_of_their_shape():
    data = Photos()
    images = TrainingImages(data, Phase(32, 1, width=64), 0)
    reads = []
    read = type(data).__getitem__
    data.__class__ = type("Counted", (Photos,), {"__getitem__": lambda s, k: reads.append(k) or read(s, k)})
    samples = [images.source(k) for k in range(6)]
    assert len(reads) == 3 and all(
        s.image.shape == (40, 60, 3) for s in samples
    )  # smaller than 1.5 times the frame
    pixels, target = images[0]
    assert pixels.shape == (32, 64, 3) and target.shape == (8, 8, 16)
    large = Sample(np.zeros((480, 640, 3), np.uint8), np.array([[64, 48, 320, 240]], np.float32), 0, 0, 0)
    small = shrunk(large, 192, 256)
    assert small.image.shape == (288, 384, 3)
    np.testing.assert_allclose(small.boxes, [[38.4, 28.8, 192, 144]], rtol=1e-6)


def test_augmentation_moves_boxes_with_the_pixels():
    image = np.zeros((80, 80, 3), np.uint8)
    image[20:50, 30:60] = (255, 0, 0)
    sample = Sample(image, np.array([[30, 20, 60, 50]], np.float32), np.array([0]), np.array([False]), 0)
    tops = set()
    for seed in range(40):
        out = augment(sample, np.random.default_rng(seed // 2), upside_down=bool(seed % 2))
        tops.add(float(out.boxes[0, 1]))
        red = out.image[..., 0].astype(int) - out.image[..., 2]
        where = np.argwhere(red > red.max() / 2)
        assert len(out.boxes) == 1
        y1, x1, y2, x2 = *where.min(0), *(where.max(0) + 1)
        # Resampling moves the edge by up to a pixel.
        np.testing.assert_allclose(out.boxes[0], [x1, y1, x2, y2], atol=1)
    assert len(tops) > 20  # some of those that may be are mirrored upside down


def test_parameter_groups_know_scales_offsets_and_weights():
    pytest.importorskip("brevitas", reason="needs the extra [quant]")
    from quant.quantize import quantize_model
    from quant.train import SCALE_RATE, parameter_groups

    twin = quantize_model(build(SMALL))
    groups = {g["name"]: g for g in parameter_groups(twin, replace(STAGE, weight_decay=0.1, offset_rate=0.3))}
    assert sum(len(g["params"]) for g in groups.values()) == len(list(twin.parameters()))
    names = {id(p): n for n, p in twin.named_parameters()}
    assert all(names[id(p)].endswith("log2_scale") for p in groups["scales"]["params"])
    assert any(".offset." in names[id(p)] for p in groups["scales"]["params"])
    assert {names[id(p)] for p in groups["offsets"]["params"]} == {
        f"decoder.{i}.offset.{kind}" for i in range(3) for kind in ("weight", "bias")
    }
    assert {k: (g["factor"], g["weight_decay"]) for k, g in groups.items()} == {
        "scales": (SCALE_RATE, 0.0),
        "offsets": (0.3, 0.0),
        "weights": (1.0, 0.1),
        "rest": (1.0, 0.0),
    }


def test_validation_is_logged_along_the_way_and_leaves_the_run_as_it_is(scenes, tmp_path):
    plain, _ = run(tmp_path / "a", scenes, STAGE)
    torch.manual_seed(0)
    model = build(SMALL)
    modes = []
    images = lambda phase: TrainingImages(scenes, phase, 0)  # noqa: E731

    def validate():
        modes.append(model.training)
        return 0.25

    loss = detector_loss(model, STAGE)
    train(
        model, STAGE, images, loss, tmp_path / "b", "t", workers=0, every=2, validate=validate, validations=5
    )
    logged = [json.loads(line) for line in (tmp_path / "b" / "t.log.jsonl").read_text().splitlines()]
    assert [e["step"] for e in logged if "ap50" in e] == [2, 4, 6, 8, 10] and modes == [False] * 5
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), plain.parameters(), strict=True))
