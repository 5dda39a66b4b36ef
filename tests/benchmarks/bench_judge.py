# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The judge under load, against an endpoint on loopback: speed, limits, and what a kept verdict costs.

    python tests/benchmarks/bench_judge.py [speed] [limits] [cache] [pipeline] [--seconds 15] [--limit-seconds 100]

``speed``: judgements per second at 1 s latency and 256 in flight, from one process and from 8 Ray workers over one
store, as a share of the 256 that are possible, beside the plain ``openai`` client from one process. What counts is what
the endpoint answered within a window that begins when all have made their first calls: imports and the first
connections are left out, and so is the end. ``limits``: 8 Ray workers that may send 600 requests a minute together; the
most that the endpoint saw within any minute. ``cache``: microseconds of a judgement that is kept in the store's folder.
``pipeline`` (only when asked for, minutes): a training step of the tiny run with the judge at 0 s and at 1 s
latency. Processor seconds stand beside the figures: with two cores the endpoint and the processes share them.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

IN_FLIGHT = 256
PROCESSES = 8
LATENCY_S = 1.0
PER_MINUTE = 600
SPEED_BAR = 0.90
LIMIT_BAR = 1.05
CACHE_BAR_US = 200.0
REFERENCE = (
    "The grasper retracts the gallbladder toward the right shoulder while the hook dissects the peritoneum over the "
    "hepatocystic triangle, and the cystic duct and the cystic artery come into view one after the other."
)
CANDIDATE = "The hook opens the peritoneum over the triangle while a grasper lifts the gallbladder, view"


class Endpoint:
    """`fast_judge_endpoint` as a process of its own."""

    def __init__(self, latency_s: float) -> None:
        command = [sys.executable, str(ROOT / "tests/fast_judge_endpoint.py"), "--latency", str(latency_s)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.url = self.process.stdout.readline().strip()

    def __enter__(self) -> Endpoint:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.stdin.close()
        self.process.wait(10)
        self.process.stdout.close()

    def stats(self, window_s: float = 60.0) -> dict[str, Any]:
        """Its counts, see `fast_judge_endpoint`."""
        with urllib.request.urlopen(self.url.removesuffix("/v1") + f"/stats?window={window_s}", timeout=10) as reply:
            return json.load(reply)


class Workers:
    """Processes of this file that judge without a pause from `go` to `stop`."""

    def __init__(self, count: int, kind: str, demand: int, settings: dict[str, Any]) -> None:
        command = [sys.executable, __file__, "--worker", json.dumps([kind, demand, settings])]
        self.processes = [
            subprocess.Popen([*command, str(number)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for number in range(count)
        ]
        for process in self.processes:
            if process.stdout.readline().strip() != "ready":
                raise SystemExit(f"bench_judge: a {kind} worker did not start")

    def go(self) -> None:
        for process in self.processes:
            process.stdin.write("go\n")
            process.stdin.flush()

    def stop(self) -> dict[str, float]:
        """Sums of what the workers tell."""
        for process in self.processes:
            process.stdin.close()
        told = [json.loads(process.stdout.readline()) for process in self.processes]
        for process in self.processes:
            process.wait(60)
            process.stdout.close()
        return {name: sum(one[name] for one in told) for name in told[0]}


def asks(kind: str, settings: dict[str, Any]) -> tuple[Callable[[str], Awaitable[Any]], Callable[[], Awaitable[None]]]:
    """How to have a text judged, and how to end: by our judge, or by the ``openai`` client with the same messages."""
    if kind == "ours":
        from reward_score.judge import Judge

        judge = Judge(api_key="bench", model="mock", **settings)
        return (lambda text: judge.score(text, REFERENCE, task="vs")), judge.aclose
    from openai import AsyncOpenAI

    from reward_score.judge.prompting import load_prompt, messages, new_nonce

    client, prompt = AsyncOpenAI(api_key="bench", max_retries=0, **settings), load_prompt("comparative")

    async def ask(text: str) -> str:
        chat = messages(prompt, nonce=new_nonce(), candidate=text, reference=REFERENCE, task="vs", question=None)
        reply = await client.chat.completions.create(messages=chat, model="mock", temperature=0.0)
        return reply.choices[0].message.content

    return ask, client.close


class Load:
    """As many judgements under way as ``demand`` says, every text another, from `run` to `stop`."""

    def __init__(self, kind: str, demand: int, settings: dict[str, Any], number: int) -> None:
        self.ask, self.close = asks(kind, settings)
        self.demand, self.number, self.over = demand, number, False

    async def warm(self) -> None:
        await self.ask(f"{CANDIDATE} {self.number} warm")

    async def stop(self) -> None:
        self.over = True

    async def run(self) -> dict[str, float]:
        texts, told = itertools.count(), {"done": 0, "failed": 0}
        begun = time.process_time()

        async def one() -> None:
            while not self.over:
                try:
                    await self.ask(f"{CANDIDATE} {self.number} {next(texts)}")
                    told["done"] += 1
                except Exception as error:  # a failure is counted, and the first one is shown
                    told["failed"] += 1
                    if told["failed"] == 1:
                        print(f"bench_judge: {type(error).__name__}: {error}", file=sys.stderr)

        under_way = [asyncio.ensure_future(one()) for _ in range(self.demand)]
        while not self.over:
            await asyncio.sleep(0.05)
        # A judgement that waits for a limit may wait long: what is not sent when the time is over is given up.
        await asyncio.wait(under_way, timeout=2 * LATENCY_S)
        for task in under_way:
            task.cancel()
        await asyncio.wait(under_way)
        await self.close()
        return {**told, "cpu_s": time.process_time() - begun}


async def work(kind: str, demand: int, settings: dict[str, Any], number: int) -> None:
    """One process with one `Load`, or (``ray``) a Ray cluster with `PROCESSES` of them over one store."""
    if kind == "ray":
        import ray

        ray.init(
            address="local", num_cpus=PROCESSES, include_dashboard=False, logging_level="ERROR", log_to_driver=False
        )
        remote = ray.remote(num_cpus=0)(Load)
        loads = [remote.remote("ours", demand, settings, place) for place in range(PROCESSES)]
    else:
        loads = [Load(kind, demand, settings, number)]

    def of_all(method: str) -> asyncio.Future:
        found = [getattr(load, method) for load in loads]
        return asyncio.gather(*(one.remote() if kind == "ray" else one() for one in found))

    await of_all("warm")
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    running = of_all("run")
    await asyncio.to_thread(sys.stdin.readline)
    await of_all("stop")
    told = await running
    print(json.dumps({name: sum(one[name] for one in told) for name in told[0]}), flush=True)


def measure_speed(name: str, processes: int, kind: str, demand: int, settings: dict[str, Any], seconds: float) -> float:
    """The share of the possible that one way of judging reaches; prints a line."""
    with Endpoint(LATENCY_S) as endpoint:
        workers = Workers(processes, kind, demand, {"base_url": endpoint.url, **settings})
        workers.go()
        time.sleep(3 * LATENCY_S)
        before = endpoint.stats()
        time.sleep(seconds)
        after = endpoint.stats()
        told = workers.stop()
    elapsed = after["at"] - before["at"]
    rate = (after["answered"] - before["answered"]) / elapsed
    share = rate / (IN_FLIGHT / LATENCY_S)
    mock = (after["cpu_s"] - before["cpu_s"]) / elapsed
    per_call = 1e3 * told["cpu_s"] / max(1.0, told["done"])
    print(
        f"{name:34} {rate:8.1f} {share:7.1%} {after['most_in_flight']:9d} {told['failed']:9.0f} {per_call:11.2f} "
        f"{mock:9.2f}",
        flush=True,
    )
    return share


def speed(seconds: float, folder: Path) -> bool:
    """Prints the table; True when the bar is missed."""
    print(f"load of the machine before: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    titles = ("calls/s", "share", "in flight", "failed", "cpu ms/call", "mock cpu")
    print(f"{'at 1 s latency':34} {titles[0]:>8} {titles[1]:>7} " + " ".join(f"{t:>9}" for t in titles[2:]))
    each = IN_FLIGHT // PROCESSES

    def store(name: str) -> dict[str, Any]:
        return {"store": str(folder / name), "max_in_flight": IN_FLIGHT}

    ours = measure_speed("ours, 1 process", 1, "ours", IN_FLIGHT, store("one"), seconds)
    measure_speed("ours, 1 process, twice the demand", 1, "ours", 2 * IN_FLIGHT, store("crowded"), seconds)
    measure_speed(f"ours, {PROCESSES} Ray workers", 1, "ray", each, store("ray"), seconds)
    plain = measure_speed("openai, 1 process", 1, "sdk", IN_FLIGHT, {}, seconds)
    measure_speed(f"openai, {PROCESSES} processes", PROCESSES, "sdk", each, {}, seconds)
    print(f"ours to the plain client: {ours / plain:.2f}; ours to the bar of {SPEED_BAR:.0%}: {ours / SPEED_BAR:.2f}")
    return ours < SPEED_BAR


def limits(seconds: float, folder: Path) -> bool:
    """Prints the worst minute; True when it is above the promise."""
    with Endpoint(0.05) as endpoint:
        settings = {"base_url": endpoint.url, "store": str(folder / "limits"), "requests_per_min": PER_MINUTE}
        workers = Workers(1, "ray", 16, settings)
        workers.go()
        time.sleep(seconds)
        told, stats = workers.stop(), endpoint.stats(60.0)
    worst = stats["worst_window"]
    print(
        f"\n{PROCESSES} Ray workers, {PER_MINUTE} requests a minute, {seconds:.0f} s: {stats['calls']} calls, at most"
    )
    print(
        f"{worst} in any 60 s: {worst / PER_MINUTE:.3f} of the promise (bar {LIMIT_BAR}); {told['failed']:.0f} failed"
    )
    return worst > LIMIT_BAR * PER_MINUTE


def cache(folder: Path, count: int = 2000) -> bool:
    """Prints the median time of a kept judgement; True when the bar is missed."""
    from reward_score.judge import Judge

    texts = [f"{CANDIDATE} {number}" for number in range(count)]

    async def timed(judge: Judge) -> list[float]:
        taken = []
        for text in texts:
            begun = time.perf_counter()
            await judge.score(text, REFERENCE, task="vs")
            taken.append(1e6 * (time.perf_counter() - begun))
        await judge.aclose()
        return taken

    async def run() -> list[float]:
        settings = {"base_url": endpoint.url, "api_key": "bench", "model": "mock", "store": str(folder / "cache")}
        filling = Judge(**settings)
        for first in range(0, count, 64):
            await asyncio.gather(*(filling.score(text, REFERENCE, task="vs") for text in texts[first : first + 64]))
        await filling.aclose()
        return await timed(Judge(**settings))

    with Endpoint(0.0) as endpoint:
        taken = asyncio.run(run())
        calls = endpoint.stats()["calls"]
    print(f"\nkept judgements, {count} of them, {calls} calls before, 0 expected after: {calls - count}")
    median, late = statistics.median(taken), statistics.quantiles(taken, n=100)[98]
    print(f"  median {median:7.1f} us, p99 {late:7.1f} us, {median / CACHE_BAR_US:.2f} of the bar")
    return median > CACHE_BAR_US or calls > count


def pipeline(folder: Path, steps: int = 5) -> bool:
    """Prints how long a training step takes with a quick and with a slow judge."""
    small = {"VIDEOS": "12", "ROWS": "12", "SFT_STEPS": "12", "CALIBRATION_ROWS": "2", "CALIBRATION_SAMPLES": "2"}
    few = ["actor_rollout_ref.rollout.n=4", "actor_rollout_ref.rollout.max_num_seqs=16"]
    means = []
    print()
    for latency in (0.0, LATENCY_S):
        run = folder / f"latency_{latency:g}"
        with Endpoint(latency) as endpoint:
            judge = {"JUDGE": "openai", "JUDGE_BASE_URL": endpoint.url, "JUDGE_MODEL": "mock"}
            settings = small | judge | {"STEPS": str(steps), "EVAL_SAMPLES": "1", "OUTPUT_DIR": str(run)}
            done = subprocess.run(
                ["bash", str(ROOT / "examples/run_medgrpo.sh"), "data.max_response_length=24", *few],
                env=os.environ | settings | {"MEDGRPO_JUDGE_API_KEY": "bench", "NO_PROXY": "127.0.0.1"},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
            )
        if done.returncode:
            raise SystemExit(f"bench_judge: the pipeline failed:\n{done.stdout[-2000:]}")
        records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        # The first step has the start of the engine in it.
        taken = [record["timing_s/step"] for record in records[1:]]
        calls = statistics.mean(record["medgrpo/judge/calls"] for record in records[1:])
        means.append(statistics.mean(taken))
        print(f"judge at {latency:g} s: {means[-1]:.2f} s a step, {calls:.0f} calls in it, {len(taken)} steps")
    print(f"ratio {means[1] / means[0]:.2f}; one call after the other would add {calls * LATENCY_S:.0f} s")
    return False


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints what was asked for; 1 when a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", default=["speed", "limits", "cache"], help="which (the first three)")
    parser.add_argument("--seconds", type=float, default=15.0, help="window of one speed figure (%(default)s)")
    parser.add_argument("--limit-seconds", type=float, default=100.0, help="more than 60 (%(default)s)")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.worker:
        asyncio.run(work(*json.loads(options.worker[0]), int(options.worker[1])))
        return 0
    if unknown := set(options.what) - {"speed", "limits", "cache", "pipeline"}:
        parser.error(f"{', '.join(sorted(unknown))}: expected speed, limits, cache or pipeline")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        parts = {
            "speed": lambda: speed(options.seconds, folder),
            "limits": lambda: limits(options.limit_seconds, folder),
            "cache": lambda: cache(folder),
            "pipeline": lambda: pipeline(folder),
        }
        missed = [part for part in options.what if parts[part]()]
    if missed:
        print(f"missed: {', '.join(missed)}")
    return int(bool(missed))


if __name__ == "__main__":
    raise SystemExit(main())
