"""What a use of a macro stands for, as far as the pragmas of vendor.hpp need it."""

from __future__ import annotations

import re


def expand(tokens: list[str], macros: dict[str, list[str]]) -> str:
    """A use of a macro as text with blanks between tokens; `#name` becomes a string."""
    name, given = tokens[0], tokens[1:]
    body = macros.get(name, [])[1:]
    values: dict[str, list[str]] = {}
    if given[:1] == ["("] and ")" in body:
        names = [t for t in body[1 : body.index(")")] if t != ","]
        values = dict(zip(names, _arguments(given), strict=False))
        body = body[body.index(")") + 1 :]
    out: list[str] = []
    i = 0
    while i < len(body):
        token = body[i]
        if token == "#" and i + 1 < len(body) and body[i + 1] in values:
            out.append('"' + " ".join(values[body[i + 1]]) + '"')
            i += 1
        else:
            out += values.get(token, [token])
        i += 1
    if out and out[0] in macros and out[0] != name:
        return expand(out, macros)
    return " ".join(out)


def undo_blanks(text: str) -> str:
    """Names and numbers as they were before their tokens were pulled apart."""
    return re.sub(r"\s*(\.|->|::|\[|\])\s*", r"\1", text)


def _arguments(tokens: list[str]) -> list[list[str]]:
    parts: list[list[str]] = [[]]
    depth = 0
    for token in tokens:
        depth += (token in "([") - (token in ")]")
        if token == "," and depth == 1:
            parts.append([])
        elif not (token == "(" and depth == 1) and depth > 0:
            parts[-1].append(token)
    return parts
