# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""What one card takes, beside what the planner says: training steps, peak memory, rollout. Random weights.

    python tests/benchmarks/bench_gpu.py [--model Qwen2.5-VL-7B Qwen3-VL-4B] [--frames 60 120 180]
    python tests/benchmarks/bench_gpu.py --device cpu --model FOLDER --frames 4 --no-rollout     # that it runs

For each model and number of frames: the old log-probabilities (forward), an SFT step and an actor step (forward and
backward with gradient checkpointing, the clipped policy loss on a packed micro-batch of one sample), seconds of the
fastest of `--repeat`, the share of the card's peak that this is, and the peak memory. Weights, gradients and Adam's
moments are bfloat16 here, as one card does not hold them in fp32: the planner's figures are for the same. FSDP has
nothing to divide on one card and is left out. Where vLLM can be imported: tokens a second of `--sequences` answers with
a text prompt of the same length, the weights vLLM's own random ones, in a process of its own.
Without a CUDA device it says so and exits with 2.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib.util
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import torch
from bench_plan import checkpointed, model_of, prompt_of

from data_preprocess.geometry import ASSUMED_SIZE
from recipes.medgrpo.files import write_json
from recipes.medgrpo.planning import PlanError, memory, steptime
from recipes.medgrpo.planning.arithmetic import text_cost, training_cost, vision_cost
from recipes.medgrpo.planning.recipe_settings import read_settings
from recipes.medgrpo.planning.shapes import MODELS, Shape, builtin_config, read_shape
from recipes.medgrpo.planning.tokens import Clip, clip_of
from recipes.medgrpo.terminal import whole

ROLLOUT = """
import json, sys, time
from vllm import LLM, SamplingParams

folder, prompt, answer, sequences, utilization = sys.argv[1], *map(int, sys.argv[2:5]), float(sys.argv[5])
llm = LLM(folder, load_format="dummy", skip_tokenizer_init=True, dtype="bfloat16", max_model_len=prompt + answer,
          gpu_memory_utilization=utilization, limit_mm_per_prompt={"image": 0, "video": 0}, max_num_seqs=sequences,
          enable_prefix_caching=False)
prompts = [{"prompt_token_ids": [5 + row] * prompt} for row in range(sequences)]
seconds = {}
for name, tokens in (("warm", 4), ("prefill", 1), ("all", answer)):
    start = time.perf_counter()
    llm.generate(prompts, SamplingParams(max_tokens=tokens, ignore_eos=True, detokenize=False), use_tqdm=False)
    seconds[name] = time.perf_counter() - start
print("ROLLOUT " + json.dumps(seconds))
"""


def machine(device: torch.device) -> dict[str, Any]:
    """The card's and the libraries' names."""
    import transformers

    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return {"machine": name, "torch": torch.__version__, "transformers": transformers.__version__}


def card_of(name: str) -> str | None:
    """The planner's key of a card with this name."""
    for mark, key in (("H200", "h200"), ("H100 PCIe", "h100-pcie"), ("H100", "h100"), ("A100", "a100")):
        if mark in name:
            return key
    return None


def fastest(work: Callable[[], None], device: torch.device, repeat: int) -> float:
    """Seconds of the fastest of `repeat` runs, after one that is not counted."""
    seconds = []
    for _ in range(repeat + 1):
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - start)
    return min(seconds[1:])


def log_probs(model: Any, inputs: dict[str, torch.Tensor], answer: int) -> torch.Tensor:
    """Log-probabilities of the last `answer` tokens; logits are made of all tokens, as verl's engine makes them."""
    logits = model(**inputs, use_cache=False).logits[0, :-1]
    picked = -torch.nn.functional.cross_entropy(logits, inputs["input_ids"][0, 1:], reduction="none")
    return picked[-answer:].float()


def measure(model: Any, shape: Shape, clip: Clip, answer: int, device: torch.device, repeat: int) -> dict[str, float]:
    """Seconds of the passes over one sample, and the most bytes that a whole training step holds."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-7, foreach=False)
    question = clip.prompt_tokens - clip.vision_tokens - clip.mark_tokens + answer
    inputs = prompt_of(model, clip, question)
    old: list[torch.Tensor] = []

    @torch.no_grad()
    def score() -> None:
        old[:] = [log_probs(model, inputs, answer)]

    def actor() -> None:
        ratio = (log_probs(model, inputs, answer) - old[0]).exp()
        advantage = torch.linspace(-1, 1, answer, device=device)
        loss = -torch.minimum(ratio * advantage, ratio.clamp(0.8, 1.3) * advantage).mean()
        loss.backward()

    def sft() -> None:
        (-log_probs(model, inputs, answer).mean()).backward()

    def whole() -> None:
        actor()
        optimizer.step()
        optimizer.zero_grad()

    found = {"log_probs_s": fastest(score, device, repeat)}
    score()
    for name, step in (("sft_s", sft), ("update_s", actor)):
        found[name] = fastest(step, device, repeat)
    whole()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        whole()
        found["peak_gib"] = torch.cuda.max_memory_allocated(device) / memory.GIB
    return found


def predicted(shape: Shape, clip: Clip, answer: int, peak_flops: float | None) -> dict[str, float]:
    """What the planner says of the same: operations, peak bytes without the CUDA context, seconds at its mfu."""
    from dataclasses import replace

    whole = clip.prompt_tokens + answer
    settings = replace(read_settings("sft"), master_bytes=2, micro_tokens=whole)
    parts = memory.training(shape, settings, replace(clip, prompt_tokens=whole), 1)
    # torch's cross-entropy keeps log-probabilities beside the logits and their gradient.
    size = sum(part for name, part in parts.items() if name not in ("gathered layers", "CUDA"))
    said = {
        "forward_flops": text_cost(shape, [whole]).forward + vision_cost(shape, clip).forward,
        "update_flops": training_cost(shape, clip, answer, checkpointing=True),
        "peak_gib": (size + memory.HALF * whole * shape.text.vocab_size) / memory.GIB,
    }
    if peak_flops:
        said |= {
            "log_probs_s": said["forward_flops"] / (peak_flops * steptime.MFU),
            "update_s": said["update_flops"] / (peak_flops * steptime.MFU),
        }
    return said


def rollout(folder: Path, clip: Clip, args: argparse.Namespace) -> dict[str, float] | str:
    """vLLM's seconds for one token and for whole answers of all sequences, or why there are none."""
    if importlib.util.find_spec("vllm") is None:
        return "vLLM cannot be imported: rollout not measured"
    sizes = [clip.prompt_tokens, args.answer_tokens, args.sequences, args.utilization]
    command = [sys.executable, "-c", ROLLOUT, str(folder), *map(str, sizes)]
    # A session of its own, so that the engine's processes go with it.
    vllm = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        out, errors = vllm.communicate(timeout=args.timeout)
    except subprocess.TimeoutExpired:
        return f"vLLM took more than {args.timeout} s: rollout not measured"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(vllm.pid, signal.SIGKILL)
    for printed in out.splitlines():
        if printed.startswith("ROLLOUT "):
            seconds = json.loads(printed.removeprefix("ROLLOUT "))
            decode = max(seconds["all"] - seconds["prefill"], 1e-9)
            return {
                "prefill_s": seconds["prefill"],
                "decode_s": decode,
                "tokens_per_s": args.sequences * (args.answer_tokens - 1) / decode,
            }
    reason = (errors.strip() or out.strip() or "no output").splitlines()[-1]
    return f"vLLM failed: {reason[:200]}"


def bench(name: str, args: argparse.Namespace, device: torch.device, card: str | None) -> list[dict[str, Any]]:
    """The rows of one model."""
    from transformers import AutoConfig

    shape = read_shape(name)
    config = AutoConfig.from_pretrained(name) if Path(name).is_dir() else builtin_config(shape.name)
    clips = [clip_of(frames, ASSUMED_SIZE, shape.family, args.question_tokens) for frames in args.frames]
    peak = steptime.CARDS[card]["tflops"] * 1e12 if card else None
    rows: list[dict[str, Any]] = []
    flash = device.type == "cuda" and importlib.util.find_spec("flash_attn") is not None
    # A CPU works in fp32: its bfloat16 is slow, and nothing is concluded from its figures.
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            model = model_of(config, "flash_attention_2" if flash else "sdpa", dtype)
    finally:
        torch.set_default_dtype(torch.float32)
    checkpointed(model)
    for clip in clips:
        row: dict[str, Any] = {"model": shape.name, "frames": clip.frames}
        row |= {"tokens": clip.prompt_tokens + args.answer_tokens, "attention": config._attn_implementation}
        row["planner"] = predicted(shape, clip, args.answer_tokens, peak)
        try:
            row |= measure(model, shape, clip, args.answer_tokens, device, args.repeat)
        except torch.OutOfMemoryError:
            row["failed"] = "out of memory"
        if peak and "update_s" in row:
            row["update_mfu"] = row["planner"]["update_flops"] / row["update_s"] / peak
        model.zero_grad()
        rows.append(row)
    del model
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    if not args.no_rollout:
        with tempfile.TemporaryDirectory() as folder:
            config.architectures = [type(config).__name__.replace("Config", "ForConditionalGeneration")]
            config.save_pretrained(folder)
            source = Path(name) if Path(name).is_dir() else Path(folder)
            for clip, row in zip(clips, rows, strict=True):
                row["rollout"] = rollout(source, clip, args)
                if card:
                    speed = steptime.Speed.of(card)
                    context = clip.prompt_tokens + args.answer_tokens / 2
                    step = steptime.decode_step(shape, args.sequences, context, 1, speed)
                    row["planner"]["tokens_per_s"] = args.sequences / step
    return rows


def table(figures: dict[str, Any]) -> str:
    """Measured beside planned, a line for each figure."""
    lines = [f"machine {figures['machine']}, torch {figures['torch']}, transformers {figures['transformers']}"]
    for row in figures["rows"]:
        lines.append(f"\n{row['model']}, {row['frames']} frames, {row['tokens']} tokens, {row['attention']}")
        if "failed" in row:
            lines.append(f"  {row['failed']}")
        lines.append(f"  {'':24}{'measured':>12}{'planner':>12}")
        measured = row | (row["rollout"] if isinstance(row.get("rollout"), dict) else {})
        for key in ("log_probs_s", "sft_s", "update_s", "peak_gib", "update_mfu", "tokens_per_s"):
            if key in measured:
                said = row["planner"].get("update_s" if key == "sft_s" else key)
                said = steptime.MFU if key == "update_mfu" else said
                lines.append(f"  {key:24}{measured[key]:>12.4g}" + (f"{said:>12.4g}" if said else f"{'':>12}"))
        if isinstance(row.get("rollout"), str):
            lines.append(f"  {row['rollout']}")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = ", ".join(MODELS)
    parser.add_argument("--model", nargs="+", default=["Qwen2.5-VL-7B", "Qwen3-VL-4B"], help=f"folders or of {known}")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--frames", type=whole(1), nargs="+", default=[60, 120, 180])
    parser.add_argument("--question-tokens", type=whole(1), default=300)
    parser.add_argument("--answer-tokens", type=whole(1), default=256)
    parser.add_argument("--repeat", type=whole(1), default=3)
    parser.add_argument("--sequences", type=whole(1), default=32, help="answers that vLLM writes at once")
    parser.add_argument("--utilization", type=float, default=0.85, help="vLLM's share of the card")
    parser.add_argument("--timeout", type=whole(1), default=900, help="seconds for one vLLM process")
    parser.add_argument("--no-rollout", action="store_true")
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args(argv)
    if args.device == "cuda" and not torch.cuda.is_available():
        print("bench_gpu: no CUDA device: nothing was measured", file=sys.stderr)
        return 2
    torch.manual_seed(0)
    device = torch.device(args.device)
    figures = machine(device)
    card = card_of(figures["machine"])
    try:
        figures["rows"] = [row for name in args.model for row in bench(name, args, device, card)]
    except PlanError as error:
        print(f"bench_gpu: error: {error}", file=sys.stderr)
        return 2
    print(table(figures))
    if args.json:
        write_json(args.json, figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
