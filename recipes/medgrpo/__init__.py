# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""MedGRPO as a verl recipe: datasets, sampler, calibration, evaluation and the platform for machines without a GPU."""
