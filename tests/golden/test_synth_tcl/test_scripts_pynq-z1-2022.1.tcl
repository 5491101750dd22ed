==== csim.tcl ====
# csim.tcl -- written by codesign for Vitis HLS 2022.1, pynq-z1. Do not edit.
proc step {} {
  set hls [file normalize ../hls]
  set flags "-std=c++11 -I$hls -I$hls/exact"
  open_project engine
  set_top codesign_engine
  add_files $hls/top.cpp -cflags $flags
  add_files -tb $hls/main.cpp -cflags $flags
  open_solution -flow_target vivado solution1
  set_part xc7z020clg400-1
  create_clock -period 7.000 -name default
  set_clock_uncertainty 12.5%
  config_interface -m_axi_addr64=false
  csim_design -clean -O -argv [file normalize vectors.bin]
}
if {[catch {step} message]} {
  puts "ERROR: \[codesign csim\] $message"
  exit 1
}
close_project
exit 0

==== csynth.tcl ====
# csynth.tcl -- written by codesign for Vitis HLS 2022.1, pynq-z1. Do not edit.
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
# cosim.tcl -- written by codesign for Vitis HLS 2022.1, pynq-z1. Do not edit.
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
# export.tcl -- written by codesign for Vitis HLS 2022.1, pynq-z1. Do not edit.
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
# design.tcl -- written by codesign for Vivado 2022.1, pynq-z1. Do not edit.
set part xc7z020clg400-1
set clock_mhz 142.857
set clock_divisor 7
set ip_folder [file normalize engine/solution1/impl/ip]
set hp_ports 4
set hp_width 64
set ps_properties [list \
  CONFIG.PCW_CRYSTAL_PERIPHERAL_FREQMHZ {50} \
  CONFIG.PCW_APU_PERIPHERAL_FREQMHZ {650} \
  CONFIG.PCW_FCLK0_PERIPHERAL_CLKSRC {IO PLL} \
  CONFIG.PCW_PRESET_BANK0_VOLTAGE {LVCMOS 3.3V} \
  CONFIG.PCW_PRESET_BANK1_VOLTAGE {LVCMOS 1.8V} \
  CONFIG.PCW_UIPARAM_DDR_PARTNO {MT41J256M16 RE-125} \
  CONFIG.PCW_UIPARAM_DDR_BUS_WIDTH {16 Bit} \
  CONFIG.PCW_UIPARAM_DDR_FREQ_MHZ {525} \
  CONFIG.PCW_UIPARAM_DDR_DQS_TO_CLK_DELAY_0 {0.040} \
  CONFIG.PCW_UIPARAM_DDR_DQS_TO_CLK_DELAY_1 {0.058} \
  CONFIG.PCW_UIPARAM_DDR_BOARD_DELAY0 {0.223} \
  CONFIG.PCW_UIPARAM_DDR_BOARD_DELAY1 {0.212} \
  CONFIG.PCW_QSPI_PERIPHERAL_ENABLE {1} \
  CONFIG.PCW_QSPI_GRP_SINGLE_SS_ENABLE {1} \
  CONFIG.PCW_QSPI_PERIPHERAL_FREQMHZ {200} \
  CONFIG.PCW_ENET0_PERIPHERAL_ENABLE {1} \
  CONFIG.PCW_ENET0_ENET0_IO {MIO 16 .. 27} \
  CONFIG.PCW_ENET0_GRP_MDIO_ENABLE {1} \
  CONFIG.PCW_ENET0_GRP_MDIO_IO {MIO 52 .. 53} \
  CONFIG.PCW_SD0_PERIPHERAL_ENABLE {1} \
  CONFIG.PCW_SD0_SD0_IO {MIO 40 .. 45} \
  CONFIG.PCW_SDIO_PERIPHERAL_FREQMHZ {50} \
  CONFIG.PCW_UART0_PERIPHERAL_ENABLE {1} \
  CONFIG.PCW_UART0_UART0_IO {MIO 14 .. 15} \
  CONFIG.PCW_UART_PERIPHERAL_FREQMHZ {100} \
  CONFIG.PCW_USB0_PERIPHERAL_ENABLE {1} \
  CONFIG.PCW_USB0_USB0_IO {MIO 28 .. 39} \
]

# ... boards/zynq7000.tcl ...

# ... boards/overlay.tcl ...

proc step {} { build_block_design }
if {[catch {step} message]} {
  puts "ERROR: \[codesign design\] $message"
  exit 1
}
close_project
exit 0

==== synthesis.tcl ====
# synthesis.tcl -- written by codesign for Vivado 2022.1, pynq-z1. Do not edit.
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
# bitstream.tcl -- written by codesign for Vivado 2022.1, pynq-z1. Do not edit.
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
  file copy -force overlay/overlay.gen/sources_1/bd/overlay/hw_handoff/overlay.hwh output/design.hwh
}
if {[catch {step} message]} {
  puts "ERROR: \[codesign bitstream\] $message"
  exit 1
}
close_project
exit 0
