==== csim.tcl ====
# csim.tcl -- written by codesign for Vitis HLS 2022.1, zcu104. Do not edit.
proc step {} {
  set hls [file normalize ../hls]
  set flags "-std=c++11 -I$hls -I$hls/exact"
  open_project engine
  set_top codesign_engine
  add_files $hls/top.cpp -cflags $flags
  add_files -tb $hls/main.cpp -cflags $flags
  open_solution -flow_target vivado solution1
  set_part xczu7ev-ffvc1156-2-e
  create_clock -period 3.333 -name default
  set_clock_uncertainty 12.5%
  config_interface -m_axi_addr64=true
  csim_design -clean -O -argv [file normalize vectors.bin]
}
if {[catch {step} message]} {
  puts "ERROR: \[codesign csim\] $message"
  exit 1
}
close_project
exit 0

==== csynth.tcl ====
# csynth.tcl -- written by codesign for Vitis HLS 2022.1, zcu104. Do not edit.
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
# cosim.tcl -- written by codesign for Vitis HLS 2022.1, zcu104. Do not edit.
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
# export.tcl -- written by codesign for Vitis HLS 2022.1, zcu104. Do not edit.
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
# design.tcl -- written by codesign for Vivado 2022.1, zcu104. Do not edit.
set part xczu7ev-ffvc1156-2-e
set clock_mhz 300.000
set clock_divisor 5
set ip_folder [file normalize engine/solution1/impl/ip]
set hp_ports 4
set hp_width 128
set ps_properties [list \
  CONFIG.PSU__PSS_REF_CLK__FREQMHZ {33.333333} \
  CONFIG.PSU__CRF_APB__ACPU_CTRL__FREQMHZ {1200} \
  CONFIG.PSU__CRL_APB__PL0_REF_CTRL__SRCSEL {IOPLL} \
  CONFIG.PSU__CRF_APB__DDR_CTRL__FREQMHZ {1067} \
  CONFIG.PSU__DDRC__MEMORY_TYPE {DDR 4} \
  CONFIG.PSU__DDRC__COMPONENTS {Components} \
  CONFIG.PSU__DDRC__SPEED_BIN {DDR4_2133P} \
  CONFIG.PSU__DDRC__BUS_WIDTH {64 Bit} \
  CONFIG.PSU__DDRC__DRAM_WIDTH {16 Bits} \
  CONFIG.PSU__DDRC__DEVICE_CAPACITY {4096 MBits} \
  CONFIG.PSU__DDRC__BG_ADDR_COUNT {1} \
  CONFIG.PSU__DDRC__ROW_ADDR_COUNT {15} \
  CONFIG.PSU__DDRC__CL {15} \
  CONFIG.PSU__DDRC__CWL {14} \
  CONFIG.PSU__DDRC__T_RCD {15} \
  CONFIG.PSU__DDRC__T_RP {15} \
  CONFIG.PSU__DDRC__T_RC {47.06} \
  CONFIG.PSU__DDRC__T_RAS_MIN {33} \
  CONFIG.PSU__DDRC__T_FAW {30.0} \
  CONFIG.PSU__DDRC__VREF {1} \
  CONFIG.PSU__UART0__PERIPHERAL__ENABLE {1} \
  CONFIG.PSU__UART0__PERIPHERAL__IO {MIO 18 .. 19} \
  CONFIG.PSU__CRL_APB__UART0_REF_CTRL__SRCSEL {IOPLL} \
  CONFIG.PSU__CRL_APB__UART0_REF_CTRL__FREQMHZ {100} \
  CONFIG.PSU__UART1__PERIPHERAL__ENABLE {1} \
  CONFIG.PSU__UART1__PERIPHERAL__IO {MIO 20 .. 21} \
  CONFIG.PSU__CRL_APB__UART1_REF_CTRL__SRCSEL {IOPLL} \
  CONFIG.PSU__CRL_APB__UART1_REF_CTRL__FREQMHZ {100} \
  CONFIG.PSU__SD1__PERIPHERAL__ENABLE {1} \
  CONFIG.PSU__SD1__PERIPHERAL__IO {MIO 46 .. 51} \
  CONFIG.PSU__SD1__SLOT_TYPE {SD 2.0} \
  CONFIG.PSU__CRL_APB__SDIO1_REF_CTRL__SRCSEL {IOPLL} \
  CONFIG.PSU__CRL_APB__SDIO1_REF_CTRL__FREQMHZ {200} \
  CONFIG.PSU__QSPI__PERIPHERAL__ENABLE {1} \
  CONFIG.PSU__QSPI__PERIPHERAL__IO {MIO 0 .. 5} \
  CONFIG.PSU__QSPI__PERIPHERAL__MODE {Single} \
  CONFIG.PSU__QSPI__PERIPHERAL__DATA_MODE {x4} \
  CONFIG.PSU__CRL_APB__QSPI_REF_CTRL__SRCSEL {IOPLL} \
  CONFIG.PSU__CRL_APB__QSPI_REF_CTRL__FREQMHZ {125} \
  CONFIG.PSU__I2C1__PERIPHERAL__ENABLE {1} \
  CONFIG.PSU__I2C1__PERIPHERAL__IO {MIO 16 .. 17} \
  CONFIG.PSU__CRL_APB__I2C1_REF_CTRL__SRCSEL {IOPLL} \
  CONFIG.PSU__CRL_APB__I2C1_REF_CTRL__FREQMHZ {100} \
  CONFIG.PSU__CAN1__PERIPHERAL__ENABLE {1} \
  CONFIG.PSU__CAN1__PERIPHERAL__IO {MIO 24 .. 25} \
  CONFIG.PSU__CRL_APB__CAN1_REF_CTRL__SRCSEL {IOPLL} \
  CONFIG.PSU__CRL_APB__CAN1_REF_CTRL__FREQMHZ {100} \
  CONFIG.PSU__ENET3__PERIPHERAL__ENABLE {1} \
  CONFIG.PSU__ENET3__PERIPHERAL__IO {MIO 64 .. 75} \
  CONFIG.PSU__ENET3__GRP_MDIO__ENABLE {1} \
  CONFIG.PSU__ENET3__GRP_MDIO__IO {MIO 76 .. 77} \
  CONFIG.PSU__CRL_APB__GEM3_REF_CTRL__SRCSEL {IOPLL} \
  CONFIG.PSU__CRL_APB__GEM3_REF_CTRL__FREQMHZ {125} \
  CONFIG.PSU__USB0__PERIPHERAL__ENABLE {1} \
  CONFIG.PSU__USB0__PERIPHERAL__IO {MIO 52 .. 63} \
  CONFIG.PSU__CRL_APB__USB0_BUS_REF_CTRL__SRCSEL {IOPLL} \
  CONFIG.PSU__CRL_APB__USB0_BUS_REF_CTRL__FREQMHZ {250} \
  CONFIG.PSU__CRL_APB__LPD_SWITCH_CTRL__SRCSEL {IOPLL} \
  CONFIG.PSU__CRL_APB__LPD_SWITCH_CTRL__FREQMHZ {500} \
  CONFIG.PSU__CRL_APB__LPD_LSBUS_CTRL__SRCSEL {IOPLL} \
  CONFIG.PSU__CRL_APB__LPD_LSBUS_CTRL__FREQMHZ {100} \
  CONFIG.PSU__CRL_APB__IOU_SWITCH_CTRL__SRCSEL {IOPLL} \
  CONFIG.PSU__CRL_APB__IOU_SWITCH_CTRL__FREQMHZ {250} \
  CONFIG.PSU__CRL_APB__PCAP_CTRL__SRCSEL {IOPLL} \
  CONFIG.PSU__CRL_APB__PCAP_CTRL__FREQMHZ {200} \
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
# synthesis.tcl -- written by codesign for Vivado 2022.1, zcu104. Do not edit.
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
# bitstream.tcl -- written by codesign for Vivado 2022.1, zcu104. Do not edit.
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
