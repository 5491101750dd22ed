# overlay.tcl -- the engine beside a processing system: one block design for every board.
#
# Comes after a prologue with the facts of the board and the file of its family (zynq7000.tcl, zynqmp.tcl).
# Reads: part, ip_folder, hp_ports. Vivado runs Tcl 8.5: nothing newer is used.
#
#   PS control master --> interconnect --> engine s_axi_control
#                                      \-> interrupt controller
#   engine m_axi_* --> one interconnect each (widths, AXI4 to AXI3) --> one HP port each
#   engine interrupt --> interrupt controller --> PS       (PYNQ waits only for interrupts behind axi_intc)
#   one clock and one reset for all, from the PS

set engine_name codesign_engine_0

# The newest version of a vendor's IP in this release of Vivado.
proc newest {name} {
  set found [lsort -dictionary [get_ipdefs -all xilinx.com:ip:$name:*]]
  if {[llength $found] == 0} { error "this Vivado has no IP $name. Install the device family of the board" }
  return [lindex $found end]
}

proc interconnect {name slaves masters} {
  set cell [create_bd_cell -type ip -vlnv [newest smartconnect] $name]
  set_property -dict [list CONFIG.NUM_SI $slaves CONFIG.NUM_MI $masters] $cell
  return $cell
}

proc build_block_design {} {
  global part ip_folder hp_ports engine_name
  global ps_clock ps_reset ps_interrupt ps_control ps_control_clock

  if {![file exists $ip_folder/component.xml]} {
    error "$ip_folder holds no component.xml, expected the exported engine. Run the export step again"
  }
  create_project -force -part $part overlay overlay
  set_property ip_repo_paths $ip_folder [current_project]
  update_ip_catalog -rebuild
  create_bd_design overlay

  set engine [create_bd_cell -type ip -vlnv xilinx.com:hls:codesign_engine:1.0 $engine_name]
  set masters [lsort [get_bd_intf_pins -of_objects $engine \
    -filter {MODE == Master && VLNV =~ xilinx.com:interface:aximm_rtl:*}]]
  if {[llength $masters] == 0} { error "the engine has no memory port" }
  if {[llength $masters] > $hp_ports} {
    error "the engine has [llength $masters] memory ports, the board $hp_ports HP ports"
  }
  set ps [create_ps [llength $masters]]

  # Clock and reset.
  set reset [create_bd_cell -type ip -vlnv [newest proc_sys_reset] proc_sys_reset_0]
  set clock_pins [list [get_bd_pins $ps/$ps_clock] [get_bd_pins $reset/slowest_sync_clk] \
    [get_bd_pins $engine/ap_clk] [get_bd_pins $ps/$ps_control_clock]]
  set reset_pins [list [get_bd_pins $reset/peripheral_aresetn] [get_bd_pins $engine/ap_rst_n]]
  connect_bd_net [get_bd_pins $ps/$ps_reset] [get_bd_pins $reset/ext_reset_in]

  # Control and interrupt.
  set control [interconnect control_interconnect 1 2]
  set intc [create_bd_cell -type ip -vlnv [newest axi_intc] axi_intc_0]
  set_property -dict [list CONFIG.C_IRQ_CONNECTION 1] $intc
  connect_bd_intf_net [get_bd_intf_pins $ps/$ps_control] [get_bd_intf_pins $control/S00_AXI]
  connect_bd_intf_net [get_bd_intf_pins $control/M00_AXI] [get_bd_intf_pins $engine/s_axi_control]
  connect_bd_intf_net [get_bd_intf_pins $control/M01_AXI] [get_bd_intf_pins $intc/s_axi]
  connect_bd_net [get_bd_pins $engine/interrupt] [get_bd_pins $intc/intr]
  connect_bd_net [get_bd_pins $intc/irq] [get_bd_pins $ps/$ps_interrupt]
  lappend clock_pins [get_bd_pins $control/aclk] [get_bd_pins $intc/s_axi_aclk]
  lappend reset_pins [get_bd_pins $control/aresetn] [get_bd_pins $intc/s_axi_aresetn]

  # Memory: an HP port for each master.
  set index 0
  foreach master $masters {
    set bridge [interconnect memory_interconnect_$index 1 1]
    connect_bd_intf_net [get_bd_intf_pins $master] [get_bd_intf_pins $bridge/S00_AXI]
    connect_bd_intf_net [get_bd_intf_pins $bridge/M00_AXI] [get_bd_intf_pins $ps/[ps_memory_port $index]]
    lappend clock_pins [get_bd_pins $bridge/aclk] [get_bd_pins $ps/[ps_memory_clock $index]]
    lappend reset_pins [get_bd_pins $bridge/aresetn]
    incr index
  }
  # The first pin of a list drives the net, the others are connected to it one by one.
  foreach pins [list $clock_pins $reset_pins] {
    foreach pin [lrange $pins 1 end] { connect_bd_net [lindex $pins 0] $pin }
  }

  assign_bd_address
  foreach master [concat $masters [list [get_bd_intf_pins $ps/$ps_control]]] {
    set space [get_bd_addr_spaces -of_objects [get_bd_intf_pins $master]]
    if {[llength [get_bd_addr_segs -of_objects $space]] == 0} { error "$master reaches no address" }
  }
  validate_bd_design
  save_bd_design

  set design [get_files overlay.bd]
  generate_target all $design
  add_files -norecurse [make_wrapper -files $design -top]
  set_property top overlay_wrapper [current_fileset]
  update_compile_order -fileset sources_1
}
