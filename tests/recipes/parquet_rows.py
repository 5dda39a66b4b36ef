# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Rows of a parquet file that can be written into another folder: their frames' paths are absolute."""

from pathlib import Path


def given_out(file: Path) -> list[dict]:
    from recipes.medgrpo.data.rows import Rows

    return Rows.open([str(file)]).to_pylist()
