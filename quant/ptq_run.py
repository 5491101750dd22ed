"""`codesign quantize model.onnx`: from a float file and pictures to the quantized network and its metadata."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codesign.decode import META, Detector
from codesign.errors import CodesignError, DataError
from codesign.images import letterbox, read_image, to_codes
from quant.equalize import equalize
from quant.foreign import read_float
from quant.foreign_site import Pixels
from quant.ptq import Quantized, quantize_net

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".tif", ".tiff")
PIXELS = {
    "pixels": Pixels(std=(1 / 255,) * 3),  # 0..255 as they are
    "unit": Pixels(),  # 0..1
    "symmetric": Pixels(mean=(0.5,) * 3, std=(0.5,) * 3),  # -1..1
    "imagenet": Pixels(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
}
IMAGES, AREA = 16, 16 * 320 * 320  # pictures, and pixels of all of them that are kept in memory at once
CLASSIFIER, READING = "codesign.classifier", "codesign.pixels"  # keys of the metadata


@dataclass(frozen=True)
class Wish:
    """What a user says of a file from elsewhere."""

    pixels: Pixels
    bits: int = 8
    size: tuple[int, int] | None = None
    images: int = IMAGES
    detector: dict[str, Any] | None = None  # as codesign.detector in docs/model-file.md
    labels: list[str] = field(default_factory=list)  # of a classifier


def quantize_file(
    source: Path, folder: Path, wish: Wish, say: Callable[[str], object] = lambda text: None
) -> tuple[Quantized, dict[str, str], dict[str, Any]]:
    """The quantized network, the metadata of its file, and figures for people. Raises CodesignError."""
    say("Reading the model")
    net = read_float(source, wish.pixels, wish.size)
    images = calibration(folder, net.size, wish.images)
    say("Equalizing channels")
    equalized = equalize(net, images, wish.bits)
    found = quantize_net(net, images, wish.bits, say)
    meta = {READING: json.dumps({**asdict(wish.pixels), "size": list(net.size)})}
    if wish.detector is not None:
        meta[META] = json.dumps(wish.detector)
        Detector.from_meta(meta, {n: found.types[n].step for n in net.outputs}, str(source))
    if wish.labels:
        meta[CLASSIFIER] = json.dumps({"output": _scores(found, wish.labels), "labels": wish.labels})
    figures = {
        "images": len(images),
        "size": list(net.size),
        "bits": wish.bits,
        "equalized": equalized,
        "outputs": {name: round(found.snr[name], 2) for name in net.outputs},
        "layers": {name: round(value, 2) for name, value in found.snr.items()},
        "notes": net.notes,
    }
    return found, meta, figures


def _scores(found: Quantized, labels: list[str]) -> str:
    """The output with one number a label."""
    for layer in found.net.layers:
        for name in layer.outputs:
            if name in found.net.outputs and layer.weight is not None and layer.channels == len(labels):
                return name
    raise CodesignError(
        f"labels: {len(labels)} of them, expected as many as an output of the network has channels. "
        "Give the file of this network."
    )


def calibration(folder: Path, size: tuple[int, int], most: int) -> NDArray[np.float32]:
    """Pictures of a folder as the network reads them: [N, 3, H, W] of (pixel - 128) / 128. Raises DataError."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder, expected one with pictures. Check the path.")
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES)
    if not paths:
        raise DataError(
            f"{folder}: has no pictures ({', '.join(SUFFIXES)}), expected some like those that the network "
            "will see. Put them there."
        )
    count = min(len(paths), most, max(2, AREA // (size[0] * size[1])))
    chosen = [paths[i] for i in np.linspace(0, len(paths) - 1, count).round().astype(int)]
    codes = np.stack([to_codes(letterbox(read_image(p), *size)[0]) for p in chosen])
    return np.ascontiguousarray(codes.transpose(0, 3, 1, 2), np.float32) / 128
