"""Pragmas: known, in their place, with options that exist, about names that exist."""

from __future__ import annotations

import re
from collections.abc import Iterator

import clang.cindex as ci
from clang.cindex import CursorKind as K
from clang.cindex import TypeKind

from tests.hlslint.grammar import MODES, Rule, rules
from tests.hlslint.source import FUNCTIONS, RECORDS, Finding, Pragma, Scope, Unit

ARRAYS = {TypeKind.CONSTANTARRAY, TypeKind.DEPENDENTSIZEDARRAY, TypeKind.INCOMPLETEARRAY, TypeKind.POINTER}


def check_pragmas(unit: Unit) -> Iterator[Finding]:
    """All findings about directives."""
    yield from unit.strange
    table = rules(unit.dialect)
    ports: set[str] = set()
    for pragma in unit.pragmas:
        if pragma.scope is not None and not unit.is_synthesized(pragma.scope.function):
            continue
        rule = table.get(pragma.name)
        if rule is None:
            tool = {"vivado": "Vivado HLS", "vitis": "Vitis HLS"}[unit.dialect]
            yield _finding(pragma, "pragma-unknown", f"{tool} knows no {pragma.name.upper()}")
            continue
        yield from _options(pragma, rule)
        yield from _place(unit, pragma, rule)
        if pragma.scope is not None:
            yield from _names(unit, pragma, pragma.scope, rule)
        ports |= {port.lower() for key, port in _pairs(pragma) if key == "port"}
    for function in unit.synthesized(FUNCTIONS):
        if function.spelling == unit.top:
            for name in [*(a.spelling for a in function.get_arguments()), "return"]:
                if name.lower() not in ports:
                    yield unit.finding(function, "pragma-interface", f"no INTERFACE for {name}")


def _finding(pragma: Pragma, rule: str, text: str) -> Finding:
    return Finding(pragma.file, pragma.line, rule, text)


def _pairs(pragma: Pragma) -> list[tuple[str, str]]:
    """Options with a value, keys in lower case."""
    return [(w.split("=", 1)[0].lower(), w.split("=", 1)[1]) for w in pragma.words if "=" in w]


def _options(pragma: Pragma, rule: Rule) -> Iterator[Finding]:
    name, pairs = pragma.name.upper(), _pairs(pragma)
    for flag in (word.lower() for word in pragma.words if "=" not in word):
        if flag not in rule.flags:
            yield _finding(pragma, "pragma-option", f"{name} has no option {flag}")
    keys = [key for key, _ in pairs]
    for key in sorted(rule.required - set(keys)):
        yield _finding(pragma, "pragma-option", f"{name} needs {key}=")
    for key in sorted({key for key in keys if keys.count(key) > 1}):
        yield _finding(pragma, "pragma-option", f"{name} has {key}= twice")
    for key, value in pairs:
        kind = rule.options.get(key)
        if kind is None:
            yield _finding(pragma, "pragma-option", f"{name} has no option {key}=")
        elif not value:
            yield _finding(pragma, "pragma-value", f"{name}: {key}= has no value")
        elif kind == "int" and not re.fullmatch(r"-?\d+|[A-Za-z_][\w:<>+*/-]*", value):
            yield _finding(pragma, "pragma-value", f"{name}: {key}={value}, expected an integer")
        elif "|" in kind and value.lower() not in kind.split("|"):
            yield _finding(pragma, "pragma-value", f"{name}: {key}={value}, expected one of {kind}")
    said = {word.lower().removeprefix("type=") for word in pragma.words}
    if (
        pragma.name in ("array_partition", "array_reshape")
        and said & {"block", "cyclic"}
        and "factor" not in keys
    ):
        yield _finding(pragma, "pragma-option", f"{name}: block and cyclic need factor=")
    if pragma.name == "interface":
        yield from _interface(pragma, said)


def _interface(pragma: Pragma, said: set[str]) -> Iterator[Finding]:
    pairs = dict(_pairs(pragma))
    modes = (said & MODES) | ({pairs["mode"].lower()} if "mode" in pairs else set())
    if len(modes) != 1 or not modes <= MODES:
        found = ", ".join(sorted(modes)) or "none"
        yield _finding(pragma, "pragma-option", f"INTERFACE: modes {found}, expected one")
    offset = pairs.get("offset", "").lower()
    allowed = r"slave|direct|off" if modes == {"m_axi"} else r"\d+|0x[0-9a-f]+"
    if offset and not re.fullmatch(allowed, offset):
        yield _finding(pragma, "pragma-value", f"INTERFACE: offset={offset}, expected {allowed}")


def _place(unit: Unit, pragma: Pragma, rule: Rule) -> Iterator[Finding]:
    name, scope = pragma.name.upper(), pragma.scope
    if scope is None:
        yield _finding(pragma, "pragma-place", f"{name} outside of every function")
        return
    if rule.place == "top":
        if scope.function.spelling != unit.top:
            found = f"INTERFACE in {scope.function.spelling}, which is not the top function"
            yield _finding(pragma, "pragma-interface", found)
        elif scope.kind != "function":
            yield _finding(pragma, "pragma-place", f"{name} belongs into the body of the function itself")
    wanted = {"function": ("function",), "loop": ("loop",), "body": ("function", "loop")}.get(rule.place)
    if wanted is not None and scope.kind not in wanted:
        yield _finding(pragma, "pragma-place", f"{name} belongs into the body of a {' or a '.join(wanted)}")
    if rule.place == "variable":
        return
    if any(statement.extent.start.offset < pragma.offset for statement in scope.statements):
        yield _finding(pragma, "pragma-place", f"{name} must come before all statements of its scope")


def _names(unit: Unit, pragma: Pragma, scope: Scope, rule: Rule) -> Iterator[Finding]:
    for key, value in _pairs(pragma):
        kind = rule.options.get(key)
        name, *fields = re.split(r"\.|->|\[", value)
        if kind == "port":
            yield from _port(pragma, scope, name)
        elif kind == "int" and re.fullmatch(r"[A-Za-z_]\w*", value):
            found = _lookup(scope, name)
            if found is not None and not found[0].type.is_const_qualified():
                yield _finding(pragma, "pragma-value", f"{key}={value}: a variable, expected a constant")
        elif kind == "variable":
            found = _lookup(scope, name)
            if found is None:
                yield _finding(pragma, "pragma-variable", f"{value}: no {name} in scope")
                continue
            declared, where = found
            if declared.location.offset > pragma.offset:
                yield _finding(pragma, "pragma-variable", f"{value}: {name} is declared only later")
            elif rule.place == "variable" and where is not scope:
                text = (
                    f"{pragma.name.upper()} belongs where {name} is declared, line {declared.location.line}"
                )
                yield _finding(pragma, "pragma-place", text)
            yield from _shape(pragma, declared, value, [f.rstrip("]") for f in fields])
            if pragma.name == "data_pack":
                yield from _flat(unit, pragma, declared, value)


def _port(pragma: Pragma, scope: Scope, name: str) -> Iterator[Finding]:
    said = {word.lower() for word in pragma.words}
    found = [a for a in scope.function.get_arguments() if a.spelling == name]
    if name == "return":
        if not said & {"s_axilite", "ap_ctrl_none", "ap_ctrl_hs", "ap_ctrl_chain"}:
            yield _finding(pragma, "pragma-variable", "port=return takes s_axilite or ap_ctrl_*")
    elif not found:
        yield _finding(pragma, "pragma-variable", f"port {name}: no parameter of {scope.function.spelling}")
    elif said & {"m_axi", "mode=m_axi"} and found[0].type.get_canonical().kind not in ARRAYS:
        yield _finding(pragma, "pragma-value", f"m_axi port {name}: neither a pointer nor an array")


def _shape(pragma: Pragma, declared: ci.Cursor, value: str, fields: list[str]) -> Iterator[Finding]:
    """Members that exist, and arrays with as many dimensions as said, as far as the declaration tells."""
    for name in fields:
        record = _record(declared)
        if record is None:
            return
        members = {c.spelling: c for c in record.get_children() if c.kind is K.FIELD_DECL}
        if name not in members:
            yield _finding(pragma, "pragma-variable", f"{value}: {record.spelling} has no member {name}")
            return
        declared = members[name]
    if pragma.name not in ("array_partition", "array_reshape"):
        return
    kind, dimensions = declared.type.get_canonical(), 0
    if kind.kind is TypeKind.LVALUEREFERENCE:
        kind = kind.get_pointee()
    known = kind.kind in ARRAYS or kind.kind.name in ("INT", "BOOL", "RECORD", "UINT", "LONGLONG")
    while kind.kind in ARRAYS:
        dimensions += 1
        kind = kind.get_pointee() if kind.kind is TypeKind.POINTER else kind.element_type
    dim = dict(_pairs(pragma)).get("dim", "1")
    if known and not dimensions:
        yield _finding(pragma, "pragma-variable", f"{value}: not an array")
    elif known and dim.isdigit() and int(dim) > dimensions:
        yield _finding(pragma, "pragma-value", f"{value}: dim={dim} of {dimensions}")


def _flat(unit: Unit, pragma: Pragma, declared: ci.Cursor, value: str) -> Iterator[Finding]:
    """UG902: DATA_PACK does not support packing structs which contain other structs."""
    kind = unit.instances.get(unit.key(declared))
    for name in value.split(".")[1:]:
        fields = {} if kind is None else {f.spelling: f.type for f in _element(kind).get_fields()}
        kind = fields.get(name)
    for member in () if kind is None else _element(kind).get_fields():
        inner = _element(member.type)
        if inner.kind is TypeKind.RECORD and not inner.spelling.startswith(("ap_", "const ap_")):
            text = f"{value}: {member.spelling} is a struct in a struct, which DATA_PACK does not take"
            yield _finding(pragma, "pragma-pack", text)


def _element(kind: ci.Type) -> ci.Type:
    """What is left without arrays and references."""
    kind = kind.get_canonical()
    while kind.kind in (TypeKind.CONSTANTARRAY, TypeKind.LVALUEREFERENCE):
        kind = kind.element_type if kind.kind is TypeKind.CONSTANTARRAY else kind.get_pointee()
        kind = kind.get_canonical()
    return kind


def _record(declared: ci.Cursor) -> ci.Cursor | None:
    """The type of a variable if it is a struct of the design, itself or in an array."""
    used = [c for c in declared.get_children() if c.kind in (K.TYPE_REF, K.TEMPLATE_REF)]
    if "typename" in [t.spelling for t in declared.get_tokens()] or not used:
        return None  # a member of a template, known only when it is instantiated
    target = used[0].referenced
    target = target.get_definition() if target is not None else None
    return target if target is not None and target.kind in RECORDS else None


def _lookup(scope: Scope, name: str) -> tuple[ci.Cursor, Scope] | None:
    """Declaration of a variable or parameter, and the scope it belongs to, from inside out."""
    inner: Scope | None = scope
    while inner is not None:
        for statement in inner.statements:
            if statement.kind is K.DECL_STMT:
                for c in statement.get_children():
                    if c.kind is K.VAR_DECL and c.spelling == name:
                        return c, inner
        if inner.kind == "loop":
            for statement in inner.owner.get_children():
                if statement.kind is K.DECL_STMT:
                    for c in statement.get_children():
                        if c.spelling == name:
                            return c, inner
        if inner.parent is None:
            seen = [c for c in inner.function.get_children() if c.kind is K.PARM_DECL]
            if inner.function.kind is K.CONSTRUCTOR:  # where the pragmas of members are
                seen += [c for c in inner.function.semantic_parent.get_children() if c.kind is K.FIELD_DECL]
            return next(((c, inner) for c in seen if c.spelling == name), None)
        inner = inner.parent
    return None
