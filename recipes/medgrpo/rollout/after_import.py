# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Mends a module right after it was imported, without importing it: most of verl's processes load little of vLLM."""

from __future__ import annotations

import importlib.machinery
import sys
from collections.abc import Callable, Sequence
from types import ModuleType

Mend = Callable[[ModuleType], None]

_MENDS: dict[str, list[Mend]] = {}


def after_import(name: str, mend: Mend) -> None:
    """Call `mend` with the module `name`, now or as soon as it is imported, once for a module, in the order asked."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
    mends = _MENDS.setdefault(name, [])
    if mend not in mends:
        mends.append(mend)
    if name in sys.modules:
        _mend(sys.modules[name])


def _mend(module: ModuleType) -> None:
    done = vars(module).setdefault("_medgrpo_mends", [])
    for mend in _MENDS[module.__name__]:
        if mend not in done:
            done.append(mend)
            mend(module)


class _Finder:
    """Finds what Python finds, with a loader that mends."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None):
        if name not in _MENDS:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module

            def run_and_mend(module: ModuleType) -> None:
                run(module)
                _mend(module)

            vars(spec.loader)["exec_module"] = run_and_mend
        return spec
