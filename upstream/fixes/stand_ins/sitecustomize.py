# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Lets PyPI's torchvision be imported beside a CPU build of torch; `TORCHVISION_OPERATORS` names the file that can."""

import os
import runpy
import sys


class _BeforeTorchvision:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == "torchvision":
            sys.meta_path.remove(_BeforeTorchvision)
            # What it declares lives as long as its names.
            _BeforeTorchvision.names = runpy.run_path(os.environ["TORCHVISION_OPERATORS"])


sys.meta_path.insert(0, _BeforeTorchvision)
