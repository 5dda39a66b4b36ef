# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Turn MedVidBench / MedVidU annotations into verl parquet.

    python examples/data_preprocess/medvidbench.py --annotations trainval.json --frames-root DIR --output DIR
    python examples/data_preprocess/medvidbench.py inspect trainval.json     # keys, counts, one example per pair
    python examples/data_preprocess/medvidbench.py leaks trainval.json       # do frame lists give answers away?

Writes `train.parquet`, `val.parquet` or `test.parquet`, and `audit.json`; `--help` has all settings.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from verl.utils.medvidbench.medvidbench import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
