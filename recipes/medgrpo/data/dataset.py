# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""The two dataset classes of `data.custom_cls`: one for verl's PPO trainer, one for its SFT trainer.

Both read the same parquet files and hand the same frames, times and positions to the model. verl's own
`MultiTurnSFTDataset` does not: it drops the clip's metadata, so that Qwen2.5-VL's times collapse towards 0 and
Qwen3-VL's processor samples the frames away (`upstream/fixes/sft_video_metadata`).

Settings under `data.medgrpo` (all optional):

    tasks       task names to train on; null is all of them
    rows_per_pair   train on at most this many rows of every pair, drawn by `seed`; null is all of them
    steps       optimiser steps that the schedule must last for; null is one pass over the rows
    mix         "pairs" or "tasks": what gets an equal share of every batch; "learnt": each task gets what the
                advantage `mt_grpo` asks for in the sampler's states (`learnt_from`)
    seed        of the schedule
    settled_by  rows that all calibration answers get right, or all wrong, are drawn less often: `difficulty`
    pixels      "bfloat16": the type of the actor's pixels, for an actor that works in it; null: fp32
    max_prompt_length   SFT only: rows with longer prompts are left out (the PPO path reads data.max_prompt_length)
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import ListConfig
from torch.utils.data import Dataset
from verl.utils.dataset.multiturn_sft_dataset import MultiTurnSFTDataset
from verl.utils.dataset.rl_dataset import RLHFDataset
from verl.utils.tokenizer import build_multimodal_processor_inputs

from data_preprocess.chat import CLIP, STILL
from data_preprocess.geometry import FRAMES_PER_TOKEN
from recipes.medgrpo.data import processing
from recipes.medgrpo.data.difficulty import draw_rates
from recipes.medgrpo.data.families import FAMILIES, family_of
from recipes.medgrpo.data.rows import ANSWER_OPEN, DataError, Rows
from recipes.medgrpo.data.schedule import LearntOrder, balanced_order, choose_rows
from recipes.medgrpo.data.video import ClipCache, clips_of, parted

TURN_END = "<|im_end|>\n"
"""What Qwen's chat templates end a turn with."""


def read_rows(files: str | Iterable[str], tasks: Iterable[str] | None = None, max_tokens: int | None = None) -> Rows:
    """The rows of some parquet files, of the named tasks, whose stored prompt length fits.

    Rows without a stored length (`extra_info.prompt_tokens`, written with `--tokenizer`) are kept. What a row holds
    is read from its file when it is asked for.
    """
    files = [files] if isinstance(files, str) else list(files)
    rows = Rows.open(files).within(tasks, max_tokens)
    if not len(rows):
        raise DataError(f"{', '.join(files)}: no row left (tasks {tasks}, at most {max_tokens} tokens)")
    return rows


_MARKS = {CLIP: "video", STILL: "image"}


def split_content(messages: list[dict], videos: list[dict]) -> list[dict]:
    """Chat messages whose `<video>` and `<image>` marks have become parts that the processors understand.

    Each mark stands for the next of `videos`. An image's has one frame.
    """
    texts = [message["content"] for message in messages if isinstance(message["content"], str)]
    marks = [mark for text in texts for mark in re.findall("|".join(_MARKS), text)]
    if len(marks) != len(videos):
        raise DataError(f"a row's prompt has {len(marks)} <video> marks and the row {len(videos)} videos")
    for mark, video in zip(marks, videos, strict=True):
        if mark == STILL and len(video["video"]) != 1:
            raise DataError(f"a row's prompt has an {STILL} mark and {len(video['video'])} frames for it, expected one")
    clips = iter(videos)
    result = []
    for message in messages:
        content = message["content"]
        if isinstance(content, str):
            pieces = [piece for piece in re.split(f"({'|'.join(_MARKS)})", content) if piece]
            content = [
                {"type": _MARKS[piece], **next(clips)} if piece in _MARKS else {"type": "text", "text": piece}
                for piece in pieces
            ]
        result.append({"role": message["role"], "content": content})
    return result


def chat_of(row: Mapping[str, Any]) -> list[dict]:
    """The chat of a row in parts. Raises `DataError` for what the row's model family cannot be told or shown."""
    extra = row["extra_info"]
    family = FAMILIES.get(extra.get("model_family"))
    if family and not family.convention.stamped and any(video.get("frame_seconds") for video in row["videos"]):
        raise DataError(
            f"row {extra['index']}: videos.frame_seconds is set, and {family.name} knows one interval for a whole "
            "clip, expected null: preprocess with --timeline uniform"
        )
    if "box_not_drawn" in (extra.get("flags") or ()):
        raise DataError(
            f"row {extra['index']}: the region that it asks about is not drawn on its frames (flag box_not_drawn), "
            "expected a drawn box: preprocess with a frame store, or leave the task rc out"
        )
    return split_content(row["prompt"], row["videos"])


def check_shown(row: Mapping[str, Any], processor: Any) -> None:
    """Raises `DataError` where a processor shows a row's clips otherwise than the row was made for.

    Boxes are written in the space of one model family and, for Qwen2.5-VL, of one frame size.
    """
    extra = row["extra_info"]
    try:
        family = family_of(processor)
        made_for = extra.get("model_family")
        if made_for != family.name:
            raise ValueError(f"made for {made_for}, the model is {family.name}: preprocess again")
        still = any(STILL in turn["content"] for turn in row["prompt"])
        for video in row["videos"]:
            size = tuple(extra["processed_size"])
            if still:
                family.check_still(processor.image_processor, size)
                continue
            frames = len(video["video"]) + -len(video["video"]) % FRAMES_PER_TOKEN
            family.check_size(processor.video_processor, frames, size)
    except ValueError as error:
        raise DataError(f"row {extra['index']}: {error}") from None


class MedVidDataset(RLHFDataset):
    """Prompts for the PPO trainer: balanced batches for training rows, file order for all others."""

    def _read_files_and_tokenize(self) -> None:
        options = self.config.get("medgrpo", None) or {}
        if self.processor is not None:
            self._check_template()
        # verl may have copied a file (data.use_shm); the frames lie beside the original.
        places = zip(self.original_data_files, self.data_files, strict=True)
        files = [str(original if os.path.exists(original) else copied) for original, copied in places]
        self.dataframe = read_rows(files, options.get("tasks"), self.config.get("max_prompt_length"))
        if 0 < self.max_samples < len(self.dataframe):
            self.dataframe = self.dataframe.slice(0, self.max_samples)
        split = self.dataframe.slice(0, 1).column("split")[0]
        pairs = self.dataframe.column("data_source")
        seed = int(options.get("seed") or 0)
        if split == "train" and options.get("rows_per_pair"):
            self.dataframe = self.dataframe.take(choose_rows(pairs, int(options["rows_per_pair"]), seed))
            pairs = self.dataframe.column("data_source")
        rows = len(self.dataframe)
        if split == "train":
            batch = int(self.config.train_batch_size)
            steps = int(options.get("steps") or max(1, rows // batch))
            rates, mix = draw_rates(self.dataframe, options), options.get("mix") or "pairs"
            self.order: np.ndarray | LearntOrder
            if mix == "learnt":
                if not options.get("steps"):
                    raise DataError("data.medgrpo.mix=learnt: expected a number of steps, trainer.total_training_steps")
                self.order = LearntOrder(pairs, batch, steps, seed, Path(options["learnt_from"]), rates)
            else:
                self.order = balanced_order(pairs, batch, steps, seed=seed, mix=mix, rates=rates)
            if rates is not None:
                print(f"{split}: {int((rates < 1).sum())} of {rows} rows are settled, and are drawn less often")
        else:
            self.order = np.arange(rows)
        print(f"{split}: {rows} rows, presented as a sequence of {len(self.order)}")

    def _check_template(self) -> None:
        """Raises `DataError` where verl would render prompts otherwise than SFT, calibration and evaluation do."""
        family, found = family_of(self.processor), dict(self.apply_chat_template_kwargs or {})
        expected = family.convention.template
        if found != expected:
            raise DataError(f"data.apply_chat_template_kwargs: expected {expected} for {family.name}, found {found}")

    def __getstate__(self) -> dict:
        # verl leaves `dataframe` out, as it holds all rows there. Here it is a list of places, and a data loader's
        # spawned worker needs it.
        return self.__dict__.copy()

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, item: int) -> dict:
        row = self.dataframe.row(self.order[item])
        if self.processor is not None:
            check_shown(row, self.processor)
        return {
            "raw_prompt": chat_of(row),
            "data_source": row["data_source"],
            "ability": row["ability"],
            "reward_model": row["reward_model"],
            "extra_info": row["extra_info"],
            "index": row["extra_info"]["index"],
            "tools_kwargs": {},
            "interaction_kwargs": {},
            # verl's batch needs at least one tensor.
            "dummy_tensor": torch.tensor([0], dtype=torch.uint8),
        }

    @classmethod
    async def process_multi_modal_info(cls, messages: list[dict], image_patch_size, config):
        """verl's hook: (images, videos, audios) of a chat, decoded once for all rollouts of a prompt."""
        dtype = processing.pixel_type((config or {}).get("medgrpo", None) or {})
        images, videos = parted(await asyncio.get_running_loop().run_in_executor(None, clips_of, messages))
        for frames, _ in videos or ():
            processing.CACHE.cast(frames, dtype)
        return images, videos, None

    @classmethod
    def _process_multi_modal_info(cls, messages: list[dict], image_patch_size, config):
        return *parted(clips_of(messages)), None


def _listed(files: Any) -> list:
    return list(files) if isinstance(files, list | ListConfig) else [files]


class MedVidSFTDataset(MultiTurnSFTDataset):
    """Prompt and reference answer (`extra_info.answer`) for verl's SFT trainer, tokenised as the PPO path does.

    Of an answer that goes on from there (`extra_info.answer_open`, of an intervention) no end is learnt.
    """

    def __init__(self, parquet_files, tokenizer, config, processor=None, max_samples: int = -1):
        Dataset.__init__(self)
        self.processor, self.tokenizer = processor, tokenizer
        self.max_length = int(config.get("max_length", 1024))
        files = _listed(parquet_files)
        options = config.get("medgrpo", None) or {}
        self.rows = read_rows([str(file) for file in files], options.get("tasks"), options.get("max_prompt_length"))
        if 0 < max_samples < len(self.rows):
            self.rows = self.rows.slice(0, max_samples)
        # verl drops a last batch that is not full, and divides by the number of batches.
        batch = int(config.get("train_batch_size") or 0)
        if len(self.rows) < batch and files == _listed(config.get("train_files")):
            raise DataError(
                f"{', '.join(map(str, files))}: {len(self.rows)} rows, expected at least a batch of {batch} "
                "(data.train_batch_size)"
            )
        self.pixel_type = processing.pixel_type(options)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, item: int) -> dict:
        row = self.rows.row(item)
        check_shown(row, self.processor)
        messages = chat_of(row)
        text = family_of(self.processor).prompt(self.processor, messages)
        # No cache: a clip comes once an epoch, and every data loader's worker would keep its own last ones.
        images, videos = parted(clips_of(messages, ClipCache(capacity=1)))
        inputs = dict(build_multimodal_processor_inputs(self.processor, text=[text], images=images, videos=videos))
        processing.in_type(inputs, self.pixel_type)
        # After the prompt's tokens, as in a rollout: a tokenizer sees no text across the border.
        goes_on = bool(row["extra_info"].get(ANSWER_OPEN))
        said = row["extra_info"]["answer"] + ("" if goes_on else TURN_END)
        answer = self.tokenizer.encode(said, add_special_tokens=False)
        added = torch.tensor([answer])
        ids = torch.cat([inputs.pop("input_ids"), added], dim=1)
        types = torch.cat([inputs.pop("mm_token_type_ids"), torch.zeros_like(added)], dim=1)
        del inputs["attention_mask"]
        if ids.shape[1] > self.max_length:
            raise DataError(
                f"row {row['extra_info']['index']}: {ids.shape[1]} tokens, data.max_length is {self.max_length}"
            )
        hook = getattr(self.processor, "get_rope_index_kwargs", None)
        vision, _ = self.processor.get_rope_index(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            mm_token_type_ids=types,
            image_grid_thw=inputs.get("image_grid_thw"),
            video_grid_thw=inputs.get("video_grid_thw"),
            **(hook(inputs) if hook else {}),
        )
        mask = torch.zeros_like(ids[0])
        # Learned: the answer and its end, if it has one, not the line break behind it.
        end = self.tokenizer.convert_tokens_to_ids("<|im_end|>")
        mask[-len(answer) : len(mask) - (0 if goes_on else answer[::-1].index(end))] = 1
        return {
            "input_ids": ids[0],
            # Row 0 is the plain token count, rows 1 to 3 are time, height and width, as in verl's agent loop.
            "position_ids": torch.cat([torch.arange(ids.shape[1])[None], vision[:, 0].long()]),
            "loss_mask": mask,
            "multi_modal_inputs": {name: value for name, value in inputs.items() if isinstance(value, torch.Tensor)},
        }
