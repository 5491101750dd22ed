"""The command line: `codesign VERB`. Verbs live in cli_*.py; these are the only modules that print.

Exit codes: 0 all is well, 1 a check failed, 2 bad input or a missing tool, 130 interrupted.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from codesign import (
    __version__,
    cli_ablate,
    cli_board,
    cli_cascade,
    cli_common,
    cli_compare,
    cli_compile,
    cli_detect,
    cli_estimate,
    cli_eval,
    cli_foreign,
    cli_report,
    cli_synth,
    cli_train,
    cli_verify,
)

app = typer.Typer(
    name="codesign",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Quantized deformable detectors, from ONNX to an FPGA accelerator, proven bit-exact in C simulation.",
    epilog="Start with:  codesign demo",
)


def _version(wanted: bool) -> None:
    if wanted:
        cli_common.out.print(f"codesign {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show tracebacks; may stand after the verb too.")
    ] = False,
) -> None:
    """Options before the verb. `--debug` has been taken out of the arguments by main()."""


for module in (
    cli_compile,
    cli_train,
    cli_ablate,
    cli_verify,
    cli_compare,
    cli_detect,
    cli_eval,
    cli_cascade,
    cli_foreign,
    cli_estimate,
    cli_synth,
    cli_report,
    cli_board,
):
    module.register(app)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point. Ends with SystemExit and the verb's exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    cli_common.debug = "--debug" in given
    app([a for a in given if a != "--debug"], prog_name="codesign")


if __name__ == "__main__":
    main()
