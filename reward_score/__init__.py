# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Answers and their scores for medical video tasks: parsers, raw signals, normalisation, and verl's entry point.

Nothing is imported here, so that ``reward_score.answers`` and ``reward_score.boxes`` stay cheap to import.
"""
