"""DCNv4 (arXiv 2401.06197): groups of channels, each sampled at offsets of its own and summed with masks of its own."""

from __future__ import annotations

from quant.dynamic.sampling import SampledBlock

GROUPS = 4


class DCNv4Block(SampledBlock):
    """Offsets and masks from all channels. The 1x1 behind the sums is the paper's projection of the output.

    The one of the input is left to the layer before.
    """

    def __init__(self, cin: int, cout: int, bound: int, fraction_bits: int, groups: int = GROUPS) -> None:
        super().__init__(cin, cout, cin, groups, bound, fraction_bits, moves=True)
