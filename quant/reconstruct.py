"""Chooses the codes of weights by what they do to a layer's output, one layer after the other.

    gptq    Brevitas' GPTQ (arXiv 2210.17323): each column's rounding error is made up for by the columns to come
    gpfq    Brevitas' GPFQ (arXiv 2201.11113): the same, against the float layer's output on the float layer's input
    round   learned rounding (AdaRound, arXiv 2004.10568): up or down for each weight, by gradient descent on

                |W X - V X'|^2 = tr(V H V^T) - 2 tr(V G W^T) + const,   H = X' X'^T,  G = X' X^T

            X what the layer reads in the float network, X' in the quantized one. H and G come from Brevitas' GPFQ.

Scales stay as they are, so calibrate first. Deformable layers keep nearest rounding: Brevitas' tools know plain
convolutions only.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from brevitas.core.function_wrapper.learned_round import LearnedRoundHardSigmoid
from brevitas.graph.gpfq import GPFQ, gpfq_mode
from brevitas.graph.gptq import gptq_mode
from torch import Tensor, nn

ROUNDING_STEPS, ROUNDING_RATE = 300, 0.02
_ZETA, _GAMMA = 1.1, -0.1  # the stretched sigmoid of AdaRound, equation 23


class LearnedRounding(GPFQ):
    """Takes the place of GPFQ's update of one layer."""

    def single_layer_update(self) -> None:
        layer = self.layer
        quantizer = layer.weight_quant.tensor_quant
        rows = layer.weight.shape[0]
        original = layer.weight_orig.to(layer.weight.device)
        scale = quantizer.scale().expand(rows, 1, 1, 1).reshape(self.groups, -1, 1)
        codes = learned_codes(
            original.reshape(self.groups, rows // self.groups, -1) / scale,
            self.H,
            self.G,
            scale,
            quantizer.hi,
        )
        layer.weight.data.copy_((codes * scale).reshape(layer.weight.shape))
        del self.H, self.G


def _costs(v: Tensor, h: Tensor, pull: Tensor) -> Tensor:
    """Each row's squared output error up to a constant: [g,r,c], [g,c,c], [g,r,c] -> [g,r]."""
    return ((v @ h) * v).sum(2) - 2 * (v * pull).sum(2)


def learned_codes(
    w: Tensor, h: Tensor, g: Tensor, scale: Tensor, hi: int, steps: int = ROUNDING_STEPS
) -> Tensor:
    """Codes -hi..hi, each the floor or the ceiling of w (in steps of `scale`), with a small output error.

    w (groups, rows, columns), h and g (groups, columns, columns), scale (groups, rows, 1). A row whose error nearest
    rounding makes smaller keeps nearest rounding.
    """
    pull = w @ g.transpose(1, 2)
    power = ((w @ h) * w).sum(2).clamp_min(1e-12)  # of the output, about; makes rows comparable
    floor = w.floor()
    soft = LearnedRoundHardSigmoid(_ZETA, _GAMMA)
    rest = (w - floor).clamp(1e-3, 1 - 1e-3)
    with torch.enable_grad():
        value = torch.log((rest - _GAMMA) / (_ZETA - rest)).detach().requires_grad_()
        optimizer = torch.optim.Adam([value], ROUNDING_RATE)
        for step in range(steps):
            up = soft.train()(value)
            loss = (_costs((floor + up).clamp(-hi, hi), h, pull) / power).sum()
            done = step / steps
            if done > 0.2:  # first free, then drawn to 0 or 1 ever more sharply
                sharp = 2 + 18 * (1 - (done - 0.2) / 0.8)
                loss = loss + 0.01 / w.shape[2] * (1 - (2 * up - 1).abs().pow(sharp)).sum()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    learned = (floor + soft.eval()(value.detach())).clamp(-hi, hi)
    nearest = w.round().clamp(-hi, hi)
    better = _costs(learned, h, pull) < _costs(nearest, h, pull)
    return torch.where(better.unsqueeze(2), learned, nearest)


def reconstruct(twin: nn.Module, batches: Sequence[Tensor], method: str) -> int:
    """Choose the codes of a calibrated twin anew, in place; `method` gptq, gpfq or round. Returns the layers done."""
    training = twin.training
    modes: dict[str, Any] = {
        "gptq": lambda: gptq_mode(twin, create_weight_orig=False),
        "gpfq": lambda: gpfq_mode(twin),
        "round": lambda: gpfq_mode(twin, algorithm_impl=LearnedRounding),
    }
    twin.eval()
    with warnings.catch_warnings(), torch.no_grad(), modes[method]() as mode:
        warnings.simplefilter("ignore")  # of torch, about the tools' own ways
        for _ in range(mode.num_layers):
            for x in batches:
                mode.model(x)
            mode.update()
    for m in twin.modules():
        if hasattr(m, "weight_orig"):
            del m.weight_orig
    if "forward" in vars(twin):
        del twin.forward  # the tools leave a bound method there, which a copy would share
    twin.train(training)
    return int(mode.num_layers)
