"""CenterNet targets and losses."""

import numpy as np
import torch

from quant.losses import detection_loss, focal_loss, giou_loss, imitation_loss, l1_loss, targets
from quant.objectives import Distilled


def one(boxes, labels=(0,), classes=2, size=16):
    return targets(np.array(boxes, np.float32), np.array(labels), classes, size, size, 4)


def test_the_peak_is_at_the_cell_of_the_centre():
    t = one([[8, 12, 24, 36]], [1])
    assert t.heat[0].max() == 0 and t.heat[1, 6, 4] == 1 and (t.heat[1] == 1).sum() == 1
    assert t.box[:, 6, 4].tolist() == [4, 6, 0, 0] and t.centre.sum() == 1


def test_fractional_centres_are_relative_to_each_cell():
    t = one([[4, 12, 46, 36]])  # centre (25, 24) px = cell (6.25, 6)
    assert t.box[2, 6, 6] == 0.25 and t.box[2, 6, 7] == -0.75


def test_a_small_object_owns_the_cells_it_shares_with_a_large_one():
    t = one([[0, 0, 64, 64], [28, 28, 36, 36]], [0, 1])
    assert t.box[0, 8, 8] == 2


def test_objects_outside_or_without_area_are_left_out():
    t = one([[70, 0, 90, 20], [8, 8, 8, 30]], [0, 0])
    assert t.heat.max() == 0 and t.centre.sum() == 0


def test_no_objects():
    t = one(np.zeros((0, 4)), [])
    assert t.stacked().shape == (8, 16, 16) and t.stacked().max() == 0


def test_losses_vanish_at_the_truth_and_only_there():
    t = torch.from_numpy(one([[8, 12, 26, 36]]).stacked())[None]
    heat, box, weight, centre = t[:, :2], t[:, 2:6], t[:, 6], t[:, 7]
    assert giou_loss(box[:, :2], box[:, 2:], box, weight).abs() < 1e-6
    assert l1_loss(box[:, :2], box[:, 2:], box, centre) == 0
    assert giou_loss(box[:, :2] + 1, box[:, 2:], box, weight) > 0.05
    assert l1_loss(box[:, :2], box[:, 2:] + 1, box, centre) == 2
    right, wrong = torch.where(heat == 1, 12.0, -12.0), torch.where(heat == 1, -12.0, -12.0)
    assert focal_loss(right, heat) < 1e-3 < focal_loss(wrong, heat)


def test_objects_count_alike_in_the_even_loss_and_by_area_in_the_other():
    both = [[16, 16, 240, 240], [320, 320, 416, 416]]  # sides of 56 and 24 cells
    t = torch.from_numpy(targets(np.float32(both), np.array([0, 1]), 2, 128, 128, 4).stacked())[None]
    box, weight = t[:, 2:6], t[:, 6]
    shares = []
    for even in (False, True):
        losses = []
        for side in (56, 24):  # a box of double width where objects of this side are
            size = torch.where(
                (box[:, :1] == side), box[:, :2] * torch.tensor([2.0, 1.0]).view(2, 1, 1), box[:, :2]
            )
            losses.append(float(giou_loss(size, box[:, 2:], box, weight, even)))
        shares.append(losses[1] / losses[0])
    # The peaks' areas are as 56² to 24², cells are whole: within a tenth.
    assert abs(shares[0] / (24 / 56) ** 2 - 1) < 0.1 and abs(shares[1] - 1) < 0.1


def test_all_box_losses_reach_every_head():
    t = torch.from_numpy(one([[8, 12, 26, 36]]).stacked())[None]
    for kind in ("giou", "giou-even", "l1"):
        # Sizes of 4.8 cells: neither box holds the other, where GIoU would not pull at the centre.
        heads = [torch.full((1, 2, 16, 16), v, requires_grad=True) for v in (0.0, 0.3, 0.0)]
        loss, parts = detection_loss(tuple(heads), t, 16.0, kind)
        loss.backward()
        assert all(h.grad.abs().sum() > 0 for h in heads) and parts["box"] > 0


def test_a_batch_without_objects_has_a_finite_loss():
    t = torch.from_numpy(one(np.zeros((0, 4)), []).stacked())[None]
    loss, _ = detection_loss(tuple(torch.zeros(1, 2, 16, 16) for _ in range(3)), t, 16.0)
    assert torch.isfinite(loss)


def heads(seed, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(2, c, 4, 4, generator=generator) * scale for c in (3, 2, 2)]


def test_imitation_is_zero_for_a_twin_and_else_a_divergence():
    same = heads(0)
    assert imitation_loss(same, same).item() == 0
    other, wanted = heads(1), heads(0)
    bernoulli = lambda logits: torch.distributions.Bernoulli(logits=logits.double())  # noqa: E731
    divergence = torch.distributions.kl_divergence(bernoulli(wanted[0]), bernoulli(other[0])).sum()
    seen = torch.sigmoid(wanted[0]).amax(1, keepdim=True).double()
    boxes = sum(((a - b).abs() * seen).sum() for a, b in zip(other[1:], wanted[1:], strict=True))
    expected = (divergence + boxes) / seen.sum().clamp(min=1)
    assert torch.allclose(imitation_loss(other, wanted).double(), expected, rtol=1e-5)


def test_distillation_adds_to_the_loss_and_teaches_the_student_alone():
    parent, student = torch.nn.Conv2d(3, 7, 1), torch.nn.Conv2d(3, 7, 1)
    split = lambda y: (y[:, :3], y[:, 3:5], y[:, 5:])  # noqa: E731

    class Heads(torch.nn.Module):
        def __init__(self, conv):
            super().__init__()
            self.conv = conv

        def forward(self, x):
            return split(self.conv(x))

    pupil, x = Heads(student), torch.randn(2, 3, 4, 4)
    base = lambda outputs, target: (outputs[0].sum() * 0 + target.sum(), {"base": 1.0})  # noqa: E731
    loss = Distilled(base, pupil, Heads(parent), 0.5)
    total, parts = loss(pupil(x), torch.ones(2))
    imitation = imitation_loss(split(student(x)), split(parent(x)))
    assert torch.allclose(total, 2 + 0.5 * imitation)
    assert parts == {"base": 1.0, "imitation": imitation.item()}
    total.backward()
    assert student.weight.grad.abs().sum() > 0 and parent.weight.grad is None
