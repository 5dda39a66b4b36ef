# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Any OpenAI-compatible endpoint: frames go as images, each behind its time in words.

This engine makes the answers of other models (GPT-4.1, Gemini) and of a checkpoint behind `vllm serve`. Such a
checkpoint then sees a list of images with times in the text, without the positions and timestamp tokens from which it
learnt times in training. The vLLM engine has them.

Frames are sent as JPEG in base64, in the size that the preprocessor stored. Boxes are asked for and read in the space
of the parquet's model family: pixels of these images, or 0 to 1000. Clips of `rc` rows are never thinned: one of their
frames has the box that the question is about, and the row does not say which. The key comes from the environment
(MEDGRPO_ENDPOINT_API_KEY, else OPENAI_API_KEY) and is written nowhere.

The client of the openai package repeats requests that may succeed later (429, 5xx, broken connections), with growing
pauses or those that `Retry-After` asks for. A request that fails for good is no answer: its row stays open.
"""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from recipes.medgrpo.inference.jobs import WHOLE, Failure, InferenceError, Job, Reply
from reward_score.conventions import convention_of

KEYS = ("MEDGRPO_ENDPOINT_API_KEY", "OPENAI_API_KEY")
NO_KEY = "none"
"""What an endpoint without keys is sent: the client wants one."""


def api_key() -> str:
    """The endpoint's key from the environment."""
    return next((key for name in KEYS if (key := os.environ.get(name))), NO_KEY)


def picture(frame: Any, quality: int) -> dict[str, Any]:
    """A frame (3, H, W) uint8 as a part of a message."""
    buffer = io.BytesIO()
    Image.fromarray(frame.permute(1, 2, 0).numpy()).save(buffer, "JPEG", quality=quality)
    data = base64.b64encode(buffer.getvalue()).decode()
    return {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{data}"}}


def thinned(count: int, most: int | None) -> list[int]:
    """Which of `count` frames are shown where at most `most` may be: evenly spread, the first and the last included."""
    if most is None or count <= most:
        return list(range(count))
    return np.linspace(0, count - 1, most).round().astype(int).tolist() if most > 1 else [count // 2]


def chat(job: Job, most: int | None, quality: int) -> tuple[list[dict], int | None]:
    """(messages of the API, how many images they show where not all frames are shown)."""
    left, shown, dropped, size = iter(job.clips), 0, 0, None
    messages = []
    for message in job.messages:
        parts: list[dict] = []
        for part in message["content"]:
            if part["type"] == "text":
                parts.append({"type": "text", "text": part["text"]})
                continue
            frames, metadata = next(left)
            if metadata is None:
                shown, size = shown + 1, frames.size
                parts.append(picture(torch.from_numpy(np.array(frames)).permute(2, 0, 1), quality))
                continue
            # A copy of the last frame, which evens the count for the Qwen models, is not sent.
            count = len(part["video"])
            size = frames.shape[-1], frames.shape[-2]
            picks = thinned(count, most)
            shown, dropped = shown + len(picks), dropped + count - len(picks)
            for pick in picks:
                seconds = metadata["frames_indices"][pick] / metadata["fps"]
                parts += [{"type": "text", "text": f"{seconds:.1f} seconds:"}, picture(frames[pick], quality)]
        messages.append({"role": message["role"], "content": parts})
    if job.row["ability"] == "stg" and size is not None:
        messages[-1]["content"].append(
            {"type": "text", "text": boxes_said(job.row["extra_info"]["model_family"], size)}
        )
    for message in messages:
        # Text alone as a string: not every endpoint takes parts in system and assistant turns.
        if all(part["type"] == "text" for part in message["content"]):
            message["content"] = "".join(part["text"] for part in message["content"])
    return messages, shown if dropped else None


def boxes_said(family: str, size: tuple[int, int]) -> str:
    """What a model that was not tuned on the prompts is told of boxes.

    Args:
        family: whose box space the parquet has.
        size: (width, height) of the images in pixels.
    """
    side = convention_of(family).box_side
    if side is None:
        return f"Box coordinates are pixels of the given images, which are {size[0]} pixels wide and {size[1]} high."
    return f"Box coordinates run from 0 to {side:g} across the images' width and height."


@dataclass
class Endpoint:
    """Asks `model` at `base_url`, at most `concurrency` requests at once.

    Args:
        max_images: of a clip; more frames are thinned evenly, and that is said. Not of `rc` rows.
        retries: of a request that may pass the next time. timeout: seconds for a request's reply.
        tokens_field: how the endpoint calls the token budget; newer OpenAI models know `max_completion_tokens` only.
    """

    base_url: str
    model: str
    temperature: float
    concurrency: int = 8
    retries: int = 6
    timeout: float = 300.0
    max_images: int | None = None
    quality: int = 90
    tokens_field: str = "max_tokens"

    def __post_init__(self) -> None:
        self.batch = 4 * self.concurrency
        self.identity = {"endpoint": self.base_url, "model": self.model}
        self.described = {"name": "endpoint", "max_images": self.max_images, "jpeg_quality": self.quality}
        self.prompt_tokens = self.completion_tokens = self.asked = self.thinned_rows = 0
        self._client: Any = None
        self._stopped: InferenceError | None = None

    def __enter__(self) -> Endpoint:
        from openai import OpenAI

        self._client = OpenAI(base_url=self.base_url, api_key=api_key(), max_retries=self.retries, timeout=self.timeout)
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def answers(self, jobs: Sequence[Job]) -> list[Reply | Failure]:
        with ThreadPoolExecutor(self.concurrency) as pool:
            return [asked if isinstance(asked, Failure) else self._read(*asked) for asked in pool.map(self._ask, jobs)]

    def _ask(self, job: Job) -> tuple[Any, int | None] | Failure:
        """(the endpoint's reply, how many images it was shown where not all), or why there is none."""
        from openai import APIStatusError, AuthenticationError, OpenAIError, PermissionDeniedError

        if self._stopped:
            raise self._stopped
        messages, images = chat(job, None if job.row["ability"] == "rc" else self.max_images, self.quality)
        request = {"model": self.model, "messages": messages, "temperature": self.temperature}
        request[self.tokens_field] = job.budget
        if self.temperature:
            request["seed"] = job.seed
        try:
            return self._client.chat.completions.create(**request), images
        except (AuthenticationError, PermissionDeniedError) as error:
            expected = f"a key in {' or '.join(KEYS)}"
            self._stopped = InferenceError(f"{self.base_url}: status {error.status_code}: expected {expected}")
            raise self._stopped from error
        except APIStatusError as error:
            return Failure(f"{self.base_url}: status {error.status_code}: {_line(error)}")
        except (OpenAIError, ValueError) as error:
            return Failure(f"{self.base_url}: {type(error).__name__}: {_line(error)}")

    def _read(self, reply: Any, images: int | None) -> Reply | Failure:
        usage = getattr(reply, "usage", None)
        tokens = getattr(usage, "completion_tokens", None)
        self.prompt_tokens += getattr(usage, "prompt_tokens", None) or 0
        self.completion_tokens += tokens or 0
        if not getattr(reply, "choices", None):
            return Failure(f"{self.base_url}: a reply without choices")
        choice = reply.choices[0]
        message, reason = getattr(choice, "message", None), getattr(choice, "finish_reason", None)
        text = getattr(message, "content", None) or getattr(message, "refusal", None) or ""
        if reason == "content_filter" or not text.strip():
            said = f"{self.base_url}: no text in the reply (finish_reason {reason})"
            return Failure(said, of_row=reason == "content_filter")
        if reason not in WHOLE:
            # A server that went down in the middle of an answer says "abort" or "error", with what it had.
            return Failure(f"{self.base_url}: finish_reason: expected {' or '.join(WHOLE)}, found {reason}")
        self.asked += 1
        self.thinned_rows += images is not None
        return Reply(text, reason == "length", tokens, images)

    def notes(self) -> list[str]:
        found = [
            f"{self.asked} replies, {self.prompt_tokens} prompt tokens, {self.completion_tokens} completion tokens"
        ]
        if self.thinned_rows:
            found.append(f"clips of {self.thinned_rows} answers thinned to {self.max_images} images (--max-images)")
        return found


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
