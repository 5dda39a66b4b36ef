# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Pieces of data as scripts that a page loads without a server: `medgrpo.put("NAME", JSON);`.

Numbers have six significant digits; what is not finite is null. Nothing in a text can end the script.
"""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np

DIGITS = 6
_ESCAPES = str.maketrans({char: f"\\u{ord(char):04x}" for char in "<>&"})


def plain(value: Any) -> Any:
    """A value of dicts, lists, arrays and numbers as JSON can hold it, rounded."""
    if isinstance(value, dict):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, np.ndarray):
        floating = np.issubdtype(value.dtype, np.floating)
        return list(map(rounded, value.tolist())) if floating and value.ndim == 1 else plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, float | np.floating):
        return rounded(float(value))
    return value.item() if isinstance(value, np.generic) else value


def rounded(value: float) -> float | int | None:
    """Six significant digits, a whole number without its point, None for what is not finite."""
    if not math.isfinite(value):
        return None
    value = float(f"{value:.{DIGITS}g}")
    return int(value) if value.is_integer() else value


def as_json(value: Any) -> str:
    """JSON in plain ASCII, in which no character can end a script."""
    return json.dumps(plain(value), separators=(",", ":"), allow_nan=False).translate(_ESCAPES)


def script(name: str, text: str) -> str:
    """The script that hands the page a piece of data; `text` is its JSON."""
    return f"medgrpo.put({as_json(name)},{text});\n"
