# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Settings that paper and sources leave open: dataclasses whose fields carry a default and a reason.

A command takes all of them as `--set NAME=VALUE`, whichever dataclass a name belongs to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field, fields
from typing import Any


def open_choice(default: Any, why: str, among: tuple[str, ...] = (), least: float = 0.0) -> Any:
    """A dataclass field: its default, why it is so, the words it may be, or the least number."""
    return field(default=default, metadata={"why": why, "among": among, "least": least})


def settings_help(*kinds: type) -> str:
    """One line for each setting of some dataclasses: name, default, reason."""
    items = [item for kind in kinds for item in fields(kind)]
    return "\n".join(f"  {item.name}={item.default}  {item.metadata['why']}" for item in items)


def with_settings(given: Sequence[str], *kinds: type) -> list[Any]:
    """An object of each dataclass, with `name=value` texts applied.

    Raises:
        ValueError: an unknown name, or a value that it cannot take; the message is one line.
    """
    known = {item.name: (kind, item) for kind in kinds for item in fields(kind)}
    values: dict[type, dict[str, Any]] = {kind: {} for kind in kinds}
    for text in given:
        name, _, value = text.partition("=")
        if name not in known:
            raise ValueError(f"--set {text}: expected NAME=VALUE with one of {', '.join(known)}")
        kind, item = known[name]
        try:
            values[kind][name] = _value(value, item.default, item.metadata)
        except ValueError as error:
            raise ValueError(f"--set {text}: expected {error}") from None
    return [kind(**values[kind]) for kind in kinds]


def in_order(settings: Any, *pairs: tuple[str, str]) -> None:
    """Checks that of each pair of settings the first is not above the second.

    Raises:
        ValueError: it is; the message is one line.
    """
    for low, high in pairs:
        least, most = getattr(settings, low), getattr(settings, high)
        if least > most:
            raise ValueError(f"--set {high}={most:g}: expected a number from {low}, which is {least:g}")


def _value(text: str, default: Any, said: Any) -> Any:
    if said["among"]:
        if text not in said["among"]:
            raise ValueError(f"one of {', '.join(said['among'])}")
        return text
    if not isinstance(default, int | float):
        return text
    kind = type(default)
    wanted = f"a {'whole ' * (kind is int)}number from {said['least']:g}"
    try:
        value = kind(text)
    except ValueError:
        raise ValueError(wanted) from None
    if not said["least"] <= value < float("inf"):
        raise ValueError(wanted)
    return value
