"""A block design: cells, connections, addresses, and what validate_bd_design finds wrong with it.

Stricter than Vivado where a mistake of a script would go through: what matches nothing is an error, every AXI
interface that is open must be connected, and every clock must come from the same pin.
"""

from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass, field

from tests.vendor.blocks import AXI, Cell, Interface, Pin, setting
from tests.vendor.grammar import Refused


@dataclass(frozen=True)
class Segment:
    """A mapped range: of a master's interface, to a block of a slave's."""

    master: str  # /cell/interface
    slave: str
    block: str
    base: int
    size: int
    memory: bool


@dataclass
class Design:
    name: str
    cells: dict[str, Cell] = field(default_factory=dict)
    ports: dict[str, Interface] = field(default_factory=dict)
    nets: dict[str, set[str]] = field(default_factory=dict)  # driver -> all pins of the net
    wires: list[tuple[str, str]] = field(default_factory=list)  # interface nets
    segments: list[Segment] = field(default_factory=list)
    valid: bool = False

    # --- names ---

    def pins(self) -> dict[str, Pin]:
        return {f"/{c.name}/{n}": p for c in self.cells.values() for n, p in c.shape.pins.items()}

    def interfaces(self) -> dict[str, Interface]:
        return {f"/{c.name}/{n}": i for c in self.cells.values() for n, i in c.shape.interfaces.items()}

    def select(self, of: str, pattern: str, of_objects: str, condition: str) -> list[str]:
        """Objects of a kind by name, below other objects, that meet a condition. Raises Refused if none is there."""
        every = {"pin": self.pins, "interface": self.interfaces, "cell": self._cell_names,
                 "port": self._port_names}[of]()  # fmt: skip
        if of_objects:
            roots = of_objects.split()
            every = {n: o for n, o in every.items() if any(n.startswith(f"{r}/") for r in roots)}
        wanted = pattern if pattern.startswith("/") or not pattern else f"/{pattern}"
        names = [n for n in every if not wanted or fnmatch.fnmatchcase(n, wanted)]
        names = [n for n in names if _meets(condition, _properties(every[n]))]
        if not names:
            raise Refused(f"[BD 5-235] No {of} matched '{pattern or of_objects} {condition}'".rstrip())
        return names

    def _cell_names(self) -> dict[str, object]:
        return {f"/{name}": cell for name, cell in self.cells.items()}

    def _port_names(self) -> dict[str, object]:
        return {f"/{name}": port for name, port in self.ports.items()}

    # --- changes ---

    def add(self, cell: Cell) -> str:
        if cell.name in self.cells:
            raise Refused(f"[BD 5-216] A cell /{cell.name} is there already.")
        self.cells[cell.name] = cell
        self.valid = False
        return f"/{cell.name}"

    def set(self, path: str, name: str, text: str) -> None:
        if path.lstrip("/") not in self.cells:
            raise Refused(f"[Common 17-162] Invalid object '{path}'.")
        if not name.startswith("CONFIG."):
            raise Refused(f"[Common 17-142] Unknown property '{name}' of a cell.")
        setting(self.cells[path.lstrip("/")], name.removeprefix("CONFIG."), text)
        self.valid = False

    def connect(self, names: list[str]) -> None:
        pins = self.pins()
        unknown = [name for name in names if name not in pins]
        if unknown or len(names) < 2:
            raise Refused(
                f"[BD 5-106] Arguments to the connect_bd_net command cannot be empty: {unknown or names}"
            )
        existing = {driver for name in names for driver, net in self.nets.items() if name in net}
        drivers = {n for n in names if pins[n].direction == "O"} | existing
        if len(drivers) != 1:
            raise Refused(f"[BD 41-1306] A net has {len(drivers)} drivers: {sorted(drivers) or names}.")
        kinds = {pins[n].kind for n in names} - {"undef"}
        if len(kinds) > 1:
            raise Refused(f"[BD 41-1731] Type mismatch between connected pins: {', '.join(names)}")
        (driver,) = drivers
        self.nets.setdefault(driver, {driver}).update(names)
        self.valid = False

    def connect_interfaces(self, names: list[str]) -> None:
        every = {**self.interfaces(), **{f"/{n}": p for n, p in self.ports.items()}}
        unknown = [name for name in names if name not in every]
        if unknown or len(names) != 2:
            raise Refused(
                f"[BD 5-106] Arguments to the connect_bd_intf_net command cannot be empty: {unknown or names}"
            )
        taken = [n for n in names if any(n in wire for wire in self.wires)]
        if taken:
            raise Refused(f"[BD 41-171] The interface {taken[0]} is connected already.")
        a, b = (every[n] for n in names)
        if a.vlnv != b.vlnv:
            raise Refused(
                f"[BD 41-172] Interfaces {names[0]} ({a.vlnv}) and {names[1]} ({b.vlnv}) do not match."
            )
        external = any(n.lstrip("/") in self.ports for n in names)
        if (a.mode == b.mode) != external:
            raise Refused(f"[BD 41-173] Interfaces {names[0]} and {names[1]} are {a.mode} and {b.mode}.")
        if (
            {a.protocol, b.protocol} == {"AXI3", "AXI4"}
            or (a.protocol == "AXI4LITE") != (b.protocol == "AXI4LITE")
        ) and "ANY" not in (a.protocol, b.protocol):
            raise Refused(
                f"[BD 41-237] Bus interface property PROTOCOL does not match between {' and '.join(names)}"
            )
        self.wires.append((names[0], names[1]))
        self.valid = False

    # --- what is reached ---

    def other_end(self, name: str) -> str | None:
        for a, b in self.wires:
            if name in (a, b):
                return b if name == a else a
        return None

    def slaves(self, master: str) -> list[str]:
        """Interfaces of slaves that a master reaches, through interconnects."""
        end = self.other_end(master)
        if end is None:
            return []
        cell = self.cells[end.split("/")[1]]
        if cell.kind.name != "smartconnect":
            return [end]
        out = [f"/{cell.name}/{n}" for n, i in cell.shape.interfaces.items() if i.mode == "Master"]
        return [s for name in out for s in self.slaves(name)]

    def masters(self) -> list[str]:
        """AXI masters that have addresses: not those of interconnects."""
        return [n for n, i in self.interfaces().items() if i.mode == "Master" and i.vlnv == AXI
                and self.cells[n.split("/")[1]].kind.name != "smartconnect"]  # fmt: skip

    def assign(self) -> list[str]:
        """Map what is not mapped, where Vivado does. Returns the new segments."""
        new = []
        registers = 0
        for master in self.masters():
            interface = self.interfaces()[master]
            for slave in self.slaves(master):
                cell = self.cells[slave.split("/")[1]]
                origin = control_base(self.cells[master.split("/")[1]])
                for block, base, size, memory in _blocks(cell, slave, origin + registers * 0x10000):
                    registers += not memory
                    if base + size > 1 << interface.address_bits:
                        continue  # cannot be reached from there; Vivado warns
                    found = Segment(master, slave, block, base, size, memory)
                    if not any((s.master, s.slave, s.block) == (master, slave, block) for s in self.segments):
                        self.segments.append(found)
                        new.append(f"{master}/SEG_{cell.name}_{block}")
        self.valid = False
        return new

    def validate(self) -> None:
        faults = []
        connected = {name for net in self.nets.values() for name in net}
        faults += [
            f"pin {n} is not connected" for n, p in self.pins().items() if p.needed and n not in connected
        ]
        faults += [f"interface {n} is not connected" for n, i in self.interfaces().items()
                   if i.needed and self.other_end(n) is None]  # fmt: skip
        clocks = {d for d, net in self.nets.items() if self.pins()[d].kind == "clk"}
        if len(clocks) != 1:
            faults.append(f"{len(clocks)} clocks drive the design: {sorted(clocks)}")
        for master in self.masters():
            mapped = [s for s in self.segments if s.master == master]
            faults += [f"slave {s} is not mapped into {master}" for s in self.slaves(master)
                       if not any(m.slave == s for m in mapped)]  # fmt: skip
            ranges = sorted((s.base, s.base + s.size) for s in mapped)
            faults += [f"addresses of {master} overlap at {b:#x}"
                       for (_, e), (b, _) in zip(ranges, ranges[1:], strict=False) if b < e]  # fmt: skip
        if faults:
            raise Refused(f"[BD 41-758] The block design is not valid: {'; '.join(faults)}")
        self.valid = True


def _blocks(cell: Cell, slave: str, first: int) -> list[tuple[str, int, int, bool]]:
    """Address blocks of a slave: name, base, size, whether it is memory."""
    if cell.kind.name == "processing_system7":
        return [(f"{slave.split('_')[-1]}_DDR_LOWOCM", 0, 512 << 20, True)]
    if cell.kind.name == "zynq_ultra_ps_e":
        port = slave.split("_")[-2]
        return [(f"{port}_DDR_LOW", 0, 2 << 30, True), (f"{port}_DDR_HIGH", 0x8_0000_0000, 32 << 30, True),
                (f"{port}_QSPI", 0xC000_0000, 512 << 20, True),
                (f"{port}_LPS_OCM", 0xFF00_0000, 16 << 20, True)]  # fmt: skip
    return [("Reg", first, 0x10000, False)]


def _properties(thing: object) -> dict[str, str]:
    if isinstance(thing, Interface):
        return {"MODE": thing.mode, "VLNV": thing.vlnv}
    if isinstance(thing, Pin):
        return {"DIR": thing.direction, "TYPE": thing.kind}
    return {"VLNV": thing.vlnv, "NAME": thing.name} if isinstance(thing, Cell) else {}


def _meets(condition: str, properties: dict[str, str]) -> bool:
    """`MODE == Master && VLNV =~ x:*`; raises Refused for a property that the object does not have."""
    for part in filter(None, (p.strip() for p in condition.split("&&"))):
        match = re.fullmatch(r"(\w+)\s*(==|!=|=~|!~)\s*\"?([^\"]*?)\"?", part)
        if match is None or match.group(1) not in properties:
            raise Refused(f"[Common 17-142] Filter '{part}' is not understood.")
        name, operator, wanted = match.groups()
        same = (
            properties[name] == wanted
            if "=" == operator[1]
            else fnmatch.fnmatchcase(properties[name], wanted)
        )
        if same == operator.startswith("!"):
            return False
    return True


def control_base(cell: Cell) -> int:
    """Where a processing system's first slave lies (UG585, UG1085)."""
    return 0x4000_0000 if cell.kind.name == "processing_system7" else 0xA000_0000
