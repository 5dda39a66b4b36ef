# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""From annotation files to verl parquet: knows the data, nothing of verl or models."""
