"""Functions, labelled loops and pragmas of the C++ of hls_templates, found by their braces.

No C++ parser: what is emitted is formatted code without macros that hold braces, and the tests compare what is found
here with what a real parser finds in every design.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

WORDS = frozenset(
    ["if", "while", "switch", "return", "sizeof", "static_assert", "catch", "for", "do", "else"]
)
_SILENT = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.DOTALL)
_LOOP = re.compile(r"(?:\b([A-Za-z_]\w*)\s*:(?!:)\s*)?\bfor\s*\(")
_NAME, _ARGUMENTS = r"[A-Za-z_]\w*", r"(?:<[^<>;(){}]*(?:<[^<>;(){}]*>[^<>;(){}]*)*>)?"
_CALL = re.compile(rf"(?<![\w.>:])(?:(?:{_NAME}{_ARGUMENTS}\s*::\s*)*({_NAME}){_ARGUMENTS}\s*::\s*)?"
                   rf"({_NAME})\s*{_ARGUMENTS}\s*\(")  # fmt: skip
_TEMPLATE = re.compile(r"\btemplate\s*<[^<>{};]*>")
_PRAGMA = re.compile(r"^[ \t]*#[ \t]*pragma[ \t]+HLS[ \t]+([^\n]*)$", re.MULTILINE)


@dataclass
class LoopText:
    """A `for` of the text."""

    label: str | None
    line: int  # of the `for`, from 1
    text: str  # its body
    pragmas: tuple[str, ...]  # directives directly in its body, without "#pragma HLS"
    loops: list[LoopText] = field(default_factory=list)

    def pragma(self, name: str) -> str | None:
        """What follows the name of a directive; None where there is none of that name."""
        found = (p.split(None, 1) for p in self.pragmas)
        return next((" ".join(words[1:]) for words in found if words and words[0].upper() == name), None)


@dataclass
class Body:
    """A function with a body. Those of a struct are called `Struct::name`."""

    name: str
    line: int
    text: str
    loops: list[LoopText]


def scan(text: str) -> list[Body]:
    """Functions in the order of the text, member functions and templates too."""
    masked = _SILENT.sub(lambda m: re.sub(r"[^\n]", " ", m[0]), text)
    return list(_functions(masked, 0, len(masked), None))


def calls(body: Body, names: Collection[str]) -> set[str]:
    """Which of the functions called `names` are called in a body, by name.

    `name(` is a free function, or one of the same struct; behind `::` it is one of a struct, whichever has it,
    unless what stands before is a namespace and there is such a free function alone.
    """
    members: dict[str, set[str]] = {}
    for name in names:
        if "::" in name:
            members.setdefault(name.rpartition("::")[2], set()).add(name)
    own = body.name.rpartition("::")[0]
    found = set()
    for qualifier, name in _CALL.findall(body.text):
        if qualifier:
            exact = {n for n in members.get(name, ()) if n.startswith(f"{qualifier}::")}
            found |= exact or members.get(name, set()) or {name}
        else:
            found.add(f"{own}::{name}" if own and f"{own}::{name}" in names else name)
    return found & set(names)


def _functions(text: str, start: int, end: int, record: str | None) -> Iterator[Body]:
    at = start
    while (opening := text.find("{", at, end)) >= 0:
        closing = _match(text, opening, "{", "}")
        head = text[max(text.rfind(c, start, opening) for c in ";}{") + 1 : opening]
        name = _function_name(head)
        if name is not None:
            line = text.count("\n", 0, opening) + 1
            whole = name if record is None else f"{record}::{name}"
            yield Body(whole, line, text[opening + 1 : closing], list(_loops(text, opening + 1, closing)))
        else:
            kind = re.search(rf"\b(?:struct|class|union)\s+({_NAME})[^(){{}};]*$", _TEMPLATE.sub("", head))
            yield from _functions(text, opening + 1, closing, kind[1] if kind else record)
        at = closing + 1


def _function_name(head: str) -> str | None:
    """The name in `type name(parameters) const`; None for a namespace, a type or an initializer."""
    head = _PRAGMA.sub("", re.sub(r"^[ \t]*#[^\n]*$", "", head, flags=re.MULTILINE)).strip()
    match = re.search(r"\)\s*(?:const|noexcept|override|\s)*$", head)
    if match is None:
        return None
    opening = _match_back(head, head.rindex(")", 0, match.end()), "(", ")")
    name = re.search(r"(operator\s*\S+|[A-Za-z_]\w*)\s*$", head[:opening])
    return name[1] if name and name[1] not in WORDS else None


def _loops(text: str, start: int, end: int) -> Iterator[LoopText]:
    at = start
    while (match := _LOOP.search(text, at, end)) is not None:
        head = _match(text, match.end() - 1, "(", ")")
        line = text.count("\n", 0, text.index("for", match.start(0) + len(match[1] or ""))) + 1
        body = re.compile(r"\s*\{").match(text, head + 1, end)
        if body is not None:
            first, last = body.end(), _match(text, body.end() - 1, "{", "}")
        else:
            first, last = head + 1, _statement_end(text, head + 1, end)
        inside = _direct(text[first:last])
        pragmas = tuple(p.strip() for p in _PRAGMA.findall(inside))
        yield LoopText(match[1], line, text[first:last], pragmas, list(_loops(text, first, last)))
        at = last + 1


def _direct(text: str) -> str:
    """A body without what stands between braces in it."""
    out, depth = [], 0
    for c in text:
        depth += c == "{"
        out.append(c if depth == 0 or c == "\n" else " ")
        depth -= c == "}"
    return "".join(out)


def _statement_end(text: str, start: int, end: int) -> int:
    """Past the statement that begins here: its `;`, or the brace that closes the loop it is."""
    loop = re.compile(r"\s*(?:[A-Za-z_]\w*\s*:(?!:)\s*)?for\s*\(").match(text, start, end)
    if loop is not None:
        head = _match(text, loop.end() - 1, "(", ")")
        body = re.compile(r"\s*\{").match(text, head + 1, end)
        return _match(text, body.end() - 1, "{", "}") + 1 if body else _statement_end(text, head + 1, end)
    return text.index(";", start) + 1


def _match(text: str, at: int, opening: str, closing: str) -> int:
    """Where the bracket at `at` is closed."""
    depth = 0
    for i in range(at, len(text)):
        depth += (text[i] == opening) - (text[i] == closing)
        if depth == 0:
            return i
    return len(text)


def _match_back(text: str, at: int, opening: str, closing: str) -> int:
    depth = 0
    for i in range(at, -1, -1):
        depth += (text[i] == closing) - (text[i] == opening)
        if depth == 0:
            return i
    return 0
