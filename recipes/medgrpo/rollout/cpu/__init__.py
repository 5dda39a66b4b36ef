# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""verl on a machine without a GPU: a platform, a rollout and the few in-process patches that they need.

Chosen by `VERL_PLATFORM=cpu`, `trainer.device=cpu` and `actor_rollout_ref.rollout.name=transformers_cpu`, or `vllm` for
verl's own servers in vLLM's build for CPUs.
"""

from recipes.medgrpo.rollout.cpu import torchvision_ops  # noqa: F401  isort: skip  must precede any import of torchvision
from recipes.medgrpo.rollout.cpu import patches, platform, registration, vllm_rollout  # noqa: F401

vllm_rollout.install()
