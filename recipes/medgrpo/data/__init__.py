# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Parquet rows to what a model sees: dataset, clips, times, positions, and what differs between model families."""
