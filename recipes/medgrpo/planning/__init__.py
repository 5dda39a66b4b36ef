# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""What a training run needs of a machine, from stated formulas: shapes, tokens, arithmetic, memory, time."""

from recipes.medgrpo.files import InputError


class PlanError(InputError):
    """A model, a file, a row or a setting that no plan can be made of; the message is one line."""
