"""The IP that HLS exports: component.xml, of which Vivado takes ports, interfaces and registers (IP-XACT 1685-2009)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

SPIRIT = "http://www.spiritconsortium.org/XMLSchema/SPIRIT/1685-2009"
_CONTROL = (
    ("CTRL", 0x00, (("AP_START", 0), ("AP_DONE", 1), ("AP_IDLE", 2), ("AP_READY", 3), ("AUTO_RESTART", 7))),
    ("GIER", 0x04, (("Enable", 0),)),
    ("IP_IER", 0x08, (("CHAN0_INT_EN", 0), ("CHAN1_INT_EN", 1))),
    ("IP_ISR", 0x0C, (("CHAN0_INT_ST", 0), ("CHAN1_INT_ST", 1))),
)
_READ_ONLY = {"AP_DONE", "AP_IDLE", "AP_READY"}


@dataclass(frozen=True)
class Register:
    """Fields are (name, lowest bit, bits, access)."""

    name: str
    offset: int
    access: str
    fields: tuple[tuple[str, int, int, str], ...]


def engine_registers(arguments: Sequence[tuple[str, bool]], wide: bool, vitis: bool) -> list[Register]:
    """Registers of an s_axilite interface with block control: control, return value, then arguments in order.

    Each value takes 32 bits and 32 reserved ones, a pointer of 64 bits 64 and 32. Vivado HLS adds _V to what is a
    class (ap_uint is one) and _r to words of its own languages; 64-bit pointers become NAME_1 and NAME_2.
    """
    found = [
        Register(name, offset, "read-write",
                 tuple((f, bit, 1, "read-only" if f in _READ_ONLY else "read-write") for f, bit in fields))
        for name, offset, fields in _CONTROL
    ]  # fmt: skip
    found.append(Register("ap_return", 0x10, "read-only", (("ap_return", 0, 32, "read-only"),)))
    at = 0x18
    for argument, pointer in arguments:
        name = (
            f"{argument}_V"
            if pointer and not vitis
            else f"{argument}_r"
            if argument == "program"
            else argument
        )
        for part in [f"{name}_1", f"{name}_2"] if pointer and wide else [name]:
            found.append(Register(part, at, "write-only", ((name, 0, 32, "write-only"),)))
            at += 4
        at += 4
    return found


def component(
    vlnv: tuple[str, str, str, str], masters: Sequence[str], data_bits: int, address_bits: int,
    registers: Sequence[Register],
) -> str:  # fmt: skip
    ET.register_namespace("spirit", SPIRIT)
    root = ET.Element(_tag("component"))
    for tag, value in zip(("vendor", "library", "name", "version"), vlnv, strict=True):
        _text(root, tag, value)
    interfaces = _child(root, "busInterfaces")
    for bundle in masters:
        interface = _child(interfaces, "busInterface")
        _text(interface, "name", f"m_axi_{bundle}")
        _type(interface, "aximm")
        _child(interface, "master")
        _parameters(interface, DATA_WIDTH=data_bits, ADDR_WIDTH=address_bits, PROTOCOL="AXI4")
    interface = _child(interfaces, "busInterface")
    _text(interface, "name", "s_axi_control")
    _type(interface, "aximm")
    _child(interface, "slave")
    bits = max(7, (registers[-1].offset + 4 - 1).bit_length())
    _parameters(interface, DATA_WIDTH=32, ADDR_WIDTH=bits, PROTOCOL="AXI4LITE")
    block = _child(_child(_child(root, "memoryMaps"), "memoryMap"), "addressBlock")
    _text(block, "name", "Reg")
    _text(block, "range", "65536")
    for register in registers:
        entry = _child(block, "register")
        _text(entry, "name", register.name)
        _text(entry, "addressOffset", hex(register.offset))
        _text(entry, "access", register.access)
        for name, low, width, access in register.fields:
            field = _child(entry, "field")
            for tag, value in (("name", name), ("bitOffset", low), ("bitWidth", width), ("access", access)):
                _text(field, tag, str(value))
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


@dataclass(frozen=True)
class Component:
    vlnv: str
    interfaces: tuple[tuple[str, str, dict[str, str]], ...]  # name, master or slave, parameters
    registers: tuple[Register, ...]


def read(path: Path) -> Component:
    root = ET.parse(path).getroot()
    vlnv = ":".join(_of(root, tag) for tag in ("vendor", "library", "name", "version"))
    interfaces = []
    for interface in root.iter(_tag("busInterface")):
        mode = "master" if interface.find(_tag("master")) is not None else "slave"
        values = {_of(p, "name"): _of(p, "value") for p in interface.iter(_tag("parameter"))}
        interfaces.append((_of(interface, "name"), mode, values))
    registers = []
    for entry in root.iter(_tag("register")):
        fields = tuple(
            (_of(f, "name"), int(_of(f, "bitOffset")), int(_of(f, "bitWidth")), _of(f, "access"))
            for f in entry.iter(_tag("field"))
        )
        registers.append(
            Register(_of(entry, "name"), int(_of(entry, "addressOffset"), 16), _of(entry, "access"), fields)
        )
    return Component(vlnv, tuple(interfaces), tuple(registers))


def _tag(name: str) -> str:
    return f"{{{SPIRIT}}}{name}"


def _child(parent: ET.Element, tag: str) -> ET.Element:
    return ET.SubElement(parent, _tag(tag))


def _text(parent: ET.Element, tag: str, value: str) -> None:
    _child(parent, tag).text = value


def _type(parent: ET.Element, name: str) -> None:
    attributes = {
        _tag("vendor"): "xilinx.com",
        _tag("library"): "interface",
        _tag("name"): name,
        _tag("version"): "1.0",
    }
    ET.SubElement(parent, _tag("busType"), attributes)


def _parameters(parent: ET.Element, **values: object) -> None:
    table = _child(parent, "parameters")
    for name, value in values.items():
        parameter = _child(table, "parameter")
        _text(parameter, "name", name)
        _text(parameter, "value", str(value))


def _of(parent: ET.Element, tag: str) -> str:
    found = parent.find(_tag(tag))
    assert found is not None and found.text, tag
    return found.text
