==== csim.tcl ====
# csim.tcl -- written by codesign for Vivado HLS 2020.1, ultra96-v1. Do not edit.
proc step {} {
  set hls [file normalize ../hls]
  set flags "-std=c++0x -I$hls -I$hls/exact"
  open_project engine
  set_top codesign_engine
  add_files $hls/top.cpp -cflags $flags
  add_files -tb $hls/main.cpp -cflags $flags
  open_solution solution1
  set_part xczu3eg-sbva484-1-e
  create_clock -period 4.000 -name default
  set_clock_uncertainty 12.5%
  config_interface -m_axi_addr64
  csim_design -clean -O -argv [file normalize vectors.bin]
}
if {[catch {step} message]} {
  puts "ERROR: \[codesign csim\] $message"
  exit 1
}
close_project
exit 0

==== csynth.tcl ====
# csynth.tcl -- written by codesign for Vivado HLS 2020.1, ultra96-v1. Do not edit.
proc step {} {
  open_project engine
  open_solution solution1
  csynth_design
  file mkdir reports
  foreach old [glob -nocomplain reports/*csynth.xml] { file delete $old }
  set found [glob engine/solution1/syn/report/*csynth.xml]
  foreach report $found { file copy -force $report reports }
}
if {[catch {step} message]} {
  puts "ERROR: \[codesign csynth\] $message"
  exit 1
}
close_project
exit 0

==== cosim.tcl ====
# cosim.tcl -- written by codesign for Vivado HLS 2020.1, ultra96-v1. Do not edit.
proc step {} {
  open_project engine
  open_solution solution1
  cosim_design -O -rtl verilog -tool xsim -trace_level none -argv [file normalize cosim.bin]
  set found engine/solution1/sim/report/codesign_engine_cosim.rpt
  file mkdir reports
  file copy -force $found reports/cosim.rpt
}
if {[catch {step} message]} {
  puts "ERROR: \[codesign cosim\] $message"
  exit 1
}
close_project
exit 0

==== export.tcl ====
# export.tcl -- written by codesign for Vivado HLS 2020.1, ultra96-v1. Do not edit.
proc step {} {
  open_project engine
  open_solution solution1
  export_design -format ip_catalog -rtl verilog -vendor xilinx.com -library hls -ipname codesign_engine -version 1.0 -display_name {codesign engine}
  if {![file exists engine/solution1/impl/ip/component.xml]} { error {the tool wrote no IP} }
}
if {[catch {step} message]} {
  puts "ERROR: \[codesign export\] $message"
  exit 1
}
close_project
exit 0

==== design.tcl ====
# design.tcl -- written by codesign for Vivado 2020.1, ultra96-v1. Do not edit.
set part xczu3eg-sbva484-1-e
set clock_mhz 250.000
set clock_divisor 6
set ip_folder [file normalize engine/solution1/impl/ip]
set hp_ports 4
set hp_width 128
set ps_properties [list \
  CONFIG.PSU__PSS_REF_CLK__FREQMHZ {33.333333} \
  CONFIG.PSU__OVERRIDE__BASIC_CLOCK {1} \
  CONFIG.PSU__CRL_APB__IOPLL_CTRL__SRCSEL {PSS_REF_CLK} \
  CONFIG.PSU__CRL_APB__IOPLL_CTRL__FBDIV {45} \
  CONFIG.PSU__CRL_APB__IOPLL_CTRL__DIV2 {0} \
  CONFIG.PSU__CRF_APB__APLL_CTRL__FBDIV {72} \
  CONFIG.PSU__CRF_APB__APLL_CTRL__DIV2 {1} \
  CONFIG.PSU__CRF_APB__ACPU_CTRL__SRCSEL {APLL} \
  CONFIG.PSU__CRF_APB__ACPU_CTRL__DIVISOR0 {1} \
  CONFIG.PSU__CRF_APB__DPLL_CTRL__FBDIV {64} \
  CONFIG.PSU__CRF_APB__DPLL_CTRL__DIV2 {1} \
  CONFIG.PSU__CRF_APB__DDR_CTRL__SRCSEL {DPLL} \
  CONFIG.PSU__CRF_APB__DDR_CTRL__DIVISOR0 {4} \
  CONFIG.PSU__CRF_APB__TOPSW_MAIN_CTRL__SRCSEL {DPLL} \
  CONFIG.PSU__CRF_APB__TOPSW_MAIN_CTRL__DIVISOR0 {2} \
  CONFIG.PSU__CRF_APB__TOPSW_LSBUS_CTRL__SRCSEL {IOPLL} \
  CONFIG.PSU__CRF_APB__TOPSW_LSBUS_CTRL__DIVISOR0 {5} \
  CONFIG.PSU__CRL_APB__LPD_SWITCH_CTRL__SRCSEL {IOPLL} \
  CONFIG.PSU__CRL_APB__LPD_SWITCH_CTRL__DIVISOR0 {3} \
  CONFIG.PSU__CRL_APB__LPD_LSBUS_CTRL__SRCSEL {IOPLL} \
  CONFIG.PSU__CRL_APB__LPD_LSBUS_CTRL__DIVISOR0 {15} \
  CONFIG.PSU__CRL_APB__IOU_SWITCH_CTRL__SRCSEL {IOPLL} \
  CONFIG.PSU__CRL_APB__IOU_SWITCH_CTRL__DIVISOR0 {6} \
  CONFIG.PSU__CRL_APB__PL0_REF_CTRL__SRCSEL {IOPLL} \
  CONFIG.PSU__CRF_APB__DDR_CTRL__FREQMHZ {533} \
  CONFIG.PSU__DDRC__MEMORY_TYPE {LPDDR 4} \
  CONFIG.PSU__DDRC__SPEED_BIN {LPDDR4_1066} \
  CONFIG.PSU__DDRC__BUS_WIDTH {32 Bit} \
  CONFIG.PSU__DDRC__DRAM_WIDTH {32 Bits} \
  CONFIG.PSU__DDRC__DEVICE_CAPACITY {8192 MBits} \
  CONFIG.PSU__DDRC__RANK_ADDR_COUNT {1} \
  CONFIG.PSU__DDRC__BANK_ADDR_COUNT {3} \
  CONFIG.PSU__DDRC__ROW_ADDR_COUNT {15} \
  CONFIG.PSU__DDRC__COL_ADDR_COUNT {10} \
  CONFIG.PSU__DDRC__T_RCD {10} \
  CONFIG.PSU__DDRC__T_RP {12} \
  CONFIG.PSU__DDRC__T_RC {63} \
  CONFIG.PSU__DDRC__T_RAS_MIN {42} \
  CONFIG.PSU__DDRC__T_FAW {40.0} \
  CONFIG.PSU__DDRC__VREF {0} \
]

# ... boards/zynqmp.tcl ...

# ... boards/overlay.tcl ...

proc step {} { build_block_design }
if {[catch {step} message]} {
  puts "ERROR: \[codesign design\] $message"
  exit 1
}
close_project
exit 0

==== synthesis.tcl ====
# synthesis.tcl -- written by codesign for Vivado 2020.1, ultra96-v1. Do not edit.
proc step {} {
  open_project overlay/overlay.xpr
  reset_run synth_1
  launch_runs synth_1 -jobs 2
  wait_on_run synth_1
  if {[get_property PROGRESS [get_runs synth_1]] != "100%"} {
    foreach log [glob -nocomplain overlay/overlay.runs/*/runme.log] {
      set file [open $log]
      foreach line [split [read $file] \n] { if {[string match ERROR* $line]} { puts $line } }
      close $file
    }
    error "synth_1 ended as '[get_property STATUS [get_runs synth_1]]'"
  }
}
if {[catch {step} message]} {
  puts "ERROR: \[codesign synthesis\] $message"
  exit 1
}
close_project
exit 0

==== bitstream.tcl ====
# bitstream.tcl -- written by codesign for Vivado 2020.1, ultra96-v1. Do not edit.
proc step {} {
  open_project overlay/overlay.xpr
  reset_run impl_1
  launch_runs impl_1 -jobs 2 -to_step write_bitstream
  wait_on_run impl_1
  if {[get_property PROGRESS [get_runs impl_1]] != "100%"} {
    foreach log [glob -nocomplain overlay/overlay.runs/*/runme.log] {
      set file [open $log]
      foreach line [split [read $file] \n] { if {[string match ERROR* $line]} { puts $line } }
      close $file
    }
    error "impl_1 ended as '[get_property STATUS [get_runs impl_1]]'"
  }
  open_run impl_1
  file mkdir reports
  report_utilization -hierarchical -file reports/utilization.rpt
  report_timing_summary -max_paths 10 -file reports/timing.rpt
  report_power -file reports/power.rpt
  file mkdir output
  file copy -force overlay/overlay.runs/impl_1/overlay_wrapper.bit output/design.bit
  file copy -force overlay/overlay.srcs/sources_1/bd/overlay/hw_handoff/overlay.hwh output/design.hwh
}
if {[catch {step} message]} {
  puts "ERROR: \[codesign bitstream\] $message"
  exit 1
}
close_project
exit 0
