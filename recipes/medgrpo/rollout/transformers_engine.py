# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Sampling answers with a transformers model: what the CPU rollout, calibration and evaluation share.

One call serves a whole batch. Requests with the same prompt and clip (a GRPO group) share one prefill.
Each request carries its own seed and draws by inverse transform, so that an answer depends on (weights, prompt,
seed) alone and not on what else is in the batch; two checkpoints sampled with the same seeds are a paired
comparison with common random numbers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from recipes.medgrpo.data.families import family_of
from recipes.medgrpo.data.video import Shown, parted

PIXELS, GRIDS = ("pixel_values_videos", "pixel_values"), ("video_grid_thw", "image_grid_thw")
VIDEO_TOKEN_TYPE = 2
IMAGE_TOKEN_TYPE = 1
# Tokens for which a cache has room before it is copied into a larger one.
ROOM = 32


@dataclass(frozen=True)
class SamplingSettings:
    """`temperature` 0 is greedy; `top_p` 1 and `top_k` 0 or less leave the distribution whole.

    `watched` are token ids whose log-probabilities are wanted at every place of the answer, at temperature 1.
    """

    max_new_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = -1
    watched: tuple[int, ...] = ()


@dataclass(frozen=True)
class Request:
    """One answer to sample: prompt token ids with expanded vision tokens, what it shows, the seed of its draws.

    `videos` has clips and still images (`data.video.Shown`), those of each kind in order.
    """

    prompt_ids: list[int]
    videos: Sequence[Shown]
    seed: int
    key: str = field(default="", compare=False)

    def group_key(self) -> str:
        """The same for requests that can share a prefill: `key`, or a digest of the prompt and its clips."""
        if self.key:
            return self.key
        digest = hashlib.blake2b(repr(self.prompt_ids).encode(), digest_size=16)
        for frames, metadata in self.videos:
            digest.update(frames.tobytes() if metadata is None else frames.contiguous().numpy().tobytes())
            digest.update(repr(sorted((metadata or {}).items())).encode())
        return digest.hexdigest()


@dataclass(frozen=True)
class Answer:
    """Sampled token ids, end-of-turn included when reached, and the log-probability of each.

    `watched` has those of `SamplingSettings.watched` at each token's place, empty where none were asked for.
    """

    token_ids: list[int]
    log_probs: list[float]
    truncated: bool
    watched: list[list[float]] = field(default_factory=list)


class RoomyLayer(DynamicLayer):
    """Keys and values of one layer with room for more: transformers' own layer copies all of them for each token."""

    keys: torch.Tensor
    values: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self._rooms: dict[str, torch.Tensor] = {}

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any):
        """Add the states (batch, heads, n, d) of n tokens; returns those of all tokens so far."""
        if self.get_seq_length() == 0:
            return super().update(key_states, value_states)
        self.keys = self._extended("keys", self.keys, key_states)
        self.values = self._extended("values", self.values, value_states)
        return self.keys, self.values

    def _extended(self, name: str, held: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
        room, start = self._rooms.get(name), held.shape[-2]
        end = start + new.shape[-2]
        # What is held is no longer the beginning of the room once rows were chosen.
        if room is None or room.data_ptr() != held.data_ptr() or room.shape[-2] < end:
            room = self._rooms[name] = held.new_empty(*held.shape[:2], end + ROOM, held.shape[-1])
            room[:, :, :start] = held
        room[:, :, start:end] = new
        return room[:, :, :end]


def check_sizes(processor: Any, shown: Sequence[Shown]) -> None:
    """Raises `ValueError` where a processor would resize a clip or an image."""
    family = family_of(processor)
    for frames, metadata in shown:
        if metadata is None:
            family.check_still(processor.image_processor, frames.size)
        else:
            family.check_size(processor.video_processor, len(frames), (frames.shape[3], frames.shape[2]))


def prompt_ids(processor: Any, messages: list[dict], videos: Sequence[Shown]) -> list[int]:
    """Token ids of a chat whose content is in parts, as verl's agent loop builds them.

    Raises:
        ValueError: the processor would resize what is shown.
    """
    from verl.utils.tokenizer import build_multimodal_processor_inputs

    check_sizes(processor, videos)
    text = family_of(processor).prompt(processor, messages)
    images, clips = parted(videos)
    inputs = build_multimodal_processor_inputs(processor, text=[text], images=images, videos=clips)
    return inputs["input_ids"][0].tolist()


class TransformersEngine:
    """Samples from a model of one of the families, in this process."""

    def __init__(self, model, processor, banned_token_ids: Sequence[int] = ()):
        self.model = model.eval()
        self.processor = processor
        tokenizer = processor.tokenizer
        self.end, self.pad = tokenizer.eos_token_id, tokenizer.pad_token_id
        self.banned = torch.tensor(sorted(set(banned_token_ids)), dtype=torch.long, device=model.device)

    @classmethod
    def load(cls, path: str, device: str = "cpu") -> TransformersEngine:
        """From a checkpoint folder in HF format, in float32 on CPU and bfloat16 elsewhere."""
        from transformers import AutoModelForImageTextToText, AutoProcessor
        from verl.workers.rollout.utils import get_vision_placeholder_token_ids

        processor = AutoProcessor.from_pretrained(path)
        dtype = torch.float32 if device == "cpu" else torch.bfloat16
        model = AutoModelForImageTextToText.from_pretrained(path, dtype=dtype, attn_implementation="sdpa").to(device)
        # As verl does: it tells families with the same processor apart.
        processor.config = model.config
        return cls(model, processor, get_vision_placeholder_token_ids(processor) or ())

    def prompt_ids(self, messages: list[dict], videos: Sequence[Shown]) -> list[int]:
        """As `prompt_ids` of this module says, with the model's processor."""
        return prompt_ids(self.processor, messages, videos)

    def _vision(self, videos: Sequence[Shown]) -> dict[str, torch.Tensor]:
        images, clips = parted(videos)
        found: dict[str, torch.Tensor] = {}
        if clips:
            frames, metadata = zip(*clips, strict=True)
            found |= self.processor.video_processor(
                videos=list(frames), video_metadata=list(metadata), do_sample_frames=False, return_tensors="pt"
            )
        if images:
            found |= self.processor.image_processor(images=images, return_tensors="pt")
        device, dtype = self.model.device, self.model.dtype
        pixels = {name: found[name].to(device, dtype) for name in PIXELS if name in found}
        return pixels | {name: found[name] for name in GRIDS if name in found}

    @torch.inference_mode()
    def clip_features(self, videos: Sequence[tuple[torch.Tensor, dict]]) -> list[torch.Tensor]:
        """What the vision tower hands the text layers of each clip, mean over a picture: (temporal patches, hidden)."""
        vision = self._vision(videos)
        grids = vision["video_grid_thw"]
        found = self.model.model.get_video_features(vision["pixel_values_videos"], grids.to(self.model.device))
        return [
            clip.unflatten(0, (int(grid[0]), -1)).mean(1).float().cpu()
            for clip, grid in zip(found.pooler_output, grids, strict=True)
        ]

    def positions(
        self,
        ids: torch.Tensor,
        attention: torch.Tensor,
        grids: torch.Tensor | None,
        metadata: Sequence[dict],
        images: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Positions (4, batch, n) of left-padded prompts: token count, then time, height and width."""
        config = self.model.config
        types = torch.zeros_like(ids)
        types[ids == config.image_token_id] = IMAGE_TOKEN_TYPE
        types[ids == config.video_token_id] = VIDEO_TOKEN_TYPE
        patch = self.processor.video_processor.temporal_patch_size
        seconds = [patch / float(item["fps"]) for item in metadata]
        vision = family_of(config).vision_positions(self.model, ids, types, grids, attention, seconds, images)
        count = (attention.cumsum(-1) - 1).clamp(min=0)
        return torch.cat([count[None], vision.to(count)])

    @torch.inference_mode()
    def generate(
        self, requests: Sequence[Request], settings: SamplingSettings, told: Callable[[int, Answer], Any] | None = None
    ) -> list[Answer]:
        """Answers in the order of `requests`. `told` gets an answer, and its place there, as soon as it has ended."""
        groups: dict[str, int] = {}
        member = [groups.setdefault(request.group_key(), len(groups)) for request in requests]
        firsts: list[Request] = []
        for request, number in zip(requests, member, strict=True):
            if number == len(firsts):
                firsts.append(request)
        cache, logits, attention, reach = self._prefill(firsts)
        index = torch.tensor(member, device=self.model.device)
        cache.reorder_cache(index)
        return self._decode(requests, settings, told, cache, logits[index], attention[index], reach[index])

    def _prefill(self, requests: Sequence[Request]):
        """KV cache, next-token logits (b, V), attention (b, n) and the first free position (b,) of each prompt."""
        device = self.model.device
        width = max(len(request.prompt_ids) for request in requests)
        ids = torch.full((len(requests), width), self.pad)
        attention = torch.zeros_like(ids)
        for row, request in enumerate(requests):
            ids[row, width - len(request.prompt_ids) :] = torch.tensor(request.prompt_ids)
            attention[row, width - len(request.prompt_ids) :] = 1
        videos = [video for request in requests for video in request.videos]
        vision = self._vision(videos)
        metadata = [metadata for _, metadata in videos if metadata is not None]
        positions = self.positions(ids, attention, vision.get(GRIDS[0]), metadata, vision.get(GRIDS[1]))
        cache = DynamicCache(config=self.model.config)
        cache.layers = [RoomyLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
        out = self.model(
            input_ids=ids.to(device),
            attention_mask=attention.to(device),
            position_ids=positions.to(device),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
            **{name: value.to(device) for name, value in vision.items()},
        )
        return cache, out.logits[:, -1].float(), attention.to(device), positions[1:].amax((0, 2)).to(device) + 1

    def _decode(self, requests, settings, told, cache, logits, attention, reach) -> list[Answer]:
        draws = torch.stack(
            [
                torch.rand(
                    settings.max_new_tokens, generator=torch.Generator().manual_seed(r.seed), dtype=torch.float64
                )
                for r in requests
            ]
        ).to(logits.device)
        tokens: list[list[int]] = [[] for _ in requests]
        log_probs: list[list[float]] = [[] for _ in requests]
        watched: list[list[list[float]]] = [[] for _ in requests]
        rows = torch.arange(len(requests), device=logits.device)
        count = attention.sum(-1)
        ended = torch.zeros_like(rows, dtype=torch.bool)
        for step in range(settings.max_new_tokens):
            chosen, scores = self._choose(logits, settings, draws[rows, step])
            for row, token, score in zip(rows.tolist(), chosen.tolist(), scores.tolist(), strict=True):
                tokens[row].append(token)
                log_probs[row].append(score)
            if settings.watched:
                seen = torch.log_softmax(logits, dim=-1)[:, list(settings.watched)]
                for row, values in zip(rows.tolist(), seen.tolist(), strict=True):
                    watched[row].append(values)
            going = ~ended & (chosen != self.end)
            if told is not None:
                for row in rows[~ended & ~going].tolist():
                    told(row, self._finish(tokens[row], log_probs[row], watched[row]))
            ended = ~going
            if step + 1 == settings.max_new_tokens or not bool(going.any()):
                break
            # Finished rows ride along until a quarter of the batch is done: selecting copies the whole cache.
            if int(going.sum()) <= 0.75 * len(going):
                keep = going.nonzero()[:, 0]
                cache.reorder_cache(keep)
                rows, chosen, attention, reach, count, ended = (
                    x[keep] for x in (rows, chosen, attention, reach, count, ended)
                )
            attention = torch.cat([attention, attention.new_ones(len(rows), 1)], dim=1)
            positions = torch.stack([count, reach, reach, reach])[..., None]
            out = self.model(
                input_ids=chosen[:, None],
                attention_mask=attention,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
            )
            logits, reach, count = out.logits[:, -1].float(), reach + 1, count + 1
        return [self._finish(*found) for found in zip(tokens, log_probs, watched, strict=True)]

    def _choose(self, logits: torch.Tensor, settings: SamplingSettings, draws: torch.Tensor):
        """Next tokens (b,) and their log-probabilities (b,) under temperature alone, as the actor computes them."""
        greedy = settings.temperature == 0
        scores = torch.log_softmax(logits if greedy else logits / settings.temperature, dim=-1)
        allowed = scores.index_fill(-1, self.banned, float("-inf"))
        if greedy:
            chosen = allowed.argmax(-1)
        else:
            probabilities = _truncate(allowed.double().exp(), settings)
            heap = probabilities.cumsum(-1)
            chosen = torch.searchsorted(heap, draws[:, None] * heap[:, -1:], right=True)[:, 0]
            chosen = chosen.clamp(max=logits.shape[-1] - 1)
        return chosen, scores.gather(-1, chosen[:, None])[:, 0]

    def _finish(self, ids: list[int], scores: list[float], watched: list[list[float]]) -> Answer:
        """Cut what a row sampled after its end while it rode along."""
        if self.end in ids:
            stop = ids.index(self.end) + 1
            return Answer(ids[:stop], scores[:stop], False, watched[:stop])
        return Answer(ids, scores, True, watched)


def _truncate(probabilities: torch.Tensor, settings: SamplingSettings) -> torch.Tensor:
    """Zero what top-k and top-p leave out; not renormalised."""
    if settings.top_k > 0:
        least = probabilities.topk(min(settings.top_k, probabilities.shape[-1])).values[:, -1:]
        probabilities = probabilities.where(probabilities >= least, 0)
    if settings.top_p < 1:
        order = probabilities.sort(descending=True)
        ahead = order.values.cumsum(-1) - order.values
        kept = order.values.where(ahead < settings.top_p * probabilities.sum(-1, keepdim=True), 0)
        probabilities = torch.zeros_like(probabilities).scatter(-1, order.indices, kept)
    return probabilities
