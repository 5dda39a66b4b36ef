# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Stands in for the package `vllm` where it is not installed, so that verl's classes around it can be imported.

Every name of every module is an empty class. Nothing of vLLM can be run with it.
"""

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType

__version__ = "0.24.0"


class _Module(ModuleType):
    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        vars(self)[name] = made = type(name, (), {})
        return made


class _Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        return ModuleSpec(name, _Finder, is_package=True) if name.startswith("vllm.") else None

    @staticmethod
    def create_module(spec):
        return _Module(spec.name)

    @staticmethod
    def exec_module(module):
        pass


sys.modules[__name__].__class__ = _Module
sys.meta_path.append(_Finder)
