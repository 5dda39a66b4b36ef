# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""The rows of the ablation table: their settings (`variants.txt`) and what the paper prints for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from recipes.medgrpo.evaluation.published import published

SFT = "SFT"
"""The line of the model that every row started from."""
ABLATED = "qwen2_5_vl"
"""The family of the model that the paper ran the ablation with."""
PUBLISHED_ROWS: dict[str, dict[str, float]] = {
    "B": {"cvs_acc": 0.020, "stg_miou": 0.010, "tag_miou_03": 0.004},
    "C": {"cvs_acc": 0.914, "stg_miou": 0.193, "tag_miou_03": 0.202, "vs_llm": 3.776, "rc_llm": 3.425},
    "D": {"cvs_acc": 0.894, "stg_miou": 0.183, "tag_miou_03": 0.149, "vs_llm": 3.824, "rc_llm": 3.235},
    "E": {"cvs_acc": 0.894, "stg_miou": 0.183, "tag_miou_03": 0.140, "vs_llm": 3.733, "rc_llm": 2.984},
}
"""What the paper's ablation prints, by row and column: of the model of `ABLATED`, and of these columns only."""
MODELS = {"qwen2_5_vl": "Qwen2.5-VL-7B", "qwen3_vl": "Qwen3-VL-4B"}
"""The model of each family that the paper trained."""


@dataclass(frozen=True)
class Row:
    """One training of the table.

    Attributes:
        tasks: trained on and rewarded; None: all eight.
        normalizer, advantage: as the reward and the sampler name them.
        judged: whether captions are judged in training.
        what: in words.
        overrides: hydra overrides beside these; `RAW_SIGNALS` in them is the calibration's file of that name.
    """

    tasks: tuple[str, ...] | None
    normalizer: str
    advantage: str
    judged: bool
    what: str
    overrides: tuple[str, ...] = ()


def read_rows(text: str) -> dict[str, Row]:
    """The rows of a table like `variants.txt`, in its order. Raises ValueError for a line that is none."""
    rows = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) not in (6, 7) or cells[4] not in ("yes", "none") or cells[0] in rows:
            raise ValueError(
                f"line {number}: expected a new row's six or seven cells, the fifth yes or none, got {line!r}"
            )
        name, tasks, normalizer, advantage, judge, what, *more = cells
        chosen = None if tasks == "all" else tuple(tasks.split())
        rows[name] = Row(chosen, normalizer, advantage, judge == "yes", what, tuple(" ".join(more).split()))
    return rows


ROWS = read_rows(Path(__file__).with_name("variants.txt").read_text(encoding="utf-8"))


def published_lines(family: str) -> dict[str, Mapping[str, float]]:
    """By line of the table (`SFT` and rows) the columns that the paper prints for a model family's recipe.

    A's are those of the main table: the ablation shows no others. B to E were published for the model of `ABLATED`
    alone, and nothing for a family without a model in `MODELS`.
    """
    if family not in MODELS:
        return {}
    model = MODELS[family]
    found = published([f"{model} SFT", f"{model} MedGRPO"])
    lines: dict[str, Mapping[str, float]] = dict(zip((SFT, "A"), found.values(), strict=True))
    return lines | (PUBLISHED_ROWS if family == ABLATED else {})
