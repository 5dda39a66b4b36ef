# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Lets PyPI's torchvision be imported beside a CPU build of torch.

The wheel's compiled part needs CUDA libraries and stays unloaded; its Python part then decorates two operators
that nobody has declared. Declaring their schemas, without kernels, is enough: transformers and qwen-vl-utils only
use the transforms written in Python. Where the compiled part does load (torchvision's CPU build), it declares them
itself, and a second declaration would make its import fail.
"""

from importlib.util import find_spec
from pathlib import Path

import torch

_LIBRARY = None


def declare_missing_operators() -> None:
    """Declare torchvision's operators where its compiled part cannot. To be called before torchvision is imported."""
    global _LIBRARY
    if torch.version.cuda is not None or _LIBRARY is not None or _compiled_part_loads():
        return
    _LIBRARY = torch.library.Library("torchvision", "DEF")
    for operator in ("nms", "qnms"):
        _LIBRARY.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


def _compiled_part_loads() -> bool:
    spec = find_spec("torchvision")
    for folder in (spec and spec.submodule_search_locations) or ():
        for file in Path(folder).glob("_C*.so"):
            try:
                torch.ops.load_library(str(file))
                return True
            except OSError:
                continue
    return False


declare_missing_operators()
