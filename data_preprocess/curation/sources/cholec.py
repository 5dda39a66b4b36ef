# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What CholecT50, CholecTrack20 and Cholec80-CVS share: one set of operations, one list of phases, one canvas."""

from __future__ import annotations

from data_preprocess.geometry import Size

PHASES = (
    "preparation",
    "carlot-triangle-dissection",
    "clipping-and-cutting",
    "gallbladder-dissection",
    "gallbladder-packaging",
    "cleaning-and-coagulation",
    "gallbladder-extraction",
)
"""Phases by id, spelled as CholecT50 and MedVidBench spell them."""

INSTRUMENTS = ("grasper", "bipolar", "hook", "scissors", "clipper", "irrigator", "specimen-bag")
"""Instruments by id; CholecT50 has the first six."""

VERBS = (
    "grasp",
    "retract",
    "dissect",
    "coagulate",
    "clip",
    "cut",
    "aspirate",
    "irrigate",
    "pack",
    "null_verb",
)
TARGETS = (
    "gallbladder",
    "cystic_plate",
    "cystic_duct",
    "cystic_artery",
    "cystic_pedicle",
    "blood_vessel",
    "fluid",
    "abdominal_wall_cavity",
    "liver",
    "adhesion",
    "omentum",
    "peritoneum",
    "gut",
    "specimen_bag",
    "null_target",
)

CANVAS: Size = (854, 480)
PROCEDURE = "laparoscopic cholecystectomy"
