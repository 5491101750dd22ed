"""What a terminal shows while a network is trained."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from codesign.cli_common import note, progress


class Watch:
    """A progress bar for training; without a terminal one line every thousand steps."""

    def __init__(self, what: str) -> None:
        self.what, self.stack = what, ExitStack()

    def __enter__(self) -> Watch:
        columns = (
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        self.bar = self.stack.enter_context(progress(*columns))
        self.task = self.bar.add_task(self.what, total=None)
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    def report(self, p: Any) -> None:
        """Called by the training loop every few steps with a quant.train.Progress."""
        text = f"{self.what}: loss {p.loss:.3f}, {p.size} px, {p.images_per_s:.0f} images/s"
        self.bar.update(self.task, total=p.steps, completed=p.step, description=text)
        if not self.bar.console.is_terminal and p.step % 1000 == 0:
            note(f"step {p.step} of {p.steps}: loss {p.loss:.3f}, {p.images_per_s:.0f} images/s")

    def say(self, text: str) -> None:
        self.bar.update(self.task, description=text.capitalize())
        if not self.bar.console.is_terminal:
            note(text)
