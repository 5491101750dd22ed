"""What can go wrong on a board, each with the figures that say why. All are errors of codesign.errors."""

from __future__ import annotations

from codesign.errors import CodesignError
from codesign.status import status_text


class BoardFault(CodesignError):
    """Base of all errors of the running accelerator."""


class WrongBitstream(BoardFault):
    """What is loaded, or would be, is not the engine that the bundle was built for."""


class OutOfMemory(BoardFault):
    """The board has no contiguous memory left for another program."""


class EngineFailed(BoardFault):
    """The engine refused the program. `status` is its status word."""

    def __init__(self, where: str, status: int) -> None:
        self.status = status
        super().__init__(
            f"{where}: the engine ended with status {status} ({status_text(status)}), expected 0. "
            "Deploy the bundle again; if that does not help, build it again."
        )


class EngineTimeout(BoardFault):
    """The engine did not finish in time. `control` is its control register, `seconds` how long it was given."""

    def __init__(self, where: str, control: int, seconds: float) -> None:
        self.control, self.seconds = control, seconds
        super().__init__(
            f"{where}: the engine is not done after {seconds:g} s (control register {control:#x}), expected it to be. "
            "Call reset() to load the bitstream again, or give a longer timeout."
        )
