"""Cross-layer equalization: channels of a tensor get like ranges, at the cost of the weights that read them.

    y = W2 relu(W1 x + b1) = (W2 s) relu((W1 x + b1) / s)       for any s > 0 by channel (arXiv 1906.04721)

One scale serves a whole tensor, so that channels of small range are rounded coarsely; rows of weights have scales of
their own, so that dividing them costs nothing. Tensors that are added share their channels' factors. The factors are
those, out of a family, with the least noise as estimated from ranges and powers on the calibration images.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quant.float_net import FloatNet, Layer, Running

CHANNELWISE = ("Add", "MaxPool", "Resize")  # keep channels apart, and commute with positive factors
EXPONENTS = [(a, b) for a in (0.0, 0.25, 0.5, 0.75, 1.0) for b in (0.0, 0.25, 0.5)]
LARGEST_RATIO = 256.0  # of the factors of a tensor's channels
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Channels:
    """By channel: largest magnitude and mean square on the calibration images."""

    largest: Array
    power: Array


def equalize(net: FloatNet, images: NDArray[np.float32], bits: int) -> int:
    """Change the parameters of the net, and nothing that it computes. Returns the number of tensors with new ranges."""
    found = _statistics(net, images)
    done = 0
    for names in _groups(net):
        producers = [layer for layer in net.layers if layer.outputs[0] in names and layer.weight is not None]
        readers = [la for la in net.layers if la.weight is not None and la.inputs[0] in names]
        stats = Channels(
            np.max([found[n].largest for n in names], axis=0),
            np.mean([found[n].power for n in names], axis=0),
        )
        factors = _best(stats, [_read_by(layer, stats, bits) for layer in readers])
        if np.all(factors == 1):
            continue
        for layer in producers:
            layer.scaled(1 / factors, np.zeros(len(factors)))
        for layer in readers:
            _multiply_inputs(layer, factors)
        done += len(names)
    return done


def _statistics(net: FloatNet, images: NDArray[np.float32]) -> dict[str, Channels]:
    run, values = Running(), {net.input: images}
    last = {name: i for i, layer in enumerate(net.layers) for name in layer.inputs}
    found: dict[str, Channels] = {}
    for i, layer in enumerate(net.layers):
        for name, x in zip(layer.outputs, run(layer, [values[n] for n in layer.inputs]), strict=True):
            values[name] = x
            square = np.square(x, dtype=np.float64).mean(axis=(0, 2, 3))
            found[name] = Channels(np.abs(x).max(axis=(0, 2, 3)).astype(np.float64), square)
        for name in set(layer.inputs):
            if last[name] == i:
                del values[name]
    return found


def _groups(net: FloatNet) -> list[list[str]]:
    """Tensors whose channels must have the same factors, where all that makes and reads them allows any."""
    leader: dict[str, str] = {}

    def of(name: str) -> str:
        leader.setdefault(name, name)
        while leader[name] != name:
            name = leader[name]
        return name

    for layer in net.layers:
        for name in (*layer.inputs, *layer.outputs):
            of(name)
        if layer.op in CHANNELWISE:
            for name in layer.inputs:
                leader[of(name)] = of(layer.outputs[0])
    refused = {of(name) for name in (net.input, *net.outputs)}
    for layer in net.layers:
        weighted = layer.op in ("Conv", "ConvTranspose")
        bounded = layer.low not in (-np.inf, 0) or layer.high != np.inf
        if bounded or layer.copies or not (weighted or layer.op in CHANNELWISE):
            refused.update(of(name) for name in layer.outputs)
        if not (weighted or layer.op in CHANNELWISE):
            refused.update(of(name) for name in layer.inputs)
    groups: dict[str, list[str]] = {}
    for name in leader:
        if of(name) not in refused:
            groups.setdefault(of(name), []).append(name)
    return list(groups.values())


def _by_input(layer: Layer) -> Array:
    """Weights as [rows, channels read, taps]; a depthwise channel is a row of its own, which any factor suits."""
    assert layer.weight is not None
    w = layer.weight.astype(np.float64)
    w = w if layer.op == "Conv" else w.transpose(1, 0, 2, 3)
    return w.reshape(w.shape[0], w.shape[1], -1)


def _multiply_inputs(layer: Layer, factors: Array) -> None:
    assert layer.weight is not None
    first = layer.depthwise or layer.op == "ConvTranspose"
    table = factors.reshape(-1, 1, 1, 1) if first else factors.reshape(1, -1, 1, 1)
    layer.weight = (layer.weight * table).astype(np.float32)


@dataclass(frozen=True)
class Read:
    """What a layer makes of the channels it reads, its rows brought to results of power 1."""

    power: Array  # [C]: of the weights of a channel, over rows and taps
    largest: Array  # [rows, C]
    taps: int
    bits: int


def _read_by(layer: Layer, stats: Channels, bits: int) -> Read | None:
    """None for depthwise layers: each row has one channel, so that its scale follows the factor."""
    if layer.depthwise:
        return None
    w = _by_input(layer)
    result = np.maximum(np.einsum("oct,c->o", np.square(w), stats.power), 1e-20)
    w = w / np.sqrt(result)[:, None, None]
    return Read(np.square(w).sum(axis=(0, 2)), np.abs(w).max(axis=2), w.shape[2], bits)


def _best(stats: Channels, reads: list[Read | None]) -> Array:
    """The factors of the family with the least estimated noise; all 1 is one of them."""
    largest = np.maximum(stats.largest, stats.largest.max() / LARGEST_RATIO + 1e-20)
    dense = [r for r in reads if r is not None]
    reading = np.max([r.largest.max(axis=0) for r in dense], axis=0) if dense else np.ones(len(largest))
    reading = np.maximum(reading, reading.max() / LARGEST_RATIO)
    if not dense:
        return largest / np.exp(np.mean(np.log(largest)))
    family = [largest**a / reading**b for a, b in EXPONENTS]
    family = [s / np.exp(np.mean(np.log(s))) for s in family]
    return min(family, key=lambda s: _noise(s, stats, dense))


def _noise(s: Array, stats: Channels, reads: list[Read]) -> float:
    step = np.max(stats.largest / s) / 255
    total = 0.0
    for read in reads:
        rows = (read.largest * s).max(axis=1) / ((1 << (read.bits - 1)) - 1)
        total += step**2 * float(np.sum(read.power * s**2))
        total += float(np.sum(rows**2)) * read.taps * float(np.sum(stats.power / s**2))
    return total
