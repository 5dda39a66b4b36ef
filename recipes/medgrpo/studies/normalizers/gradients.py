# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""The true policy gradient of each pair, on the answers that calibration sampled, for any advantages.

verl's token-mean loss of a batch is -sum_i A_i sum_t log p(y_it) / T, T the batch's tokens: every token counts alike.
At the first update the importance ratios are 1, nothing is clipped, and a pair's part of the gradient is

    G = sum_i A_i g_i / T,    g_i = gradient of sum_t log p(y_it), temperature 1, with respect to all parameters.

The inner products g_i . g_j of a pair's answers are worked out once; |sum_i A_i g_i|^2 = A' (g g') A is then exact
for every normaliser and advantage without another backward pass. Unlike a sum of |A_i| it knows how long an answer
is, how sure the model was of it, and how far the answers of a pair pull together.

The answers are tokenised again from their text, which may cut a word elsewhere than the sampler did. An answer's
gradient is as large as the model: this is for models of some million parameters.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

if shutil.which("nvidia-smi") is None:
    # As in generate: without a GPU, torchvision may only be importable through the CPU platform.
    os.environ.setdefault("VERL_PLATFORM", "cpu")

import recipes.medgrpo.plugin  # noqa: F401  isort: skip

import numpy as np
import torch
from tqdm import tqdm

from recipes.medgrpo.answers.recorded import Recorded, RecordedError, Text
from recipes.medgrpo.data.dataset import chat_of, read_rows
from recipes.medgrpo.data.rows import Rows
from recipes.medgrpo.data.video import clips_of
from recipes.medgrpo.files import data_fingerprint, model_fingerprint
from recipes.medgrpo.rollout.transformers_engine import TransformersEngine
from reward_score.bootstrap import draw


@dataclass(frozen=True)
class Products:
    """Inner products of the gradients of some answers of a pair.

    Attributes:
        places: (n,) their places among the recorded answers.
        gram: (n, n), g_i . g_j.
        group: (n,) numbers of their groups, from 0.
    """

    places: np.ndarray
    gram: np.ndarray
    group: np.ndarray

    def norm(self, advantages: np.ndarray) -> float:
        """|sum_i A_i g_i| / n, for advantages (N,) of all recorded answers.

        Per answer, so that pairs of unequal n compare; not per token, as T is the whole batch's.
        """
        return float(self._norms(advantages[self.places][None])[0])

    def resampled(self, advantages: np.ndarray, resamples: int, rng: np.random.Generator) -> np.ndarray:
        """(resamples,) the same with groups drawn with replacement."""
        drawn = draw(int(self.group.max()) + 1, resamples, rng)
        return self._norms(drawn[:, self.group] * advantages[self.places])

    def _norms(self, advantages: np.ndarray) -> np.ndarray:
        squared = ((advantages @ self.gram) * advantages).sum(-1)
        return np.sqrt(np.maximum(squared, 0.0)) / len(self.places)


def gram_of(gradients: Sequence[torch.Tensor], block: int = 1 << 20) -> np.ndarray:
    """(n, n) inner products of n gradients, summed in float64.

    Advantages of a group sum to 0, so that what its answers' gradients have in common cancels in A' (g g') A: in
    float32 the rounding of that common part would be left.
    """
    gram = torch.zeros(len(gradients), len(gradients), dtype=torch.float64, device=gradients[0].device)
    for start in range(0, gradients[0].numel(), block):
        columns = torch.stack([gradient[start : start + block] for gradient in gradients]).double()
        gram += columns @ columns.T
    return gram.cpu().numpy()


def chosen_answers(recorded: Recorded, most: int) -> dict[str, np.ndarray]:
    """By pair: places of at most `most` answers, whole groups in the recorded order, at least one group."""
    groups: dict[str, dict[str, list[int]]] = {}
    for place, (pair, group) in enumerate(zip(recorded.data_source, recorded.group, strict=True)):
        groups.setdefault(pair, {}).setdefault(group, []).append(place)
    chosen = {}
    for pair, members in sorted(groups.items()):
        places: list[int] = []
        for group in members.values():
            if places and len(places) + len(group) > most:
                break
            places += group
        chosen[pair] = np.array(places)
    return chosen


def check_origin(recorded: Recorded, model: str, data: str) -> None:
    """Raises RecordedError unless the answers have texts and were sampled from this checkpoint on these rows."""
    if recorded.texts is None:
        raise RecordedError("true gradients need the answers' texts: record them with calibrate, not in a training run")
    for name, path, made in (("model", model, model_fingerprint), ("data", data, data_fingerprint)):
        found = made(Path(path))
        for header in recorded.headers:
            if header.get(name) != found:
                raise RecordedError(f"{path}: the answers were recorded with other {name}, by their file's first line")


def _row_places(rows: Rows, wanted: Iterable[Text]) -> dict[tuple[str | None, int], int]:
    """Place of each answered row in the parquet file. Raises RecordedError for one that is not there."""
    keys = {(text.file, text.row) for text in wanted}
    found = {}
    for place in range(len(rows)):
        extra = rows.row(place)["extra_info"]
        if (key := (extra.get("file") or None, extra["index"])) in keys:
            found[key] = place
    if missing := keys - found.keys():
        raise RecordedError(f"row {sorted(missing, key=str)[0]} of an answer is not in the parquet file")
    return found


class _Differentiated:
    """Gradients of what a checkpoint says, prompt by prompt."""

    def __init__(self, engine: TransformersEngine) -> None:
        self.engine = engine
        self.parameters = [parameter for parameter in engine.model.parameters() if parameter.requires_grad]

    def answer_ids(self, text: Text) -> list[int]:
        """Token ids of an answer, its end of turn included unless it was cut off."""
        ids = self.engine.processor.tokenizer.encode(text.answer, add_special_tokens=False)
        return ids if text.truncated and ids else [*ids, self.engine.end]

    def log_probability(self, prompt: list[int], clips, answer: list[int]) -> torch.Tensor:
        """sum_t log p of an answer's tokens after its prompt, differentiable, with the rollout engine's inputs."""
        engine, device = self.engine, self.engine.model.device
        ids = torch.tensor([[*prompt, *answer]])
        attention = torch.ones_like(ids)
        vision = engine._vision(clips)
        positions = engine.positions(ids, attention, vision.get("video_grid_thw"), [metadata for _, metadata in clips])
        out = engine.model(
            input_ids=ids.to(device),
            attention_mask=attention.to(device),
            position_ids=positions.to(device),
            use_cache=False,
            logits_to_keep=len(answer) + 1,
            **{name: value.to(device) for name, value in vision.items()},
        )
        said = torch.tensor(answer, device=device)
        return -torch.nn.functional.cross_entropy(out.logits[0, :-1].float(), said, reduction="sum")

    def gradient(self, prompt: list[int], clips, answer: list[int]) -> torch.Tensor:
        """(parameters,) gradient of the log-probability."""
        log_p = self.log_probability(prompt, clips, answer)
        parts = torch.autograd.grad(log_p, self.parameters, materialize_grads=True)
        return torch.cat([part.flatten().float() for part in parts])


def gradient_products(
    recorded: Recorded, model: str, data: str, *, most: int = 32, device: str = "cpu"
) -> dict[str, Products]:
    """By pair: the inner products of the gradients of at most `most` of its answers.

    Args:
        recorded: answers with texts (`raw_signals.jsonl`).
        model: the checkpoint that they were sampled from, HF format.
        data: the parquet file whose rows they answer.

    Raises:
        RecordedError: answers of another checkpoint or other rows, or without texts.
    """
    check_origin(recorded, model, data)
    chosen = chosen_answers(recorded, most)
    texts = recorded.texts
    assert texts is not None  # check_origin refuses answers without
    rows = read_rows(data)
    places = _row_places(rows, (texts[place] for some in chosen.values() for place in some))
    work = _Differentiated(TransformersEngine.load(model, device))
    products = {}
    with tqdm(total=sum(map(len, chosen.values())), unit="answer", desc="gradients", mininterval=2) as progress:
        for pair, some in chosen.items():
            gradients = []
            # The answers to a row stand together.
            for row, said in groupby((texts[place] for place in some), key=lambda text: (text.file, text.row)):
                messages = chat_of(rows.row(places[row]))
                clips = clips_of(messages)
                prompt = work.engine.prompt_ids(messages, clips)
                for text in said:
                    gradients.append(work.gradient(prompt, clips, work.answer_ids(text)))
                    progress.update()
            _, group = np.unique(recorded.group[some].astype(str), return_inverse=True)
            products[pair] = Products(some, gram_of(gradients), group)
    return products
