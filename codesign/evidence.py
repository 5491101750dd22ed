"""The two records that lie beside a bundle's reports: synthesis.json and bench.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from codesign.digest import design_digest
from codesign.reports import ReportError

RECORD, RECORD_FORMAT = "synthesis.json", "codesign-synthesis"
BENCH, BENCH_FORMAT = "bench.json", "codesign-bench"
VERSION = 1
SOFTWARE = "software device"  # the source of a bench without a board
FINISHED = ("csynth.xml", "utilization.rpt", "timing.rpt", "power.rpt")  # reports of a finished synthesis


def record_of(directory: Path, manifest: Mapping[str, Any]) -> dict[str, Any] | None:
    """synthesis.json, if it is there. Raises ReportError if it is of another design than the bundle's."""
    record = _json(directory / RECORD, RECORD_FORMAT)
    if record is not None and record.get("design") != design_digest(manifest):
        raise ReportError(f"{directory / RECORD}: is of another design than {directory}/hls, expected the synthesis "
                          "of this bundle. Run `codesign synth` again.")  # fmt: skip
    return record


def check_whole(folder: Path) -> None:
    """Raises ReportError naming the reports that a finished synthesis lacks."""
    missing = [name for name in FINISHED if not (folder / name).exists()]
    if missing:
        raise ReportError(f"{folder}: {', '.join(missing)} missing though the synthesis is finished, expected all "
                          f"of {', '.join(FINISHED)}. Fetch them, or run `codesign synth` again.")  # fmt: skip


def bench_of(directory: Path) -> dict[str, Any] | None:
    """bench.json, if it is there. Raises ReportError if it does not say what was measured on what."""
    path = directory / BENCH
    bench = _json(path, BENCH_FORMAT)
    if bench is None:
        return None
    faults = []
    if bench.get("source") not in ("board", SOFTWARE):
        faults.append(f"source is {bench.get('source')!r}, expected 'board' or {SOFTWARE!r}")
    for key, needed in (("latency_ms", True), ("engine_ms", False), ("bit_exact", False)):
        if not _numbers(bench.get(key, None if needed else {})):
            faults.append(f"{key} is no table of numbers")
    rails = bench.get("power_w") or {}
    if not isinstance(rails, dict) or not all(
        _numbers(r) and {"busy", "idle"} <= r.keys() for r in rails.values()
    ):
        faults.append("power_w is no table of busy and idle by rail")
    if faults:
        raise ReportError(f"{path}: {'; '.join(faults)}. Run `codesign bench` again.")
    return bench


def _numbers(found: Any) -> bool:
    return isinstance(found, dict) and all(isinstance(value, (int, float)) for value in found.values())


def _json(path: Path, form: str) -> dict[str, Any] | None:
    """A JSON object of a format and VERSION, None where there is no file."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ReportError(
            f"{path}: cannot be read ({error}), expected {form}. Remove it, or make it again."
        ) from None
    if not isinstance(found, dict):
        raise ReportError(f"{path}: is no object, expected {form} {VERSION}. Remove it, or make it again.")
    if (found.get("format"), found.get("version")) != (form, VERSION):
        said = f"{found.get('format')} {found.get('version')}"
        raise ReportError(f"{path}: is {said}, expected {form} {VERSION}. Make it again with this version.")
    return found
