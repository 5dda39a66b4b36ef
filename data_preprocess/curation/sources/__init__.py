# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The readers: a source's native files to `Video`s."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from data_preprocess.curation.model import Video
from data_preprocess.curation.sources import (
    avos,
    cholec80_cvs,
    cholect50,
    cholectrack20,
    copesd,
    egosurgery,
    jigsaws,
    nurvid,
)
from data_preprocess.curation.sources.reading import Notes, SourceError
from data_preprocess.curation.sources.settings import ReadSettings

Reader = Callable[[Path, ReadSettings, Notes], Iterator[Video]]

READERS: Mapping[str, Reader] = {
    module.NAME: module.read
    for module in (avos, cholect50, cholectrack20, cholec80_cvs, copesd, egosurgery, jigsaws, nurvid)
}
"""The reader of each source."""


def read(source: str, root: Path, settings: ReadSettings | None = None, notes: Notes | None = None) -> Iterator[Video]:
    """The videos of a source in order.

    Args:
        source: a key of `READERS`.
        root: the folder that its annotations come in.
        settings: what the sources leave open.
        notes: filled with what is there, missing and odd.

    Raises:
        SourceError: no such folder, or a file that no reader can make sense of.
    """
    if not root.is_dir():
        raise SourceError(root, "", f"the folder of {source}", "no such folder")
    return READERS[source](root, settings or ReadSettings(), Notes() if notes is None else notes)
