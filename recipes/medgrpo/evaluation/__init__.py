# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Evaluation of answers: read beside their ground truth, scored as the leaderboard does or strictly, compared."""
