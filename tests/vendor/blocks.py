"""Blocks of a block design: the IPs that the scripts use, with the pins and interfaces their settings give them.

From PG082 (processing system of Zynq-7000), PG201 (of Zynq UltraScale+), PG164 (reset), PG247 (SmartConnect), PG099
(interrupt controller). The names that a processing system's settings may have are in the two .txt files beside
this one, as hardware handoffs of Vivado list them; HLS's IP is read from its component.xml.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.vendor.component import Component
from tests.vendor.grammar import Refused

AXI = "xilinx.com:interface:aximm_rtl:1.0"
DDR_VLNV = "xilinx.com:interface:ddrx_rtl:1.0"
FIXED_IO_VLNV = "xilinx.com:display_processing_system7:fixedio_rtl:1.0"


@dataclass(frozen=True)
class Pin:
    direction: str  # I or O
    kind: str = "undef"  # clk, rst, INTERRUPT
    bits: int | None = None  # None: a scalar
    needed: bool = False  # must be connected


@dataclass(frozen=True)
class Interface:
    mode: str  # Master or Slave
    protocol: str = "AXI4"
    bits: int = 32
    address_bits: int = 32
    clock: str = ""
    vlnv: str = AXI
    needed: bool = True


@dataclass
class Shape:
    pins: dict[str, Pin] = field(default_factory=dict)
    interfaces: dict[str, Interface] = field(default_factory=dict)


@dataclass
class Cell:
    name: str
    vlnv: str
    settings: dict[str, str]
    kind: Kind

    @property
    def shape(self) -> Shape:
        return self.kind.shape(self)


@dataclass(frozen=True)
class Kind:
    """An IP of the catalog: defaults of what can be set (also those not listed, if `others` knows their names)."""

    vlnv: str
    defaults: Mapping[str, str]
    shape: Callable[[Cell], Shape]
    others: frozenset[str] = frozenset()
    component: Component | None = None

    @property
    def name(self) -> str:
        return self.vlnv.split(":")[2]


def catalog(release: str) -> dict[str, Kind]:
    """By name, the versions that a release of Vivado has."""
    key = tuple(int(part) for part in release.split("."))[:2]
    mpsoc = "3.2" if key < (2019, 1) else "3.3" if key < (2021, 1) else "3.4" if key < (2023, 1) else "3.5"
    zynqmp = {
        "PSU__FPGA_PL0_ENABLE": "1",
        "PSU__USE__FABRIC__RST": "1",
        "PSU__USE__M_AXI_GP0": "1",
        "PSU__USE__M_AXI_GP1": "1",
        "PSU__USE__IRQ0": "0",
        "PSU__CRL_APB__PL0_REF_CTRL__FREQMHZ": "100",
    }
    zynq = {"PCW_EN_CLK0_PORT": "0", "PCW_EN_RST0_PORT": "0", "PCW_USE_M_AXI_GP0": "0", "PCW_IRQ_F2P_INTR": "0",
            "PCW_USE_FABRIC_INTERRUPT": "0", "PCW_FPGA0_PERIPHERAL_FREQMHZ": "50",
            "PCW_CRYSTAL_PERIPHERAL_FREQMHZ": "33.333333"}  # fmt: skip
    kinds = [
        Kind("xilinx.com:ip:processing_system7:5.5", zynq, _processing_system7, _names("processing_system7")),
        Kind(f"xilinx.com:ip:zynq_ultra_ps_e:{mpsoc}", zynqmp, _zynq_ultra_ps_e, _names("zynq_ultra_ps_e")),
        Kind("xilinx.com:ip:proc_sys_reset:5.0", {"C_EXT_RST_WIDTH": "4"}, _proc_sys_reset),
        Kind(
            "xilinx.com:ip:smartconnect:1.0", {"NUM_SI": "2", "NUM_MI": "1", "NUM_CLKS": "1"}, _smartconnect
        ),
        Kind(
            "xilinx.com:ip:axi_intc:4.1", {"C_IRQ_CONNECTION": "0", "C_KIND_OF_INTR": "0xFFFFFFFF"}, _axi_intc
        ),
    ]
    return {kind.name: kind for kind in kinds}


def of_component(component: Component) -> Kind:
    """HLS's IP."""

    def shape(cell: Cell) -> Shape:
        found = Shape({"ap_clk": Pin("I", "clk", needed=True), "ap_rst_n": Pin("I", "rst", needed=True),
                       "interrupt": Pin("O", "INTERRUPT")})  # fmt: skip
        for name, mode, values in component.interfaces:
            found.interfaces[name] = Interface(
                mode.capitalize(),
                values["PROTOCOL"],
                int(values["DATA_WIDTH"]),
                int(values["ADDR_WIDTH"]),
                "ap_clk",
            )
        return found

    return Kind(component.vlnv, {}, shape, component=component)


def setting(cell: Cell, name: str, value: str) -> None:
    """Set one. Raises Refused for a name that the IP does not have, or a value that it does not take."""
    if name not in cell.kind.defaults and name not in cell.kind.others:
        raise Refused(
            f"[BD 41-1276] Cannot set the parameter {name} on /{cell.name}. Parameter does not exist"
        )
    if (name.endswith(("_ENABLE", "_PORT")) or "__USE__" in name or "_USE_" in name) and value not in (
        "0",
        "1",
    ):
        raise Refused(
            f"[IP_Flow 19-3461] Value '{value}' is out of the range for parameter {name}, valid 0,1"
        )
    if name.endswith("DATA_WIDTH") and value not in ("32", "64", "128"):
        raise Refused(f"[IP_Flow 19-3461] Value '{value}' is out of the range for parameter {name}")
    if name.endswith("FREQMHZ"):
        float(value)
    cell.settings[name] = value


def value(cell: Cell, name: str, default: str = "0") -> str:
    return cell.settings.get(name, cell.kind.defaults.get(name, default))


def fabric_clock(cell: Cell) -> tuple[float, int]:
    """MHz of the clock that a processing system gives, and the divisor of its PLL: what is near what is asked.

    Where clocks are set by hand, the divisor is the one that was set: nothing is solved (PSU__OVERRIDE__BASIC_CLOCK).
    """
    if cell.kind.name == "processing_system7":
        pll, asked = 1000.0, float(value(cell, "PCW_FPGA0_PERIPHERAL_FREQMHZ"))
    else:
        pll, asked = 1500.0, float(value(cell, "PSU__CRL_APB__PL0_REF_CTRL__FREQMHZ"))
        if value(cell, "PSU__OVERRIDE__BASIC_CLOCK") == "1":
            by = [
                int(value(cell, f"PSU__CRL_APB__PL0_REF_CTRL__DIVISOR{i}", d))
                for i, d in ((0, "15"), (1, "1"))
            ]
            return pll / (by[0] * by[1]), by[0] * by[1]
    divisor = max(1, round(pll / asked))
    return pll / divisor, divisor


def _names(kind: str) -> frozenset[str]:
    return frozenset(Path(__file__).with_name(f"{kind}.txt").read_text(encoding="utf-8").split())


def _processing_system7(cell: Cell) -> Shape:
    on = lambda name: value(cell, name) == "1"  # noqa: E731
    shape = Shape()
    if on("PCW_EN_CLK0_PORT"):
        shape.pins["FCLK_CLK0"] = Pin("O", "clk")
    if on("PCW_EN_RST0_PORT"):
        shape.pins["FCLK_RESET0_N"] = Pin("O", "rst")
    if on("PCW_USE_FABRIC_INTERRUPT") and on("PCW_IRQ_F2P_INTR"):
        shape.pins["IRQ_F2P"] = Pin("I", "INTERRUPT", 1, needed=True)
    if on("PCW_USE_M_AXI_GP0"):
        shape.pins["M_AXI_GP0_ACLK"] = Pin("I", "clk", needed=True)
        shape.interfaces["M_AXI_GP0"] = Interface("Master", "AXI3", 32, 32, "M_AXI_GP0_ACLK")
    for i in range(4):
        if on(f"PCW_USE_S_AXI_HP{i}"):
            bits = int(value(cell, f"PCW_S_AXI_HP{i}_DATA_WIDTH", "64"))
            if bits > 64:
                raise Refused(
                    f"[IP_Flow 19-3461] PCW_S_AXI_HP{i}_DATA_WIDTH {bits} is out of the range, valid 32,64"
                )
            shape.pins[f"S_AXI_HP{i}_ACLK"] = Pin("I", "clk", needed=True)
            shape.interfaces[f"S_AXI_HP{i}"] = Interface("Slave", "AXI3", bits, 32, f"S_AXI_HP{i}_ACLK")
    shape.interfaces["DDR"] = Interface("Master", "DDR", vlnv=DDR_VLNV)
    shape.interfaces["FIXED_IO"] = Interface("Master", "FIXED_IO", vlnv=FIXED_IO_VLNV)
    return shape


def _zynq_ultra_ps_e(cell: Cell) -> Shape:
    on = lambda name: value(cell, name) == "1"  # noqa: E731
    shape = Shape()
    if on("PSU__FPGA_PL0_ENABLE"):
        shape.pins["pl_clk0"] = Pin("O", "clk")
    if on("PSU__USE__FABRIC__RST"):
        shape.pins["pl_resetn0"] = Pin("O", "rst")
    if on("PSU__USE__IRQ0"):
        shape.pins["pl_ps_irq0"] = Pin("I", "INTERRUPT", 1, needed=True)
    masters = (("M_AXI_HPM0_FPD", "maxihpm0_fpd_aclk"), ("M_AXI_HPM1_FPD", "maxihpm1_fpd_aclk"),
               ("M_AXI_HPM0_LPD", "maxihpm0_lpd_aclk"))  # fmt: skip
    for i, (name, clock) in enumerate(masters):
        if on(f"PSU__USE__M_AXI_GP{i}"):
            shape.pins[clock] = Pin("I", "clk", needed=True)
            bits = int(value(cell, f"PSU__MAXIGP{i}__DATA_WIDTH", "128"))
            shape.interfaces[name] = Interface("Master", "AXI4", bits, 40, clock)
    for i in range(4):
        if on(f"PSU__USE__S_AXI_GP{i + 2}"):
            bits = int(value(cell, f"PSU__SAXIGP{i + 2}__DATA_WIDTH", "128"))
            shape.pins[f"saxihp{i}_fpd_aclk"] = Pin("I", "clk", needed=True)
            shape.interfaces[f"S_AXI_HP{i}_FPD"] = Interface("Slave", "AXI4", bits, 49, f"saxihp{i}_fpd_aclk")
    return shape


def _proc_sys_reset(cell: Cell) -> Shape:
    return Shape({
        "slowest_sync_clk": Pin("I", "clk", needed=True), "ext_reset_in": Pin("I", "rst", needed=True),
        "aux_reset_in": Pin("I", "rst"), "mb_debug_sys_rst": Pin("I", "rst"), "dcm_locked": Pin("I"),
        "mb_reset": Pin("O", "rst"), "bus_struct_reset": Pin("O", "rst", 1), "peripheral_reset": Pin("O", "rst", 1),
        "interconnect_aresetn": Pin("O", "rst", 1), "peripheral_aresetn": Pin("O", "rst", 1),
    })  # fmt: skip


def _smartconnect(cell: Cell) -> Shape:
    shape = Shape({"aclk": Pin("I", "clk", needed=True), "aresetn": Pin("I", "rst", needed=True)})
    for i in range(int(value(cell, "NUM_SI"))):
        shape.interfaces[f"S{i:02d}_AXI"] = Interface("Slave", "ANY", 0, 64, "aclk")
    for i in range(int(value(cell, "NUM_MI"))):
        shape.interfaces[f"M{i:02d}_AXI"] = Interface("Master", "ANY", 0, 64, "aclk")
    return shape


def _axi_intc(cell: Cell) -> Shape:
    pins = {"s_axi_aclk": Pin("I", "clk", needed=True), "s_axi_aresetn": Pin("I", "rst", needed=True),
            "intr": Pin("I", "INTERRUPT", 1, needed=True)}  # fmt: skip
    shape = Shape(pins, {"s_axi": Interface("Slave", "AXI4LITE", 32, 9, "s_axi_aclk")})
    if value(cell, "C_IRQ_CONNECTION") == "1":
        shape.pins["irq"] = Pin("O", "INTERRUPT")
    return shape
