# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Answers for every row of a parquet file: engines, their shared protocol, and the files that survive a kill."""
