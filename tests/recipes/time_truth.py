# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Clips whose times are known, for the tests that all parts of the stack tell the model the same, true ones.

A clip is made by the preprocessor's own functions (`data_preprocess.timeline`), so what it says of a frame's time is
what `medvidbench.py` writes. Run as a script, this file answers prompts with vLLM: see `main`.
"""

from __future__ import annotations

import json
import os
import pickle
import sys
from dataclasses import dataclass
from pathlib import Path

from data_preprocess.timeline import Timeline, exact, frame_seconds, native_clock, thin, uniform

TOKENS_PER_SECOND = 2
MICROSECOND = 1e-6


@dataclass(frozen=True)
class Clip:
    """A clip's timeline, under a name that tells the tests apart."""

    name: str
    line: Timeline

    def __str__(self) -> str:
        return self.name

    def patch_times(self) -> list[tuple[float, float]]:
        """Seconds of the two frames of every temporal patch; a last frame without a partner is its own."""
        times = [*self.line.times, *self.line.times[-1:] * (len(self.line.times) % 2)]
        return list(zip(times[::2], times[1::2], strict=True))

    def video(self, video: dict) -> dict:
        """A row's `videos` entry, with this clip's frame count and times."""
        files = [video["video"][at % len(video["video"])] for at in range(len(self.line.times))]
        own = list(self.line.times) if self.line.own_times else None
        return {**video, "video": files, "sample_fps": self.line.sample_fps, "frame_seconds": own}


def _listed(source: str, numbers: list[int], fps: float) -> list[float]:
    return frame_seconds(numbers, native_clock(source, ["frames/1.jpg"] * len(numbers), numbers, fps), fps)


def uniform_clips() -> list[Clip]:
    """Clips with one interval: the issue's rates, those of the real sources, and those that holes and thinning make."""
    clips = [
        Clip(f"{fps} fps", uniform([at / fps for at in range(count)], fps))
        for fps, count in [(0.1, 12), (0.3, 12), (0.5, 12), (0.75, 12), (1.0, 7), (1.5, 12), (2.0, 12), (3.0, 12)]
    ]
    sources = {
        # As the data's notes say of each: native frame numbers, and the rate at which they were sampled.
        "CholecT50, an extra last frame": ("CholecT50", [*range(0, 20, 2), 19], 0.5),
        "EgoSurgery": ("EgoSurgery", list(range(40, 52)), 0.5),
        "AVOS, segments joined": ("AVOS", [0, 15, 30, 46, 61, 62, 77, 93, 108], 1.0),
        "NurViD, a repeated frame": ("NurViD", [332, 334, 336, 336, 338, 340, 342], 1.0),
        "CholecTrack20, a hole of 41 s": ("CholecTrack20", [25 * k + 1 for k in (0, 2, 4, 6, 47, 49, 51)], 0.5),
        "CoPESD, a locally doubled rate": ("CoPESD", [0, 2, 4, 5, 6, 8, 10, 12, 14, 15], 0.5),
    }
    clips += [Clip(name, uniform(_listed(source, at, fps), fps)) for name, (source, at, fps) in sources.items()]
    clips.append(Clip("thinned to both ends", thin(uniform([at / 3 for at in range(40)], 3.0), 11, "ends")))
    return clips


def exact_clips() -> list[Clip]:
    """Clips whose frames have times of their own, for stamped prompts."""
    lists = {
        "holes, an even count": ("CholecTrack20", [25 * k + 1 for k in (0, 2, 4, 95, 97, 130, 132, 134)], 0.5),
        "holes, an odd count": ("CholecTrack20", [25 * k + 1 for k in (0, 2, 4, 95, 97, 130, 132)], 0.5),
        "joints of AVOS": ("AVOS", [0, 15, 30, 46, 61, 62, 77, 93, 108], 1.0),
        "a frame three times": ("NurViD", [332, 334, 336, 336, 336, 338], 1.0),
    }
    return [Clip(name, exact(_listed(source, at, fps), fps)) for name, (source, at, fps) in lists.items()]


def row_of(family, clip: Clip, number: int = 0) -> dict:
    """A training row whose clip is `clip`; frames are the row's own, over again where there are too few."""
    from recipes.medgrpo.data.dataset import read_rows

    row = read_rows(str(family.data / "train.parquet")).slice(number, 1).to_pylist()[0]
    return {**row, "videos": [clip.video(row["videos"][0])]}


def request_of(family, clip: Clip, number: int = 0):
    """The prompt of `row_of`, as the rollout gets it."""
    from recipes.medgrpo.data.dataset import split_content
    from recipes.medgrpo.data.video import clips_of
    from recipes.medgrpo.rollout.transformers_engine import Request

    row = row_of(family, clip, number)
    messages = split_content(row["prompt"], row["videos"])
    clips = clips_of(messages)
    return Request(family.engine.prompt_ids(messages, clips), clips, 0)


def check_positions(clip: Clip, positions: list[int]) -> None:
    """Whether Qwen2.5-VL's temporal positions of a clip's patches, from its first, are its times, floored."""
    assert len(positions) == len(clip.patch_times())
    for (first, _), position in zip(clip.patch_times(), positions, strict=True):
        behind = first - position / TOKENS_PER_SECOND
        assert -MICROSECOND <= behind < 1 / TOKENS_PER_SECOND - MICROSECOND, (first, position)


def stamps(clip: Clip) -> list[str]:
    """What a stamped prompt is to say: the middle of the two frames of every patch, in seconds with one decimal."""
    return [f"{(first + second) / 2:.1f}" for first, second in clip.patch_times()]


EXTENSIONS = {
    "plain": "recipes.medgrpo.rollout.vllm_times.TimesExtension",
    "verl": "verl.workers.rollout.vllm_rollout.utils.vLLMColocateWorkerExtension",
}


def main(model: str, requests: str, answers: str, new_tokens: str, way: str) -> None:
    """Greedy answers of a real `vllm.LLM` on the CPU, its worker a process of its own.

    `way` is `plain`, or `verl`: then nothing of ours is named here and `VERL_USE_EXTERNAL_MODULES` has to do it all, in
    this process as in verl's server, and in the worker through the extension that verl's server gives it.
    `requests` is a pickle: `prompts`, a list of (token ids as verl's server gets them, clips), and `banned` ids.
    `answers` gets, as JSON, a list of {token_ids, log_probs} in their order, or {error} for what vLLM refused.
    """
    # vLLM takes half of the memory for its cache and binds threads to cores if not told otherwise.
    os.environ.update(VLLM_CPU_KVCACHE_SPACE="1", VLLM_CPU_OMP_THREADS_BIND="nobind")
    if way == "plain":
        from recipes.medgrpo.rollout import vllm_times

        vllm_times.install()
    else:
        os.environ["VERL_USE_EXTERNAL_MODULES"] = "recipes.medgrpo.plugin"
    from transformers import AutoProcessor
    from verl.workers.rollout.utils import qwen2_5_vl_dedup_image_tokens
    from vllm import LLM, SamplingParams

    content = pickle.loads(Path(requests).read_bytes())
    processor = AutoProcessor.from_pretrained(model)
    llm = LLM(
        model=model,
        dtype="float32",
        seed=0,
        enforce_eager=True,
        max_model_len=2048,
        max_num_seqs=1,
        limit_mm_per_prompt={"image": 0, "video": 1},
        skip_mm_profiling=True,
        worker_extension_cls=EXTENSIONS[way],
    )
    allowed = [token for token in range(len(processor.tokenizer)) if token not in content["banned"]]
    settings = SamplingParams(temperature=0, max_tokens=int(new_tokens), logprobs=0, allowed_token_ids=allowed)
    results = []
    for ids, clips in content["prompts"]:
        short = qwen2_5_vl_dedup_image_tokens(ids, processor)
        prompt = {"prompt_token_ids": short, "multi_modal_data": {"video": clips}}
        try:
            out = llm.generate([prompt], settings, use_tqdm=False)[0]
        except ValueError as error:
            results.append({"error": str(error)})
            continue
        said = out.outputs[0]
        log_probs = [step[token].logprob for token, step in zip(said.token_ids, said.logprobs, strict=True)]
        results.append({"token_ids": list(said.token_ids), "log_probs": log_probs})
    Path(answers).write_text(json.dumps(results))


if __name__ == "__main__":
    main(*sys.argv[1:])
