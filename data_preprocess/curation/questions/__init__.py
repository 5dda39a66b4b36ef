# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Rows of the task `qa`: questions and answers from what is said in lectures, in two stages.

An excerpt of a lecture (`excerpts`) goes to a model that finds facts in it, each with a quote (`models`). What passes
the checks goes, without a word of the lecture beside it, to a model that asks about it. `checks` says what is dropped;
`pipeline` does it, with a table for each step.
"""
