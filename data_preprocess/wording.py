# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Values from untrusted files, as parts of one-line messages."""

from __future__ import annotations

from typing import Any

_WIDTH = 80


def short(value: Any, width: int = _WIDTH) -> str:
    """A value on one line of at most `width` printable characters."""
    try:
        text = value if isinstance(value, str) else repr(value)
    except RecursionError:
        text = f"a nested {type(value).__name__}"
    text = " ".join(text[: 5 * width].split()) + "..." * (len(text) > 5 * width)
    text = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)
    return text if len(text) <= width else text[: width - 3] + "..."
