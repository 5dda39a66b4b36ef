# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Where a key comes from, and which endpoint address may be used with it."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from .errors import CallSettingsError

KEY_VARIABLES = ("OPENAI_API_KEY",)
FILE_ENDING = "_FILE"
"""A variable of such a name holds the path of a file with the key."""


def find_key(given: str | None, variable: str | None = None, variables: Sequence[str] = KEY_VARIABLES) -> str:
    """The key: as given, else from the environment's ``variable`` if one is named, else from the first of
    ``variables`` that is set.

    Raises:
        CallSettingsError: there is none, or it is not one printable word. The message holds nothing of it.
    """
    key, where = given, "the argument api_key"
    if key is None and variable is not None:
        if not re.fullmatch(r"[A-Z_a-z][A-Z_a-z0-9]*", variable):
            raise CallSettingsError("key_variable: expected the name of a variable, not its value")
        key, where = os.environ.get(variable), variable
        if not key:
            raise CallSettingsError(f"no key: key_variable names {variable}, which is not set")
    if key is None:
        where = next((name for name in variables if os.environ.get(name)), "")
        if not where:
            raise CallSettingsError(f"no key: set {' or '.join(variables)}")
        key = os.environ[where]
        if where.endswith(FILE_ENDING):
            where, path = f"the file of {where}", Path(key)
            try:
                key = path.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                told = f"{type(error).__name__}: expected a file with the key"
                raise CallSettingsError(f"{path}: {told}") from None
    key = key.strip()
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise CallSettingsError(f"the key from {where} is not one printable word")
    return key


def checked_url(url: str | None) -> str:
    """The endpoint's address, if it is ``http(s)://host[:port]/path`` without credentials or a query.

    Raises:
        CallSettingsError: it is not. The message does not repeat it, since it may hold a key.
    """
    try:
        parts = urlsplit(url) if isinstance(url, str) else None
        port_right = parts is None or parts.port is None or parts.port > 0
    except ValueError:  # its message quotes the address
        parts = None
    if parts is None or not port_right or parts.scheme not in ("http", "https") or not parts.hostname:
        raise CallSettingsError("base_url: expected http(s)://host[:port]/path")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise CallSettingsError("base_url holds credentials, a query or a fragment: the key belongs in api_key")
    return str(url)
