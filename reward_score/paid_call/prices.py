# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Dollars per million tokens of known hosted models, from ``prices.json``. A setting overrides them."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path

PRICES_FILE = Path(__file__).with_name("prices.json")
_DATE = re.compile(r"-\d{4}-\d{2}-\d{2}\Z")


@cache
def price_of(model: str) -> tuple[float, float] | None:
    """Dollars per million prompt and completion tokens, None for an unknown model.

    A dated name (``gpt-4.1-2025-04-14``) without a row of its own has the price of the name without the date.
    """
    table = json.loads(PRICES_FILE.read_text(encoding="utf-8"))["usd_per_million_tokens"]
    price = table.get(model) or table.get(_DATE.sub("", model))
    return price and (float(price["prompt"]), float(price["completion"]))
