"""Vivado's commands: a project, its block design, runs, reports, and the files that come out of them."""

from __future__ import annotations

import json
import pickle
import shlex
from pathlib import Path
from typing import Any

from tests.vendor import component, hwh
from tests.vendor.block_design import Design
from tests.vendor.blocks import (
    DDR_VLNV,
    FIXED_IO_VLNV,
    Cell,
    Interface,
    Kind,
    catalog,
    of_component,
)
from tests.vendor.grammar import Refused
from tests.vendor.parts import known_part
from tests.vendor.runs import Runs
from tests.vendor.server import Session

_PORTS = {DDR_VLNV: "DDR", FIXED_IO_VLNV: "FIXED_IO"}


class Vivado(Runs):
    def __init__(self, session: Session) -> None:
        self.session = session
        self.folder: Path | None = None
        self.state: dict[str, Any] = {}
        self.design: Design | None = None
        self.kinds: dict[str, Kind] = catalog(session.release)

    def call(self, name: str, options: dict[str, str], others: list[str]) -> str:
        return str(getattr(self, name)(options, others) or "")

    # --- the project ---

    def create_project(self, options: dict[str, str], others: list[str]) -> str:
        name, folder = others[0], Path(others[1])
        if not known_part(options.get("part", "")):
            raise Refused(f"[Coretcl 2-106] Specified part could not be found: '{options.get('part', '')}'.")
        if (folder / f"{name}.xpr").exists() and "force" not in options:
            raise Refused(
                f"[Common 17-53] User Exception: Project already exists on disk, please use '-force': {folder}"
            )
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self.state = {"name": name, "part": options["part"], "repo": "", "sources": [], "top": "", "runs": {},
                      "bd": ""}  # fmt: skip
        self._save()
        return name

    def open_project(self, options: dict[str, str], others: list[str]) -> str:
        path = Path(others[0])
        if path.suffix != ".xpr" or not path.is_file():
            raise Refused(f"[Coretcl 2-27] Can't find specified project: '{path}'.")
        self.folder, self.state = path.parent, json.loads(path.read_text())
        self._load_repo()
        if self.state["bd"]:
            self.design = pickle.loads(self._saved().read_bytes(), encoding="utf-8")
            self._relink()
        return str(self.state["name"])

    def close_project(self, options: dict[str, str], others: list[str]) -> None:
        self._project()
        self.folder = None

    def current_project(self, options: dict[str, str], others: list[str]) -> str:
        self._project()
        return str(self.state["name"])

    def current_fileset(self, options: dict[str, str], others: list[str]) -> str:
        self._project()
        return "sources_1"

    def get_filesets(self, options: dict[str, str], others: list[str]) -> str:
        self._project()
        return "sources_1"

    def update_ip_catalog(self, options: dict[str, str], others: list[str]) -> None:
        self._project()
        self._load_repo()

    def get_ipdefs(self, options: dict[str, str], others: list[str]) -> str:
        import fnmatch

        pattern = others[0] if others else "*"
        return " ".join(k.vlnv for k in self.kinds.values() if fnmatch.fnmatchcase(k.vlnv, pattern))

    def set_property(self, options: dict[str, str], others: list[str]) -> None:
        if "dict" in options:
            words = shlex.split(options["dict"].replace("{", "'").replace("}", "'"))
            if len(words) % 2 or len(others) != 1:
                raise Refused("[Common 17-162] set_property -dict: names and values do not pair.")
            pairs = list(zip(words[::2], words[1::2], strict=True))
        elif len(others) == 3:
            pairs = [(others[0], others[1])]
        else:
            raise Refused("[Common 17-163] Missing value for option 'objects'.")
        target = others[-1]
        for name, text in pairs:
            self._set(target, name, text)

    def _set(self, target: str, name: str, text: str) -> None:
        self._project()
        if target.startswith("/"):
            self._design().set(target, name, text)
        elif target == self.state["name"] and name == "ip_repo_paths":
            if not Path(text).is_dir():
                raise Refused(f"[IP_Flow 19-3656] Repository path '{text}' does not exist.")
            self.state["repo"] = text
        elif target == "sources_1" and name == "top":
            if text not in [Path(p).stem for p in self.state["sources"]]:
                raise Refused(f"[Common 17-69] Module '{text}' is in no source of the project.")
            self.state["top"] = text
        else:
            raise Refused(f"[Common 17-142] Unknown property '{name}' of '{target}'.")
        self._save()

    def get_property(self, options: dict[str, str], others: list[str]) -> str:
        name, target = others
        run = self.state["runs"].get(target)
        if run is None or name not in ("PROGRESS", "STATUS"):
            raise Refused(f"[Common 17-142] Unknown property '{name}' of '{target}'.")
        if not run["waited"]:
            return "0%" if name == "PROGRESS" else "Running..."
        return str(run[name])

    # --- the block design ---

    def create_bd_design(self, options: dict[str, str], others: list[str]) -> str:
        self._project()
        self.design = Design(others[0])
        self.state["bd"] = others[0]
        return others[0]

    def create_bd_cell(self, options: dict[str, str], others: list[str]) -> str:
        if options.get("type", "ip") != "ip" or "vlnv" not in options:
            raise Refused("[BD 5-14] create_bd_cell needs -type ip and -vlnv here.")
        found = [k for k in self.kinds.values() if k.vlnv == options["vlnv"]]
        if not found:
            raise Refused(f"[BD 5-390] IP definition not found for VLNV: {options['vlnv']}")
        return self._design().add(Cell(others[0].lstrip("/"), options["vlnv"], {}, found[0]))

    def create_bd_intf_port(self, options: dict[str, str], others: list[str]) -> str:
        vlnv = options.get("vlnv", "")
        if vlnv not in _PORTS or options.get("mode") not in ("Master", "Slave"):
            raise Refused(f"[BD 5-110] Interface port {others[0]}: {options} is not understood.")
        self._design().ports[others[0]] = Interface(options["mode"], _PORTS[vlnv], vlnv=vlnv)
        return f"/{others[0]}"

    def connect_bd_net(self, options: dict[str, str], others: list[str]) -> None:
        self._design().connect(" ".join(others).split())

    def connect_bd_intf_net(self, options: dict[str, str], others: list[str]) -> None:
        self._design().connect_interfaces(others)

    def get_bd_cells(self, options: dict[str, str], others: list[str]) -> str:
        return self._select("cell", options, others)

    def get_bd_pins(self, options: dict[str, str], others: list[str]) -> str:
        return self._select("pin", options, others)

    def get_bd_intf_pins(self, options: dict[str, str], others: list[str]) -> str:
        return self._select("interface", options, others)

    def get_bd_intf_ports(self, options: dict[str, str], others: list[str]) -> str:
        return self._select("port", options, others)

    def _select(self, of: str, options: dict[str, str], others: list[str]) -> str:
        pattern = others[0] if others else ""
        return " ".join(
            self._design().select(of, pattern, options.get("of_objects", ""), options.get("filter", ""))
        )

    def get_bd_addr_spaces(self, options: dict[str, str], others: list[str]) -> str:
        design = self._design()
        names = [m for m in options.get("of_objects", "").split() if m in design.masters()]
        if not names:
            raise Refused(f"[BD 5-700] No address spaces matched '{options.get('of_objects', '')}'")
        return " ".join(f"{m.rpartition('/')[0]}/Data_{m.rpartition('/')[2]}" for m in names)

    def get_bd_addr_segs(self, options: dict[str, str], others: list[str]) -> str:
        spaces = options.get("of_objects", "").split()
        return " ".join(
            f"{space}/SEG_{s.block}"
            for space in spaces
            for s in self._design().segments
            if s.master.replace("/m_axi", "/Data_m_axi").replace("/M_AXI", "/Data_M_AXI") == space
        )

    def assign_bd_address(self, options: dict[str, str], others: list[str]) -> str:
        if self.session.fault("assign_bd_address", "nothing"):
            return ""
        return " ".join(self._design().assign())

    def validate_bd_design(self, options: dict[str, str], others: list[str]) -> None:
        self._design().validate()

    def save_bd_design(self, options: dict[str, str], others: list[str]) -> None:
        self._design()
        path = self._generated(f"bd/{self.state['bd']}/{self.state['bd']}.bd", sources=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}\n")
        self._store()

    def get_files(self, options: dict[str, str], others: list[str]) -> str:
        self._project()
        found = [str(p) for p in sorted(self._folder().rglob(others[0]))]
        if not found:
            raise Refused(f"[Vivado 12-818] No files matched '{others[0]}'")
        return " ".join(found)

    def generate_target(self, options: dict[str, str], others: list[str]) -> None:
        if others[0] not in ("all", "synthesis", "implementation", "instantiation_template"):
            raise Refused(f"[Vivado 12-106] Target '{others[0]}' is not known.")
        design = self._design()
        if not design.valid:
            raise Refused("[BD 41-1031] The block design has not been validated since it was changed.")
        if not Path(others[1]).is_file():
            raise Refused(f"[Vivado 12-818] No files matched '{others[1]}'")
        path = self._generated(f"bd/{design.name}/hw_handoff/{design.name}.hwh")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(hwh.text(design, self.state["part"], self.session.release))
        self.session.log(
            f"INFO: [BD 41-1029] Generation completed for the IP Integrator block {design.name}."
        )
        self._store()

    def make_wrapper(self, options: dict[str, str], others: list[str]) -> str:
        name = self._design().name
        if not Path(options.get("files", "")).is_file():
            raise Refused("[Vivado 12-3391] make_wrapper needs -files.")
        path = self._generated(f"bd/{name}/hdl/{name}_wrapper.v")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"module {name}_wrapper; endmodule\n")
        return str(path)

    def add_files(self, options: dict[str, str], others: list[str]) -> None:
        for name in " ".join(others).split():
            if not Path(name).is_file():
                raise Refused(f"[Vivado 12-172] File or Directory '{name}' does not exist")
            self.state["sources"].append(name)
        self._save()

    def update_compile_order(self, options: dict[str, str], others: list[str]) -> None:
        self._project()

    # --- state ---

    def _project(self) -> None:
        if self.folder is None:
            raise Refused("[Common 17-53] User Exception: No open project. Please create or open a project.")

    def _folder(self) -> Path:
        self._project()
        assert self.folder is not None
        return self.folder

    def _design(self) -> Design:
        self._project()
        if self.design is None:
            raise Refused("[BD 5-104] A block design must be open to run this command.")
        return self.design

    def _generated(self, name: str, sources: bool = False) -> Path:
        """Where Vivado puts what it generates: in .gen since 2020.2."""
        suffix = "srcs" if sources or self.session.key < (2020, 2) else "gen"
        return self._folder() / f"{self.state['name']}.{suffix}" / "sources_1" / name

    def _load_repo(self) -> None:
        for path in Path(self.state["repo"]).rglob("component.xml") if self.state["repo"] else ():
            kind = of_component(component.read(path))
            self.kinds[kind.name] = kind

    def _saved(self) -> Path:
        return self._folder() / f"{self.state['name']}.bd.pickle"

    def _store(self) -> None:
        design = self._design()
        kinds = {c.name: c.kind for c in design.cells.values()}
        for cell in design.cells.values():
            cell.kind = None  # type: ignore[assignment]  # has functions; found again by its name
        self._saved().write_bytes(pickle.dumps(design))
        for cell in design.cells.values():
            cell.kind = kinds[cell.name]

    def _relink(self) -> None:
        assert self.design is not None
        for cell in self.design.cells.values():
            cell.kind = self.kinds[cell.vlnv.split(":")[2]]

    def _save(self) -> None:
        (self._folder() / f"{self.state['name']}.xpr").write_text(json.dumps(self.state))
