# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""From frames to tokens: what a clip of so many frames is to a model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from data_preprocess.geometry import FRAMES_PER_TOKEN, Size, processed_size, vision_tokens
from data_preprocess.prompt_length import stamps
from recipes.medgrpo.data.rows import DataError, read_columns
from recipes.medgrpo.planning import PlanError
from reward_score.conventions import MERGE, convention_of

QUESTION_TOKENS = 300
"""Text of a prompt where no data says better; the recipes leave 750 for the longest."""

MERGED = MERGE**2
"""Patches of a vision token."""


@dataclass(frozen=True)
class Clip:
    """A clip and its prompt. `size` in pixels, after processing; `grid` in merged patches, `pairs` of frames."""

    frames: int
    size: Size
    pairs: int
    grid: tuple[int, int]
    patches: int
    vision_tokens: int
    mark_tokens: int
    prompt_tokens: int


def _mark_tokens(frames: int, sample_fps: float, family: str) -> int:
    """Tokens that announce the clip: a pair of marks; in a stamped prompt one for each two frames, with their time.

    Qwen's tokenizer makes "<", each digit, ".", " seconds" and ">" a token each.
    """
    if not convention_of(family).stamped:
        return 2
    times = [frame / sample_fps for frame in range(frames)]
    return sum(2 + len(stamp.removesuffix(" seconds>")) + 2 for stamp in stamps(times))


def clip_of(frames: int, frame_size: Size, family: str, question: int, sample_fps: float = 1.0) -> Clip:
    """What a prompt with a clip of `frames` frames and `question` tokens of text becomes.

    Args:
        frames: frames shown.
        frame_size: (width, height) on disk, in pixels.
        family: model family.
        question: tokens of everything that is not the clip.
        sample_fps: frames a second, which the length of the time stamps follows from.
    """
    size = processed_size(frame_size, family)
    tokens = vision_tokens(frames, size, family)
    marks = _mark_tokens(frames, sample_fps, family)
    pairs = -(-frames // FRAMES_PER_TOKEN)
    cell = convention_of(family).cell
    grid = size[1] // cell, size[0] // cell
    return Clip(frames, size, pairs, grid, MERGED * tokens, tokens, marks, tokens + marks + question)


@dataclass(frozen=True)
class Lengths:
    """A data folder's rows, means over them, and the prompt tokens that these shares of the rows do not exceed."""

    rows: int
    frames: float
    vision_tokens: float
    prompt_tokens: float
    quantiles: dict[str, int]


def stored_lengths(data: Path, family: str) -> Lengths:
    """What the preprocessor stored in `data`/train.parquet (or in a parquet file). Raises PlanError."""
    import numpy as np

    file = data / "train.parquet" if data.is_dir() else data
    names = ("model_family", "frames", "vision_tokens", "prompt_tokens")
    try:
        table = read_columns(file, *(f"extra_info.{name}" for name in names))
    except DataError as error:
        raise PlanError(f"--data {file}: expected the preprocessor's train.parquet: {error}") from None
    if (families := set(table["model_family"].to_pylist())) != {family}:
        made = ", ".join(sorted(map(str, families)))
        raise PlanError(f"--data {file}: rows are made for {made}, the model is a {family}")
    if table["prompt_tokens"].null_count:
        raise PlanError(f"--data {file}: no prompt_tokens: run the preprocessor with --tokenizer")
    frames, vision, prompts = (table[name].to_numpy() for name in names[1:])
    shares = {"50 %": 0.5, "90 %": 0.9, "99 %": 0.99, "all": 1.0}
    return Lengths(
        len(prompts),
        float(frames.mean()),
        float(vision.mean()),
        float(prompts.mean()),
        {name: int(np.quantile(prompts, share, method="higher")) for name, share in shares.items()},
    )


def mean_clip(stored: Lengths, frame_size: Size, family: str) -> Clip:
    """A clip and prompt of the data's mean lengths, its grid that of a frame of `frame_size`."""
    clip = clip_of(max(1, round(stored.frames)), frame_size, family, 0)
    vision = round(stored.vision_tokens)
    return replace(clip, patches=MERGED * vision, vision_tokens=vision, prompt_tokens=round(stored.prompt_tokens))
