"""A hardware handoff (.hwh) of the engine in a block design, as Vivado writes one: what PYNQ learns a design from.

Only what PYNQ reads of it (pynqmetadata's HwhFrontend, pynq's views): the processing system with its clocks and
memory map, the engine with its registers, and an interrupt controller between the two. Layout of registers as Vitis
HLS gives it for s_axilite with block control (UG1399, "S_AXILITE Control Register Map"): control at 0x00, interrupts
at 0x04..0x0c, then each argument in order, 64-bit pointers as NAME_1 and NAME_2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

ENGINE, VLNV = "codesign_engine_0", "xilinx.com:hls:codesign_engine:1.0"
POINTERS, SCALARS = ("features", "offsets", "program_port", "results"), ("program", "memory_words")
PS = {  # family -> instance, kind, version, master port, interrupt port, base address of the engine
    "zynq7000": ("processing_system7_0", "processing_system7", "5.5", "M_AXI_GP0", "IRQ_F2P", 0x43C00000),
    "zynqmp": ("zynq_ultra_ps_e_0", "zynq_ultra_ps_e", "3.5", "M_AXI_HPM0_FPD", "pl_ps_irq0", 0xA0000000),
}
INTC, INTC_RANGE, RANGE = "axi_intc_0", 0x10000, 0x10000


@dataclass(frozen=True)
class Register:
    name: str
    offset: int
    access: str
    description: str
    fields: tuple[tuple[str, int, int, str], ...] = ()  # name, lowest bit, bits, access


def registers(pointer_bits: int = 64) -> list[Register]:
    """The engine's registers; `pointer_bits` is 32 where HLS was told not to use 64-bit addresses."""
    bits = (("AP_START", 0, "read-write"), ("AP_DONE", 1, "read-only"), ("AP_IDLE", 2, "read-only"))
    bits += (("AP_READY", 3, "read-only"), ("AUTO_RESTART", 7, "read-write"))
    channels = ("CHAN0_INT", "CHAN1_INT")
    found = [
        Register("CTRL", 0, "read-write", "Control signals", tuple((n, b, 1, a) for n, b, a in bits)),
        Register("GIER", 4, "read-write", "Global Interrupt Enable", (("Enable", 0, 1, "read-write"),)),
    ]
    for name, offset, end in (("IP_IER", 8, "EN"), ("IP_ISR", 12, "ST")):
        fields = tuple((f"{c}_{end}", i, 1, "read-write") for i, c in enumerate(channels))
        found.append(Register(name, offset, "read-write", "IP interrupts", fields))
    whole = (("VALUE", 0, 32, "read-only"),)
    found.append(Register("ap_return", 0x10, "read-only", "Data signal of ap_return", whole))
    at = 0x18
    for pointer in POINTERS:
        parts = [f"{pointer}_1", f"{pointer}_2"] if pointer_bits == 64 else [pointer]
        for name in parts:
            field = ((pointer, 0, 32, "write-only"),)
            found.append(Register(name, at, "write-only", f"Data signal of {pointer}", field))
            at += 4
        at += 4  # reserved
    for scalar in SCALARS:
        field = ((scalar, 0, 32, "write-only"),)
        found.append(Register(scalar, at, "write-only", f"Data signal of {scalar}", field))
        at += 8
    return found


def text(
    family: str = "zynqmp",
    clock_mhz: int = 250,
    regs: Sequence[Register] | None = None,
    vlnv: str = VLNV,
    interrupt: bool = True,
) -> str:
    """The file's text for a family of boards.hwh; `interrupt=False` leaves the interrupt controller out."""
    ps, kind, version, master, irq, base = PS[family]
    root = ElementTree.Element("EDKSYSTEM", EDWVERSION="1.2", TIMESTAMP="-", VIVADOVERSION="2024.1")
    arch = "zynq" if family == "zynq7000" else "zynquplus"
    ElementTree.SubElement(
        root, "SYSTEMINFO", ARCH=arch, DEVICE="-", NAME="design", PACKAGE="-", SPEEDGRADE="-"
    )
    ElementTree.SubElement(root, "EXTERNALPORTS")
    ElementTree.SubElement(root, "EXTERNALINTERFACES")
    modules = ElementTree.SubElement(root, "MODULES")

    core = _module(modules, ps, f"xilinx.com:ip:{kind}:{version}", _clocks(family, clock_mhz))
    _bus(core, master, "MASTER", "axi")
    memory = ElementTree.SubElement(core, "MEMORYMAP")
    _range(memory, ENGINE, master, "s_axi_control", base, RANGE)
    if interrupt:
        _port(core, irq, "I", (INTC, "irq"))
        _range(memory, INTC, master, "s_axi", base + RANGE, INTC_RANGE)

    engine = _module(modules, ENGINE, vlnv, {})
    _register_block(engine, "s_axi_control", registers() if regs is None else regs)
    _bus(engine, "s_axi_control", "SLAVE", "axi")
    if interrupt:
        _port(engine, "interrupt", "O", (INTC, "intr"))
        intc = _module(modules, INTC, "xilinx.com:ip:axi_intc:4.1", {})
        _register_block(intc, "s_axi", [Register("ISR", 0, "read-write", "Interrupt Status")])
        _bus(intc, "s_axi", "SLAVE", "axi")
        _port(intc, "intr", "I", (ENGINE, "interrupt"))
        _port(intc, "irq", "O", (ps, irq))
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _clocks(family: str, mhz: int) -> dict[str, str]:
    """Parameters of the processing system: one clock to the logic, from a source of 1 GHz or 1.5 GHz."""
    source = 1000 if family == "zynq7000" else 1500
    found = {}
    for i in range(4):
        divisors = (round(source / mhz), 1)
        if family == "zynq7000":
            found[f"PCW_FPGA_FCLK{i}_ENABLE"] = str(int(i == 0))
            found[f"PCW_FCLK{i}_PERIPHERAL_CLKSRC"] = "IO PLL"
            found |= {f"PCW_FCLK{i}_PERIPHERAL_DIVISOR{d}": str(v) for d, v in enumerate(divisors)}
        else:
            found[f"PSU__FPGA_PL{i}_ENABLE"] = str(int(i == 0))
            found[f"PSU__CRL_APB__PL{i}_REF_CTRL__SRCSEL"] = "IOPLL"
            found[f"PSU__CRL_APB__PL{i}_REF_CTRL__ACT_FREQMHZ"] = f"{source / divisors[0]:.6f}"
            found |= {f"PSU__CRL_APB__PL{i}_REF_CTRL__DIVISOR{d}": str(v) for d, v in enumerate(divisors)}
    return found


def _module(
    parent: ElementTree.Element, name: str, vlnv: str, parameters: dict[str, str]
) -> ElementTree.Element:
    kind, version = vlnv.split(":")[2:]
    module = ElementTree.SubElement(
        parent, "MODULE", FULLNAME=f"/{name}", HWVERSION=version, INSTANCE=name, IPTYPE="PERIPHERAL", IS_ENABLE="1",
        MODCLASS="PERIPHERAL", MODTYPE=kind, VLNV=vlnv,
    )  # fmt: skip
    table = ElementTree.SubElement(module, "PARAMETERS")
    for key, value in parameters.items():
        ElementTree.SubElement(table, "PARAMETER", NAME=key, VALUE=value)
    return module


def _child(parent: ElementTree.Element, tag: str) -> ElementTree.Element:
    found = parent.find(tag)
    return ElementTree.SubElement(parent, tag) if found is None else found


def _port(module: ElementTree.Element, name: str, direction: str, to: tuple[str, str]) -> None:
    port = ElementTree.SubElement(_child(module, "PORTS"), "PORT", DIR=direction, NAME=name, SIGIS="INTERRUPT",
                                  SIGNAME=f"net_{min(name, to[1])}_{max(name, to[1])}")  # fmt: skip
    connections = ElementTree.SubElement(port, "CONNECTIONS")
    ElementTree.SubElement(connections, "CONNECTION", INSTANCE=to[0], PORT=to[1])


def _bus(module: ElementTree.Element, name: str, kind: str, net: str) -> None:
    ElementTree.SubElement(
        _child(module, "BUSINTERFACES"), "BUSINTERFACE", BUSNAME=net, DATAWIDTH="32", NAME=name, TYPE=kind,
        VLNV="xilinx.com:interface:aximm:1.0",
    )  # fmt: skip


def _range(memory: ElementTree.Element, instance: str, master: str, slave: str, base: int, size: int) -> None:
    ElementTree.SubElement(
        memory, "MEMRANGE", ADDRESSBLOCK="Reg", BASENAME="C_BASEADDR", BASEVALUE=f"0x{base:08X}",
        HIGHNAME="C_HIGHADDR", HIGHVALUE=f"0x{base + size - 1:08X}", INSTANCE=instance, IS_DATA="TRUE",
        IS_INSTRUCTION="TRUE", MASTERBUSINTERFACE=master, MEMTYPE="REGISTER", SLAVEBUSINTERFACE=slave,
    )  # fmt: skip


def _register_block(module: ElementTree.Element, interface: str, regs: Sequence[Register]) -> None:
    blocks = ElementTree.SubElement(module, "ADDRESSBLOCKS")
    block = ElementTree.SubElement(
        blocks,
        "ADDRESSBLOCK",
        ACCESS="read-write",
        INTERFACE=interface,
        NAME="Reg",
        RANGE="65536",
        USAGE="register",
    )
    table = ElementTree.SubElement(block, "REGISTERS")
    for reg in regs:
        entry = ElementTree.SubElement(table, "REGISTER", NAME=reg.name)
        _properties(entry, DESCRIPTION=reg.description, ADDRESS_OFFSET=str(reg.offset), SIZE="32",
                    ACCESS=reg.access, IS_ENABLED="true", RESET_VALUE="0")  # fmt: skip
        fields = ElementTree.SubElement(entry, "FIELDS")
        for name, low, bits, access in reg.fields:
            field = ElementTree.SubElement(fields, "FIELD", NAME=name)
            _properties(field, DESCRIPTION=name, ADDRESS_OFFSET=str(low), ACCESS=access, MODIFIED_READ_VALUES="",
                        WRITE_CONSTRAINT="0", READ_ACTION="", BIT_OFFSET=str(low), BIT_WIDTH=str(bits))  # fmt: skip


def _properties(entry: ElementTree.Element, **values: str) -> None:
    for name, value in values.items():
        ElementTree.SubElement(entry, "PROPERTY", NAME=name, VALUE=value)
