# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Next-action labels: when two spellings are the same label.

Labels keep the spelling of the data, mistakes included (``carlot-triangle-dissection``).
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache

ALIASES: dict[str, dict[str, str]] = {
    "CoPESD": {
        "manipulate flap with forceps and knife": "position flap with forceps and knife",
        "dissect flap with knife": "dissect flap tissue with knife",
        "manipulate flap with forceps": "position flap with forceps only",
        "retract flap with forceps": "retract flap edge with forceps only",
        "retract flap with forceps and knife": "retract flap edge with forceps and knife",
        "hold flap with forceps": "stabilize flap with forceps",
        "retracting mucosa flap with forceps and knife": "retract flap edge with forceps and knife",
    },
}
"""By source: other names of a label, folded, and the label that they mean."""

_EDGES = " \"'`*.,;:!?“”‘’"


@lru_cache(maxsize=4096)
def fold_label(label: str, source: str = "") -> str:
    """One spelling per label: NFKC, case folded, white space single, edge punctuation off, the source's aliases."""
    folded = " ".join(unicodedata.normalize("NFKC", label).casefold().split()).strip(_EDGES)
    return ALIASES.get(source, {}).get(folded, folded)


def same_label(predicted: str, gold: str, source: str = "") -> bool:
    """Whether two labels are the same one for a source. A blank label is the same as none."""
    folded = fold_label(predicted, source)
    return bool(folded) and folded == fold_label(gold, source)
