# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""A vLLM with verl's worker extension, asleep and awake, whose weights come from verl's sender. Without Ray.

    python one_server.py MODEL

Prints a line for each thing that happened: `WHOLE`, `SEEDED`, `FINITE`, `MEMORY`, `MISSING`, `ASLEEP` and `BROKEN`.
"""

import asyncio
import math
import os
import sys
import time
import traceback
from concurrent.futures import ThreadPoolExecutor

import psutil

WARM, WATCHED = 100, 300
"""Requests before memory is looked at, and those over which it is."""
HANDLE = "ipc:///tmp/rl-colocate-zmq-one_server-replica-0-rank-0.sock"


def main(model: str) -> None:
    os.environ |= {"VERL_PLATFORM": "cpu", "VERL_USE_EXTERNAL_MODULES": "recipes.medgrpo.plugin"}
    os.environ |= {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "VERL_RAY_JOB_ID": "one_server", "VLLM_NO_USAGE_STATS": "1"}
    import torch
    import verl  # noqa: F401  loads the plugin
    from safetensors.torch import load_file
    from transformers import AutoConfig, AutoTokenizer
    from verl.workers.rollout.vllm_rollout import vllm_rollout
    from vllm import LLM, SamplingParams

    from recipes.medgrpo.data.families import FAMILIES
    from recipes.medgrpo.rollout import weight_check, weight_watch

    dtype = FAMILIES[AutoConfig.from_pretrained(model).model_type].vllm_cpu_dtype
    llm = LLM(
        model=model,
        dtype=dtype,
        load_format="dummy",
        enforce_eager=True,
        enable_sleep_mode=True,
        enable_prefix_caching=False,
        max_num_seqs=4,
        max_model_len=608,
        max_num_batched_tokens=256,
        kv_cache_memory_bytes=1 << 27,
        limit_mm_per_prompt={"image": 0, "video": 1},
        mm_processor_cache_gb=0.01,  # full after a hundred clips, as 4 GB are in a long training
        skip_mm_profiling=True,
        distributed_executor_backend="mp",
        worker_extension_cls="verl.workers.rollout.vllm_rollout.utils.vLLMColocateWorkerExtension",
    )
    weights = load_file(f"{model}/model.safetensors")
    pool = ThreadPoolExecutor()

    def send(tensors: dict) -> weight_check.Sent:
        llm.sleep(level=2)
        llm.wake_up(tags=["weights"])
        sent: weight_check.Sent = {}
        reply = pool.submit(llm.collective_rpc, "update_weights_from_ipc", kwargs={"use_shm": True})
        weight_watch._REPLIES[HANDLE] = reply
        sender = vllm_rollout.BucketedWeightSender(HANDLE, bucket_size_mb=1, use_shm=True)
        asyncio.run(sender.async_send_weights(weight_check.noted(iter(tensors.items()), getattr(torch, dtype), sent)))
        reply.result(timeout=60)
        return sent

    sent = send(weights)
    llm.collective_rpc("medgrpo_compare_weights", kwargs={"sent": sent})
    llm.wake_up(tags=["kv_cache"])
    print("WHOLE", len(sent), flush=True)

    # Longer than a step takes, beside another one: the prompts are processed in parts.
    seeded = SamplingParams(temperature=1.0, max_tokens=8, seed=3, logprobs=0)
    prompts = [{"prompt_token_ids": [20 + (at * step) % 300 for at in range(400)]} for step in (3, 7)]
    alone = [list(llm.generate([one], seeded, use_tqdm=False)[0].outputs[0].token_ids) for one in prompts]
    together = [list(out.outputs[0].token_ids) for out in llm.generate(prompts, seeded, use_tqdm=False)]
    print("SEEDED", alone == together, flush=True)

    rng = torch.Generator().manual_seed(0)
    mark = AutoTokenizer.from_pretrained(model).encode("<|vision_start|><|video_pad|><|vision_end|>")
    times = {"fps": 1.0, "frames_indices": list(range(8)), "total_num_frames": 8, "duration": 8.0}
    times |= {"video_backend": "frames", "do_sample_frames": False}

    def ask(count: int) -> float:
        """Answer that many prompts, each with a clip of its own; the megabytes that all processes then hold."""
        for _ in range(0, count, 4):
            clips = [torch.randint(256, (8, 3, 64, 64), generator=rng, dtype=torch.uint8).numpy() for _ in range(4)]
            asked = [{"prompt_token_ids": [20, *mark, 21], "multi_modal_data": {"video": [(c, times)]}} for c in clips]
            for out in llm.generate(asked, seeded, use_tqdm=False):
                values = [one.logprob for step in out.outputs[0].logprobs for one in step.values()]
                assert values
                bad.extend(value for value in values if not math.isfinite(value))
        own = psutil.Process()
        return sum(one.memory_info().rss for one in (own, *own.children(recursive=True))) / 1e6

    bad: list[float] = []
    before = ask(WARM)
    grown = ask(WATCHED) - before
    print("FINITE", not bad, flush=True)
    print("MEMORY", grown, flush=True)

    name = next(name for name in weights if name.endswith("layers.1.mlp.down_proj.weight"))
    sent = send({other: tensor for other, tensor in weights.items() if other != name})
    for word, call in {
        "MISSING": lambda: llm.collective_rpc("medgrpo_compare_weights", kwargs={"sent": sent}),
        "ASLEEP": lambda: llm.wake_up(tags=["kv_cache"]),
    }.items():
        try:
            call()
        except Exception as error:
            print(word, " ".join(str(error).split()), flush=True)

    started = time.monotonic()
    try:
        send({name: weights[name][:1]})
    except weight_watch.WeightTransferError as error:
        print("BROKEN", time.monotonic() - started < 30, " ".join(str(error).split()), flush=True)


if __name__ == "__main__":
    status = 1
    try:
        main(sys.argv[1])
        status = 0
    except BaseException:
        traceback.print_exc()
    # vLLM's processes wait for ever after a worker has broken, and whoever reads this script's output waits for them.
    for process in psutil.Process().children(recursive=True):
        process.kill()
    os._exit(status)
