# zynq7000.tcl -- the processing system of Zynq-7000 devices, for overlay.tcl (Vivado, PG082).
#
# Reads: clock_mhz, hp_width, ps_properties. PYNQ divides the IO PLL that the image booted with and changes no source, so
# the clock is taken from there. Every HP port it opens is used.

set ps_name processing_system7_0
set ps_clock FCLK_CLK0
set ps_reset FCLK_RESET0_N
set ps_interrupt IRQ_F2P
set ps_control M_AXI_GP0
set ps_control_clock M_AXI_GP0_ACLK

proc ps_memory_port {index} { return "S_AXI_HP$index" }
proc ps_memory_clock {index} { return "S_AXI_HP${index}_ACLK" }

# The cell, with `ports` memory ports open, and what of it leaves the chip.
proc create_ps {ports} {
  global ps_name ps_properties clock_mhz hp_width
  set ps [create_bd_cell -type ip -vlnv [newest processing_system7] $ps_name]
  if {[llength $ps_properties] > 0} { set_property -dict $ps_properties $ps }
  set wanted [list \
    CONFIG.PCW_EN_CLK0_PORT 1 \
    CONFIG.PCW_EN_RST0_PORT 1 \
    CONFIG.PCW_FCLK0_PERIPHERAL_CLKSRC {IO PLL} \
    CONFIG.PCW_FPGA0_PERIPHERAL_FREQMHZ $clock_mhz \
    CONFIG.PCW_USE_M_AXI_GP0 1 \
    CONFIG.PCW_USE_FABRIC_INTERRUPT 1 \
    CONFIG.PCW_IRQ_F2P_INTR 1]
  for {set i 0} {$i < $ports} {incr i} {
    lappend wanted CONFIG.PCW_USE_S_AXI_HP$i 1 CONFIG.PCW_S_AXI_HP${i}_DATA_WIDTH $hp_width
  }
  set_property -dict $wanted $ps

  create_bd_intf_port -mode Master -vlnv xilinx.com:interface:ddrx_rtl:1.0 DDR
  create_bd_intf_port -mode Master -vlnv xilinx.com:display_processing_system7:fixedio_rtl:1.0 FIXED_IO
  connect_bd_intf_net [get_bd_intf_pins $ps/DDR] [get_bd_intf_ports DDR]
  connect_bd_intf_net [get_bd_intf_pins $ps/FIXED_IO] [get_bd_intf_ports FIXED_IO]
  return $ps
}
