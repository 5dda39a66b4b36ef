# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Upstream's names are longer than ours: lines of docstrings and comments that no longer fit are broken in two."""

from __future__ import annotations

import ast
import io
import re
import tokenize

WIDTH = 120


def wrap(source: str) -> str:
    """A Python source whose overlong docstring and comment lines are broken at spaces. Code is left as it is."""
    lines = source.split("\n")
    prose = _docstring_lines(source)
    comments = _comment_lines(source)
    for number, line in enumerate(lines, 1):
        if len(line) <= WIDTH:
            continue
        if number in prose:
            lines[number - 1] = _break(line, re.match(r"\s*", line).group())
        elif number in comments:
            lines[number - 1] = _break(line, re.match(r"\s*", line).group() + "# ")
    return "\n".join(lines)


def _docstring_lines(source: str) -> set[int]:
    """Numbers of the lines that are inside a string which is a statement of its own."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            found.update(range(node.lineno, node.end_lineno + 1))
    return found


def _comment_lines(source: str) -> set[int]:
    """Numbers of the lines that hold a comment and nothing else."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    comments = (token for token in tokens if token.type == tokenize.COMMENT)
    return {token.start[0] for token in comments if not token.line[: token.start[1]].strip()}


def _break(line: str, lead: str) -> str:
    """A line in two or more, each new one behind `lead`; whole where it has no space to break at."""
    # Columns of an example in a docstring first give up their distance, and a backslash stays a line's end.
    line = lead + re.sub(r"  +(?=#|\S)", "  ", line[len(lead) :]) if line.startswith(lead) else line
    parts = []
    while len(line) > WIDTH:
        comment = line.rfind("  # ", len(lead), WIDTH)
        at = comment if comment > 0 else line.rfind(" ", len(lead) + 1, WIDTH + 1)
        if at <= len(lead):
            break
        parts.append(line[:at].rstrip())
        line = lead + ("    " if comment > 0 else "") + line[at:].lstrip()
    return "\n".join([*parts, line])
