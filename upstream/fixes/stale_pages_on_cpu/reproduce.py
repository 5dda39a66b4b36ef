# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""A page that a layer with a state used before goes to attention. Exit status 1 if what it holds reaches the answer."""

import sys
from types import SimpleNamespace

import torch
from vllm import _custom_ops as ops
from vllm.platforms import current_platform
from vllm.v1.worker.cpu_model_runner import CPUModelRunner

current_platform.import_kernels()
HEADS, SIZE, WIDTH, TOKENS = 2, 32, 32, 5
torch.manual_seed(0)
# Four pages (heads, tokens, keys and values). Page 1 held a state: any bits, read as bfloat16.
pages = torch.zeros(4, HEADS, SIZE, 2 * WIDTH, dtype=torch.bfloat16)
pages[1] = torch.randint(-(2**15), 2**15, pages[1].shape, dtype=torch.int16).view(torch.bfloat16)
runner = object.__new__(CPUModelRunner)
runner.kv_caches, runner.kv_cache_config = [pages], SimpleNamespace(num_blocks=len(pages))
# What the scheduler asks for before a request gets the page (`SchedulerOutput.new_block_ids_to_zero`).
runner._zero_block_ids([1])

key, value = torch.randn(2, TOKENS, HEADS, WIDTH).bfloat16()
query, output = torch.randn(1, HEADS, WIDTH).bfloat16(), torch.empty(1, HEADS, WIDTH).bfloat16()
keys, values = pages.view(4, HEADS, 2 * SIZE, WIDTH).chunk(2, dim=2)
ops.cpu_attn_reshape_and_cache(key, value, keys, values, torch.arange(SIZE, SIZE + TOKENS), "vec")
start, lengths = torch.tensor([0, 1], dtype=torch.int32), torch.tensor([TOKENS], dtype=torch.int32)
shape = (1, HEADS, HEADS, WIDTH)
plan = ops.cpu_attn_get_scheduler_metadata(*shape, lengths, torch.bfloat16, start, True, -1, "vec", False)
table = torch.tensor([[1]], dtype=torch.int32)
scale = WIDTH**-0.5
ops.cpu_attention_with_kv_cache(
    query, keys, values, output, start, lengths, scale, True, None, -1, table, 0, plan, None
)
weights = (query[0].float()[None] * key.float() * scale).sum(-1).softmax(0)
expected = (weights[..., None] * value.float()).sum(0)
lost = int((~output.isfinite()).sum())
print(f"{lost} of {output.numel()} values of attention over {TOKENS} tokens of a page of {SIZE} are not finite")
print(f"largest difference from what it should be: {float((output[0].float() - expected).abs().max()):.3f}")
sys.exit(lost > 0)
