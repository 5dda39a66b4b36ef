# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Two sequences in one row through Qwen3.5's rule. Exit status 1 if the second sees the state of the first."""

import sys

import torch
from transformers.models.qwen3_5.modeling_qwen3_5 import torch_chunk_gated_delta_rule as rule

torch.manual_seed(0)
first, second, heads, width = 70, 30, 2, 8
query, key, value = torch.randn(3, 1, first + second, heads, width)
beta, decay = torch.rand(1, first + second, heads), -torch.rand(1, first + second, heads) / 10
borders = torch.tensor([0, first, first + second])
settings = {"use_qk_l2norm_in_kernel": True}
packed, _ = rule(query, key, value, g=decay, beta=beta, cu_seqlens=borders, **settings)
worst = 0.0
for name, start, end in (("first", 0, first), ("second", first, first + second)):
    inputs = (x[:, start:end] for x in (query, key, value))
    alone, _ = rule(*inputs, g=decay[:, start:end], beta=beta[:, start:end], **settings)
    difference = float((packed[:, start:end] - alone).abs().max())
    worst = max(worst, difference)
    print(f"{name} sequence: outputs up to {float(alone.abs().max()):.3f}, {difference:.3f} from those of it alone")
sys.exit(worst > 1e-4)
