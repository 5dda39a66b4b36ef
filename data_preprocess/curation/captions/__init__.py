# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Rows of the tasks that need captioners: dense captions, summaries, captions of regions.

A context (`context`) is drawn (`overlay`) and described by two captioners (`captioner`). Their descriptions are
compared with each other and with the labels (`validation`). `pipeline` does it, with a table for each step (`tables`).
"""
