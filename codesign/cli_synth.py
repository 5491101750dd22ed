"""The verb that runs the vendor's tools: synth."""

from __future__ import annotations

from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from codesign.cli_common import FAILED, Json, err, note, out, print_json, table, verb, working


class Stop(str, Enum):
    csynth = "csynth"
    cosim = "cosim"
    export = "export"
    bitstream = "bitstream"


def register(app: typer.Typer) -> None:
    app.command(epilog="Example:  codesign synth bundle --host me@builder --tools /tools/Xilinx")(synth)


@verb
def synth(
    bundle: Annotated[Path, typer.Argument(help="A bundle directory that `codesign build` made.")],
    host: Annotated[
        str | None, typer.Option(metavar="USER@MACHINE", help="Run the tools there over ssh (else here).")
    ] = None,
    stop_after: Annotated[Stop, typer.Option(help="The last step to run.")] = Stop.bitstream,
    cosim: Annotated[
        bool, typer.Option("--cosim/--no-cosim", help="Simulate the RTL against our vectors; takes long.")
    ] = True,
    tools: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Where the tools are installed (else XILINX_* variables and PATH)."),
    ] = None,
    vivado: Annotated[
        str | None, typer.Option(metavar="RELEASE", help="Such as 2022.1 (else the newest that is there).")
    ] = None,
    clock: Annotated[
        int | None, typer.Option(metavar="MHZ", help="Of the engine (else the board's).")
    ] = None,
    board: Annotated[
        str | None, typer.Option(help="A board's name, or the path of its TOML (else the bundle's).")
    ] = None,
    images: Annotated[
        list[Path] | None,
        typer.Option("--images", "-i", help="Pictures for the test vectors (else a sample)."),
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, max=64, help="Processes of Vivado at a time.")] = 2,
    hours: Annotated[
        float | None, typer.Option(min=0.0001, help="Limit of each step (else 1 to 24, by step).")
    ] = None,
    folder: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Work folder on --host (else one below ~/codesign-synth)."),
    ] = None,
    restart: Annotated[bool, typer.Option("--restart", help="Forget the steps that are done.")] = False,
    as_json: Json = False,
) -> None:
    """Make a bitstream: C simulation, C synthesis, RTL co-simulation, IP, block design, place and route.

    Needs Vivado and its HLS tool, here or on another machine. Finished steps are kept: run it again to go on after a
    failure. Exit code 1 if a tool or a check fails: vectors that differ, a loop that misses its interval, timing that
    is not met. The bundle gets design.bit and design.hwh only when all is well.
    """
    from codesign.cli_detect import read_all
    from codesign.shipped import samples
    from codesign.synth_check import SynthesisFailed
    from codesign.synth_steps import TITLES
    from codesign.synthesis import Done, Options, synthesize

    options = Options(
        host, folder, stop_after.value, cosim, tools, vivado, board, clock, jobs, hours, restart
    )
    pictures = read_all(images or samples()[:1])

    def done(step: Done) -> None:
        state = "kept" if step.kept else f"{step.seconds:.0f} s"
        note(f"{TITLES[step.step]}: {state}{f', {step.note}' if step.note else ''}")

    try:
        with working("Reading the bundle") as doing:
            outcome = synthesize(bundle, options, pictures, note, doing, done)
    except SynthesisFailed as error:
        err.print(f"[bold red]failed:[/] {escape(str(error))}")
        raise typer.Exit(FAILED) from None
    if as_json:
        print_json(_facts(bundle, outcome))
        return
    rows = [
        (TITLES[s.step], "kept" if s.kept else "done", escape(s.note), f"{s.seconds:,.0f}")
        for s in outcome.steps
    ]
    used = " and ".join(t.title for t in (outcome.hls, outcome.vivado) if t is not None)
    table(f"{bundle}: {used}", ("step", "state", "result", "s"), rows, left=3)
    if outcome.bitstream is not None:
        out.print(f"{escape(str(outcome.bitstream))} and design.hwh are in the bundle.")
    note(f"Next: codesign report {bundle}")


def _facts(bundle: Path, outcome: Any) -> dict[str, Any]:
    return {
        "bundle": str(bundle),
        "tools": [asdict(tool) for tool in (outcome.hls, outcome.vivado) if tool is not None],
        "steps": [asdict(step) for step in outcome.steps],
        "bitstream": None if outcome.bitstream is None else str(outcome.bitstream),
    }
