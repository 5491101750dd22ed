"""What synthesis refuses in code, and the house's rules for it."""

from __future__ import annotations

from collections.abc import Iterator

import clang.cindex as ci
from clang.cindex import CursorKind as K
from clang.cindex import StorageClass, TypeKind

from tests.hlslint.source import FUNCTIONS, RECORDS, STANDINS, Finding, Unit

CHOICE = "CODESIGN_IN_ULTRARAM"  # the one macro of config.hpp
HEADERS = {
    "ap_int.h",
    "ap_fixed.h",
    "hls_stream.h",
    "hls_math.h",
    "stdint.h",
    "cstdint",
    "stddef.h",
    "cstddef",
}
HEAP = {"malloc", "calloc", "realloc", "free", "alloca", "__builtin_alloca"}
SYSTEM = {
    "printf",
    "fprintf",
    "sprintf",
    "puts",
    "putchar",
    "scanf",
    "fopen",
    "fread",
    "fwrite",
    "fclose",
    "exit",
    "abort",
}
SYSTEM |= {
    "getenv",
    "system",
    "time",
    "clock",
    "rand",
    "srand",
    "sleep",
    "assert",
    "__assert_fail",
    "setjmp",
    "longjmp",
}
FORBIDDEN = {
    K.CXX_NEW_EXPR: ("dynamic-memory", "new"),
    K.CXX_DELETE_EXPR: ("dynamic-memory", "delete"),
    K.CXX_TRY_STMT: ("exception", "try"),
    K.CXX_THROW_EXPR: ("exception", "throw"),
    K.CXX_DYNAMIC_CAST_EXPR: ("virtual", "dynamic_cast"),
    K.CXX_TYPEID_EXPR: ("virtual", "typeid"),
    K.CXX_REINTERPRET_CAST_EXPR: ("pointer", "reinterpret_cast"),
    K.GOTO_STMT: ("jump", "goto"),
    K.INDIRECT_GOTO_STMT: ("jump", "goto"),
    K.ASM_STMT: ("jump", "asm"),
}
CONSTANTS = {K.ENUM_CONSTANT_DECL, K.TEMPLATE_NON_TYPE_PARAMETER}


def check_code(unit: Unit) -> Iterator[Finding]:
    """All findings that are not about pragmas."""
    yield from _preprocessing(unit)
    for key in sorted(unit.reached):
        cursor = unit.nodes[key]
        if cursor.kind in FUNCTIONS and key in unit.reach([key]):
            yield unit.finding(cursor, "recursion", f"{cursor.spelling} can reach itself")
        for below in (cursor, *unit.own(cursor)):
            yield from _construct(unit, below)
        if cursor.kind in RECORDS:
            yield from _virtual(unit, cursor)
    for loop, parent, function in unit.loops:
        if unit.is_synthesized(function):
            yield from _loop(unit, loop, parent)
    yield from _regions(unit)


def _preprocessing(unit: Unit) -> Iterator[Finding]:
    own = {p.name for p in unit.root.rglob("*")}
    for c in unit.preprocessing:
        chosen = unit.file(c) == "config.hpp" and c.spelling == CHOICE
        if c.kind is K.MACRO_DEFINITION and unit.file(c) != "vendor.hpp" and not chosen:
            yield unit.finding(c, "macro", f"{c.spelling} is defined outside vendor.hpp")
        name = c.spelling.rsplit("/")[-1]
        if c.kind is K.INCLUSION_DIRECTIVE and name not in HEADERS | own:
            yield unit.finding(c, "include", f"{c.spelling} is not for synthesis")


def _construct(unit: Unit, c: ci.Cursor) -> Iterator[Finding]:
    if c.kind in FORBIDDEN:
        rule, what = FORBIDDEN[c.kind]
        yield unit.finding(c, rule, what)
    if c.kind in (K.VAR_DECL, K.PARM_DECL, K.FIELD_DECL, K.TYPEDEF_DECL, K.TYPE_ALIAS_DECL):
        yield from _declaration(unit, c)
    if c.kind in (K.TYPE_REF, K.TEMPLATE_REF, K.DECL_REF_EXPR, K.MEMBER_REF_EXPR, K.OVERLOADED_DECL_REF):
        yield from _use(unit, c)


def _use(unit: Unit, c: ci.Cursor) -> Iterator[Finding]:
    target = c.referenced
    name = (target.spelling if target is not None else "") or c.spelling
    function = c.kind is K.OVERLOADED_DECL_REF or (target is not None and target.kind in FUNCTIONS)
    if function and name in HEAP:
        yield unit.finding(c, "dynamic-memory", name)
    elif function and name in SYSTEM:
        yield unit.finding(c, "system-call", name)
    elif target is not None and _in_std(target):
        yield unit.finding(c, "std", f"std::{name}")
    elif function and _of_system(unit, target):
        yield unit.finding(c, "system-call", f"{name} of a header of the system")


def _of_system(unit: Unit, target: ci.Cursor | None) -> bool:
    location = target.location.file if target is not None else None
    return location is not None and unit.file(target) is None and not location.name.startswith(str(STANDINS))


def _in_std(cursor: ci.Cursor) -> bool:
    while cursor is not None and cursor.kind is not K.TRANSLATION_UNIT:
        if cursor.kind is K.NAMESPACE and cursor.spelling == "std":
            return True
        cursor = cursor.semantic_parent
    return False


def _declaration(unit: Unit, c: ci.Cursor) -> Iterator[Finding]:
    kind = c.type.get_canonical()
    local = c.kind is K.VAR_DECL and c.storage_class is StorageClass.STATIC
    if local and c.semantic_parent.kind in FUNCTIONS and not kind.is_const_qualified():
        yield unit.finding(c, "static-local", f"{c.spelling} keeps its value between calls")
    if kind.kind is TypeKind.VARIABLEARRAY:
        yield unit.finding(c, "dynamic-memory", f"{c.spelling}: an array of variable length")
    if kind.kind is TypeKind.MEMBERPOINTER:
        yield unit.finding(c, "pointer", f"{c.spelling}: a pointer to a member")
    pointers = 0
    while kind.kind in (TypeKind.POINTER, TypeKind.LVALUEREFERENCE, TypeKind.CONSTANTARRAY):
        pointers += kind.kind is TypeKind.POINTER
        reference = kind.kind is TypeKind.LVALUEREFERENCE
        kind = kind.element_type if kind.kind is TypeKind.CONSTANTARRAY else kind.get_pointee()
        if kind.kind in (TypeKind.FUNCTIONPROTO, TypeKind.FUNCTIONNOPROTO):
            what = "a reference" if reference else "a pointer"
            yield unit.finding(c, "function-pointer", f"{c.spelling}: {what} to a function")
    if pointers > 1:
        yield unit.finding(c, "pointer", f"{c.spelling}: a pointer to a pointer")


def _virtual(unit: Unit, record: ci.Cursor) -> Iterator[Finding]:
    for c in record.get_children():
        if c.kind in (K.CXX_METHOD, K.DESTRUCTOR) and c.is_virtual_method():
            yield unit.finding(c, "virtual", f"{record.spelling}::{c.spelling}")
        if c.kind is K.CXX_BASE_SPECIFIER and "virtual" in [t.spelling for t in c.get_tokens()]:
            yield unit.finding(c, "virtual", f"a base of {record.spelling}")


def _loop(unit: Unit, loop: ci.Cursor, parent: ci.Cursor) -> Iterator[Finding]:
    if parent.kind is not K.LABEL_STMT:
        yield unit.finding(loop, "label", "a loop without a label: reports could not name it")
    if loop.kind is K.FOR_STMT:
        _, condition, step = head(loop)
        counters = set(filter(str.isidentifier, step)) & set(condition)
        if not counters or not {"<", ">", "<=", ">=", "!="} & set(condition):
            yield unit.finding(loop, "unbounded-loop", "no counter of its head ends this loop")
    elif loop.kind in (K.WHILE_STMT, K.DO_STMT):
        yield unit.finding(loop, "unbounded-loop", "nothing bounds this loop: count in a `for`")


def _regions(unit: Unit) -> Iterator[Finding]:
    """What PIPELINE, UNROLL and DATAFLOW ask of the code they govern."""
    for scope in unit.scopes:
        if not unit.is_synthesized(scope.function):
            continue
        unroll = scope.has("unroll")
        if scope.kind == "loop" and unroll and not any(w.lower().startswith("factor=") for w in unroll.words):
            yield from _bound(unit, scope.owner, "an unrolled loop")
        if scope.has("pipeline"):
            for loop, _, _ in unit.loops:
                place = loop.extent.start
                if unit.file(loop) == scope.file and scope.start < place.offset < scope.end:
                    yield from _bound(unit, loop, "a loop in a pipelined one")
        if scope.has("dataflow"):
            for statement in scope.statements:
                while statement.kind is K.UNEXPOSED_EXPR and list(statement.get_children()):
                    statement = next(statement.get_children())
                if statement.kind not in (K.DECL_STMT, K.CALL_EXPR):
                    yield unit.finding(statement, "dataflow", "neither a declaration nor a call")


def _bound(unit: Unit, loop: ci.Cursor, what: str) -> Iterator[Finding]:
    if loop.kind is not K.FOR_STMT:
        return
    _, condition, step = head(loop)
    start = _condition_start(loop)
    body = list(loop.get_children())[-1].extent.start.offset
    for child in loop.get_children():
        if child.extent.start.offset != start or start >= body:
            continue
        for ref in _values(child):
            if ref.spelling not in step and not _constant(ref.referenced):
                yield unit.finding(
                    loop, "loop-bound", f"{what}: {ref.spelling or 'its bound'} is no constant"
                )


def _values(cursor: ci.Cursor) -> Iterator[ci.Cursor]:
    """Names that an expression takes the value of; `sizeof` takes none."""
    if cursor.kind is K.CXX_UNARY_EXPR:
        return
    if cursor.kind in (K.DECL_REF_EXPR, K.MEMBER_REF_EXPR):
        yield cursor
    for child in cursor.get_children():
        yield from _values(child)


def _constant(target: ci.Cursor | None) -> bool:
    if target is None or target.kind in CONSTANTS or target.kind in FUNCTIONS | {K.OVERLOADED_DECL_REF}:
        return True
    if target.kind is not K.VAR_DECL or not target.type.is_const_qualified():
        return False
    return target.storage_class is StorageClass.STATIC or all(
        _constant(v.referenced) for v in _values(target)
    )


def head(loop: ci.Cursor) -> list[list[str]]:
    """Tokens of the three parts of a `for`."""
    parts: list[list[str]] = [[]]
    depth = 0
    for token in (t.spelling for t in loop.get_tokens()):
        depth += (token in ("(", "[", "{")) - (token in (")", "]", "}"))
        if token == ")" and depth == 0:
            break
        if token == ";" and depth == 1:
            parts.append([])
        else:
            parts[-1].append(token)
    return parts + [[]] * (3 - len(parts))


def _condition_start(loop: ci.Cursor) -> int:
    depth, parted = 0, False
    for token in loop.get_tokens():
        if parted:
            return int(token.extent.start.offset)
        depth += (token.spelling in ("(", "[", "{")) - (token.spelling in (")", "]", "}"))
        parted = token.spelling == ";" and depth == 1
    return -1
