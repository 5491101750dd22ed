# zynqmp.tcl -- the processing system of Zynq UltraScale+ devices, for overlay.tcl (Vivado, PG201).
#
# Reads: clock_mhz, clock_divisor, hp_width, ps_properties. PYNQ divides the IOPLL that the image booted with and changes
# no source, so the clock is taken from there; where a vendor's preset sets clocks by hand, Vivado solves none of them
# and the divisor is set as well. Every HP port it opens is used. S_AXI_HP0_FPD to S_AXI_HP3_FPD are
# SAXIGP2 to SAXIGP5 in the names of the properties; the masters that a design gets unasked are closed.

set ps_name zynq_ultra_ps_e_0
set ps_clock pl_clk0
set ps_reset pl_resetn0
set ps_interrupt pl_ps_irq0
set ps_control M_AXI_HPM0_FPD
set ps_control_clock maxihpm0_fpd_aclk

proc ps_memory_port {index} { return "S_AXI_HP${index}_FPD" }
proc ps_memory_clock {index} { return "saxihp${index}_fpd_aclk" }

# The cell, with `ports` memory ports open.
proc create_ps {ports} {
  global ps_name ps_properties clock_mhz clock_divisor hp_width
  set ps [create_bd_cell -type ip -vlnv [newest zynq_ultra_ps_e] $ps_name]
  if {[llength $ps_properties] > 0} { set_property -dict $ps_properties $ps }
  set wanted [list \
    CONFIG.PSU__FPGA_PL0_ENABLE 1 \
    CONFIG.PSU__CRL_APB__PL0_REF_CTRL__SRCSEL IOPLL \
    CONFIG.PSU__CRL_APB__PL0_REF_CTRL__FREQMHZ $clock_mhz \
    CONFIG.PSU__USE__FABRIC__RST 1 \
    CONFIG.PSU__NUM_FABRIC_RESETS 1 \
    CONFIG.PSU__USE__M_AXI_GP0 1 \
    CONFIG.PSU__USE__M_AXI_GP1 0 \
    CONFIG.PSU__USE__M_AXI_GP2 0 \
    CONFIG.PSU__USE__IRQ0 1]
  if {[dict exists $ps_properties CONFIG.PSU__OVERRIDE__BASIC_CLOCK] &&
      [dict get $ps_properties CONFIG.PSU__OVERRIDE__BASIC_CLOCK] == 1} {
    lappend wanted \
      CONFIG.PSU__CRL_APB__PL0_REF_CTRL__DIVISOR0 $clock_divisor \
      CONFIG.PSU__CRL_APB__PL0_REF_CTRL__DIVISOR1 1
  }
  for {set i 0} {$i < $ports} {incr i} {
    set gp [expr {$i + 2}]
    lappend wanted CONFIG.PSU__USE__S_AXI_GP$gp 1 CONFIG.PSU__SAXIGP${gp}__DATA_WIDTH $hp_width
  }
  set_property -dict $wanted $ps
  return $ps
}
