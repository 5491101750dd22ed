"""The hardware handoff of a block design, as Vivado writes it: what PYNQ learns a design from.

Modules with their settings, pins, interfaces with every AXI signal, registers, and the memory maps of masters. The
layout follows the handoffs of PYNQ's own overlays (Vivado 2019.2 and 2022.1).
"""

from __future__ import annotations

from xml.etree import ElementTree as ET

from tests.vendor.block_design import Design
from tests.vendor.blocks import AXI, Cell, Interface, fabric_clock, value
from tests.vendor.component import Register
from tests.vendor.parts import family, pieces

_LITE = ("AWADDR", "AWVALID", "AWREADY", "WDATA", "WSTRB", "WVALID", "WREADY", "BRESP", "BVALID", "BREADY", "ARADDR",
         "ARVALID", "ARREADY", "RDATA", "RRESP", "RVALID", "RREADY")  # fmt: skip
_BURST = ("AWLEN", "AWSIZE", "AWBURST", "WLAST", "ARLEN", "ARSIZE", "ARBURST", "RLAST")
_FROM_SLAVE = {"AWREADY", "WREADY", "BRESP", "BVALID", "ARREADY", "RDATA", "RRESP", "RVALID", "RLAST"}
_PS = ("processing_system7", "zynq_ultra_ps_e")
_INTC = (("ISR", 0x0), ("IPR", 0x4), ("IER", 0x8), ("IAR", 0xC), ("SIE", 0x10), ("CIE", 0x14), ("IVR", 0x18),
         ("MER", 0x1C))  # fmt: skip


def text(design: Design, part: str, release: str) -> str:
    device, package, speed = pieces(part)
    root = ET.Element(
        "EDKSYSTEM", EDWVERSION="1.2", TIMESTAMP="Mon Nov 23 10:14:02 2026", VIVADOVERSION=release
    )
    ET.SubElement(root, "SYSTEMINFO", ARCH=family(part), DEVICE=device, NAME=design.name, PACKAGE=package,
                  SPEEDGRADE=speed)  # fmt: skip
    ET.SubElement(root, "EXTERNALPORTS")
    outside = ET.SubElement(root, "EXTERNALINTERFACES")
    for name, port in design.ports.items():
        inner = design.other_end(f"/{name}")
        net = "__NOC__" if inner is None else inner[1:].replace("/", "_")
        ET.SubElement(outside, "BUSINTERFACE", BUSNAME=net, NAME=name, TYPE="INITIATOR",
                      VLNV=port.vlnv.replace("_rtl", ""))  # fmt: skip
    modules = ET.SubElement(root, "MODULES")
    for cell in sorted(design.cells.values(), key=lambda c: c.name):
        _module(modules, design, cell)
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _module(parent: ET.Element, design: Design, cell: Cell) -> None:
    kind = cell.kind.name
    ps = kind in _PS
    module = ET.SubElement(parent, "MODULE", COREREVISION="1", FULLNAME=f"/{cell.name}",
                           HWVERSION=cell.vlnv.split(":")[3], INSTANCE=cell.name, IPTYPE="PERIPHERAL", IS_ENABLE="1",
                           MODTYPE=kind, VLNV=cell.vlnv)  # fmt: skip
    if ps:
        module.set("IS_PL", "FALSE")
    else:
        module.set("MODCLASS", {"axi_intc": "INTERRUPT_CNTLR", "smartconnect": "BUS"}.get(kind, "PERIPHERAL"))
    ET.SubElement(module, "DOCUMENTS")
    registers = cell.kind.component.registers if cell.kind.component is not None else ()
    if kind == "axi_intc":
        registers = tuple(Register(n, at, "read-write", ((n, 0, 32, "read-write"),)) for n, at in _INTC)
    slave = next((n for n, i in cell.shape.interfaces.items() if i.mode == "Slave"), "")
    if registers:
        _registers(module, slave, registers)
    table = ET.SubElement(module, "PARAMETERS")
    for name, text_ in _settings(design, cell).items():
        ET.SubElement(table, "PARAMETER", NAME=name, VALUE=text_)
    _ports(ET.SubElement(module, "PORTS"), design, cell)
    _interfaces(ET.SubElement(module, "BUSINTERFACES"), design, cell)
    ranges = [s for s in design.segments if s.master.startswith(f"/{cell.name}/")]
    if ranges:
        memory = ET.SubElement(module, "MEMORYMAP")
        for s in ranges:
            _, instance, interface = s.slave.split("/")
            base = f"C_{interface.upper()}" if not s.memory else "C"
            ET.SubElement(memory, "MEMRANGE", ADDRESSBLOCK=s.block, BASENAME=f"{base}_BASEADDR",
                          BASEVALUE=f"0x{s.base:08X}", HIGHNAME=f"{base}_HIGHADDR",
                          HIGHVALUE=f"0x{s.base + s.size - 1:08X}", INSTANCE=instance, IS_DATA="TRUE",
                          IS_INSTRUCTION="TRUE" if ps else "FALSE", MASTERBUSINTERFACE=s.master.split("/")[2],
                          MEMTYPE="MEMORY" if s.memory else "REGISTER", SLAVEBUSINTERFACE=interface)  # fmt: skip
        peripherals = ET.SubElement(module, "PERIPHERALS")
        for instance in dict.fromkeys(s.slave.split("/")[1] for s in ranges):
            ET.SubElement(peripherals, "PERIPHERAL", INSTANCE=instance)


def _settings(design: Design, cell: Cell) -> dict[str, str]:
    """What was set, what the tool derives, and for slaves their addresses."""
    found = {**cell.kind.defaults, **cell.settings, "Component_Name": f"{design.name}_{cell.name}_0"}
    kind = cell.kind.name
    if kind in _PS:
        mhz, divisor = fabric_clock(cell)
        zynq = kind == "processing_system7"
        clock = "PCW_FCLK{}_PERIPHERAL_" if zynq else "PSU__CRL_APB__PL{}_REF_CTRL__"
        enable = "PCW_FPGA_FCLK{}_ENABLE" if zynq else "PSU__FPGA_PL{}_ENABLE"
        source = "PCW_FCLK{}_PERIPHERAL_CLKSRC" if zynq else "PSU__CRL_APB__PL{}_REF_CTRL__SRCSEL"
        for i in range(4):
            found[clock.format(i) + "DIVISOR0"] = str(divisor if i == 0 else 1)
            found[clock.format(i) + "DIVISOR1"] = "1"
            found[enable.format(i)] = str(int(i == 0))
            found.setdefault(source.format(i), "IO PLL" if zynq else "IOPLL")
            if zynq:
                found[f"C_S_AXI_HP{i}_DATA_WIDTH"] = value(cell, f"PCW_S_AXI_HP{i}_DATA_WIDTH", "64")
        actual = "PCW_ACT_FPGA0_PERIPHERAL_FREQMHZ" if zynq else "PSU__CRL_APB__PL0_REF_CTRL__ACT_FREQMHZ"
        found[actual] = f"{mhz:.6f}"
        if kind == "zynq_ultra_ps_e":
            for i in range(7):
                found[f"C_SAXIGP{i}_DATA_WIDTH"] = value(cell, f"PSU__SAXIGP{i}__DATA_WIDTH", "128")
            for i in range(3):
                found[f"C_MAXIGP{i}_DATA_WIDTH"] = value(cell, f"PSU__MAXIGP{i}__DATA_WIDTH", "128")
    for s in design.segments:
        _, instance, interface = s.slave.split("/")
        if instance == cell.name and not s.memory:
            found[f"C_{interface.upper()}_BASEADDR"] = f"0x{s.base:08X}"
            found[f"C_{interface.upper()}_HIGHADDR"] = f"0x{s.base + s.size - 1:08X}"
    return found


def _ports(parent: ET.Element, design: Design, cell: Cell) -> None:
    for name, pin in cell.shape.pins.items():
        path = f"/{cell.name}/{name}"
        driver = next((d for d, net in design.nets.items() if path in net), None)
        port = ET.SubElement(parent, "PORT", DIR=pin.direction, NAME=name, SIGIS=pin.kind)
        if pin.bits is not None:
            port.set("LEFT", str(pin.bits - 1))
            port.set("RIGHT", "0")
        if pin.kind == "INTERRUPT":
            port.set("SENSITIVITY", "LEVEL_HIGH")
        if driver is None:
            continue
        if pin.kind == "clk":
            port.set("CLKFREQUENCY", str(round(1e6 * fabric_clock(design.cells[driver.split("/")[1]])[0])))
        port.set("SIGNAME", driver[1:].replace("/", "_"))
        ends = sorted(design.nets[driver] - {path}) if path == driver else [driver]
        _connections(port, [tuple(end.split("/")[1:]) for end in ends])  # type: ignore[misc]
    for name, interface in cell.shape.interfaces.items():
        if interface.vlnv != AXI:
            continue
        path = f"/{cell.name}/{name}"
        end = design.other_end(path)
        for signal in _signals(design, path, interface):
            out = (signal in _FROM_SLAVE) == (interface.mode == "Slave")
            port = ET.SubElement(
                parent, "PORT", DIR="O" if out else "I", NAME=f"{name}_{signal}", SIGIS="undef"
            )
            if end is not None:
                master = path if interface.mode == "Master" else end
                port.set("SIGNAME", f"{master[1:].replace('/', '_')}_{signal.lower()}")
                _, instance, there = end.split("/")
                _connections(port, [(instance, f"{there}_{signal}")])


def _signals(design: Design, path: str, interface: Interface) -> tuple[str, ...]:
    """An interconnect speaks what the other side does."""
    end = design.other_end(path)
    protocols = {interface.protocol, design.interfaces()[end].protocol if end is not None else "ANY"} - {
        "ANY"
    }
    return _LITE if protocols == {"AXI4LITE"} else (*_LITE, *_BURST)


def _connections(port: ET.Element, ends: list[tuple[str, str]]) -> None:
    table = ET.SubElement(port, "CONNECTIONS")
    for instance, name in ends:
        ET.SubElement(table, "CONNECTION", INSTANCE=instance, PORT=name)


def _interfaces(parent: ET.Element, design: Design, cell: Cell) -> None:
    for name, interface in cell.shape.interfaces.items():
        path = f"/{cell.name}/{name}"
        end = design.other_end(path)
        net = "__NOC__"
        if end is not None and end.lstrip("/") not in design.ports:
            net = (path if interface.mode == "Master" else end)[1:].replace("/", "_")
        bus = ET.SubElement(parent, "BUSINTERFACE", BUSNAME=net, NAME=name, VLNV=interface.vlnv.replace("_rtl", ""),
                            TYPE=interface.mode.upper() if interface.vlnv == AXI else "INITIATOR")  # fmt: skip
        if interface.vlnv != AXI:
            continue
        if interface.bits:
            bus.set("DATAWIDTH", str(interface.bits))
        for key, text_ in (("ADDR_WIDTH", str(interface.address_bits)), ("DATA_WIDTH", str(interface.bits)),
                           ("PROTOCOL", interface.protocol), ("READ_WRITE_MODE", "READ_WRITE")):  # fmt: skip
            ET.SubElement(bus, "PARAMETER", NAME=key, VALUE=text_)
        maps = ET.SubElement(bus, "PORTMAPS")
        for signal in _signals(design, path, interface):
            ET.SubElement(maps, "PORTMAP", LOGICAL=signal, PHYSICAL=f"{name}_{signal}")


def _registers(module: ET.Element, interface: str, registers: tuple[Register, ...]) -> None:
    blocks = ET.SubElement(module, "ADDRESSBLOCKS")
    block = ET.SubElement(blocks, "ADDRESSBLOCK", ACCESS="read-write", INTERFACE=interface, NAME="Reg", RANGE="65536",
                          USAGE="register")  # fmt: skip
    table = ET.SubElement(block, "REGISTERS")
    for register in registers:
        entry = ET.SubElement(table, "REGISTER", NAME=register.name)
        _properties(entry, DESCRIPTION=f"Data signal of {register.name}", ADDRESS_OFFSET=str(register.offset),
                    SIZE="32", ACCESS=register.access, IS_ENABLED="true", RESET_VALUE="0")  # fmt: skip
        fields = ET.SubElement(entry, "FIELDS")
        for name, low, bits, access in register.fields:
            field = ET.SubElement(fields, "FIELD", NAME=name)
            _properties(field, DESCRIPTION=name, ADDRESS_OFFSET=str(low), ACCESS=access, MODIFIED_READ_VALUES="",
                        WRITE_CONSTRAINT="0", READ_ACTION="", BIT_OFFSET=str(low), BIT_WIDTH=str(bits))  # fmt: skip


def _properties(entry: ET.Element, **values: str) -> None:
    for name, text_ in values.items():
        ET.SubElement(entry, "PROPERTY", NAME=name, VALUE=text_)
