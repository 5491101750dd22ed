"""Operators that look at the frame to decide where to sample, what to weigh or what to skip: what the engine runs.

Each stands in the place of the decoder's depthwise 3x3 (or of what its title says); the blocks are those of
quant.dynamic. One line an operator.
"""

from __future__ import annotations

from dataclasses import replace

from quant.ablation.variants import PLAIN, VARIANTS, Variant

_KNOWN = {v.name: replace(v, published=None) for v in VARIANTS}

DYNAMIC = (
    _KNOWN[PLAIN],
    replace(_KNOWN["deform-rounded"], title="deformable, one dilation a pixel (CoDeNet)"),
    replace(_KNOWN["deform-bounded"], title="deformable, bounded (DCNv1)"),
    replace(_KNOWN["deform-modulated"], title="deformable, bounded, masks (DCNv2)"),
    Variant("dcnv4", "DCNv4, 4 groups", {"spatial": "dcnv4"}),
    Variant("snake", "dynamic snake: a row and a column of 9", {"spatial": "snake"}),
    Variant("involution", "Involution, 4 groups", {"spatial": "involution"}),
    Variant("tvconv", "TVConv", {"spatial": "tvconv"}),
    Variant("dysample", "depthwise 3x3, DySample for nearest x2", {"spatial": "dysample"}),
    Variant("skip", "depthwise 3x3 and 1x1, the same again where a frame needs it", {"spatial": "skip"}),
    Variant(
        "exit", "depthwise 3x3, an early exit before the last stage", {"spatial": "depthwise", "exit": 2}
    ),
    Variant("nested", "depthwise 3x3 in three nested widths", {"spatial": "nested"}),
    Variant("squeeze-excite", "squeeze and excitation", {"spatial": "squeeze-excite"}),
    Variant("selective-kernel", "Selective Kernel, 3x3 and 5x5", {"spatial": "selective-kernel"}),
    Variant("pick-or-mix", "Pick-or-Mix, sets of 2", {"spatial": "pick-or-mix"}),
    Variant("condconv", "CondConv 1x1, 4 kernels", {"spatial": "condconv"}),
    Variant("condconv-dense", "CondConv 3x3, 4 kernels", {"spatial": "condconv-dense"}),
    Variant("parameternet", "ParameterNet 1x1, 4 kernels", {"spatial": "parameternet"}),
    Variant("fdconv", "FDConv 3x3, 4 bands", {"spatial": "fdconv"}),
)
