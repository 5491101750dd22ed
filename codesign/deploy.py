"""What the host makes for a board: the transport file with its vectors, and pictures to measure accuracy on."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from codesign import __version__, transport
from codesign.accuracy import Picture, class_table
from codesign.board import bundle_board
from codesign.bundle import Bundle
from codesign.csim import Engine
from codesign.decode import Detector
from codesign.errors import CodesignError, DataError
from codesign.estimate import estimate
from codesign.images import Pixels, letterbox, to_codes
from codesign.ports import Port
from codesign.rungs import simulator_of

NOISE = 2  # vectors of noise, which reach values that pictures do not


def pack(directory: Path, target: Path, pictures: Sequence[Pixels]) -> dict[str, Any]:
    """Write the transport file of a synthesised bundle, with vectors of these pictures and of noise.

    Returns what there is to say about it. Raises BundleError, and EngineFailed where C simulation does.
    """
    found = transport.check(directory)
    bundle = found.bundle
    counted = estimate(bundle.program, bundle.config, bundle_board(directory, bundle.board))
    facts = {"codesign": __version__, "dram_bytes_per_frame": counted.read_bytes + counted.written_bytes}
    arrays = vectors(bundle, pictures)
    transport.pack(directory, target, arrays, facts)
    return {"file": str(target), "bytes": target.stat().st_size, "board": bundle.board,
            "vectors": len(arrays[transport.IMAGES]), **facts}  # fmt: skip


def vectors(bundle: Bundle, pictures: Sequence[Pixels], noise: int = NOISE) -> dict[str, npt.NDArray[Any]]:
    """`images` (N, H, W, C) codes, and every output (N, H, W, C) as our own C simulation computes it."""
    name, port = _input(bundle)
    height, width, _ = port.shape
    codes = [to_codes(letterbox(picture, height, width)[0]) for picture in pictures]
    random = np.random.default_rng(0)
    codes += [random.integers(-128, 128, port.shape).astype(np.int8) for _ in range(noise)]
    images = np.stack(codes)
    if transport.IMAGES in bundle.program.outputs:
        raise CodesignError(
            f"{bundle.directory}: an output is named {transport.IMAGES!r}, which vectors use for inputs. Rename it."
        )
    outputs = simulator_of(bundle, Engine(bundle.hls)).run({name: images})
    small = {key: array.astype(np.int8 if bundle.program.outputs[key].signed else np.uint8)
             for key, array in outputs.items()}  # fmt: skip
    return {transport.IMAGES: images, **small}


def pictures_file(
    bundle: Bundle, samples: Iterable[Picture], data_classes: Sequence[str], spec: str
) -> bytes:
    """An .npz of letterboxed pictures with what is on them, which boards.bench reads without Pillow and JPEGs.

    Raises DataError if there is no sample, or no class that both sides know.
    """
    _, port = _input(bundle)
    scales = {output: bundle.scales[output] for output in bundle.program.outputs}
    detector = Detector.from_meta(bundle.meta, scales, str(bundle.directory))
    codes, places, boxes, labels, difficult, counts = [], [], [], [], [], []
    for sample in samples:
        boxed, place = letterbox(sample.image, port.shape[0], port.shape[1])
        codes.append(to_codes(boxed))
        places.append([*place.size, *place.scale, *place.offset])
        boxes.append(sample.boxes.reshape(-1, 4))
        labels.append(sample.labels)
        difficult.append(sample.difficult)
        counts.append(len(sample.labels))
    if not codes:
        raise DataError(f"{spec}: is empty, expected at least one picture. Name another split or directory.")
    stream = io.BytesIO()
    np.savez_compressed(
        stream, allow_pickle=False, codes=np.stack(codes), placements=np.asarray(places, np.float64),
        boxes=np.concatenate(boxes).astype(np.float32), labels=np.concatenate(labels).astype(np.int64),
        difficult=np.concatenate(difficult).astype(bool), counts=np.asarray(counts, np.int64),
        table=class_table(detector.classes, data_classes, spec), classes=np.asarray(data_classes),
        spec=np.asarray(spec),
    )  # fmt: skip
    return stream.getvalue()


def _input(bundle: Bundle) -> tuple[str, Port]:
    (name, port), *others = bundle.program.inputs.items()
    if others or port.shape[2] != 3 or not port.signed:
        raise CodesignError(
            f"{bundle.directory}: its inputs are {', '.join(bundle.program.inputs)}, expected one picture i8[H,W,3]. "
            "Only detectors can be deployed."
        )
    return name, port
