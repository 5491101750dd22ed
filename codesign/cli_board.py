"""Verbs of the board: bundle, deploy, bench."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from codesign.cli_common import (
    FAILED,
    Choose,
    Json,
    err,
    fail,
    figure,
    note,
    out,
    print_json,
    table,
    tracked,
    verb,
    working,
    write_beside,
)

Host = Annotated[str, typer.Option(help="The board, user@machine as ssh takes it.")]
Timeout = Annotated[float, typer.Option(min=0.001, help="Seconds that the board gives a frame.")]
PICTURES = "pictures.npz"  # on the board


def register(app: typer.Typer) -> None:
    app.command(epilog="Example:  codesign bundle bundle -o codenet-a.codesign")(bundle)
    app.command(epilog="Example:  codesign deploy bundle --host xilinx@pynq")(deploy)
    app.command(epilog="Example:  codesign bench bundle --host xilinx@pynq --frames 500")(bench)


@verb
def bundle(
    directory: Annotated[Path, typer.Argument(metavar="BUNDLE", help="A synthesised bundle.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="The file (else BUNDLE.codesign).")
    ] = None,
    images: Annotated[
        list[Path] | None,
        typer.Option("--images", "-i", help="Pictures for the vectors (else shipped ones)."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Pack a synthesised bundle with its bitstream and test vectors into one file for a board.

    The bitstream must have been made from the bundle's own sources. Expected outputs come from C simulation.
    """
    target = output or Path(f"{directory.resolve()}.codesign")
    facts = _pack(directory, target, images)
    if as_json:
        print_json(facts)
    else:
        size, count = f"{facts['bytes'] / 1e6:.1f} MB", facts["vectors"]
        out.print(f"[bold]{escape(str(target))}[/]: {size} for {facts['board']}, {count} test vectors")


@verb
def deploy(
    what: Annotated[Path, typer.Argument(metavar="BUNDLE", help="A synthesised bundle, or a packed one.")],
    host: Host,
    timeout: Timeout = 2.0,
    check: Annotated[
        bool, typer.Option("--check/--no-check", help="Compare the board with the test vectors.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Copy a bundle and the driver to a board, install both, and compare the board with C simulation.

    Exit code 1 if the board computes a different bit. Needs ssh with a key, and a PYNQ image that goes with the board.
    """
    from codesign.board_host import BoardHost, CheckFailed
    from codesign.board_wheel import FILE, wheel
    from codesign.transport import SUFFIX

    board = BoardHost(host)
    name = _name(what)
    with tempfile.TemporaryDirectory() as work, working("Packing") as say:
        packed = what
        if what.is_dir():
            packed = Path(work) / f"{name}{SUFFIX}"
            _pack(what, packed, None)
        facts = _facts(packed)
        say(f"Looking at {host}")
        pynq, python = board.versions()
        notes = _check_image(facts, pynq)
        say(f"Copying to {host}")
        data = packed.read_bytes()
        board.put({f"{name}{SUFFIX}": data, FILE: wheel()})
        say("Installing")
        pip = ["-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--force-reinstall", FILE]
        board.python(pip, 600)
        installed = board.json(["install", f"{name}{SUFFIX}"])
        say("Comparing with the test vectors")
        checked: dict[str, Any] | None = None
        try:
            if check:
                checked = board.json(["check", name, "--timeout", str(timeout)])
        except CheckFailed as error:
            checked = error.result
    result = {**installed, "host": host, "pynq": pynq, "python": python, "bytes": len(data), "check": checked}
    for said in notes:
        note(said)
    if as_json:
        print_json(result)
    else:
        where = f"{installed['directory']} on {host}"
        out.print(f"[bold]{escape(name)}[/] for {installed['board']} is in {escape(where)} (PYNQ {pynq})")
        if installed["notebook"]:
            out.print(f"Notebook: {escape(installed['notebook'])}")
        if checked is not None:
            out.print(_exactness(checked, checked["source"]))
    if checked is not None and checked["differences"]:
        err.print(f"[bold red]different:[/] {checked['differences']} values of {checked['values']}")
        raise typer.Exit(FAILED)


@verb
def bench(
    what: Annotated[
        Path,
        typer.Argument(metavar="BUNDLE", help="A bundle, whose name is deployed; or, here, any of both."),
    ],
    host: Annotated[
        str | None, typer.Option(help="The board, user@machine; without it this machine is the board.")
    ] = None,
    frames: Annotated[
        int, typer.Option(min=1, help="Frames for latency, and again for frames a second.")
    ] = 200,
    data: Annotated[
        str | None,
        typer.Option(metavar="SPEC", help="Also accuracy, on a data set as `codesign eval` takes it."),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many pictures.")] = None,
    timeout: Timeout = 2.0,
    choose: Choose = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write the JSON here (else BUNDLE/bench.json).")
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure a deployed bundle on its board: latency, frames/s, host share, power, accuracy, and every bit.

    Writes bench.json, which `codesign report` reads. Exit code 1 if the board computes a different bit.
    """
    pictures = _pictures(what, data, limit) if data is not None else None
    arguments = ["--frames", str(frames), "--timeout", str(timeout)]
    arguments += [word for text in choose or () for word in ("--choose", text)]
    seconds = 120 + 4 * frames * min(timeout, 1.0)
    with working("Measuring"):
        if host is not None:
            result = _bench_there(host, _name(what), arguments, pictures, seconds)
        else:
            result = _bench_here(what, arguments, pictures)
    target = output or (what / "bench.json" if what.is_dir() else None)
    if target is not None:
        write_beside(target, (json.dumps(result, indent=1) + "\n").encode())
    if as_json:
        print_json(result)
    else:
        _show(result)
    if result["bit_exact"]["differences"]:
        raise typer.Exit(FAILED)


# --- packing ----------------------------------------------------------------------------------------------------


def _pack(directory: Path, target: Path, images: list[Path] | None) -> dict[str, Any]:
    from codesign.cli_detect import read_all
    from codesign.deploy import pack
    from codesign.shipped import samples

    pictures = read_all(images or samples()[:2])
    with working("Simulating the test vectors"):
        return pack(directory, target, pictures)


def _name(what: Path) -> str:
    """What a bundle is called on the board."""
    from codesign.transport import SUFFIX

    name = what.resolve().name if what.is_dir() else what.name.removesuffix(SUFFIX)
    if not name or name.startswith((".", "-")):
        fail(f"{what}: has no name for the board, expected a directory or a file with one. Rename it.")
    return name


def _facts(packed: Path) -> dict[str, Any]:
    """Board and tool of a packed bundle: synthesis.json. Raises BundleError if the file is not whole."""
    from codesign.transport import SYNTHESIS, read

    members = read(packed)
    found = json.loads(members[SYNTHESIS])
    found["carried"] = members.get("board.toml")
    return dict(found)


def _check_image(facts: dict[str, Any], pynq: str) -> tuple[str, ...]:
    """Refuse an image that does not go with the board; returns what is worth a note."""
    from codesign.board import CARRIED, bundle_board
    from codesign.compat import check_image, notes

    vivado = (facts.get("tool") or {}).get("vivado")
    with tempfile.TemporaryDirectory() as work:
        if facts["carried"] is not None:
            (Path(work) / CARRIED).write_bytes(facts["carried"])
        board = bundle_board(Path(work), str(facts["board"]))
    check_image(board, pynq, vivado)
    return notes(board, vivado, pynq) if vivado else ()


# --- measuring --------------------------------------------------------------------------------------------------


def _pictures(what: Path, spec: str, limit: int | None) -> bytes:
    from codesign.bundle import load
    from codesign.deploy import pictures_file
    from quant.data import load as load_data

    if not what.is_dir():
        fail(
            f"{what}: is no bundle directory, expected one for --data: it says how pictures are scaled. Name it."
        )
    dataset = load_data(spec)
    count = min(len(dataset), limit or len(dataset))
    samples = (dataset[i] for i in tracked(range(count), "Preparing pictures"))
    return pictures_file(load(what), samples, dataset.classes, spec)


def _bench_there(
    host: str, name: str, arguments: list[str], pictures: bytes | None, seconds: float
) -> dict[str, Any]:
    from codesign.board_host import BoardHost, CheckFailed

    board = BoardHost(host)
    if pictures is not None:
        board.put({PICTURES: pictures})
        arguments = [*arguments, "--pictures", PICTURES]
    try:
        return dict(board.json(["bench", name, *arguments], seconds + (0 if pictures is None else 3600)))
    except CheckFailed as error:
        return dict(error.result)


def _bench_here(what: Path, arguments: list[str], pictures: bytes | None) -> dict[str, Any]:
    from importlib.util import find_spec

    if find_spec("pynq") is None:
        fail("codesign bench: pynq is not installed, so this is no board. Name one with --host user@machine.")
    from boards.bench import bench as measure
    from boards.detector import Detector
    from codesign.switch import parsed

    with tempfile.TemporaryDirectory() as work:
        file = None
        if pictures is not None:
            file = Path(work) / PICTURES
            file.write_bytes(pictures)
        with Detector(what, timeout=float(arguments[3])) as detector:
            return measure(detector, int(arguments[1]), file, choose=parsed(arguments[5::2]))


def _exactness(found: dict[str, Any], source: str) -> str:
    values, count = f"{found['values']:,}", found["vectors"]
    if found["differences"]:
        return f"[bold red]{found['differences']:,} of {values} values differ from C simulation[/] ({source})"
    return f"[green]✓[/] {values} values of {count} test vectors are those of C simulation ({source})"


def _show(result: dict[str, Any]) -> None:
    measured = "measured" if result["source"] == "board" else "not measured"
    head = ("ms", "min", "median", "mean", "p95", "max")
    names = ("latency_ms", "engine_ms")
    rows = [(n.removesuffix("_ms"), *(figure(result[n].get(k), ".2f") for k in head[1:])) for n in names]
    table(f"{result['bundle']} on {result['board']}, {result['frames']} frames, {measured}", head, rows)
    if result["source"] != "board":
        out.print(f"[yellow]These figures are of a {result['source']}: they say nothing about a board.[/]")
    out.print(
        f"[bold]{result['frames_per_s']:.1f} frames/s[/]; host share of the latency {result['host_share']:.0%}"
    )
    if result["dram_bytes_per_frame"] is not None:
        out.print(f"DRAM {result['dram_bytes_per_frame'] / 1e6:.2f} MB a frame, {result['dram_kind']}")
    for name, power in (result["power_w"] or {}).items():
        out.print(f"Power, {name}: {power['idle']:.2f} W idle, {power['busy']:.2f} W busy")
    if result["power_w"] is None:
        out.print("Power: no rails that can be read")
    accuracy = result["accuracy"]
    if accuracy is not None:
        ap = f"AP50 {figure(accuracy['ap50'])}, by VOC 2007's rule {figure(accuracy['ap50_voc07'])}"
        out.print(f"{ap} on {escape(accuracy['data'])}, {accuracy['images']} pictures")
    out.print(_exactness(result["bit_exact"], result["source"]))
    versions = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
    note(f"Versions: {versions}")
