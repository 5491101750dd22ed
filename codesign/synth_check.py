"""Whether a step of a synthesis has done what it is for: by its log and reports, not by an exit status alone."""

from __future__ import annotations

from pathlib import Path

from codesign.contract import broken, compare, contract, unproven
from codesign.csynth import csynth
from codesign.errors import CodesignError
from codesign.handoff import board_clock
from codesign.reports import ReportError, Timing, cosim, timing
from codesign.synth_log import STREAM_MISUSE, first_error, hint, progress, read
from codesign.synth_tcl import OUTPUT, Job


class SynthesisFailed(CodesignError):
    """A tool failed, or what it made is not what it has to be."""


def ended(where: str, status: int | None, log: Path, hours: float) -> None:
    """Raises SynthesisFailed unless a tool ended well. `status` None: not within `hours`."""
    text = read(log)
    if status is None:
        last = progress(text)
        raise SynthesisFailed(
            f"{where}: not finished after {hours:g} h, ended{f' while {last!r}' if last else ''}, expected it to "
            f"end. Give it longer with --hours. The log is {log}."
        )
    if status != 0:
        reason = first_error(text) or f"ended with status {status} and named no error"
        known = hint(text)
        raise SynthesisFailed(
            f"{where}: {reason.rstrip('.')}.{f' {known}' if known else ''} The log is {log}."
        )


def check(step: str, directory: Path, log: Path, job: Job) -> str:
    """What a step's result has to be. Returns a sentence for people; raises SynthesisFailed."""
    try:
        return _check(step, directory, log, job)
    except ReportError as error:
        raise SynthesisFailed(f"{error} The log is {log}.") from None


def _check(step: str, directory: Path, log: Path, job: Job) -> str:
    reports = log.parent.parent / "reports"
    if step == "csim":
        return _csim(log)
    if step == "csynth":
        return _loops(directory / "hls", reports)
    if step == "cosim":
        if not cosim(reports / "cosim.rpt").passed:
            raise SynthesisFailed(f"RTL co-simulation: fails, expected it to pass. The log is {log}.")
        return "RTL equal to C simulation"
    if step == "bitstream":
        slack = timing(reports / "timing.rpt")
        if not slack.met:
            raise SynthesisFailed(_too_slow(slack, job, reports))
        return f"timing met, {slack.wns:+.3f} ns of slack{_clock(reports.parent / OUTPUT, job)}"
    return ""


def _csim(log: Path) -> str:
    text = read(log)
    said = [line.strip() for line in text.splitlines() if line.strip().endswith(" differences")]
    if not said or not said[-1].endswith(" 0 differences"):
        raise SynthesisFailed(
            f"C simulation: the test bench says {said[-1] if said else 'nothing'!r}, expected 0 differences. "
            f"The log is {log}."
        )
    misuse = STREAM_MISUSE.search(text)
    if misuse is not None:
        raise SynthesisFailed(f"C simulation: {misuse.group()}, expected none. The log is {log}.")
    return said[-1]


def _loops(design: Path, reports: Path) -> str:
    verdicts = compare(contract(design), csynth(reports))
    against = broken(verdicts)
    if against:
        lines = "\n  ".join(against)
        raise SynthesisFailed(
            f"C synthesis: {len(against)} of {len(verdicts)} loops are not as their pragmas promise.\n  {lines}\n"
            f"The reports are in {reports}."
        )
    unnamed = len(unproven(verdicts))  # `codesign report` lists them
    kept = f"{len(verdicts) - unnamed} loops as promised"
    return f"{kept}, {unnamed} in no report" if unnamed else kept


def _too_slow(slack: Timing, job: Job, reports: Path) -> str:
    """What is missed, and the next clock that the board's PLL gives and the worst path would hold."""
    board = job.board
    asked = board.fabric_mhz(job.clock_mhz)
    reachable = 1000 / (1000 / asked - min(slack.wns, 0.0))
    slower = board.fabric_mhz(reachable)
    advice = "Look at the paths" if slack.wns >= 0 else f"Try --clock {int(slower)}, or look at the paths"
    return (
        f"{board.name}: timing is not met at {asked:.1f} MHz: setup {slack.wns:+.3f} ns, hold {slack.whs:+.3f} ns, "
        f"{slack.failing} endpoints fail{f', worst {slack.worst}' if slack.worst else ''}. No bitstream was put into "
        f"the bundle. {advice} in {reports / 'timing.rpt'}."
    )


def _clock(output: Path, job: Job) -> str:
    """Raises where PYNQ would give the design a faster clock than its timing was met for; says it where slower."""
    asked = job.board.fabric_mhz(job.clock_mhz)
    found = board_clock(output / "design.hwh", job.board)
    if found > 1.001 * asked:
        raise SynthesisFailed(
            f"{job.board.name}: PYNQ would run the design at {found:.1f} MHz, expected {asked:.1f}, for which "
            "timing was met. No bitstream was put into the bundle. Is ps.fabric_pll_mhz of the board right? Else try "
            "another --clock."
        )
    return "" if found > 0.999 * asked else f", but PYNQ will run it at {found:.1f} MHz"
