"""The steps of a synthesis: what each is called, how long it may take, what it rests on, what it leaves."""

from __future__ import annotations

from codesign.synth_tcl import OVERLAY, PROJECT, SOLUTION

HOURS = {
    "csim": 1.0,
    "csynth": 6.0,
    "cosim": 24.0,
    "export": 1.0,
    "design": 1.0,
    "synthesis": 12.0,
    "bitstream": 24.0,
}
TITLES = {
    "csim": "C simulation", "csynth": "C synthesis", "cosim": "RTL co-simulation", "export": "IP export",
    "design": "block design", "synthesis": "synthesis", "bitstream": "place, route, bitstream",
}  # fmt: skip
BEFORE = {"cosim": "csynth", "export": "csynth", "design": "export", "synthesis": "design",
          "bitstream": "synthesis"}  # fmt: skip
MADE = {  # by a step, below synthesis/: without them it is not done
    "csim": (PROJECT,),
    "csynth": (f"{PROJECT}/{SOLUTION}/syn", "reports/csynth.xml"),
    "cosim": ("reports/cosim.rpt",),
    "export": (f"{PROJECT}/{SOLUTION}/impl/ip/component.xml",),
    "design": (f"{OVERLAY}/{OVERLAY}.xpr",),
    "synthesis": (f"{OVERLAY}/{OVERLAY}.runs/synth_1",),
    "bitstream": ("output/design.bit", "output/design.hwh", "reports/timing.rpt", "reports/utilization.rpt",
                  "reports/power.rpt"),
}  # fmt: skip


def basis(step: str) -> list[str]:
    """A step, and the steps whose result it uses, the nearest first. C simulation leaves only its project."""
    found = [step]
    while found[-1] in BEFORE:
        found.append(BEFORE[found[-1]])
    return found
