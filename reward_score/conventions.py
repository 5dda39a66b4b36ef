# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The conventions of each model family: what its prompts and answers look like, as data.

This is the lowest of the two places that know a family by name, and it needs no package. The other one is
`recipes/medgrpo/data/families.py`, whose classes ask transformers and vLLM. docs/adding_a_family.md says how a family
is added.
"""

from __future__ import annotations

from dataclasses import dataclass

MERGE = 2
"""A vision token stands for a block of 2 x 2 patches."""


@dataclass(frozen=True)
class Convention:
    """What a model family reads and writes.

    Attributes:
        patch_size: side of a vision patch in pixels.
        box_side: extent of both axes of the space that boxes are written in, such as 1000 for thousandths of the frame;
            None: boxes are in pixels of the processed frame, the one that the vision tower sees.
        stamped: whether the prompt says the time of every temporal patch in words, `<12.5 seconds>`, with a pair of
            vision marks for each. Every frame can then have a time of its own. Otherwise one pair of marks encloses the
            clip, the positions tell the time, and a clip has one interval between its frames.
        thinks: whether the chat template lets an answer begin with a thought unless it is told not to. Answers here
            are references and rewards of a few words, so it is always told not to.
    """

    patch_size: int
    box_side: float | None
    stamped: bool
    thinks: bool

    @property
    def cell(self) -> int:
        """Side of a vision token in pixels; both sides of a processed frame are multiples of it."""
        return MERGE * self.patch_size

    @property
    def template(self) -> dict[str, bool]:
        """What a chat is rendered with, beside its messages; verl's `data.apply_chat_template_kwargs`."""
        return {"enable_thinking": False} if self.thinks else {}


CONVENTIONS: dict[str, Convention] = {
    "qwen2_5_vl": Convention(patch_size=14, box_side=None, stamped=False, thinks=False),
    "qwen3_vl": Convention(patch_size=16, box_side=1000.0, stamped=True, thinks=False),
    "qwen3_5": Convention(patch_size=16, box_side=1000.0, stamped=True, thinks=True),
}
"""By name, which is the model type in transformers and `extra_info.model_family` of a row."""

DEFAULT = next(iter(CONVENTIONS))
"""The family where none is named: the first one."""


def convention_of(family: str) -> Convention:
    """The convention of a family. Raises ValueError for an unknown one."""
    if family not in CONVENTIONS:
        raise ValueError(f"model family {family!r}: expected one of {', '.join(CONVENTIONS)}")
    return CONVENTIONS[family]
