# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""vLLM in this process, for batches: the frames, times and token ids of the training rollouts.

Each clip goes in as (frames, metadata), as verl's server hands it over, and each prompt with one video token per clip,
of which vLLM makes the ids that the processor makes (tested, for Qwen2.5-VL and Qwen3-VL). Vision placeholders are
never sampled, as in verl's rollouts. `vllm_times` makes frame times true in this process and in vLLM's workers.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from recipes.medgrpo.data.dataset import check_shown
from recipes.medgrpo.data.families import family_of
from recipes.medgrpo.data.video import parted
from recipes.medgrpo.inference.jobs import WHOLE, Failure, InferenceError, Job, Reply
from recipes.medgrpo.inference.local_engines import LocalEngine
from recipes.medgrpo.inference.ordinal import Marks, by_mark
from recipes.medgrpo.rollout.transformers_engine import check_sizes, prompt_ids

TIMES = "recipes.medgrpo.rollout.vllm_times"
MAX_MODEL_LEN = 32768
"""As the released `vllm_infer.py` has it; less where the model has fewer positions."""

# vLLM 0.24 clamps a bias to 100 (`SamplingParams.logit_bias`): no real logit gets over that.
_NEVER = -100.0

# More than any family writes before each pair of frames: a time, and the marks around them.
_TIME_TOKENS = 16


class Offline(LocalEngine):
    """`vllm.LLM` on the GPUs that this process sees, or on the CPU with a vLLM built for it.

    Args:
        clips: the most videos in one prompt. stills: the most still images.
    """

    batch = 128

    def __init__(
        self,
        model: str,
        *,
        temperature: float,
        dtype: str = "bfloat16",
        clips: int = 1,
        stills: int = 0,
        tensor_parallel_size: int = 1,
        gpu_memory_utilization: float = 0.8,
        max_model_len: int | None = None,
        marks: Marks | None = None,
    ):
        super().__init__(model, temperature, marks)
        self.dtype, self.clips, self.stills = dtype, clips, stills
        self.tensor_parallel_size, self.gpu_memory_utilization = tensor_parallel_size, gpu_memory_utilization
        self.max_model_len = max_model_len
        self.describe(name="vllm", dtype=dtype)
        self._llm: Any = None
        self.processor: Any = None

    def __enter__(self) -> Offline:
        from transformers import AutoConfig, AutoProcessor
        from verl.workers.rollout.utils import get_max_position_embeddings, get_vision_placeholder_token_ids

        from recipes.medgrpo.rollout import vllm_times

        # Whoever asks torch for GPUs before vLLM is imported, as this command and verl do, cannot fork a process that
        # uses them; vLLM sees to it only where a GPU is in use already.
        os.environ.setdefault("VLLM_WORKER_MULTIPROC_METHOD", "spawn")
        # The workers' processes load the extension by its name, and with it this project.
        vllm_times.install()
        # Answers whose times may be wrong look like any others. MEDGRPO_TIME_FIX=0 is for those who know.
        if vllm_times.enabled() and (odd := vllm_times.problems()):
            raise InferenceError("; ".join(odd))
        from vllm import LLM
        from vllm.platforms import current_platform

        self.processor = AutoProcessor.from_pretrained(self.model)
        config = AutoConfig.from_pretrained(self.model)
        # As verl does: it tells families with the same processor apart.
        self.processor.config = config
        self._never = dict.fromkeys(get_vision_placeholder_token_ids(self.processor) or (), _NEVER)
        longest = get_max_position_embeddings(config)
        self._room = min(self.max_model_len or MAX_MODEL_LEN, longest)
        more: dict[str, Any] = {"gpu_memory_utilization": self.gpu_memory_utilization}
        if current_platform.is_cpu():
            # There the dummy clips that vLLM measures its memory with take minutes, and the cache is of a fixed size.
            os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "4")
            more = {"skip_mm_profiling": True, "enforce_eager": True}
        try:
            self._llm = LLM(
                model=self.model,
                dtype=self.dtype,
                seed=0,
                max_model_len=self._room,
                tensor_parallel_size=self.tensor_parallel_size,
                limit_mm_per_prompt={"image": self.stills, "video": self.clips},
                worker_extension_cls=f"{TIMES}.TimesExtension",
                **more,
            )
        except (OSError, RuntimeError, ValueError) as error:
            # What pydantic refuses takes several lines, of which the last is an address.
            raise InferenceError(f"vLLM did not start: {' '.join(str(error).split())[:500]}") from error
        return self

    def __exit__(self, *_: object) -> None:
        llm, self._llm = self._llm, None
        if llm is not None:
            llm.llm_engine.engine_core.shutdown()

    def prompt_ids(self, messages: list[dict], videos: Sequence[Any]) -> list[int]:
        """As `transformers_engine.prompt_ids` says, with the checkpoint's processor."""
        return prompt_ids(self.processor, messages, videos)

    def prompt(self, messages: list[dict], videos: Sequence[Any]) -> dict[str, Any]:
        """A chat as vLLM takes it. Raises `ValueError` where the processor would resize its clips."""
        check_sizes(self.processor, videos)
        text = family_of(self.processor).prompt(self.processor, messages)
        ids = self.processor.tokenizer(text, add_special_tokens=False)["input_ids"]
        shown = zip(("image", "video"), parted(videos), strict=True)
        return {"prompt_token_ids": ids, "multi_modal_data": {kind: found for kind, found in shown if found}}

    def _length(self, prompt: dict[str, Any], job: Job) -> int:
        """Tokens of a prompt, its clips' included; more than that where there is room enough anyhow."""
        shown = prompt["multi_modal_data"]
        if "image" not in shown:
            videos, shape = shown["video"], self.processor.video_processor
            cell = shape.temporal_patch_size * (shape.patch_size * shape.merge_size) ** 2
            patches = sum(len(frames) // shape.temporal_patch_size for frames, _ in videos)
            vision = sum(frames[:, 0].numel() // cell for frames, _ in videos)
            most = len(prompt["prompt_token_ids"]) + vision + _TIME_TOKENS * patches
            if most + job.budget <= self._room:
                return most
        return len(self.prompt_ids(job.messages, job.clips) + self._given(job))

    def _given(self, job: Job) -> list[int]:
        """Token ids of the answer's beginning."""
        return self.processor.tokenizer.encode(job.prefix, add_special_tokens=False)

    def _parameters(self, job: Job) -> Any:
        from vllm import SamplingParams

        return SamplingParams(
            temperature=self.temperature,
            # The training's, whatever the checkpoint's generation_config.json says.
            top_p=1.0,
            top_k=0,
            repetition_penalty=1.0,
            max_tokens=job.budget,
            seed=job.seed if self.temperature else None,
            logit_bias=self._never or None,
            stop_token_ids=[self.processor.tokenizer.eos_token_id],
            # vLLM keeps back the bytes of an unfinished character, the other engines do not.
            detokenize=False,
            # Those of these tokens at every place, of the raw logits (`logprobs_mode`), whatever their rank.
            logprob_token_ids=list(self._watched(job)) or None,
        )

    def _watched(self, job: Job) -> dict[int, str]:
        """Token ids of the marks that a job's answer is made of, and the marks."""
        return marks.ids(self.processor.tokenizer) if (marks := self.marks_of(job)) else {}

    def answers(self, jobs: Sequence[Job]) -> list[Reply | Failure]:
        for job in jobs:
            check_shown(job.row, self.processor)
        found: list[Reply | Failure | None] = []
        prompts, parameters = [], []
        for job in jobs:
            prompt = self.prompt(job.messages, job.clips)
            prompt["prompt_token_ids"] += self._given(job)
            if (length := self._length(prompt, job)) + job.budget > self._room:
                wanted = f"room for {job.budget} more in {self._room} (--max-model-len)"
                found.append(Failure(f"prompt of {length} tokens: expected {wanted}", of_row=True))
                continue
            found.append(None)
            prompts.append(prompt)
            parameters.append(self._parameters(job))
        outputs = iter(self._llm.generate(prompts, parameters, use_tqdm=False) if prompts else ())
        return [failure or self._reply(job, next(outputs).outputs[0]) for failure, job in zip(found, jobs, strict=True)]

    def _reply(self, job: Job, out: Any) -> Reply | Failure:
        if out.finish_reason not in WHOLE:
            return Failure(f"vLLM: finish_reason: expected {' or '.join(WHOLE)}, found {out.finish_reason}")
        watched = by_mark(out.logprobs, self._watched(job))
        return self.reply(job, self.processor.tokenizer, out.token_ids, out.finish_reason == "length", watched)
