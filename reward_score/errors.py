# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What can go wrong in scoring through no fault of the answer.

An answer, however bad, is scored. These errors say that a score could not be had at all; they are never turned into
a number.
"""

from __future__ import annotations


class RewardError(Exception):
    """Base of every failure of the scoring itself."""


class BadGroundTruth(RewardError, ValueError):
    """A reference that cannot be scored against: no JSON, empty, or a field missing or out of range."""


class UnknownTask(RewardError, ValueError):
    """A ``data_source`` that is not ``medvidbench/<source>/<task>`` with a known task."""


class BadSetting(RewardError, ValueError):
    """A setting of the reward, or a judge's prompt, that is unknown, out of range or cannot be read."""


class BadStatistics(RewardError, ValueError):
    """A statistics file that cannot be read or that breaks its format."""


class MissingStatistics(RewardError, LookupError):
    """The statistics file has no row for a (data source, signal) that has to be normalised."""


class EmbeddingUnavailable(RewardError):
    """The sentence-embedding model is not there, is not the expected one, or gave numbers that are not finite."""


class TextRejected(EmbeddingUnavailable):
    """The encoder's endpoint works, and does not take one of these texts: it may be too long for it."""
