# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Loaded into every verl process by `VERL_USE_EXTERNAL_MODULES=recipes.medgrpo.plugin`, with or without a GPU.

verl imports this while it is itself being imported: only hooks and names are set here.
"""

import os

if os.environ.get("VERL_PLATFORM", "").lower() == "cpu":
    # Before anything imports torchvision.
    import recipes.medgrpo.cpu  # noqa: F401

# `MEDGRPO_TIME_FIX=0` exists to measure what the fix is worth: rollout and actor then disagree about the times.
if os.environ.get("MEDGRPO_TIME_FIX", "1") != "0":
    from recipes.medgrpo.positions import install

    install()

from recipes.medgrpo.processing import install as remember_clips  # noqa: E402

remember_clips()
