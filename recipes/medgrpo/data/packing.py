# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Packed sequences that do not see each other in layers with a state, where the kernel for them is missing.

verl packs the sequences of a micro-batch into one row (`use_remove_padding`). Attention is told their borders by the
positions. A layer with a state (Qwen3.5's Gated DeltaNet) has to be told them too, and flash-linear-attention's kernel
takes them as `cu_seqlens`. Without that package transformers 5.9 uses a rule of its own that takes any keyword and
drops this one; verl 0.9.1 asks a rule whether it takes the keyword (`models/transformers/qwen3_5.py`,
`_packed_chunk_gated_delta_rule`), hands it over and trusts that. Every answer is then scored with the state that the
sequence before it in the row left behind, and nothing says so. `install` replaces that rule by one that starts anew at
each border.

It changes nothing where the kernel is installed, and nothing for sequences that are not packed. What transformers could
take of it is in `upstream/fixes/qwen3_5_packed_states`.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch

Rule = Callable[..., tuple[torch.Tensor, torch.Tensor | None]]


def separated(rule: Rule) -> Rule:
    """`rule`, which works through sequences of a batch, for sequences in one row as well."""

    def separate(*inputs: torch.Tensor, cu_seqlens: torch.Tensor | None = None, **settings: Any):
        """Outputs (1, n, heads, width) for queries, keys, values, decays and strengths (1, n, heads[, width]).

        `cu_seqlens`: the place of each sequence's first token, and n. No sequence's last state is given back then.
        """
        # transformers hands decays and strengths over by name, verl too.
        named = {name: settings.pop(name) for name in ("g", "beta") if name in settings}
        if cu_seqlens is None:
            return rule(*inputs, **named, **settings)
        if settings.get("initial_state") is not None:
            raise NotImplementedError("packed sequences that go on from a state")
        parts = [
            rule(*(x[:, a:b] for x in inputs), **{name: x[:, a:b] for name, x in named.items()}, **settings)[0]
            for a, b in pairwise(cu_seqlens.tolist())
        ]
        return torch.cat(parts, dim=1), None

    vars(separate)["original"] = rule
    return separate


def install() -> None:
    """Make models that are built from here on separate packed sequences; twice does no more than once."""
    from transformers.models.qwen3_5 import modeling_qwen3_5 as modeling

    rule = modeling.torch_chunk_gated_delta_rule
    modeling.torch_chunk_gated_delta_rule = separated(getattr(rule, "original", rule))
