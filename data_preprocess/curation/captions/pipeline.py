# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The stages of a folder. Each is a table that only grows, so that another threshold asks nobody.

    contexts.jsonl      what captioners are shown and told, by its content
    descriptions.jsonl  what a captioner said of a context, or that it would not
    agreements.jsonl    similarity of two descriptions
    decisions.jsonl     what is kept under which settings, and why not

Which contexts there are follows from the sources and the settings; a folder may hold more than a run asks for.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from itertools import islice
from pathlib import Path
from typing import Any

from data_preprocess.curation.asking import Asked, ask_each, outcome
from data_preprocess.curation.captions.captioner import SIDES, Captioner, wording
from data_preprocess.curation.captions.context import Context
from data_preprocess.curation.captions.overlay import Mark, digest, draw
from data_preprocess.curation.captions.tables import Table
from data_preprocess.curation.captions.validation import FLAGGED, RULES, SIMILARITY, KeepSettings, reasons, text_of
from data_preprocess.curation.workers import HERE, Workers
from data_preprocess.frames import FrameError, FrameRoot
from data_preprocess.geometry import Size
from reward_score.paid_call import CallUnproven

Contexts = Callable[[], Iterable[Context]]
"""Makes the contexts anew, the same ones each time: they are gone through once a stage."""
PAIRS_AT_ONCE = 256
NO_PAIR = "no_pair"
"""The other captioner said nothing, so that nothing validates this one."""


@dataclass(frozen=True)
class Decision:
    """What becomes of one description.

    Attributes:
        context, side: which description.
        description: what it says; None where the captioner would not.
        similarity: of the two; None where one is missing.
        reasons: why it is rejected; none: it is kept.
        flags: what was noted.
    """

    context: Context
    side: str
    description: Mapping[str, Any] | None
    similarity: float | None
    reasons: tuple[str, ...]
    flags: tuple[str, ...]


class Folder:
    """The tables of a folder."""

    def __init__(self, folder: Path) -> None:
        self.contexts = Table(folder / "contexts.jsonl")
        self.descriptions = Table(folder / "descriptions.jsonl")
        self.agreements = Table(folder / "agreements.jsonl")
        self.decisions = Table(folder / "decisions.jsonl")

    def close(self) -> None:
        """Close all tables."""
        for table in vars(self).values():
            table.close()


@dataclass(frozen=True)
class Drawing:
    """What is drawn of a clip: all its listed frames, and the places and marks of those that are shown."""

    paths: Sequence[str]
    shown: Sequence[tuple[int, tuple[Mark, ...]]]
    canvas: Size
    longest: int

    @classmethod
    def of(cls, context: Context) -> Drawing:
        """That of a context."""
        shown = [(frame.index, frame.marks) for frame in context.shown]
        return cls(context.clip.paths, shown, context.clip.video.size, context.longest)

    def pictures(self, frames: FrameRoot) -> list[bytes] | FrameError:
        """The pictures; the error, where one is missing or cannot be read."""
        try:
            files = frames.clip(self.paths)
            return [draw(files[index], marks, self.canvas, self.longest) for index, marks in self.shown]
        except FrameError as error:
            return error


_frames = lru_cache(maxsize=1)(FrameRoot)


def _drawn(drawing: Drawing | None, root: str) -> list[bytes] | FrameError:
    """In a worker's process, which remembers what it learned about folders; None is nothing to draw."""
    return [] if drawing is None else drawing.pictures(_frames(root))


class Describing:
    """Has contexts described by two captioners.

    Args:
        folder: the tables.
        captioners: the two; they may share a store.
        frames: where the frames are.
        at_once: contexts under way at once.
        workers: who draws. Ray's workers draw ahead, as far as Ray's store of objects has room; this process asks, so
            that its limits hold and no key leaves it.
    """

    def __init__(
        self,
        folder: Folder,
        captioners: Sequence[Captioner],
        frames: FrameRoot,
        at_once: int,
        workers: Workers = HERE,
    ) -> None:
        self._folder, self._captioners, self._frames, self._at_once = folder, tuple(captioners), frames, at_once
        self._workers = workers
        self.asked = Asked()

    async def run(self, contexts: Iterable[Context], done: Callable[[], object] = lambda: None) -> Asked:
        """Ask for what is missing. A failure of the infrastructure leaves a context open for the next run; one whose
        frames are missing or broken is `unreadable`.

        Raises:
            CallSettingsError, CallBudgetExceeded: another try is useless. PipelineError: of Ray.
        """
        await ask_each(self._with_pictures(contexts), self._describe, self._captioners, self._at_once, done)
        return self.asked

    def _missing(self, context: Context) -> list[Captioner]:
        return [one for one in self._captioners if one.key(context) not in self._folder.descriptions]

    def _with_pictures(self, contexts: Iterable[Context]) -> Iterator[tuple[Context, list[bytes] | FrameError | None]]:
        """Each context; with its pictures, if others draw them. A thread of this process draws when it is asked."""
        if self._workers.engine == "local":
            yield from ((context, None) for context in contexts)
            return
        waiting: deque[Context] = deque()

        def drawings() -> Iterator[Drawing | None]:
            for context in contexts:
                waiting.append(context)
                yield Drawing.of(context) if self._missing(context) else None

        for pictures in self._workers.handle(partial(_drawn, root=self._frames.root), drawings()):
            yield waiting.popleft(), pictures

    async def _describe(self, thing: tuple[Context, list[bytes] | FrameError | None], last: bool) -> bool:
        """Ask those captioners whose description is missing; whether one has to be asked again at the end."""
        context, pictures = thing
        missing = self._missing(context)
        self.asked.there += len(self._captioners) - len(missing)
        if not missing:
            return False
        if pictures is None:
            pictures = await asyncio.to_thread(Drawing.of(context).pictures, self._frames)
        if isinstance(pictures, FrameError):
            # As below the folder of frames: where that lies is no part of what is wrong.
            self.asked.unreadable[context.key] = str(pictures).replace(f"{self._frames.root}/", "")
            return False
        self._folder.contexts.add(context.key, **context.as_dict())
        again = any(await asyncio.gather(*(self._ask(one, context, pictures, last) for one in missing)))
        self.asked.open += not again and any(one.key(context) not in self._folder.descriptions for one in missing)
        return again

    async def _ask(self, captioner: Captioner, context: Context, pictures: list[bytes], last: bool) -> bool:
        try:
            said = await outcome(captioner.describe(context, pictures), self.asked.failures, last)
        except CallUnproven:
            return True
        if said is None:
            return False
        about = {"model": captioner.model, "prompt": captioner.prompt(context.task).version}
        question = hashlib.sha256(wording(context, captioner.prompt(context.task))["user"].encode()).hexdigest()
        about |= {"question": question, "pictures": digest(pictures)}
        self._folder.descriptions.add(captioner.key(context), context=context.key, **about, **said)
        self.asked.new += 1
        return False


def decide(
    folder: Folder,
    contexts: Iterable[Context],
    captioners: Sequence[Captioner],
    settings: KeepSettings,
    similarity: Any,
) -> Iterator[Decision]:
    """The decision on each description that there is, in the order of the contexts; contexts left open are left out.

    Args:
        similarity: a `reward_score.similarity.Similarity`; it is asked for pairs whose similarity is not known.
    """
    left = iter(contexts)
    while some := list(islice(left, PAIRS_AT_ONCE)):
        pairs = []
        for context in some:
            found = [folder.descriptions.get(one.key(context)) for one in captioners]
            records = [record for record in found if record is not None]
            if len(records) == len(found):
                pairs.append((context, records))
        _compare(folder, [records for _, records in pairs], similarity)
        for context, records in pairs:
            yield from _decided(folder, context, records, settings)


def _pair_key(records: Sequence[Mapping[str, Any]]) -> str:
    return hashlib.sha256(json.dumps([record["key"] for record in records]).encode()).hexdigest()


def _compare(folder: Folder, pairs: Iterable[Sequence[Mapping[str, Any]]], similarity: Any) -> None:
    new = [
        records
        for records in pairs
        if _pair_key(records) not in folder.agreements and all("said" in record for record in records)
    ]
    texts = [(text_of(records[0]["said"]), text_of(records[1]["said"])) for records in new]
    for records, found in zip(new, similarity.cosine_pairs(texts) if texts else (), strict=True):
        folder.agreements.add(_pair_key(records), pair=[one["key"] for one in records], similarity=round(found, 6))


def _decided(
    folder: Folder, context: Context, records: Sequence[Mapping[str, Any]], settings: KeepSettings
) -> Iterator[Decision]:
    agreement = folder.agreements.get(_pair_key(records))
    found = None if agreement is None else float(agreement["similarity"])
    for side, record in zip(SIDES, records, strict=True):
        if "said" not in record:
            why = [f"declined_{record['declined']}"]
        elif found is None:
            why = [NO_PAIR]
        else:
            why = [SIMILARITY] if found < settings.similarity else []
            why += reasons(context, record["said"], settings)
        flags = tuple(one.removeprefix(FLAGGED) for one in why if one.startswith(FLAGGED))
        rejecting = tuple(one for one in why if not one.startswith(FLAGGED))
        said = [record["key"], _pair_key(records), RULES, asdict(settings), context.known]
        key = hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
        about = {"context": context.key, "side": side, "similarity": found}
        folder.decisions.add(
            key, **about, description=record["key"], kept=not rejecting, reasons=rejecting, flags=flags, rules=RULES
        )
        yield Decision(context, side, record.get("said"), found, rejecting, flags)
