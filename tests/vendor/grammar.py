"""The commands that the stand-in tools know, with their options, by release.

A line is: command, number of other arguments (`n` or `n-m`), options. `-name` is a flag, `-name:` takes a value,
`-name=` is a flag that may say =true or =false. `[from:to]` gives the releases that know it, both ends included.
From UG902 (Vivado HLS 2018.3 to 2020.1), UG1391 (what changed with Vitis HLS), UG1399 (Vitis HLS 2020.2 to
2025.2), UG835 (Vivado). Only commands that a script of ours might use are here; every other one is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

HLS = """
open_project          1    -reset -upgrade[2020.2:]
close_project         0
set_top               1
add_files             1    -tb -cflags: -csimflags: -blackbox:[2019.2:] -appendflags[2023.2:]
open_solution         1    -reset -flow_target:[2020.2:]
close_solution        0
set_part              1    -tool:[:2020.1]
create_clock          0-1  -period: -name:
set_clock_uncertainty 1-2
config_interface      0    -m_axi_addr64[:2020.1] -m_axi_addr64=[2020.2:] -m_axi_offset: -register_io: \
-clock_enable[:2020.1] -clock_enable=[2020.2:] -trim_dangling_port[:2020.1] -expose_global[:2020.1] \
-m_axi_latency:[2020.2:] -m_axi_max_widen_bitwidth:[2020.2:] -m_axi_alignment_byte_size:[2020.2:] \
-default_slave_interface:[2020.2:]
config_compile        0    -pipeline_loops: -name_max_length: -unsafe_math_optimizations
config_export         0    -format: -rtl: -vendor: -library: -ipname: -version: -display_name: -description: \
-vivado_optimization_level: -vivado_phys_opt:
csim_design           0    -O -argv: -clean -ldflags: -mflags:[:2024.2] -setup -profile[2020.1:2024.1] \
-sanitize_address[2025.1:] -sanitize_undefined[2025.1:]
csynth_design         0    -dump_cfg[2020.2:] -synthesis_check[2020.2:]
cosim_design          0    -O -argv: -compiled_library_dir: -coverage -disable_deadlock_detection -ldflags: \
-mflags: -rtl: -setup -tool: -trace_level: -wave_debug -reduce_diskspace[:2020.1] -ignore_init:[:2020.1] \
-disable_dependency_check[2020.2:] -enable_dataflow_profiling[2020.2:] -random_stall[2020.2:]
export_design         0    -format: -rtl: -vendor: -library: -ipname: -version: -display_name: -description: \
-evaluate:[:2020.1] -flow:[2020.2:] -output:[2020.2:] -taxonomy:[2020.2:] -xo:[2019.2:2020.1]
"""

VIVADO = """
create_project        0-2  -part: -force -in_memory -ip -rtl_kernel
open_project          1    -read_only -quiet -verbose
close_project         0    -delete -quiet -verbose
current_project       0-1  -quiet -verbose
current_fileset       0    -quiet -verbose
get_filesets          0-1  -quiet
set_property          0-3  -dict: -quiet -verbose
get_property          2    -min -max -quiet -verbose
update_ip_catalog     0    -rebuild -delete_ip: -add_ip: -disable_ip: -enable_ip: -repo_path: -quiet -verbose
get_ipdefs            0-9  -name -regexp -nocase -filter: -of_objects: -all -quiet -verbose
create_bd_design      1    -dir: -cell: -bdsource: -quiet -verbose
save_bd_design        0-1  -quiet -verbose
validate_bd_design    0-1  -force -design: -include_pfm -quiet -verbose
create_bd_cell        1    -vlnv: -type: -reference: -revision: -quiet -verbose
create_bd_intf_port   1    -mode: -vlnv: -quiet -verbose
create_bd_port        1    -from: -to: -dir: -type: -freq_hz: -quiet -verbose
connect_bd_net        0-99 -net: -boundary_type: -quiet -verbose
connect_bd_intf_net   0-2  -intf_net: -boundary_type: -auto_side_band -quiet -verbose
get_bd_cells          0-1  -regexp -hierarchical -filter: -of_objects: -quiet -verbose
get_bd_pins           0-1  -regexp -hierarchical -filter: -of_objects: -quiet -verbose
get_bd_intf_pins      0-1  -regexp -hierarchical -filter: -of_objects: -quiet -verbose
get_bd_intf_ports     0-1  -regexp -filter: -of_objects: -quiet -verbose
get_bd_addr_spaces    0-1  -regexp -hierarchical -filter: -of_objects: -quiet -verbose
get_bd_addr_segs      0-1  -regexp -hierarchical -filter: -of_objects: -excluded -addressed -unaddressed \
-addressing -addressables -quiet -verbose
assign_bd_address     0-99 -target_address_space: -boundary -master_boundary -external -import_from_file: \
-export_to_file: -offset:[2019.2:] -range:[2019.2:] -force -quiet -verbose
get_files             0-9  -regexp -nocase -filter: -of_objects: -all -norecurse -quiet -verbose
generate_target       2    -force -quiet -verbose
make_wrapper          0    -top -testbench -inst_template -fileset: -import -force -quiet -verbose -files:
add_files             0-9  -fileset: -of_objects: -norecurse -copy_to: -force -scan_for_includes -quiet -verbose
update_compile_order  0    -force_gui -fileset: -quiet -verbose
reset_run              1   -prev_step -from_step: -noclean_dir -quiet -verbose
launch_runs           1-9  -jobs: -scripts_only -lsf: -dir: -to_step: -next_step -host: -remote_cmd: -email_to: \
-pre_launch_script: -post_launch_script: -force -quiet -verbose
wait_on_run           1    -timeout: -quiet -verbose
get_runs              0-1  -regexp -nocase -filter: -quiet -verbose
open_run              1    -name: -pr_config: -quiet -verbose
report_utilization    0    -file: -append -pblocks: -cells: -return_string -slr -packthru -name: -no_primitives \
-omit_locs -hierarchical -spreadsheet_file: -hierarchical_depth: -hierarchical_percentages -quiet -verbose
report_timing_summary 0    -check_timing_verbose -delay_type: -no_detailed_paths -setup -hold -max_paths: -nworst: \
-unique_pins -path_type: -no_header -file: -append -name: -return_string -warn_on_violation -datasheet -cells: \
-report_unconstrained -significant_digits: -rpx: -quiet -verbose
report_power          0    -no_propagation -hier: -hierarchical_depth:[2020.1:] -vid -advisory -file: -name: \
-format: -xpe: -l: -return_string -append -rpx: -quiet -verbose
"""

_OPTION = re.compile(r"-(\w+)([:=]?)(?:\[([\d.]*):([\d.]*)\])?$")


class Refused(Exception):
    """An error of the stand-in: becomes an error of the Tcl command."""


@dataclass(frozen=True)
class Option:
    value: bool
    flag: bool  # may say =true or =false


@dataclass(frozen=True)
class Command:
    name: str
    low: int
    high: int
    options: Mapping[str, Option]


def commands(tool: str, release: str) -> dict[str, Command]:
    """What a tool of a release knows; exit belongs to every one."""
    found = {"exit": Command("exit", 0, 1, {})}
    text = (VIVADO if tool == "vivado" else HLS).replace("\\\n", "")
    for line in text.strip().splitlines():
        name, count, *options = line.split()
        low, _, high = count.partition("-")
        known = {}
        for option in options:
            match = _OPTION.match(option)
            assert match is not None, option
            key, kind, since, until = match.groups()
            if _number(since or "0") <= _number(release)[:2] <= _number(until or "9999"):
                known[key] = Option(kind == ":", kind == "=")
        found[name] = Command(name, int(low), int(high or low), known)
    return found


def parse(command: Command, words: Sequence[str], repeat: str = "") -> tuple[dict[str, str], list[str]]:
    """Options by name ("1" for a flag) and the other arguments. Raises Refused in the tools' words."""
    given: dict[str, str] = {}
    others: list[str] = []
    i = 0
    while i < len(words):
        word = words[i]
        i += 1
        if not re.match(r"-[A-Za-z_]", word):
            others.append(word)
            continue
        name, equals, value = word[1:].partition("=")
        option = command.options.get(name)
        if option is None:
            raise Refused(
                f"[Common 17-170] Unknown option '{word}', please type '{command.name} -help' for usage info."
            )
        if equals and (not option.flag or value not in ("true", "false")):
            raise Refused(f"[Common 17-170] Option '{word}' takes no such value.")
        if option.value:
            if i == len(words):
                raise Refused(f"[Common 17-157] Option '{word}' needs a value.")
            value = words[i]
            i += 1
        if name in given:
            raise Refused(f"[Common 17-163] Option '{word}' is given twice.")
        given[name] = value or "1"
    if not command.low <= len(others) <= command.high:
        expected = str(command.low) if command.low == command.high else f"{command.low} to {command.high}"
        raise Refused(
            f"[Common 17-165] {command.name}: {len(others)} positional arguments, expected {expected}: {others}"
        )
    return given, others


def _number(release: str) -> tuple[int, ...]:
    return tuple(int(part) for part in release.split("."))
