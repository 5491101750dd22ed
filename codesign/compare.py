"""Where two models, or two rungs of one model, differ: layer by layer, each loss held against the layer that makes it.

B is compared with A, the reference. Of each layer that both have:

    SQNR        10 log10(sum a^2 / sum (a - b)^2), over all pictures: what the layers so far have lost together
    alone       the same for this layer alone: A's layer, computed on B's inputs, against B's result; where A is a float
                file B's layer on A's inputs, against A's result; between two float files SQNR less that of the inputs
    clipped     values that the Requant cut off below and above, before they became the lowest and the highest code.
                Below 0 that is what a ReLU is for
    used        share of the codes between the smallest and the largest that occurred

Layers are ranked by their noise alone, so what a bad layer does to those behind it is not held against them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from codesign.compare_figures import Figures, Floats, Range, noise_ratio
from codesign.compare_match import Matching, match, match_inputs
from codesign.errors import CodesignError
from codesign.trace import Clipped, Layer, Real, Tracer, Values

FREE_BINS = 256  # of a histogram without codes
BY_FACTOR = 6.0  # dB gained by a factor per channel: three quarters of the noise are such factors


@dataclass(frozen=True)
class Comparison:
    """`layers` that both sides hold, in B's order; `ranked` with the layer where most is lost first."""

    a: Tracer
    b: Tracer
    matching: Matching
    layers: tuple[Figures, ...]
    unseen: tuple[str, ...]  # layers of B that one side does not hold
    pictures: int

    @property
    def ranked(self) -> list[Figures]:
        def clipped(f: Figures) -> int:
            return 0 if f.range_b is None or f.range_b.clipped is None else f.range_b.clipped.above

        return sorted(
            self.layers, key=lambda f: (-f.born, -noise_ratio(f.signal, f.noise), -clipped(f), f.index)
        )

    @property
    def different(self) -> int:
        return sum(f.different for f in self.layers)

    @property
    def values(self) -> int:
        return sum(f.values for f in self.layers)

    @property
    def equalized(self) -> int:
        """Layers that differ from those of a float file mostly by a factor per channel."""
        return sum(f.by_factors > BY_FACTOR for f in self.layers if f.noise and not f.a.body)

    @property
    def must_agree(self) -> bool:
        """Whether both sides are rungs of one model file: then every value must be equal."""
        return self.a.digest == self.b.digest


def compare(
    a: Tracer, b: Tracer, feeds: Iterable[Mapping[str, Real]], factors: Mapping[str, Floats] | None = None
) -> Comparison:
    """Runs both sides on the same real inputs (1, H, W, C), named as A names them, and adds up what differs.

    `factors`: of each channel of A's values, by name, to multiply them with first (see `channel_factors`).
    Raises CodesignError where the inputs do not match, or there is nothing to run on.
    """
    names = match_inputs(a, b)
    matching = match(a, b)
    layers = tuple(Figures(x, y, k, _range(a, x), _range(b, y)) for k, (x, y) in enumerate(matching.pairs))
    count, read = (
        0,
        {name: [0.0, 0.0] for f in layers for name in f.b.inputs},
    )  # signal and noise of B's inputs
    for feed in feeds:
        feed_b = {names[name]: real for name, real in feed.items()}
        _add(a, b, matching, layers, read, dict(feed), feed_b, factors or {})
        count += 1
    if not count:
        raise CodesignError(f"{a.title} and {b.title}: no picture to compare on. Give one with --images.")
    for f in layers:
        known = [noise_ratio(*read[name]) for name in f.b.inputs if any(read[name])]
        f.inputs_noise = max(known, default=None)
    seen = tuple(replace(f, index=i) for i, f in enumerate(f for f in layers if f.seen))
    return Comparison(a, b, matching, seen, tuple(f.b.name for f in layers if not f.seen), count)


def channel_factors(a: Tracer, b: Tracer, feeds: Iterable[Mapping[str, Real]]) -> dict[str, Floats]:
    """For each matched value of A: the factor of each channel that brings it nearest to B's.

    Equalization scales channels between layers; it changes no result, but every tensor in between.
    """
    names, pairs = match_inputs(a, b), match(a, b).pairs
    sums = {x.value: np.zeros((2, x.shape[2])) for x, _ in pairs}
    for feed in feeds:
        values_a, values_b = a.run(feed), b.run({names[name]: real for name, real in feed.items()})
        for x, y in pairs:
            if x.value in values_a and y.value in values_b:
                one, two = values_a[x.value].astype(np.float64), values_b[y.value]
                sums[x.value] += [(one * two).sum(axis=(0, 1, 2)), (one * one).sum(axis=(0, 1, 2))]
    return {
        name: np.where(own > 0, both / np.where(own > 0, own, 1), 1) for name, (both, own) in sums.items()
    }


def _range(side: Tracer, layer: Layer) -> Range | None:
    return Range(side.grids[layer.value]) if layer.value in side.grids else None


def _add(
    a: Tracer, b: Tracer, matching: Matching, layers: Sequence[Figures], read: Mapping[str, list[float]],
    feed_a: Values, feed_b: Values, factors: Mapping[str, Floats],
) -> None:  # fmt: skip
    values_a, values_b = feed_a | a.run(feed_a), feed_b | b.run(feed_b)
    values_a |= {k: (values_a[k] * by_channel).astype(np.float32) for k, by_channel in factors.items()}
    for f in layers:
        f.seen = f.seen and f.a.value in values_a and f.b.value in values_b
    for side, values in ((a, values_a), (b, values_b)):
        _complete(side, values)
    inputs = dict(zip(feed_a, feed_b, strict=True))
    # What each side made, under the other's names; what only moves codes is moved here too.
    as_a = {inputs_a: values_b[name] for inputs_a, name in inputs.items()}
    as_b = {name: values_a[inputs_a] for inputs_a, name in inputs.items()}
    as_a |= {x.value: values_b[y.value] for x, y in matching.pairs}
    as_b |= {y.value: values_a[x.value] for x, y in matching.pairs}
    for side, values in ((a, as_a), (b, as_b)):
        _complete(side, values, views_only=True)
    for name, sums in read.items():
        if name in as_b and name in values_b:
            sums[0] += _power(as_b[name])
            sums[1] += float(np.sum((as_b[name].astype(np.float64) - values_b[name]) ** 2))
    for f in layers:
        if f.a.value not in values_a or f.b.value not in values_b:
            continue
        real_a, real_b = values_a[f.a.value], values_b[f.b.value]
        if real_a.shape != real_b.shape:
            raise CodesignError(f"{f.b.name}: is {real_b.shape}, expected {real_a.shape} as in {a.title}.")
        difference = real_a.astype(np.float64) - real_b
        f.values += difference.size
        f.different += int(np.count_nonzero(difference))
        f.signal += _power(real_a)
        f.noise += float(np.sum(difference**2))
        f.worst = max(f.worst, float(np.abs(difference).max()))
        wide = real_a.astype(np.float64), real_b.astype(np.float64)
        products = np.stack(
            [(x * y).sum(axis=(0, 1, 2)) for x, y in zip(wide[:1] + wide, wide + wide[1:], strict=True)]
        )
        f.products = products if not f.products.size else f.products + products
        _histograms(f, real_a, real_b)
        for found, side, layer, values in ((f.range_a, a, f.a, values_a), (f.range_b, b, f.b, values_b)):
            if found is not None:
                found.add(values[layer.value], _own(side, layer, values)[1])
        alone = _alone(a, b, f, values_a, values_b, as_a, as_b)
        if alone is None:
            f.alone_known = False
            alone = real_a, real_b
        error = (alone[0].astype(np.float64) - alone[1]) ** 2
        f.alone_signal += _power(alone[0])
        f.alone_noise += float(np.sum(error))
        noise = error.sum(axis=(0, 1, 2))
        f.by_channel = noise if not f.by_channel.size else f.by_channel + noise


def _power(real: Real) -> float:
    return float(np.sum(np.square(real, dtype=np.float64)))


def _complete(side: Tracer, values: Values, views_only: bool = False) -> None:
    """Maps that are not there (in hardware, those that are addresses only) from those that are."""
    for layer in side.layers:
        if layer.value not in values and not (views_only and layer.computes):
            made = _own(side, layer, values)[0]
            if made is not None:
                values[layer.value] = made


def _own(side: Tracer, layer: Layer, values: Values) -> tuple[Real | None, Clipped | None]:
    """One layer on a side's own inputs, where they are known."""
    if not layer.body or any(name not in values for name in layer.inputs):
        return None, None
    return side.apply(layer, {name: values[name] for name in layer.inputs})


def _alone(
    a: Tracer, b: Tracer, f: Figures, values_a: Values, values_b: Values, as_a: Values, as_b: Values
) -> tuple[Real, Real] | None:
    """The layer as A computes it and as B does, on the same inputs; None where neither can be asked."""
    if f.a.body:
        by_a = _own(a, f.a, as_a)[0]
        return None if by_a is None else (by_a, values_b[f.b.value])
    if not f.b.body:
        return None
    if not f.b.computes:  # moves codes; what they were rounded by is held against the layer that made them
        return values_a[f.a.value], values_a[f.a.value]
    by_b = _own(b, f.b, as_b)[0]
    return None if by_b is None else (values_a[f.a.value], by_b)


def _histograms(f: Figures, real_a: Real, real_b: Real) -> None:
    """Counts of both sides in bins of one code, with a quarter of the range more on either side for what is cut off."""
    if not f.edges.size:
        found = f.range_b or f.range_a
        if found is not None:
            grid = found.grid
            more = (grid.elem.max - grid.elem.min + 1) // 4
            codes = np.arange(grid.elem.min - more, grid.elem.max + more + 2, dtype=np.float64)
            f.edges = (codes - 0.5) * grid.scale
        else:
            most = max(float(np.abs(real_a).max()), float(np.abs(real_b).max()), 1e-30)
            f.edges = np.linspace(-most, most, FREE_BINS + 1).astype(np.float64)
        f.counts_a = f.counts_b = np.zeros(f.edges.size - 1, np.int64)
    low, high = float(f.edges[0]), float(np.nextafter(f.edges[-1], -np.inf))
    f.counts_a = f.counts_a + np.histogram(real_a.clip(low, high), f.edges)[0]
    f.counts_b = f.counts_b + np.histogram(real_b.clip(low, high), f.edges)[0]
