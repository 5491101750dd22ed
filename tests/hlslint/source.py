"""The parsed design: functions and types with who uses whom, scopes, loops and pragmas."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from tests.hlslint.macros import expand, undo_blanks

try:
    import clang.cindex as ci
    from clang.cindex import CursorKind as K
except ImportError as error:  # pragma: no cover
    raise RuntimeError(
        "libclang: not installed, expected for the linter. pip install -e '.[test]'."
    ) from error

EXEMPT = ("sim/", "native/", "main.cpp")  # never synthesised
STANDINS = Path(__file__).resolve().parent / "include"
MACROS = {"vivado": ["-D__SYNTHESIS__"], "vitis": ["-D__SYNTHESIS__", "-D__VITIS_HLS__"]}

FUNCTIONS = {
    K.FUNCTION_DECL,
    K.CXX_METHOD,
    K.CONSTRUCTOR,
    K.DESTRUCTOR,
    K.CONVERSION_FUNCTION,
    K.FUNCTION_TEMPLATE,
}
RECORDS = {
    K.STRUCT_DECL,
    K.CLASS_DECL,
    K.UNION_DECL,
    K.CLASS_TEMPLATE,
    K.CLASS_TEMPLATE_PARTIAL_SPECIALIZATION,
}
LOOPS = {K.FOR_STMT, K.WHILE_STMT, K.DO_STMT, K.CXX_FOR_RANGE_STMT}
USES = {K.DECL_REF_EXPR, K.MEMBER_REF_EXPR, K.CALL_EXPR, K.OVERLOADED_DECL_REF, K.TYPE_REF, K.TEMPLATE_REF}

Key = tuple[str, int]  # file and offset of a name


class Finding(NamedTuple):
    """What is wrong, and where: file within the design, line from 1."""

    file: str
    line: int
    rule: str
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.rule}: {self.text}"


@dataclass
class Scope:
    """Between two braces: of a function, a loop, or an `if` or a bare block."""

    kind: str  # "function", "loop" or "block"
    owner: ci.Cursor  # the function, the loop, or the braces themselves
    function: ci.Cursor
    parent: Scope | None
    file: str
    start: int
    end: int
    statements: list[ci.Cursor]
    pragmas: list[Pragma] = field(default_factory=list)

    def has(self, name: str) -> Pragma | None:
        """The pragma of this name, unless it says `off`."""
        found = (p for p in self.pragmas if p.name == name and "off" not in p.words)
        return next(found, None)


@dataclass
class Pragma:
    """One directive. `words` are what follows its name, without blanks around `=`."""

    file: str
    line: int
    offset: int
    name: str
    words: list[str]
    scope: Scope | None = None


class Unit:
    """top.cpp and what it includes, read as one tool reads it."""

    def __init__(self, root: Path, dialect: str, top: str) -> None:
        self.root, self.dialect, self.top = root, dialect, top
        self._prefix = f"{root}/"
        arguments = ["-xc++", "-std=c++11", *MACROS[dialect], "-Wno-everything", "-I", str(root)]
        arguments += ["-I", str(root / "exact"), "-isystem", str(STANDINS)]
        self.tu = ci.Index.create().parse(
            str(root / "top.cpp"), arguments, options=ci.TranslationUnit.PARSE_DETAILED_PROCESSING_RECORD
        )
        self.nodes: dict[Key, ci.Cursor] = {}  # functions with a body, and records
        self.scopes: list[Scope] = []
        self.loops: list[tuple[ci.Cursor, ci.Cursor, ci.Cursor]] = []  # loop, its parent, its function
        self.preprocessing: list[ci.Cursor] = []
        self.strange: list[Finding] = []  # pragmas of no tool
        for cursor in self.tu.cursor.get_children():
            if self.file(cursor) is not None:
                if cursor.kind.is_preprocessing():
                    self.preprocessing.append(cursor)
                else:
                    self._collect(cursor)
        for node in self.nodes.values():
            if node.kind in FUNCTIONS:
                self._scopes(node, node, None)
        self.pragmas = [*self._written(), *self._expanded()]
        for pragma in self.pragmas:
            around = [s for s in self.scopes if s.file == pragma.file and s.start < pragma.offset < s.end]
            if around:
                pragma.scope = max(around, key=lambda s: s.start)
                pragma.scope.pragmas.append(pragma)

    def errors(self) -> Iterator[Finding]:
        """What the parser refuses; and a top function that is not there."""
        for d in self.tu.diagnostics:
            if d.severity >= ci.Diagnostic.Error:
                name = d.location.file.name if d.location.file else "top.cpp"
                yield Finding(self.inside(name) or name, d.location.line, "parse", d.spelling)
        if not any(c.spelling == self.top for c in self.nodes.values()):
            yield Finding("top.cpp", 1, "parse", f"holds no function {self.top}")

    @cached_property
    def instances(self) -> dict[Key, ci.Type]:
        """Types of the variables of all functions as the top function instantiates them, by declaration."""
        types: dict[Key, ci.Type] = {}
        seen = set()
        todo = [c for c in self.nodes.values() if c.spelling == self.top]
        while todo:
            for c in todo.pop().walk_preorder():
                if c.kind in (K.VAR_DECL, K.PARM_DECL):
                    types[self.key(c)] = c.type.get_canonical()
                target = c.referenced if c.kind is K.CALL_EXPR else None
                if target is not None and target.kind in FUNCTIONS and target.get_usr() not in seen:
                    seen.add(target.get_usr())
                    todo.append(target)
        return types

    def inside(self, name: str) -> str | None:
        """Path within the design, None for a file of the system."""
        return name[len(self._prefix) :] if name.startswith(self._prefix) else None

    def file(self, cursor: ci.Cursor) -> str | None:
        location = cursor.location.file
        return None if location is None else self.inside(location.name)

    def finding(self, cursor: ci.Cursor, rule: str, text: str) -> Finding:
        return Finding(self.file(cursor) or "top.cpp", cursor.location.line, rule, text)

    @cached_property
    def edges(self) -> dict[Key, set[Key]]:
        """What each function or record uses of the design."""
        names: dict[str, set[Key]] = {}
        for key, cursor in self.nodes.items():
            names.setdefault(cursor.spelling, set()).add(key)
        edges: dict[Key, set[Key]] = {}
        for key, cursor in self.nodes.items():
            uses: set[Key] = set()
            for c in self.own(cursor):
                uses |= self._targets(c, names)
            edges[key] = uses
        for key, cursor in self.nodes.items():  # what happens to objects without being called by name
            parent = cursor.semantic_parent
            hidden = cursor.kind in FUNCTIONS and re.match(r"operator\b|~", cursor.spelling)
            if parent is not None and (hidden or cursor.kind in (K.CONSTRUCTOR, K.CONVERSION_FUNCTION)):
                edges.get(self.key(parent), set()).add(key)
        return edges

    @cached_property
    def reached(self) -> set[Key]:
        """Functions and records that the top function reaches, itself included."""
        tops = [key for key, c in self.nodes.items() if c.spelling == self.top and c.kind in FUNCTIONS]
        return self.reach(tops) | set(tops)

    def reach(self, start: list[Key]) -> set[Key]:
        """What is used from `start` on."""
        seen: set[Key] = set()
        todo = [target for key in start for target in self.edges[key]]
        while todo:
            key = todo.pop()
            if key not in seen:
                seen.add(key)
                todo += self.edges[key]
        return seen

    def own(self, cursor: ci.Cursor) -> Iterator[ci.Cursor]:
        """All that is below a function or record, without the bodies of a record's member functions."""
        for child in cursor.get_children():
            if cursor.kind in RECORDS and (child.kind in FUNCTIONS or child.kind in RECORDS):
                continue
            yield child
            yield from self.own(child)

    def synthesized(self, kinds: set[K]) -> list[ci.Cursor]:
        """Reached functions or records, in the order of the text."""
        return [self.nodes[key] for key in sorted(self.reached) if self.nodes[key].kind in kinds]

    def is_synthesized(self, cursor: ci.Cursor) -> bool:
        return self.key(cursor) in self.reached

    @staticmethod
    def key(cursor: ci.Cursor) -> Key:
        location = cursor.location
        return (location.file.name if location.file else "", location.offset)

    def _collect(self, cursor: ci.Cursor) -> None:
        body = any(c.kind in (K.COMPOUND_STMT, K.CXX_TRY_STMT) for c in cursor.get_children())
        if (cursor.kind in FUNCTIONS and body) or (cursor.kind in RECORDS and cursor.is_definition()):
            self.nodes[self.key(cursor)] = cursor
        for child in cursor.get_children():
            self._collect(child)

    def _targets(self, use: ci.Cursor, names: dict[str, set[Key]]) -> set[Key]:
        if use.kind not in USES:
            return set()
        target = use.referenced
        if target is not None and target.kind is not K.OVERLOADED_DECL_REF:
            definition = target.get_definition()
            for found in (target, definition):
                if found is not None and self.key(found) in self.nodes:
                    return {self.key(found)}
            callable_ = target.kind in FUNCTIONS and self.file(target) is not None
            return names.get(target.spelling, set()) if callable_ else set()
        return names.get(name_of(use), set())

    def _scopes(self, cursor: ci.Cursor, function: ci.Cursor, inner: Scope | None) -> None:
        for child in cursor.get_children():
            scope = inner
            if child.kind in LOOPS:
                self.loops.append((child, cursor, function))
            if child.kind is K.COMPOUND_STMT:
                kind = "loop" if cursor.kind in LOOPS else "function" if cursor.kind in FUNCTIONS else "block"
                extent, owner = child.extent, child if kind == "block" else cursor
                scope = Scope(kind, owner, function, inner, self.file(child) or "", extent.start.offset,
                              extent.end.offset, list(child.get_children()))  # fmt: skip
                self.scopes.append(scope)
            self._scopes(child, function, scope)

    def _written(self) -> Iterator[Pragma]:
        """Directives in the text; a comment is no directive."""
        for path in sorted(self.root.rglob("*")):
            if path.suffix not in (".hpp", ".h", ".cpp"):
                continue
            file, text = path.relative_to(self.root).as_posix(), path.read_text(encoding="utf-8")
            masked = re.sub(
                r"//[^\n]*|/\*.*?\*/", lambda m: re.sub(r"[^\n]", " ", m[0]), text, flags=re.DOTALL
            )
            for match in re.finditer(r"^[ \t]*#[ \t]*pragma\b((?:\\\n|[^\n])*)", masked, re.MULTILINE):
                line = masked.count("\n", 0, match.start()) + 1
                pragma = self._parsed(file, line, match.start(1), match[1].replace("\\\n", " "))
                if pragma is not None:
                    yield pragma

    def _expanded(self) -> Iterator[Pragma]:
        """Directives that macros of vendor.hpp stand for, where they are used."""
        macros = {c.spelling: [t.spelling for t in c.get_tokens()]
                  for c in self.preprocessing if c.kind is K.MACRO_DEFINITION}  # fmt: skip
        for c in self.preprocessing:
            if c.kind is not K.MACRO_INSTANTIATION:
                continue
            text = expand([t.spelling for t in c.get_tokens()], macros)
            for match in re.finditer(r'_Pragma \( "(.*?)" \)', text):
                pragma = self._parsed(
                    self.file(c) or "", c.location.line, c.location.offset, undo_blanks(match[1])
                )
                if pragma is not None:
                    yield pragma

    def _parsed(self, file: str, line: int, offset: int, text: str) -> Pragma | None:
        text = re.sub(r"\s*<\s*(\w+)\s*>", r"<\1>", text)  # a template's name, from the tokens of a macro
        first, *words = re.sub(r"\s*=\s*", "=", text).split() or [""]
        if first != "HLS" or not words:
            if first != "once":
                found = f"#pragma {text.strip()}: neither `once` nor `HLS` and a directive"
                self.strange.append(Finding(file, line, "pragma-unknown", found))
            return None
        return Pragma(file, line, offset, words[0].lower(), words[1:])


def name_of(use: ci.Cursor) -> str:
    """Name that a use is written with: its last identifier before template arguments and brackets."""
    if use.spelling:
        return str(use.spelling)
    if use.kind not in (K.DECL_REF_EXPR, K.MEMBER_REF_EXPR):
        return ""
    name, depth = "", 0
    for token in (t.spelling for t in use.get_tokens()):
        depth += (token == "<") - token.count(">") * (token in (">", ">>"))
        if depth <= 0 and re.fullmatch(r"[A-Za-z_]\w*", token):
            name = token
    return name
