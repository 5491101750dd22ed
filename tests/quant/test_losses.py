"""CenterNet targets and losses."""

import numpy as np
import torch

from quant.losses import detection_loss, focal_loss, giou_loss, l1_loss, targets


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


def test_both_box_losses_reach_every_head():
    t = torch.from_numpy(one([[8, 12, 26, 36]]).stacked())[None]
    for kind in ("giou", "l1"):
        # Sizes of 4.8 cells: neither box holds the other, where GIoU would not pull at the centre.
        heads = [torch.full((1, 2, 16, 16), v, requires_grad=True) for v in (0.0, 0.3, 0.0)]
        loss, parts = detection_loss(tuple(heads), t, 16.0, kind)
        loss.backward()
        assert all(h.grad.abs().sum() > 0 for h in heads) and parts["box"] > 0


def test_a_batch_without_objects_has_a_finite_loss():
    t = torch.from_numpy(one(np.zeros((0, 4)), []).stacked())[None]
    loss, _ = detection_loss(tuple(torch.zeros(1, 2, 16, 16) for _ in range(3)), t, 16.0)
    assert torch.isfinite(loss)
