"""What is read out of the vendor's logs. The lines are as the tools write them; see the issues they come from."""

from __future__ import annotations

import pytest

from codesign.synth_log import STREAM_MISUSE, first_error, hint, progress

WARNINGS = "\n".join(f"WARNING: [Synth 8-{i}] design has unconnected port, no ERROR" for i in range(300))
Y2K22 = """\
****** Vivado v2019.1 (64-bit)
source run_ippack.tcl -notrace
bad lexical cast: source type value could not be interpreted as target
    while executing
"rdi::set_property core_revision 2201061327 {component component_1}"
INFO: [Common 17-206] Exiting Vivado at Thu Jan  6 13:27:40 2022...
ERROR: [IMPL 213-28] Failed to generate IP.
command 'ap_source' returned error code
"""
Y2K22_LATER = """\
source run_ippack.tcl -notrace
ERROR: '2201251806' is an invalid argument. Please specify an integer value.
    while executing
"rdi::set_property core_revision 2201251806 {component component_1}"
ERROR: [IMPL 213-28] Failed to generate IP.
"""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"{WARNINGS}\nERROR: [Place 30-640] Place Check : too many LUTs\nERROR: [Common 17-69] Command failed: x",
         "ERROR: [Place 30-640] Place Check : too many LUTs"),
        ("ERROR: [Common 17-69] Command failed: run failed\nERROR: [Route 35-9] cannot route",
         "ERROR: [Route 35-9] cannot route"),
        ("ERROR: [Vivado 12-13638] Failed runs(s) : 'synth_1'\nERROR: [codesign synthesis] synth_1 ended as 'x'",
         "ERROR: [Vivado 12-13638] Failed runs(s) : 'synth_1'"),
        (Y2K22, "bad lexical cast: source type value could not be interpreted as target"),
        (Y2K22_LATER, "ERROR: '2201251806' is an invalid argument. Please specify an integer value."),
        ('invalid command name "open_projekt"\n    while executing', 'invalid command name "open_projekt"'),
        ("/opt/bin/loader: line 312: 4242 Segmentation fault      (core dumped)",
         "/opt/bin/loader: line 312: 4242 Segmentation fault      (core dumped)"),
        ("ERROR: [codesign csynth] couldn't open file", "ERROR: [codesign csynth] couldn't open file"),
        (WARNINGS, ""),
        ("", ""),
    ],
)  # fmt: skip
def test_the_first_error_that_gives_a_reason(text: str, said: str) -> None:
    assert first_error(text) == said


@pytest.mark.parametrize(
    ("text", "part"),
    [
        (Y2K22, "y2k22_patch"),
        (Y2K22_LATER, "y2k22_patch"),
        (
            "ERROR: [Common 17-345] A valid license was not found for feature 'Synthesis'",
            "XILINXD_LICENSE_FILE",
        ),
        ("write failed: No space left on device", "Free some space"),
        ("ERROR: [Coretcl 2-106] Specified part could not be found.", "Install the device family"),
    ],
)
def test_what_to_do_about_known_failures(text: str, part: str) -> None:
    assert part in hint(text)
    assert hint("ERROR: [Place 30-640] too many LUTs") == ""


def test_progress_is_the_last_line_that_says_something() -> None:
    log = "INFO: [HLS 200-10] Analyzing design file 'top.cpp' ...\nWARNING: [X] no\n   and more\n"
    assert progress(log) == "Analyzing design file 'top.cpp' ..."
    assert progress("Phase 2.1 Global   Placement\n---\n") == "Phase 2.1 Global Placement"
    assert progress("") == ""


def test_streams_misused_in_the_vendors_simulation_are_seen() -> None:
    assert STREAM_MISUSE.search(
        "WARNING: Hls::stream 'loaded' contains leftover data, which may result in ..."
    )
    assert STREAM_MISUSE.search(
        "WARNING [HLS SIM]: hls::stream 'x' is read while empty, returning default value"
    )
    assert not STREAM_MISUSE.search("INFO: hls::stream 'x' was created")
