# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What the router saves: the GPU recipe's vLLM servers, two of them on a CPU, with our router and with verl's own.

    .venv-vllm/bin/python tests/benchmarks/bench_router.py --run outputs/vllm [--prompts 24] [--rollouts 8]

`--run` is the folder of a CPU run: its data and its SFT model. The servers answer the same prompts with the same seeds
twice; each time they start anew. Every server counts for itself: tokens of prompts that its prefix cache had, and clips
that its processor had to process.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
os.environ |= {
    "VERL_PLATFORM": "cpu",
    "VERL_USE_EXTERNAL_MODULES": "recipes.medgrpo.plugin",
    "VLLM_NO_USAGE_STATS": "1",
}

from recipes.medgrpo.rollout.standalone import ROUTER, RolloutServers  # noqa: E402
from recipes.medgrpo.terminal import table  # noqa: E402

OVERRIDES = ["+engine=gpu_on_cpu", "trainer.n_gpus_per_node=2", "actor_rollout_ref.rollout.disable_log_stats=False"]
# Only whole blocks of a prompt are found again. The default on a CPU is 128 tokens, as long as a tiny model's prompt.
OVERRIDES.append("+actor_rollout_ref.rollout.engine_kwargs.vllm.block_size=32")
COUNTERS = ("prefix_cache_queries", "prefix_cache_hits", "mm_cache_queries", "mm_cache_hits", "prompt_tokens")


def counters(address: str) -> dict[str, float]:
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=30) as reply:
        text = reply.read().decode()
    return {
        name: sum(float(value) for value in re.findall(rf"^vllm:{name}_total\S* (\S+)$", text, re.MULTILINE))
        for name in COUNTERS
    }


def measure(args: argparse.Namespace, router: str | None) -> dict[str, float]:
    from recipes.medgrpo.data.dataset import chat_of, read_rows
    from recipes.medgrpo.data.schedule import balanced_order
    from recipes.medgrpo.data.video import clips_of
    from recipes.medgrpo.rollout.transformers_engine import Request, SamplingSettings

    rows = read_rows(str(args.run / "data/train.parquet"))
    pairs = rows.column("data_source")
    model = max((args.run / "sft").glob("global_step_*/huggingface"))
    choice = f"actor_rollout_ref.rollout.router_config_path={router or 'null'}"
    with RolloutServers(str(model), "medgrpo_gpu", [*OVERRIDES, choice]) as servers:
        requests = []
        for number in balanced_order(pairs, args.prompts, 1, 0)[: args.prompts]:
            messages = chat_of(rows.row(int(number)))
            clips = clips_of(messages)
            ids = servers.prompt_ids(messages, clips)
            requests += [Request(ids, clips, seed) for seed in range(args.rollouts)]
        started = time.monotonic()
        servers.generate(requests, SamplingSettings(max_new_tokens=96))
        seconds = time.monotonic() - started
        total = dict.fromkeys(COUNTERS, 0.0)
        shares = []
        for address in servers._manager.server_addresses:
            found = counters(address)
            shares.append(found["prompt_tokens"])
            total = {name: total[name] + found[name] for name in COUNTERS}
    return {
        "prompts' tokens found in the prefix cache": total["prefix_cache_hits"] / total["prefix_cache_queries"],
        "clips processed, per prompt": (total["mm_cache_queries"] - total["mm_cache_hits"]) / args.prompts,
        "busier server's tokens over the mean": max(shares) * len(shares) / sum(shares),
        "seconds": seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--prompts", type=int, default=24)
    parser.add_argument("--rollouts", type=int, default=8)
    args = parser.parse_args()
    ours, verls = measure(args, str(ROOT / ROUTER)), measure(args, None)
    head = ["", "our router", "verl's", "ratio"]
    rows = [[name, value, verls[name], value / verls[name] if verls[name] else None] for name, value in ours.items()]
    print(table(head, rows))


if __name__ == "__main__":
    main()
