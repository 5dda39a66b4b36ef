# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Semantic similarity: one text at a time against requests at once, here against a server, anew against cached.

    python tests/benchmarks/bench_similarity.py [--requests 512] [--at-once 64] [--rounds 3] [--device cpu]

Every request is one pair: an answer that nobody else has, and a reference that eight requests share, as the rollouts
of a group do. All ways embed the same pairs from an empty cache; they take turns, and each one's best round counts.
Rates are pairs per second, the ratio is to requests one after the other, and the difference is the largest between
a cosine of this way and that of the first.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch

from reward_score.similarity import Similarity, open_encoder
from reward_score.similarity.encoders import Encoder
from reward_score.similarity.remote import RemoteEncoder

ROOT = Path(__file__).resolve().parents[2]
GROUP = 8
CACHED_CALLS = 2_000
WORDS = "the surgeon hook grasper cuts lifts holds duct liver tissue gently while clip artery is placed and".split()

Pair = tuple[str, str]


def make_pairs(count: int) -> list[Pair]:
    """Pairs of captions of 8 to 60 words, by groups with one reference."""
    draw = random.Random(0)
    caption = lambda: " ".join(draw.choices(WORDS, k=draw.randint(8, 60)))
    references = [caption() for _ in range(-(-count // GROUP))]
    return [(f"{caption()} {number}", references[number // GROUP]) for number in range(count)]


def one_by_one(similarity: Similarity, pairs: Sequence[Pair]) -> list[float]:
    return [similarity.cosine_pairs([pair])[0] for pair in pairs]


def at_once(similarity: Similarity, pairs: Sequence[Pair], most: int) -> list[float]:
    """As many requests as given under way at any time."""

    async def run() -> list[float]:
        gate = asyncio.Semaphore(most)

        async def one(pair: Pair) -> float:
            async with gate:
                return (await similarity.cosines([pair]))[0]

        return list(await asyncio.gather(*map(one, pairs)))

    return asyncio.run(run())


def cached_us(similarity: Similarity, pair: Pair) -> tuple[float, float]:
    """Median microseconds of a request whose texts are cached: blocking, and in an event loop."""

    def median(times: list[float]) -> float:
        return 1e6 * sorted(times)[len(times) // 2]

    async def run() -> list[float]:
        times = []
        for _ in range(CACHED_CALLS):
            begun = time.perf_counter()
            await similarity.cosines([pair])
            times.append(time.perf_counter() - begun)
        return times

    similarity.cosine_pairs([pair])
    times = []
    for _ in range(CACHED_CALLS):
        begun = time.perf_counter()
        similarity.cosine_pairs([pair])
        times.append(time.perf_counter() - begun)
    return median(times), median(asyncio.run(run()))


@contextmanager
def server(device: str):
    """Address of an embedding server of its own process, which is ended."""
    command = [sys.executable, "-m", "reward_score.similarity.server", "--port", "0", "--device", device]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        line = process.stdout.readline()
        if not line:
            raise SystemExit("the embedding server did not start")
        yield line.split()[-1]
    finally:
        process.terminate()
        process.communicate(timeout=30)


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=512)
    parser.add_argument("--at-once", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="auto", help="of both sides: cpu, cuda, cuda:N or auto (%(default)s)")
    options = parser.parse_args(arguments)
    pairs = make_pairs(options.requests)
    here = open_encoder(None, options.device)
    here(["warm up"] * 64)
    together = lambda similarity, asked: at_once(similarity, asked, options.at_once)
    ways: dict[str, tuple[bool, Callable[[Similarity, Sequence[Pair]], list[float]]]] = {
        "one at a time": (False, one_by_one),
        f"{options.at_once} at once": (False, together),
        "one call with all": (False, lambda similarity, asked: similarity.cosine_pairs(asked)),
        "server, one at a time": (True, one_by_one),
        f"server, {options.at_once} at once": (True, together),
    }
    seconds: dict[str, list[float]] = {}
    results: dict[str, list[float]] = {}
    for _ in range(options.rounds):
        for name, (remote, ask) in ways.items():
            # A server remembers, so each turn has one of its own.
            with server(options.device) if remote else nullcontext() as address:
                encoder: Encoder = RemoteEncoder(address) if remote else here
                encoder(["warm up"] * 64)
                begun = time.perf_counter()
                results[name] = ask(Similarity(encoder), pairs)
                seconds.setdefault(name, []).append(time.perf_counter() - begun)
    blocking, in_a_loop = cached_us(Similarity(here), pairs[0])
    print(f"{len(pairs)} pairs, {here.device}, {torch.get_num_threads()} torch threads")
    print(f"{'':24} {'pairs/s':>9} {'ratio':>7} {'difference':>11}")
    first = next(iter(ways))
    for name in ways:
        apart = max(abs(a - b) for a, b in zip(results[name], results[first], strict=True))
        rate = len(pairs) / min(seconds[name])
        print(f"{name:24} {rate:9.1f} {min(seconds[first]) / min(seconds[name]):7.2f} {apart:11.1e}")
    print(f"{'cached':24} {1e6 / blocking:9.0f}   {blocking:.1f} us a request, in an event loop {in_a_loop:.1f} us")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
