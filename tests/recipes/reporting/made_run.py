# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""A run's folder without a training: invented answers to real rows, scored and recorded by the real code."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recipes.medgrpo.data.rows import Rows
from recipes.medgrpo.evaluation.strict import overall, pair_scores
from recipes.medgrpo.files import write_json, write_json_lines
from recipes.medgrpo.summary import summarise
from recipes.medgrpo.training.advantages import make_advantage
from recipes.medgrpo.training.curves import Rollout, pair_curves, training_curves
from recipes.medgrpo.training.recording import Recorder
from recipes.medgrpo.training.run_plan import record
from reward_score.medgrpo import score_many
from reward_score.reward import get_scorer
from reward_score.statistics import summarize

SCORING: dict[str, Any] = {"judge": "offline", "dvc_captions": True}
_NUMBER = re.compile(r"\d+\.\d")


class Characters:
    """A tokenizer whose tokens are characters; 0 ends an answer."""

    eos_token_id = 0

    @staticmethod
    def encode(text: str) -> list[int]:
        return [*map(ord, text), 0]

    @staticmethod
    def decode(ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        return "".join(map(chr, filter(None, ids)))

    @staticmethod
    def convert_tokens_to_ids(tokens: Sequence[str]) -> list[int]:
        return [0] * len(tokens)


def tried(answer: str, draw: random.Random) -> str:
    """An answer like the right one: right, moved, shortened, or none at all."""
    kind = draw.random()
    if kind < 0.1:
        return "I cannot tell."
    if kind < 0.3:
        return answer
    if _NUMBER.search(answer):
        return _NUMBER.sub(lambda found: f"{max(0.0, float(found[0]) + draw.uniform(-2, 2)):.1f}", answer)
    if re.search(r": \d", answer):
        return re.sub(r": (\d)", lambda found: f": {max(1, int(found[1]) - draw.randint(0, 1))}", answer)
    words = answer.split()
    return " ".join(words[: draw.randint(1, len(words))])


class Maker:
    """Steps, calibration and evaluations of one run, in the folder that `examples/run_medgrpo.sh` would leave.

    Args:
        folder: of the run. data: folder of the preprocessor's parquet files.
        tasks: whose rows are answered, None for all. rows: of each pair at most this many are.
        texts: `record_answers`: prompts of a pair whose texts are kept, None for all.
        say: what is answered to a row's right answer.
    """

    def __init__(
        self,
        folder: Path,
        data: Path,
        *,
        tasks: Sequence[str] | None = None,
        rows: int = 2,
        rollouts: int = 4,
        texts: int | None = None,
        seed: int = 0,
        steps: int = 3,
        say: Callable[[str, random.Random], str] = tried,
    ):
        self.folder, self.data, self.rollouts, self.say = folder, data, rollouts, say
        self.draw = random.Random(seed)
        self.recorder = Recorder(folder / "grpo", texts, "characters")
        vars(self.recorder)["_tokenizer"] = Characters()
        self.train, self.val = (self._rows(split, tasks, rows) for split in ("train", "val"))
        folder.mkdir(parents=True, exist_ok=True)
        record(folder, {"model": "qwen2_5_vl", "seed": seed, "steps": steps})

    def _rows(self, split: str, tasks: Sequence[str] | None, most: int) -> list[dict]:
        rows = Rows.open([str(self.data / f"{split}.parquet")]).within(tasks, None)
        seen: dict[str, int] = {}
        chosen = []
        for place, pair in enumerate(rows.column("data_source")):
            seen[pair] = seen.get(pair, 0) + 1
            if seen[pair] <= most:
                chosen.append(rows.row(place) | {"place": place})
        return chosen

    def _scored(self, rows: Sequence[dict], **settings: Any) -> list[tuple[str, dict]]:
        texts = [self.say(row["extra_info"]["answer"], self.draw) for row in rows]
        asked = [
            (row["data_source"], text, row["reward_model"]["ground_truth"], row["extra_info"])
            for row, text in zip(rows, texts, strict=True)
        ]
        return list(zip(texts, score_many(asked, **SCORING, **settings), strict=True))

    def calibrate(self, samples: int = 8) -> None:
        """`raw_signals.jsonl` and `statistics.json`."""
        records = self._sampled([row for row in self.train for _ in range(samples)], samples)
        write_json_lines(self.folder / "raw_signals.jsonl", [{"header": {}}, *records])
        pairs: dict[str, dict[str, list[float]]] = {}
        for one in records:
            for name in (name for name in one if name.startswith("raw_")):
                pairs.setdefault(one["data_source"], {}).setdefault(name[4:], []).append(one[name])
        rows = {pair: {name: summarize(x) for name, x in signals.items()} for pair, signals in pairs.items()}
        write_json(self.folder / "statistics.json", {"format": 1, "pairs": rows})

    def _sampled(self, rows: Sequence[dict], samples: int) -> list[dict]:
        return [
            {
                "place": row["place"],
                "file": row["extra_info"]["file"],
                "index": row["extra_info"]["index"],
                "data_source": row["data_source"],
                "video": f"{row['extra_info']['source']}/{row['extra_info']['video_id']}",
                "sample": number % samples,
                "answer": text,
                "truncated": False,
                "tokens": len(text) + 1,
            }
            | scores
            for number, (row, (text, scores)) in enumerate(zip(rows, self._scored(rows), strict=True))
        ]

    def step(self, number: int, prompts: int | None = None, attempt: int = 1) -> dict:
        """Record one step, and log its metrics; `prompts` rows are answered, None for all."""
        rows = self.train if prompts is None else self.draw.sample(self.train, prompts)
        statistics = self.folder / "statistics.json"
        settings = {"statistics": str(statistics)} if statistics.exists() else {}
        scorer = get_scorer(**SCORING, **settings)
        asked = [(row, f"{number}-{at}") for at, row in enumerate(rows) for _ in range(self.rollouts)]
        rollouts, normalised = [], []
        for (row, group), (text, parts) in zip(asked, self._scored([r for r, _ in asked], **settings), strict=True):
            ids, extra = Characters.encode(text), row["extra_info"]
            where = (extra["file"], extra["index"])
            rollouts.append(Rollout(group, row["data_source"], len(ids), parts["score"], parts, where, ids))
            normalised.append(scorer.normalised(row["data_source"], parts["format"], rollouts[-1].raw))
        rewards = np.array([one.reward for one in rollouts])
        groups, sources = [one.group for one in rollouts], [one.data_source for one in rollouts]
        advantages = make_advantage("dr_grpo")(rewards, groups, sources)
        self.recorder.write(number, rollouts, rewards, advantages, normalised)
        data = pair_curves((one.data_source, one.reward, one.parts) for one in rollouts)
        data |= training_curves(rollouts, rewards, advantages)
        data |= {"training/rollout_actor_probs_pearson_corr": 1.0, "actor/pg_clipfrac": 0.0, "timing_s/step": 1.0}
        log = self.folder / f"attempts/grpo_{attempt}.jsonl"
        log.parent.mkdir(exist_ok=True)
        with open(log, "a") as file:
            file.write(json.dumps({"step": number, "data": data}) + "\n")
        return data

    def evaluate(self, samples: int = 2) -> None:
        """`eval/sft`, `eval/medgrpo` and `summary.json`."""
        for name in ("sft", "medgrpo"):
            records = self._sampled([row for row in self.val for _ in range(samples)], samples)
            write_json_lines(self.folder / f"eval/{name}/answers.jsonl", [{"header": {}}, *records])
            scores = pair_scores(records)
            write_json(self.folder / f"eval/{name}/scores.json", {"overall": overall(scores), "pairs": scores})
        write_json(self.folder / "summary.json", summarise(self.folder))


def made_run(folder: Path, data: Path, steps: int = 3, **settings: Any) -> Path:
    """A whole run of some steps."""
    maker = Maker(folder, data, steps=steps, **settings)
    maker.calibrate()
    maker.recorder.begin(0)
    for number in range(1, steps + 1):
        maker.step(number)
    maker.evaluate()
    return folder
