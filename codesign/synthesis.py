"""From a bundle to a bitstream: the steps of `codesign synth`, which can be taken up again where they stopped.

    DIR/synthesis/    scripts/, vectors.bin, cosim.bin, logs/, reports/, output/, state.json, the tools' projects
    DIR/design.bit, design.hwh, synthesis.json      when all is done and timing is met, each renamed into place

A step is done when its tool has ended well and its checks have passed; state.json then holds a digest of all that
went into it (script, sources, release, the steps before). A step whose digest is the same and whose files are there
is not run again. Test vectors are part of the two simulations alone: other pictures cost no synthesis.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from codesign.board import bundle_board, load_board
from codesign.bundle import MANIFEST, load
from codesign.compat import check_tools, notes
from codesign.digest import design_digest
from codesign.errors import CodesignError
from codesign.images import Pixels
from codesign.machines import WORK, Here, Machine, Remote
from codesign.synth_check import SynthesisFailed, check, ended
from codesign.synth_files import file_digest, is_file_of, read_json, write_json, write_whole
from codesign.synth_log import progress
from codesign.synth_steps import HOURS, MADE, TITLES, basis
from codesign.synth_tcl import (
    COSIM_VECTORS,
    CSIM_VECTORS,
    OVERLAY,
    PROJECT,
    STEPS,
    VIVADO_STEPS,
    Job,
)
from codesign.synth_tcl import scripts as tcl_of
from codesign.vectors import refresh
from codesign.vivado import Tool, find

__all__ = ["STOPS", "Options", "Outcome", "SynthesisFailed", "design_digest", "synthesize"]

STOPS = ("csynth", "cosim", "export", "bitstream")  # of --stop-after
FORMAT, VERSION = "codesign-synthesis", 1
STATE_FORMAT = "codesign-synthesis-state"
FETCHED = ("reports", "output")

Say = Callable[[str], None]


@dataclass(frozen=True)
class Options:
    """What a user can choose. `place` and `release`: see vivado.find. `hours` limits every step where given."""

    host: str | None = None
    folder: str | None = None  # on the host
    stop_after: str = "bitstream"
    cosim: bool = True
    place: str | None = None
    release: str | None = None
    board: str | None = None
    clock_mhz: int | None = None
    jobs: int = 2
    hours: float | None = None
    restart: bool = False


@dataclass(frozen=True)
class Done:
    """A step: `seconds` it took, 0 where it was done before."""

    step: str
    seconds: float
    kept: bool
    note: str = ""


@dataclass(frozen=True)
class Outcome:
    steps: tuple[Done, ...]
    hls: Tool
    vivado: Tool | None
    bitstream: Path | None  # where all is done


def synthesize(
    directory: Path,
    options: Options,
    pictures: Sequence[Pixels],
    note: Say = lambda text: None,
    doing: Say = lambda text: None,
    done: Callable[[Done], None] = lambda step: None,
) -> Outcome:
    """Run the steps that are not done yet, up to `stop_after`.

    pictures: for the test vectors, noise is added. note, doing, done: hear sentences, progress, finished steps.
    Raises SynthesisFailed if a tool or a check fails, and the errors of what it uses.
    """
    bundle = load(directory)
    if any(c.isspace() for c in str(directory.resolve())) and options.host is None:
        raise CodesignError(
            f"{directory.resolve()}: has a space in its path, expected none: the vendor's tools cut it there. "
            "Move the bundle."
        )
    manifest = json.loads((directory / MANIFEST).read_text(encoding="utf-8"))
    board = load_board(options.board) if options.board else bundle_board(directory, bundle.board)
    if options.stop_after == "cosim" and not options.cosim:
        raise CodesignError("--no-cosim: leaves out the step that --stop-after names. Drop one of them.")
    wanted = [s for s in STEPS[: STEPS.index(options.stop_after) + 1] if s != "cosim" or options.cosim]
    digest = design_digest(manifest)
    (directory / WORK).mkdir(exist_ok=True)
    with _alone(directory / WORK):
        machine: Machine = Here(directory)
        if options.host is not None:
            folder = options.folder or f"~/codesign-synth/{digest[:16]}-{board.name}"
            machine = Remote(options.host, folder)
        doing("Looking for the vendor's tools")
        hls, vivado = find(machine, options.place, options.release, any(s in VIVADO_STEPS for s in wanted))
        check_tools(board, hls.release)
        for said in notes(board, hls.release):
            note(said)
        job = Job(
            board, options.clock_mhz or board.clock_mhz, hls.name, hls.release, hls.release, options.jobs
        )
        doing("Simulating the test vectors")
        paths = [directory / WORK / name for name in (CSIM_VECTORS, COSIM_VECTORS)]
        vectors = refresh(bundle, digest, pictures, paths[0], paths[1])
        run = _Run(directory, machine, job, digest, hls, vivado, options, vectors, doing)
        finished = []
        for step in wanted:
            finished.append(run.step(step))
            done(finished[-1])
        made = run.install() if wanted[-1] == "bitstream" else None
        return Outcome(tuple(finished), hls, vivado, made)


class _Run:
    """The steps of one bundle with one set of tools."""

    def __init__(self, directory: Path, machine: Machine, job: Job, digest: str, hls: Tool, vivado: Tool | None,
                 options: Options, vectors: Mapping[str, str], doing: Say) -> None:  # fmt: skip
        self.directory, self.work, self.machine = directory, directory / WORK, machine
        self.job, self.digest, self.hls, self.vivado = job, digest, hls, vivado
        self.options, self.vectors, self.doing = options, vectors, doing
        self.texts = tcl_of(job)
        for folder in ("scripts", "logs", "reports", "output"):
            (self.work / folder).mkdir(exist_ok=True)
        for name, text in self.texts.items():
            write_whole(self.work / "scripts" / name, text)
        self.copied = False
        state = {} if options.restart else read_json(self.work / "state.json")
        known = state.get("format") == STATE_FORMAT and state.get("version") == VERSION
        self.project: str = state["project"] if known else ""
        self.steps: dict[str, Any] = state["steps"] if known else {}

    def step(self, step: str) -> Done:
        """Run a step, or find it done."""
        key = self._key(step)
        entry = self.steps.get(step, {})
        if entry.get("key") == key and self._has(step):
            return Done(step, float(entry["seconds"]), True, str(entry["note"]))
        self._prepare(step)
        tool = self._tool(step)
        assert tool is not None  # find() was asked for it
        log = self.work / "logs" / f"{step}.log"
        if log.exists():
            os.replace(log, log.with_name(f"{step}.previous.log"))
        hours = self.options.hours or HOURS[step]
        start = time.monotonic()

        def tick(seconds: float) -> None:
            minutes = f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
            self.doing(f"{TITLES[step]}, {tool.title}, {minutes}  {progress(_tail(log))}")

        tick(0.0)
        status = self.machine.run(tool.command(f"scripts/{step}.tcl"), log, 3600.0 * hours, tick)
        seconds = round(time.monotonic() - start, 1)
        self.machine.fetch(self.directory, FETCHED)
        where = f"{TITLES[step]} ({tool.title} on {self.machine.name})"
        ended(where, status, log, hours)
        if not self._has(step):
            raise SynthesisFailed(f"{where}: ended without an error, but one of {', '.join(MADE[step])} is missing. "
                                  f"The log is {log}.")  # fmt: skip
        said = check(step, self.directory, log, self.job)
        self.steps[step] = {"key": key, "design": self.digest, "seconds": seconds, "finished": _now(),
                            "tool": tool.title, "machine": self.machine.name, "note": said}  # fmt: skip
        self._save()
        return Done(step, seconds, False, said)

    def _prepare(self, step: str) -> None:
        """Forget the step and all that rests on it, copy what the machine needs, remove what it would mistake."""
        for other in STEPS:
            if step in basis(other):
                self.steps.pop(other, None)
        fresh = self.project != self._project()
        if fresh:
            self.steps, self.project = {}, ""
        self._save()
        if not self.copied:
            self.doing(f"Copying to {self.machine.name}")
            self.machine.put(
                self.directory,
                ("hls", f"{WORK}/scripts", f"{WORK}/{CSIM_VECTORS}", f"{WORK}/{COSIM_VECTORS}"),
            )
            self.copied = True
        if fresh:  # of another design, part, clock or release: its settings would stay
            self.machine.remove([PROJECT, OVERLAY])
            self.project = self._project()
            self._save()
        for name in MADE[step]:
            if name.startswith(FETCHED):
                (self.work / name).unlink(missing_ok=True)

    def install(self) -> Path:
        """Put the bitstream, the handoff and the record of both into the bundle: the record last."""
        files = {n: self.work / "output" / f"design.{n}" for n in ("bit", "hwh")}
        assert self.vivado is not None
        record = {
            "format": FORMAT,
            "version": VERSION,
            "tool": {"hls": self.hls.title, "vivado": self.vivado.release},
            "board": self.job.board.name,
            "part": self.job.board.part,
            "clock_mhz": round(self.job.board.fabric_mhz(self.job.clock_mhz), 3),
            "design": self.digest,
            **{n: file_digest(path) for n, path in files.items()},
            "finished": self.steps["bitstream"]["finished"],
        }
        target = self.directory / "design.bit"
        known = read_json(self.directory / "synthesis.json")
        if known == record and all(is_file_of(self.directory / f"design.{n}", record[n]) for n in files):
            return target
        for n, path in files.items():
            write_whole(self.directory / f"design.{n}", path.read_bytes())
        write_json(self.directory / "synthesis.json", record)
        return target

    def _tool(self, step: str) -> Tool | None:
        return self.vivado if step in VIVADO_STEPS else self.hls

    def _project(self) -> str:
        """Digest of what the HLS tool's project is made of: the vectors are no part of it."""
        parts = (self.texts["csim.tcl"], self.digest, self.hls.title, self.machine.name)
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()

    def _key(self, step: str) -> str:
        """Digest of what a step is made of, and of the steps it rests on."""
        tool = self._tool(step)
        script = re.sub(r"-jobs \d+", "", self.texts[f"{step}.tcl"])  # how fast, not what
        parts = [self._project(), script, tool.title if tool else ""]
        parts += [digest for name, digest in sorted(self.vectors.items()) if name in parts[1]]
        parts += [self._key(before) for before in basis(step)[1:2]]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()

    def _has(self, step: str) -> bool:
        """Whether what a step made is still there: reports and output here, projects on the machine."""
        here = [name for name in MADE[step] if name.startswith(FETCHED)]
        there = [name for name in MADE[step] if name not in here]
        return all((self.work / name).exists() for name in here) and self.machine.has(there)

    def _save(self) -> None:
        state = {"format": STATE_FORMAT, "version": VERSION, "project": self.project, "steps": self.steps}
        write_json(self.work / "state.json", state)


@contextmanager
def _alone(work: Path) -> Iterator[None]:
    """One synthesis of a bundle at a time; the lock goes with the process."""
    with (work / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise CodesignError(
                f"{work}: another `codesign synth` is at work there, expected none. Wait for it, or end it."
            ) from None
        yield


def _tail(log: Path) -> str:
    """The last 4 KiB of a log that is being written."""
    if not log.exists():
        return ""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 4096))
        return file.read().decode(errors="replace")


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
