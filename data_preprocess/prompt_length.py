# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""How many tokens a prompt has once the model family's processor has laid out its clip, and what fits a limit.

Nothing is decoded: the number follows from the text, the count and times of the frames, and their processed size.
A family whose prompts are not stamped with times puts all vision tokens between one pair of marks. One whose prompts
are (`Convention.stamped`) announces every temporal patch (two frames) with the mean of their times, `<12.5 seconds>`,
and gives each its own pair. All marks are special tokens, at which a
tokenizer always cuts, so the pieces between them are counted apart, and most of them only once.

transformers is imported with the first `PromptLength`, not with this module.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from data_preprocess.chat import CLIP, STILL
from data_preprocess.geometry import FRAMES_PER_TOKEN, Size, vision_tokens
from data_preprocess.timeline import THINNING, Timeline, thin
from reward_score.conventions import convention_of

THIN_POLICIES = ("none", *THINNING)
"""What becomes of a clip whose prompt is too long: nothing, or fewer frames as `timeline.thin` chooses them."""

LEAST_FRAMES = FRAMES_PER_TOKEN
"""A clip is never thinned below this: one temporal patch, which costs the same with a single frame."""

_START, _PAD, _END = "<|vision_start|>", "<|video_pad|>", "<|vision_end|>"
_CLIP = _START + _PAD + _END
_IMAGE_PAD = "<|image_pad|>"
_STILL = _START + _IMAGE_PAD + _END
# Qwen's format, for a folder without a template. Line ends are written out: a template engine drops the last one.
_CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' }}{% if m.content is string %}{{ m.content }}{% else %}"
    "{% for part in m.content %}{{ '" + _CLIP + "' if part.type == 'video' else '" + _STILL + "' if part.type == "
    "'image' else part.text }}{% endfor %}{% endif %}"
    "{{ '<|im_end|>\\n' }}{% endfor %}{{ '<|im_start|>assistant\\n' }}"
)
Chat = Sequence[dict[str, str]]
_Turns = tuple[tuple[str, str], ...]


class TokenizerError(ValueError):
    """A folder whose tokenizer cannot count this family's prompts; the message is one line."""


class PromptLength:
    """Counts the tokens of prompts and answers.

    Args:
        folder: a model or tokenizer folder in HF format; nothing is downloaded. Its chat template is used, the
            processor's (`chat_template.json`) before the tokenizer's, Qwen's plain format where it has none.
        family: model family, a key of `reward_score.conventions.CONVENTIONS`.

    Raises:
        ValueError: an unknown family.
        TokenizerError: no tokenizer there, or none of Qwen's vision-language models.
    """

    def __init__(self, folder: str | os.PathLike[str], family: str):
        from transformers import AutoTokenizer

        self.family = family
        expected = f"--tokenizer {folder}: expected a folder with the tokenizer of a Qwen vision-language model"
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            self._template = _processor_template(folder) or getattr(self.tokenizer, "chat_template", None) or _CHATML
        # Broken files raise whatever the libraries that read them raise.
        except Exception as error:
            reason = next(iter(str(error).splitlines()), "") or type(error).__name__
            raise TokenizerError(f"{expected}: {reason}") from None
        known = self.tokenizer.get_added_vocab()
        for mark in (_START, _PAD, _END):
            if mark not in known:
                raise TokenizerError(f"{expected}, found none of its tokens {mark}")
        self._convention = convention_of(family)
        self._stamps = self._convention.stamped
        self._count = lru_cache(maxsize=1 << 15)(lambda text: len(self._ids(text)))
        self._around = lru_cache(maxsize=1 << 14)(self._render)
        self._stamped = lru_cache(maxsize=1 << 12)(self._count_stamps)
        # What a tokenizer adds to every text, nothing with Qwen's.
        self._added = self.tokenizer.num_special_tokens_to_add()
        self._render((("user", "<video>\n?"),))

    def __call__(self, prompt: Chat, size: Size, times: Sequence[float], sample_fps: float) -> int:
        """Tokens of a prompt, as many as the family's processor makes of it.

        Args:
            prompt: the chat, with one literal `<video>` or `<image>`.
            size: processed (width, height) of a frame in pixels.
            times: seconds of each shown frame, at least one.
            sample_fps: frames a second of a uniform list. The count follows from the times alone.

        Raises:
            TokenizerError: the template does not place exactly one clip.
        """
        before, after, still = self._around(tuple((turn["role"], turn["content"]) for turn in prompt))
        tokens = self._added + self._count(after) + vision_tokens(len(times), size, self.family)
        if still or not self._stamps:
            return tokens + self._count(before) + 2
        # Stamps stand in the place of the template's own marks: the tokenizer sees the text and the first one as one.
        first, rest = self._stamped(tuple(times))
        return tokens + self._count(before + first) + rest

    def answer(self, text: str) -> int:
        """Tokens of an answer, its end of turn included."""
        return len(self._ids(text)) + 1

    def fit(self, prompt: Chat, size: Size, line: Timeline, limit: int, policy: str) -> Timeline | None:
        """The timeline with the most frames whose prompt has at most `limit` tokens.

        Args:
            prompt: the chat, with one literal `<video>`.
            size: processed (width, height) of a frame in pixels.
            line: the frames to show, and when.
            limit: most tokens of a prompt, vision tokens included.
            policy: one of `THIN_POLICIES`.

        Returns:
            `line` itself where it fits, a thinner one, or None where policy `none` forbids thinning or even
            `LEAST_FRAMES` are too many.

        Raises:
            ValueError: an unknown policy.
        """
        if policy not in THIN_POLICIES:
            raise ValueError(f"policy: expected one of {', '.join(THIN_POLICIES)}, found {policy!r}")
        if self(prompt, size, line.times, line.sample_fps) <= limit:
            return line
        if policy == "none":
            return None
        # A temporal patch takes its vision tokens at least: no list that fits has more patches than that allows.
        patches = 1 + (limit - self(prompt, size, (0.0,), 1.0)) // vision_tokens(1, size, self.family)
        frames = min(len(line.picks) - 1, FRAMES_PER_TOKEN * patches)
        while frames >= LEAST_FRAMES:
            thinner = thin(line, frames, policy)
            if self(prompt, size, thinner.times, thinner.sample_fps) <= limit:
                return thinner if len(thinner.picks) >= LEAST_FRAMES else None
            # Any number down to what this one gave gives the same list.
            frames = min(frames, len(thinner.picks)) - 1
        return None

    def _ids(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False)

    def _render(self, turns: _Turns) -> tuple[str, str, bool]:
        """What the rendered chat has before and after the clip, and whether it is an image.

        Marks that stay around it are counted elsewhere.
        """
        chat: list[dict[str, Any]] = [{"role": role, "content": _parts(content)} for role, content in turns]
        try:
            text = self.tokenizer.apply_chat_template(
                chat,
                chat_template=self._template,
                tokenize=False,
                add_generation_prompt=True,
                **self._convention.template,
            )
        # A template can fail in as many ways as a program.
        except Exception as error:
            raise TokenizerError(f"chat template: cannot render a chat in parts: {error}") from None
        still = any(STILL in content for _, content in turns)
        shown, pad = (_STILL, _IMAGE_PAD) if still else (_CLIP, _PAD)
        before, mark, after = str(text).partition(shown)
        if not mark or pad in before or pad in after:
            raise TokenizerError(f"chat template: expected one clip, {shown}, found {str(text).count(pad)}")
        return before, after, still

    def _count_stamps(self, times: tuple[float, ...]) -> tuple[str, int]:
        """The first time stamp, and the tokens of all others and of the marks of all temporal patches."""
        first, *rest = stamps(times)
        return first, 2 * (len(rest) + 1) + sum(map(self._count, rest))


def stamps(times: Sequence[float]) -> list[str]:
    """What a stamped prompt announces its temporal patches with: the mean time of their first and last frame.

    An odd last frame counts twice, as in the processor.
    """
    padded = list(times)
    padded += padded[-1:] * (-len(padded) % FRAMES_PER_TOKEN)
    pairs = zip(padded[::FRAMES_PER_TOKEN], padded[FRAMES_PER_TOKEN - 1 :: FRAMES_PER_TOKEN], strict=True)
    return [f"<{(first + last) / 2:.1f} seconds>" for first, last in pairs]


def _parts(content: str) -> list[dict[str, str]]:
    """A turn as training hands it to the template: text and clips apart."""
    kinds = {CLIP: "video", STILL: "image"}
    return [
        {"type": kinds[piece], kinds[piece]: ""} if piece in kinds else {"type": "text", "text": piece}
        for piece in re.split(f"({CLIP}|{STILL})", content)
        if piece
    ]


def _processor_template(folder: str | os.PathLike[str]) -> str | None:
    """The processor's chat template where an older model keeps it in a file of its own."""
    path = os.path.join(folder, "chat_template.json")
    if not os.path.exists(path):
        return None
    with open(path, encoding="utf-8") as handle:
        content: Any = json.load(handle)
    template = content.get("chat_template") if isinstance(content, dict) else None
    if not isinstance(template, str):
        raise ValueError("chat_template.json: expected an object with a text chat_template")
    return template
