"""How far deformable windows of trained networks depart from the ordinary 3x3.

    python -m quant.ablation.windows RUN [RUN ...]      share of windows that are not the ordinary one, by layer

A window counts as moved if one of its taps is sampled more than half a pixel from its place: rounded to whole pixels,
it is another window. On the first `IMAGES` of the recipe's held-out data, float network.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from codesign.errors import CodesignError
from quant.data.specs import load
from quant.data.types import letterboxed
from quant.deform import DeformConv2d
from quant.feed import pixels_to_input
from quant.pipeline import float_model, opened

IMAGES = 64


def moved_share(window: DeformConv2d, raw: Tensor) -> float:
    """Of raw offsets (N,C,H,W): the share of pixels whose window is not the ordinary one. A square's rests at 1."""
    used = window.limit(raw)
    away = used - 1 if window.offsets == "square" else used[:, :18]
    return float((away.abs().amax(1) > 0.5).float().mean())


@torch.no_grad()
def moved(model: nn.Module, images: Sequence[Tensor]) -> dict[str, float]:
    """Share of moved windows of each deformable layer, over images (H,W,3) of bytes. Empty if there is none."""
    shares: dict[str, list[float]] = {}
    held = []
    for name, layer in model.named_modules():
        if isinstance(layer, DeformConv2d):

            def see(window: nn.Module, given: tuple[Tensor, ...], name: str = name) -> None:
                assert isinstance(window, DeformConv2d)
                shares.setdefault(name, []).append(moved_share(window, given[1]))

            held.append(layer.register_forward_pre_hook(see))
    for image in images:
        model(pixels_to_input(image[None]))
    for handle in held:
        handle.remove()
    return {name: sum(found) / len(found) for name, found in shares.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    runs = [Path(a) for a in (sys.argv[1:] if arguments is None else arguments)]
    if not runs:
        sys.stderr.write(f"{__doc__}\n")
        return 2
    try:
        for run in runs:
            recipe = opened(run)
            model, _ = float_model(recipe, run)
            data, shape = load(recipe.held_out), max(p.shape for p in recipe.float_stage.phases)
            some = [letterboxed(data[k], *shape).image for k in range(min(IMAGES, len(data)))]
            shares = moved(model, [torch.from_numpy(image.copy()) for image in some])
            told = ", ".join(f"{name} {share:.1%}" for name, share in shares.items())
            sys.stdout.write(f"{run}: {told or 'no deformable window'}\n")
    except CodesignError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
