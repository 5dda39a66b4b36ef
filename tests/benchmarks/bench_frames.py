# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Frames: qwen_vl_utils' full decode against one decode and resize, the JPEG decoder's scaling, and stored clips.

    python tests/benchmarks/bench_frames.py [--frames 60] [--rounds 9] [--threads 2] [--noise 4]

Makes 60 JPEGs of 1280x720 and brings them to the size that `qwen_vl_utils.fetch_video` gives them at `max_pixels`
37,632, so that all contenders yield the same number of vision tokens. Contenders take turns; figures are medians of
one run, and the ratios are what carries over to another machine. Torch and the pool of threads use `--threads` each.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import torch
from PIL import Image

from data_preprocess.frame_store import SUFFIXES, FrameStore
from data_preprocess.frames import render
from data_preprocess.geometry import MAX_PIXELS, MIN_PIXELS, vision_tokens
from recipes.medgrpo.data.video import decode_clip
from recipes.medgrpo.rollout.cpu import torchvision_ops  # noqa: F401

FAMILY = "qwen2_5_vl"
DISK = (1280, 720)
TARGETS = {"decode+resize": 1.3, "decode+resize, draft": 2.5, "stored .ppm": 20.0}


def make_frames(folder: Path, count: int, noise: float) -> list[str]:
    """A slow pan over a smooth picture with sensor noise: about 100 to 200 kB a frame at quality 90."""
    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (10, 18, 3), dtype=np.uint8)
    scene = Image.fromarray(coarse).resize((DISK[0] + 4 * count, DISK[1]), Image.Resampling.BICUBIC)
    paths = []
    for at in range(count):
        pixels = np.asarray(scene.crop((4 * at, 0, 4 * at + DISK[0], DISK[1]))).astype(np.float32)
        pixels += random.normal(0, noise, (DISK[1], DISK[0], 1)).astype(np.float32)
        paths.append(str(folder / f"{at:06}.jpg"))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(paths[-1], quality=90)
    return paths


def medians(contenders: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Seconds of each contender, the median over `rounds` turns after one that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(rounds + 1):
        for name, contender in contenders.items():
            begun = time.perf_counter()
            contender()
            if turn:
                seconds[name].append(time.perf_counter() - begun)
    return {name: statistics.median(values) for name, values in seconds.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the table; 1 when a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--noise", type=float, default=4.0, help="grey levels (%(default)s)")
    options = parser.parse_args(arguments)
    from qwen_vl_utils.vision_process import fetch_video

    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(options.threads) as pool:
        paths = make_frames(Path(scratch), options.frames, options.noise)
        clip = {"video": paths, "min_pixels": MIN_PIXELS, "max_pixels": MAX_PIXELS, "sample_fps": 1.0}
        reference = fetch_video(clip)
        size = (reference.shape[3], reference.shape[2])
        video = {"sample_fps": 1.0, "resized_width": size[0], "resized_height": size[1]}

        def drawn(draft: bool) -> list[np.ndarray]:
            return list(pool.map(lambda path: np.asarray(render(path, size, draft=draft)), paths))

        contenders: dict[str, Callable[[], object]] = {
            "fetch_video": lambda: fetch_video(clip),
            "decode+resize": lambda: drawn(False),
            "decode+resize, draft": lambda: drawn(True),
        }
        stored_bytes = {}
        for suffix in SUFFIXES:
            with FrameStore(Path(scratch, suffix[1:]), suffix, options.threads) as store:
                stored = {**video, "video": [store.request(path, size) for path in paths]}
                store.flush()
            stored_bytes[f"stored {suffix}"] = statistics.mean(Path(path).stat().st_size for path in stored["video"])
            contenders[f"stored {suffix}"] = lambda stored=stored: decode_clip(stored)[0]
        disk_kb = statistics.mean(Path(path).stat().st_size for path in paths) / 1000

        seconds = medians(contenders, options.rounds)
        theirs = reference[: options.frames].permute(0, 2, 3, 1).numpy()
        missed = []
        print(f"{options.frames} JPEGs of {DISK[0]}x{DISK[1]}, {disk_kb:.0f} kB each, to {size[0]}x{size[1]}")
        print(
            f"{'':<22} {'ms':>8} {'images/s':>9} {'ratio':>6} {'target':>6} {'tokens':>6} {'pixels off':>10} {'kB':>6}"
        )
        for name, contender in contenders.items():
            result = contender()
            if isinstance(result, torch.Tensor):
                shown = result[: options.frames].permute(0, 2, 3, 1).numpy()
            else:
                shown = np.stack(result)
            tokens = vision_tokens(options.frames, (shown.shape[2], shown.shape[1]), FAMILY)
            off = np.abs(shown.astype(np.float32) - theirs).mean()
            ratio, target = seconds["fetch_video"] / seconds[name], TARGETS.get(name)
            if target and ratio < target:
                missed.append(name)
            print(
                f"{name:<22} {1000 * seconds[name]:>8.1f} {options.frames / seconds[name]:>9.0f} {ratio:>6.2f} "
                f"{target or '':>6} {tokens:>6} {off:>6.2f} {stored_bytes.get(name, 0) / 1000 or disk_kb:>5.0f}"
            )
    for name in missed:
        print(f"{name}: below its target", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
