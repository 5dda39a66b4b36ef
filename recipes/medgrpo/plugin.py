# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Loaded into every verl process by `VERL_USE_EXTERNAL_MODULES=recipes.medgrpo.plugin`, with or without a GPU.

verl imports this while it is itself being imported: only hooks and names are set here.
"""

import os

if os.environ.get("VERL_PLATFORM", "").lower() == "cpu":
    # Before anything imports torchvision.
    import recipes.medgrpo.rollout.cpu  # noqa: F401

from recipes.medgrpo.data.families import FAMILIES  # noqa: E402
from recipes.medgrpo.data.positions import enabled  # noqa: E402
from recipes.medgrpo.rollout import finite_answers, vllm_times, weight_check, weight_sockets, weight_watch  # noqa: E402

for family in FAMILIES.values():
    family.install_packing()
    if enabled():
        family.install_positions()
if enabled():
    vllm_times.install()

weight_sockets.install()
weight_watch.install()
weight_check.install()
finite_answers.install()

from recipes.medgrpo.data.processing import install as remember_clips  # noqa: E402

remember_clips()
