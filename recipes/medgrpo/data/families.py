# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""What the recipe asks of a model family in transformers and vLLM: one class each.

What needs neither package (boxes, patches, times in the prompt) is data, in `reward_score.conventions`.
docs/adding_a_family.md says how a family is added.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from recipes.medgrpo.files import InputError
from reward_score.conventions import Convention, convention_of

if TYPE_CHECKING:
    import torch

Size = tuple[int, int]

# Where transformers lists the classes of all model types.
_CLASSES = {
    "config": ("configuration_auto", "CONFIG_MAPPING_NAMES"),
    "model": ("modeling_auto", "MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES"),
    "processor": ("processing_auto", "PROCESSOR_MAPPING_NAMES"),
    "video_processor": ("video_processing_auto", "VIDEO_PROCESSOR_MAPPING_NAMES"),
}


class Family:
    """One model family. A subclass fills in what is named here and what raises `NotImplementedError`.

    Attributes:
        name: the model type of its configurations in transformers, and `extra_info.model_family` of its rows.
        tiny_text, tiny_vision: what the configuration of a tiny model of 32-wide heads needs beside the usual.
        adapters_reach_tower: whether gradients pass the frozen vision tower when only text layers have adapters. verl
            then calls `enable_input_require_grads`, and transformers decides by family which output that is.
        fp32_norms: whether norms of the text layers multiply in fp32, by weights that are distances from 1; what the
            backward pass keeps of them follows from it.
        gpu_packages: what a training on GPUs needs beside the set that all families need, by distribution.
        vllm_mend: the function of `recipes.medgrpo.rollout.vllm_times` that makes times true in vLLM's module of this
            name; None: nothing is to be mended there.
        vllm_cpu_dtype: in what type vLLM's build for CPUs serves the family where training is in float32.
    """

    name: ClassVar[str]
    tiny_text: ClassVar[Mapping[str, Any]]
    tiny_vision: ClassVar[Mapping[str, Any]]
    adapters_reach_tower: ClassVar[bool]
    fp32_norms: ClassVar[bool]
    gpu_packages: ClassVar[tuple[str, ...]]
    vllm_mend: ClassVar[str | None]
    vllm_cpu_dtype: ClassVar[str]

    @property
    def convention(self) -> Convention:
        return convention_of(self.name)

    def from_transformers(self, part: str) -> type:
        """The class of the family's `config`, `model`, `processor` or `video_processor`."""
        import transformers
        from transformers.models import auto

        module, names = _CLASSES[part]
        return getattr(transformers, getattr(getattr(auto, module), names)[self.name])

    def install_positions(self) -> None:
        """Replaces in this process what places frames at other times than their own; by default nothing does."""

    def install_packing(self) -> None:
        """Replaces in this process what lets packed sequences see each other; by default nothing does."""

    def prompt(self, processor: Any, messages: Sequence[Mapping[str, Any]]) -> str:
        """The text of a chat in parts, up to where the answer begins; the same for SFT, training and sampling."""
        template = self.convention.template
        return processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, **template)

    def vision_positions(
        self,
        model: Any,
        ids: torch.Tensor,
        types: torch.Tensor,
        grids: torch.Tensor | None,
        attention: torch.Tensor,
        seconds: Sequence[float],
        images: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Positions in time, height and width, (3, batch, n), of left-padded prompts.

        Args:
            model: the whole model, language head included.
            ids: token ids (batch, n).
            types: what each token stands for (batch, n): 0 text, 1 image, 2 video.
            grids: patches of each clip in time, height and width, (clips, 3).
            attention: 1 for tokens, 0 for padding (batch, n).
            seconds: between two temporal patches of each clip.
            images: patches of each image in time (1), height and width, (images, 3).
        """
        raise NotImplementedError

    def size_seen(self, video_processor: Any, frames: int, size: Size) -> Size:
        """The (width, height) that a video processor of the family resizes `frames` frames of `size` to.

        Raises:
            ValueError: a size that the processor refuses.
        """
        raise NotImplementedError

    def check_size(self, video_processor: Any, frames: int, size: Size) -> None:
        """Raises `InputError` where the video processor would resize frames that the preprocessor has resized.

        Boxes and prompt lengths hold for the size that the preprocessor wrote down, whatever the model is shown.
        """
        seen = self.size_seen(video_processor, frames, size)
        if seen != tuple(size):
            bounds = f"{video_processor.size['shortest_edge']} to {video_processor.size['longest_edge']}"
            raise InputError(
                f"{frames} frames of {size[0]}x{size[1]} would be shown as {seen[0]}x{seen[1]} by the model's video "
                f"processor (size: {bounds} pixels), expected no resize: preprocess with other --min-pixels and "
                "--max-pixels, or mend the size in the model's processor_config.json"
            )

    def check_still(self, image_processor: Any, size: Size) -> None:
        """Raises `InputError` where the image processor would resize a still that the preprocessor has resized."""
        from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize

        low, high = image_processor.size["shortest_edge"], image_processor.size["longest_edge"]
        factor = image_processor.patch_size * image_processor.merge_size
        height, width = smart_resize(size[1], size[0], factor=factor, min_pixels=low, max_pixels=high)
        if (width, height) != tuple(size):
            raise InputError(
                f"an image of {size[0]}x{size[1]} would be shown as {width}x{height} by the model's image processor "
                f"(size: {low} to {high} pixels), expected no resize: preprocess with other --min-pixels and "
                "--max-pixels, or mend the size in the model's processor_config.json"
            )

    def __repr__(self) -> str:
        return self.name


class Qwen25VL(Family):
    """Qwen2.5-VL: times by the positions of frames, boxes in pixels of the frame that it sees."""

    name = "qwen2_5_vl"
    tiny_text = {
        "rope_parameters": {
            "rope_type": "default",
            "type": "default",
            "rope_theta": 1e6,
            "mrope_section": [4, 6, 6],
        }
    }
    tiny_vision = {"patch_size": 14, "window_size": 112, "fullatt_block_indexes": [1], "tokens_per_second": 2}
    adapters_reach_tower = True
    fp32_norms = False
    gpu_packages = ()
    vllm_mend = "mend_seconds_of_patches"
    vllm_cpu_dtype = "float32"

    def install_positions(self):
        from recipes.medgrpo.data import positions

        positions.install()

    def vision_positions(self, model, ids, types, grids, attention, seconds, images=None):
        from recipes.medgrpo.data.positions import rope_index

        # By our own function, whatever this process's transformers has: the rollout knows the times.
        return rope_index(model, ids, types, images, grids, seconds, attention)[0]

    def size_seen(self, video_processor, frames, size):
        from transformers.models.qwen2_vl.video_processing_qwen2_vl import smart_resize

        low, high = video_processor.size["shortest_edge"], video_processor.size["longest_edge"]
        factor = video_processor.patch_size * video_processor.merge_size
        # Its bounds are those of one frame.
        height, width = smart_resize(size[1], size[0], factor=factor, min_pixels=low, max_pixels=high)
        return width, height


class Qwen3VL(Family):
    """Qwen3-VL: times as text before each temporal patch, boxes in thousandths of the frame."""

    name = "qwen3_vl"
    tiny_text = {
        "head_dim": 32,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 5e6,
            "mrope_section": [6, 5, 5],
            "mrope_interleaved": True,
        },
    }
    tiny_vision = {"patch_size": 16, "deepstack_visual_indexes": [0, 1], "num_position_embeddings": 64}
    adapters_reach_tower = False
    fp32_norms = False
    gpu_packages: ClassVar[tuple[str, ...]] = ()
    vllm_mend: ClassVar[str | None] = "mend_written_clips"
    vllm_cpu_dtype = "float32"

    def vision_positions(self, model, ids, types, grids, attention, seconds, images=None):
        return model.model.get_rope_index(
            input_ids=ids,
            mm_token_type_ids=types,
            image_grid_thw=images,
            video_grid_thw=grids,
            attention_mask=attention,
        )[0]

    def size_seen(self, video_processor, frames, size):
        from transformers.models.qwen3_vl.video_processing_qwen3_vl import smart_resize

        # Its bounds are those of the whole clip.
        height, width = smart_resize(
            frames,
            size[1],
            size[0],
            temporal_factor=video_processor.temporal_patch_size,
            factor=video_processor.patch_size * video_processor.merge_size,
            min_pixels=video_processor.size["shortest_edge"],
            max_pixels=video_processor.size["longest_edge"],
        )
        return width, height


class Qwen35(Qwen3VL):
    """Qwen3.5: frames, times and boxes as in Qwen3-VL, and three of four text layers keep a state (Gated DeltaNet).

    Its tower hands nothing to the text layers on the way. vLLM serves it with Qwen3-VL's processor, mended there.
    """

    name = "qwen3_5"
    tiny_text = {
        "head_dim": 32,
        # Both kinds of layer among two; in the released models three of four keep a state.
        "full_attention_interval": 2,
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 4,
        "linear_key_head_dim": 32,
        "linear_value_head_dim": 32,
        # Of the state in vLLM, as in the released models.
        "mamba_ssm_dtype": "float32",
        # Said twice: transformers reads it below, and vLLM here.
        "partial_rotary_factor": 0.5,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 1e7,
            "partial_rotary_factor": 0.5,
            "mrope_section": [3, 3, 2],
            "mrope_interleaved": True,
        },
    }
    tiny_vision = {"patch_size": 16, "num_position_embeddings": 64}
    fp32_norms = True
    # The kernels of layers with a state. transformers' own rule takes their place, correctly (`packing`) and slowly.
    gpu_packages = ("flash-linear-attention",)
    vllm_mend = None
    # The kernel for CPUs of layers with a state knows no other.
    vllm_cpu_dtype = "bfloat16"

    def install_packing(self):
        from recipes.medgrpo.data import packing

        packing.install()


FAMILIES: dict[str, Family] = {family.name: family for family in (Qwen25VL(), Qwen3VL(), Qwen35())}
"""The model families by name."""


def family_of(what: Any) -> Family:
    """The family of a model type, a configuration or a processor.

    Families can share a processor's class. verl gives its processors the model's `config`, which tells them apart; of a
    processor without one the first family with its class is meant.

    Raises:
        InputError: none that is known.
    """
    name = what if isinstance(what, str) else getattr(getattr(what, "config", what), "model_type", None)
    if name is None:
        kind = type(what)
        name = next((f.name for f in FAMILIES.values() if f.from_transformers("processor") is kind), kind.__name__)
    if name not in FAMILIES:
        raise InputError(f"model family {name!r}, expected one of {', '.join(FAMILIES)}")
    return FAMILIES[name]
