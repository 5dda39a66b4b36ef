# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Lets PyPI's torchvision be imported beside a CPU build of torch.

The wheel's compiled part needs CUDA libraries and stays unloaded; its Python part then decorates two operators
that nobody has declared. Declaring their schemas, without kernels, is enough: transformers and qwen-vl-utils only
use the transforms written in Python.
"""

import torch

_LIBRARY = None


def declare_missing_operators() -> None:
    global _LIBRARY
    if torch.version.cuda is not None or _LIBRARY is not None:
        return
    try:
        torch._C._get_schema("torchvision::nms", "")
        return
    except RuntimeError:
        pass
    _LIBRARY = torch.library.Library("torchvision", "DEF")
    for operator in ("nms", "qnms"):
        _LIBRARY.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


declare_missing_operators()
