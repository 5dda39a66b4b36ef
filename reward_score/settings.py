# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The settings of the reward, each with its default and why it is a setting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from math import isfinite
from typing import Any

from .errors import BadSetting
from .normalization import DEFAULT_K, NEEDED, NORMALIZERS
from .tasks import TASKS

ADAPTIVE = "adaptive"
"""The normaliser whose percentiles follow the policy: answer by answer it is the logistic with the file's statistics,
the training's sampler then replaces the reward by the one of its window."""
FORMAT_ORDERS = ("after", "before")
SCORING_JUDGES = ("offline", "openai")
"""Kinds of judges that score answers anywhere: who gave the verdicts in a file of scores or statistics."""
TRAINING_JUDGES = ("router",)
"""Kinds that only exist inside of a training. `examples/lib/judge.sh` reads both lines."""
JUDGES = SCORING_JUDGES + TRAINING_JUDGES
"""All kinds, which `judge.make_judge` makes."""


@dataclass(frozen=True)
class Settings:
    """Every setting of `compute_score`.

    Attributes:
        statistics: path of a statistics file, or None: every raw signal is then its own normalised value.
        normalizer: a name of `normalization.NORMALIZERS` (``logistic`` is the paper's) or `ADAPTIVE`; without
            statistics it changes nothing.
        k: steepness of the logistic; 3.0 is the paper's.
        linear_share: the raw signal's own share beside the logistic. None: the least that each pair and signal needs,
            so that right beats wrong whatever the format, and no answer far from right earns nearly what right does;
            0 where the SFT model is good (`normalization.needed_share`). A number, 0 to 1, is the share everywhere;
            0 is the paper's formula alone. Other normalisers do not take it.
        min_iqr: least spread in the logistic; what a spread of 0 means is unpublished. None: what the statistics file
            says, else 0.1.
        min_samples: with fewer answers than this, median and spread are shrunk toward the task's pooled ones. None:
            what the statistics file says, else 32. Both are worked out in `statistics.used_rows`.
        deviation_format: format factor, 0 to 1, of an answer that can be read although it deviates from its grammar.
            Unpublished. The whole grammar is 1, no parse is 0.
        weights: by task, the weight of each signal in the reward, instead of `tasks.TASKS`'; scaled to sum to 1. The
            paper's are half and half for vs and rc. The strict ``acc`` keeps its own.
        format_order: ``after``: format x normalised signal. ``before``: normalised (format x signal), which pays
            for a bad format wherever the median is low. The paper's order is unpublished. No parse is 0 in both.
        rewarded_tasks: short task names whose answers are rewarded, None for all; the others get ``score`` 0
            and their true ``acc``. The paper's are tal, stg, vs and rc.
        dvc_captions: dense captioning also compares the captions of matched events (similarity and judge). Off,
            its reward is the temporal F1 alone, and needs no model and no judge.
        tal_wasserstein: temporal grounding is also rewarded for how near its spans are where they do not overlap
            (`temporal.tal_wasserstein`), with half of the weight. Off by default: whether it helps is not known. The
            strict ``acc`` stays the IoU. The statistics must have been calibrated with it.
        judge: ``offline`` (lexical, no network), ``openai`` (an OpenAI-compatible endpoint), ``router`` (verl's own
            reward-model servers), or None: no judge, its weight goes to the other signals (the paper's ablation
            without a judge).
        judge_settings: keyword arguments of the judge's class, and perhaps those of a ``second`` judge, whose scores
            are averaged with the first's: see `judge.make_judge`.
        attack_format: what the format of a caption is multiplied by, 0 to 1, when it addresses the judge instead of
            describing (`judge.bribery`). 0: such an answer is one that cannot be read. Only where a judge is asked. In
            dense captions the event alone counts as a wrong one, unless this is 1.
        encoder: folder or hub name of a sentence encoder, or address of an endpoint that serves one; None for the
            packaged all-MiniLM-L6-v2. See `similarity.load_similarity`.
        encoder_device: where it runs: ``auto``, ``cpu``, ``cuda``, ``cuda:N``.
    """

    statistics: str | None = None
    normalizer: str = "logistic"
    k: float = DEFAULT_K
    linear_share: float | None = NEEDED
    min_iqr: float | None = None
    min_samples: int | None = None
    deviation_format: float = 0.5
    weights: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    format_order: str = "after"
    rewarded_tasks: Sequence[str] | None = None
    dvc_captions: bool = False
    tal_wasserstein: bool = False
    judge: str | None = "offline"
    judge_settings: Mapping[str, Any] = field(default_factory=dict, repr=False)
    attack_format: float = 0.0
    encoder: str | None = None
    encoder_device: str = "auto"

    def __post_init__(self) -> None:
        if self.normalizer not in NORMALIZERS and self.normalizer != ADAPTIVE:
            raise BadSetting(
                f"normalizer {self.normalizer!r}: expected one of {', '.join(sorted((*NORMALIZERS, ADAPTIVE)))}"
            )
        for name in ("deviation_format", "attack_format", "linear_share"):
            value = getattr(self, name)
            if not (name == "linear_share" and value is NEEDED) and not 0 <= value <= 1:
                raise BadSetting(f"{name} {value!r}: expected 0 to 1")
        for name, weights in self.weights.items():
            if name not in TASKS:
                raise BadSetting(f"weights: {name!r}: expected some of {', '.join(TASKS)}")
            if unknown := set(weights) - set(TASKS[name].weights):
                raise BadSetting(
                    f"weights: {name}: {', '.join(sorted(unknown))}: expected some of {', '.join(TASKS[name].weights)}"
                )
            if not all(isfinite(weight) and weight >= 0 for weight in weights.values()) or not sum(weights.values()):
                raise BadSetting(f"weights: {name}: {dict(weights)}: expected numbers from 0, not all of them 0")
        if self.format_order not in FORMAT_ORDERS:
            raise BadSetting(f"format_order {self.format_order!r}: expected one of {', '.join(FORMAT_ORDERS)}")
        if self.judge is not None and self.judge not in JUDGES:
            raise BadSetting(f"judge {self.judge!r}: expected {', '.join(JUDGES)} or None")
        if self.rewarded_tasks is not None:
            if isinstance(self.rewarded_tasks, str):
                raise BadSetting(f"rewarded_tasks {self.rewarded_tasks!r}: expected a list of task names")
            for name in self.rewarded_tasks:
                if name not in TASKS:
                    raise BadSetting(f"rewarded_tasks: {name!r}: expected some of {', '.join(TASKS)}")


def answer_map(normalizer: str) -> str:
    """The name in `normalization.NORMALIZERS` that a normaliser has answer by answer: `ADAPTIVE` is the logistic."""
    return "logistic" if normalizer == ADAPTIVE else normalizer


SETTING_NAMES = frozenset(item.name for item in fields(Settings))
