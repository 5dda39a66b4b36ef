# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""From the source datasets' own files to annotation rows in MedVidBench's format."""
