"""Figures of a detector on a board: latency, frames a second, power, accuracy, and whether every bit is right.

    with Detector("codenet-tiny") as detector:
        print(json.dumps(bench(detector, frames=200), indent=1))

On a board they are *measured*. On a device that is no board they are not, and `source` says so.
"""

from __future__ import annotations

import platform
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pynq

from boards.detector import Detector
from boards.faults import BoardFault
from codesign import __version__
from codesign.decode import Detections, decode
from codesign.errors import DataError
from codesign.images import Placement
from codesign.metrics import Objects, area_ap, curve, voc07_ap
from codesign.switch import Choices
from codesign.transport import IMAGES

FORMAT, VERSION = "codesign-bench", 1
SAMPLE_S = 0.02  # between two looks at the power rails
IDLE_S = 1.0  # for which an idle board is looked at
Say = Callable[[str], None]


def bench(
    detector: Detector,
    frames: int = 200,
    pictures: Path | None = None,
    say: Say = lambda text: None,
    idle_s: float = IDLE_S,
    choose: Choices | None = None,
) -> dict[str, Any]:
    """Everything at once, as bench.json holds it. `pictures` is a file of `codesign.deploy`: without it no accuracy.

    `choose` changes decisions of the network for all but the comparison with the vectors: Detector.choose. Frames of
    the file are also those whose latency is measured, where the network decides by them what it skips.

    Latency is that of one picture of the network's own size, from pixels to boxes; frames a second those of a
    stream, where the host works while the engine does. DRAM traffic is counted from the program, not measured.
    Raises BoardFault, BundleError, DataError.
    """
    if frames < 1:
        raise BoardFault(f"bench: {frames} frames, expected at least 1. Give more with --frames.")
    deployed = detector.deployed
    vectors = deployed.vectors()
    say("Comparing with the vectors")
    exact = bit_exact(detector, vectors)
    detector.choose(choose or {})
    frames_of = _codes(pictures) if pictures is not None and detector.decisions else vectors[IMAGES]
    images = [(codes ^ np.int8(-128)).view(np.uint8) for codes in frames_of]
    for image in images[:3]:
        detector.run(image)  # the first frames meet cold caches
    say("Measuring latency")
    total, engine = [], []
    for i in range(frames):
        begin = time.perf_counter()
        detector.run(images[i % len(images)])
        total.append(time.perf_counter() - begin)
        assert detector.times is not None
        engine.append(detector.times.engine)
    say("Measuring frames a second")
    rails = power_rails()
    idle = sampled(rails, lambda: time.sleep(idle_s)) if rails else {}
    spent = 0.0

    def stream() -> None:
        nonlocal spent
        begin = time.perf_counter()
        for _ in detector.stream(images[i % len(images)] for i in range(frames)):
            continue
        spent = time.perf_counter() - begin

    busy = sampled(rails, stream)
    accuracy = None
    if pictures is not None:
        say("Measuring accuracy")
        accuracy = measure_accuracy(detector, pictures)
    dram = deployed.index.get("dram_bytes_per_frame")
    return {
        "format": FORMAT,
        "version": VERSION,
        "bundle": deployed.name,
        "board": deployed.bundle.board,
        "source": source(),
        "versions": versions(deployed.synthesis),
        "clock_mhz": deployed.synthesis.get("clock_mhz"),
        "frames": frames,
        "choose": dict(choose or {}),
        "latency_ms": _spread(total),
        "engine_ms": _spread(engine),
        "frames_per_s": frames / spent,
        "host_share": 1 - sum(engine) / sum(total),
        "dram_bytes_per_frame": dram,
        "dram_kind": "counted from the program" if dram is not None else None,
        "power_w": {name: {"idle": idle[name], "busy": busy[name]} for name in busy} if rails else None,
        "accuracy": accuracy,
        "bit_exact": exact,
    }


def bit_exact(detector: Detector, vectors: Mapping[str, npt.NDArray[Any]]) -> dict[str, int]:
    """Every value of every output for every image of the vectors, against what C simulation gave for it."""
    differences = compared = 0
    for i, codes in enumerate(vectors[IMAGES]):
        for name, array in detector.maps(codes).items():
            expected = vectors[name][i]
            differences += (
                int(np.count_nonzero(array != expected)) if array.shape == expected.shape else array.size
            )
            compared += array.size
    return {"vectors": len(vectors[IMAGES]), "values": compared, "differences": differences}


def source(device: Any = None) -> str:
    """`board`, or `software device` where something else than PYNQ's own devices answers."""
    kind = type(device if device is not None else pynq.Device.active_device)
    return "board" if kind.__module__.partition(".")[0] == "pynq" else "software device"


def versions(synthesis: Mapping[str, Any]) -> dict[str, str]:
    """Of all that takes part, by name; tools are those that made the bitstream."""
    found = {"codesign": __version__, "pynq": pynq.__version__, "numpy": np.__version__}
    found |= {
        "python": platform.python_version(),
        "kernel": platform.release(),
        "machine": platform.machine(),
    }
    try:
        found["codesign-board"] = version("codesign-board")
    except PackageNotFoundError:
        found["codesign-board"] = "not installed: run from its sources"
    return found | {str(k): str(v) for k, v in dict(synthesis.get("tool") or {}).items()}


# --- power ------------------------------------------------------------------------------------------------------


def power_rails() -> dict[str, Any]:
    """Sensors of power in watts by rail; none where the board has no PMBus or the image no libsensors."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pynq warns that libsensors is not there: then there are no rails
        found = pynq.get_rails()
    return {name: rail.power for name, rail in sorted(found.items()) if rail.power is not None}


def sampled(rails: Mapping[str, Any], work: Callable[[], None]) -> dict[str, float]:
    """Mean power of each rail while `work` runs."""
    sums, count = dict.fromkeys(rails, 0.0), 0
    with _thread(rails) as samples:
        work()
    for sample in samples:
        count += 1
        for name, value in sample.items():
            sums[name] += value
    return {name: value / count for name, value in sums.items()} if count else {}


@contextmanager
def _thread(rails: Mapping[str, Any]) -> Iterator[list[dict[str, float]]]:
    samples: list[dict[str, float]] = []
    stop = threading.Event()

    def look() -> None:
        while True:
            samples.append({name: float(sensor.value) for name, sensor in rails.items()})
            if stop.wait(SAMPLE_S):
                return

    thread = threading.Thread(target=look, daemon=True)
    if rails:
        thread.start()
    try:
        yield samples
    finally:
        stop.set()
        if rails:
            thread.join()


# --- accuracy ---------------------------------------------------------------------------------------------------


def measure_accuracy(detector: Detector, pictures: Path) -> dict[str, Any]:
    """AP50 on the pictures of a file that `codesign bench --data` makes. Raises DataError if it is none."""
    try:
        with np.load(pictures, allow_pickle=False) as arrays:
            data = {name: arrays[name] for name in arrays.files}
        codes, table, classes = data["codes"], data["table"], [str(c) for c in data["classes"]]
        ends = np.cumsum(data["counts"])
        truths = [
            Objects(data["boxes"][b:e], data["labels"][b:e], data["difficult"][b:e])
            for b, e in zip(ends - data["counts"], ends, strict=True)
        ]
        places = [_placement(row) for row in data["placements"]]
        if not len(codes) == len(places) == len(truths):
            raise ValueError("counts differ")
    except (OSError, KeyError, ValueError, EOFError) as error:
        raise _no_pictures(pictures, error) from None
    found = []
    for one, place in zip(codes, places, strict=True):
        seen = decode(detector.maps(one), detector.heads, place)
        labels = table[seen.labels]
        found.append(Detections(seen.boxes[labels >= 0], labels[labels >= 0], seen.scores[labels >= 0]))
    areas, elevens = [], []
    for label in range(len(classes)):
        recall, precision, count = curve(truths, found, label)
        if count:
            areas.append(area_ap(recall, precision))
            elevens.append(voc07_ap(recall, precision))
    return {
        "data": str(data.get("spec", pictures.name)),
        "images": len(codes),
        "ap50": float(np.mean(areas)) if areas else None,
        "ap50_voc07": float(np.mean(elevens)) if elevens else None,
    }


def _codes(pictures: Path) -> npt.NDArray[np.int8]:
    """The pictures of a file, as codes. Raises DataError if it is none."""
    try:
        with np.load(pictures, allow_pickle=False) as arrays:
            codes: npt.NDArray[np.int8] = arrays["codes"]
    except (OSError, KeyError, ValueError, EOFError) as error:
        raise _no_pictures(pictures, error) from None
    return codes


def _no_pictures(pictures: Path, error: Exception) -> DataError:
    return DataError(
        f"{pictures}: is no file of pictures ({error}), expected what `codesign bench --data` writes. Make it again."
    )


def _placement(row: npt.NDArray[np.float64]) -> Placement:
    height, width, scale_x, scale_y, left, top = row.tolist()
    return Placement((int(height), int(width)), (scale_x, scale_y), (int(left), int(top)))


def _spread(seconds: list[float]) -> dict[str, float]:
    """Minimum, median, mean, 95th percentile and maximum, in milliseconds."""
    ms = np.asarray(seconds) * 1e3
    middle, high = np.percentile(ms, (50, 95))
    return {
        "min": float(ms.min()),
        "median": float(middle),
        "mean": float(ms.mean()),
        "p95": float(high),
        "max": float(ms.max()),
    }
