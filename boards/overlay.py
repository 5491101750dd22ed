"""The accelerator as a PYNQ overlay: a checked bundle, its bitstream loaded, its engine found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pynq import Overlay

from boards.driver import VLNV, Engine
from boards.faults import WrongBitstream
from codesign.transport import Deployable, check


class Accelerator(Overlay):
    """`Accelerator(directory)` of an unpacked bundle. Nothing is loaded before the bundle is found whole.

    deployed: the bundle and what is known of its synthesis.
    engine: the driver of the engine, idle.
    Raises BundleError and WrongBitstream.
    """

    def __init__(self, directory: Path | str, *, download: bool = True, device: Any = None) -> None:
        self.deployed: Deployable = check(Path(directory))
        super().__init__(str(self.deployed.bitstream.resolve()), download=download, device=device)
        self.engine: Engine = self._find()

    def _find(self) -> Engine:
        kind = VLNV.rsplit(":", 1)[0]
        found = [name for name, ip in self.ip_dict.items() if str(ip["type"]).rsplit(":", 1)[0] == kind]
        if len(found) != 1:
            others = ", ".join(sorted(self.ip_dict)) or "nothing"
            raise WrongBitstream(
                f"{self.bitfile_name}: the design holds {others}, expected one {kind}. "
                "Deploy the .hwh that was made with the bitstream."
            )
        driver: Any = self
        for part in found[0].split("/"):
            driver = getattr(driver, part)
        if not isinstance(driver, Engine):
            raise WrongBitstream(
                f"{found[0]}: is of type {self.ip_dict[found[0]]['type']}, expected {VLNV}. "
                "Synthesize again with this version of codesign."
            )
        return driver

    def reload(self) -> None:
        """Load the bitstream again, which stops an engine that hangs. Raises WrongBitstream if it stays dead."""
        self.download()
        self.engine.forget()
