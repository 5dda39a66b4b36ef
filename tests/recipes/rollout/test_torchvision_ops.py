# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(("content", "declared"), [(None, True), (b"no library", True), ("loads", False)])
def test_operators_are_declared_only_where_the_compiled_part_cannot_be_loaded(tmp_path, content, declared):
    torch = pytest.importorskip("torch")
    if torch.version.cuda is not None:
        pytest.skip("this torch has CUDA: the wheel's compiled part is left to itself")
    package = tmp_path / "torchvision"
    package.mkdir()
    (package / "__init__.py").touch()
    if content == "loads":
        # Any library will do: what matters is that the loader takes it.
        shutil.copy(next(Path(torch.__file__).parent.glob("lib/libc10.so")), package / "_C.so")
    elif content is not None:
        (package / "_C.so").write_bytes(content)
    code = "import importlib.util as u, sys; s = u.spec_from_file_location('ops', sys.argv[1]); "
    code += "m = u.module_from_spec(s); s.loader.exec_module(m); print(m._LIBRARY is not None)"
    module = Path(__file__).resolve().parents[3] / "recipes/medgrpo/rollout/cpu/torchvision_ops.py"
    done = subprocess.run(
        [sys.executable, "-c", code, str(module)],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == str(declared)
