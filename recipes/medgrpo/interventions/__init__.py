# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Interventions between SFT and GRPO: the first wrong element of an answer, corrected, and whether that helps."""
