# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Engines that write answers inside verl, and what mends vLLM's frame times."""
