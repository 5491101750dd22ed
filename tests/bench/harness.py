"""Measure rivals in turn, in one process, and report ratios: the only figures that travel between machines."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version


@dataclass(frozen=True)
class Times:
    """Seconds per call, in the order measured."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def best(self) -> float:
        return min(self.seconds)


@dataclass(frozen=True)
class Table:
    """One printed table; `note` says what was compared and what was not."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]] = field(default_factory=list)
    note: str = ""


def side_by_side(
    rivals: Mapping[str, Callable[[], object]],
    repeats: int = 7,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Times]:
    """Time every rival `repeats` times, taking turns, after one call each that does not count.

    Turns keep a machine that grows slower (heat, neighbours) from favouring whoever came first. Where all rivals use
    one thread, time.process_time leaves out what else the machine does.
    """
    for call in rivals.values():
        call()
    seconds: dict[str, list[float]] = {name: [] for name in rivals}
    for _ in range(repeats):
        for name, call in rivals.items():
            start = clock()
            call()
            seconds[name].append(clock() - start)
    return {name: Times(tuple(taken)) for name, taken in seconds.items()}


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:.2f}" if seconds < 0.1 else f"{seconds * 1e3:.0f}"


def ratio(ours: float, theirs: float) -> str:
    """How many times their time ours is; below 1 we are faster."""
    return f"{ours / theirs:.2f}"


def machine() -> dict[str, str]:
    """What the figures depend on."""
    facts = {"python": platform.python_version(), "cpu": _cpu(), "cores": str(len(os.sched_getaffinity(0)))}
    for package in ("numpy", "onnxruntime", "torch", "hls4ml"):
        try:
            facts[package] = version(package)
        except PackageNotFoundError:
            facts[package] = "not installed"
    return facts


def _cpu() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.machine()
