# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Which rows train and which validate, by surgery; and a task-balanced subset of the training rows."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

Group = TypeVar("Group", bound=Hashable)
"""Videos that stay on one side together, such as what `group_of` returns. Its `repr` decides its place in the draw."""

# Three data sets annotate the same 80 cholecystectomies, under one numbering and several spellings.
_CHOLEC = "CholecT50", "CholecTrack20", "Cholec80_CVS"
_CHOLEC_ID = re.compile(r"(?:vid(?:eo)?)?[ _-]?([0-9]{1,6})", re.IGNORECASE | re.ASCII)
# Surgery, then recording (and part).
_EGO_ID = re.compile(r"([0-9]{1,6})(?:_.*)?", re.ASCII)
# Exercise, surgeon and trial; each trial is seen by two cameras.
_TRIAL = re.compile(r"((?:suturing|knot_?tying|needle_?passing)_?[a-z][0-9]{3})", re.IGNORECASE | re.ASCII)
_RULES = {**dict.fromkeys(_CHOLEC, _CHOLEC_ID), "EgoSurgery": _EGO_ID, "JIGSAWS": _TRIAL}
"""What an id of these sources looks like; the group in it is the surgery. Elsewhere an id is a video's own name."""
_ENDING = re.compile(r"\.(?:mp4|avi|mkv|mov|webm|mpe?g|m4v|wmv)\Z", re.IGNORECASE)
_PIECE = re.compile(r"[ _-]+(?:part|capture|camera|cam|view)[ _-]?[0-9]{1,3}\Z", re.IGNORECASE | re.ASCII)


def group_of(source: str, video_id: str) -> tuple[str, str]:
    """What a video must not be parted from: (family of sources, surgery).

    One name in two spellings (blanks around it, composed and decomposed letters) is one video, and so are a name with
    its file's ending, with its source before it, or with a part or a camera behind it. CholecT50, CholecTrack20 and
    Cholec80_CVS share their surgeries: `VID01`, `video01` and `video_1` are one. `NN_k` of EgoSurgery are recordings of
    surgery NN. Every other video stands for itself, and so does one of a source with a rule whose id does not follow
    it (`is_unknown`): nothing then ties it to the same surgery under another id.
    """
    name = _plain(source, video_id)
    rule = _RULES.get(source)
    known = rule.fullmatch(name) if rule else None
    if known is None:
        return source, name
    surgery = known[1] if source == "JIGSAWS" else str(int(known[1]))
    return ("Cholec80" if source in _CHOLEC else source), surgery


def is_unknown(source: str, video_id: str) -> bool:
    """Whether a source has a rule for its ids, and this id does not follow it."""
    return source in _RULES and _RULES[source].fullmatch(_plain(source, video_id)) is None


def _plain(source: str, video_id: str) -> str:
    """An id without what different spellings and files of one video add to it; never empty where the id is not."""
    name = unicodedata.normalize("NFC", video_id).strip()
    before = re.compile(rf"\A{source.replace('_', '[_-]?')}[ _/-]+(?=.)", re.IGNORECASE)
    for added in (_ENDING, before, _PIECE, _PIECE):
        name = added.sub("", name, count=1).strip() or name
    return name


def choose_validation(counts: Mapping[tuple[Group, str], int], fraction: float = 0.15, seed: int = 0) -> set[Group]:
    """The groups of videos whose rows are validation rows.

    Groups are taken in an order that depends on the seed alone, not on the order of the rows; one is taken when it
    brings its pairs' shares of validation rows nearer to `fraction` (sum of squared differences) and leaves each of
    them a training group. A pair with two groups or more that is still without validation rows then gets the group
    that disturbs the shares least. Pairs whose groups overlap badly may stay on one side: look at the counts.

    Args:
        counts: rows of each (group, pair).
        fraction: wanted share of validation rows in every pair, 0 to below 1. 0 takes none.
        seed: of the order.
    """
    if fraction <= 0:
        return set()
    rows: dict[Group, Counter[str]] = {}
    groups: Counter[str] = Counter()
    totals: Counter[str] = Counter()
    for (group, pair), count in counts.items():
        rows.setdefault(group, Counter())[pair] += count
    for pairs in rows.values():
        totals.update(pairs)
        groups.update(pairs.keys())
    order = sorted(rows, key=lambda group: hashlib.sha256(repr((seed, group)).encode()).digest())
    taken: set[Group] = set()
    shown: Counter[str] = Counter()
    used: Counter[str] = Counter()

    def gain(group: Group) -> float:
        """How much nearer to the fraction the shares come when `group` is taken."""
        before = ((shown[pair] / totals[pair] - fraction) ** 2 for pair in rows[group])
        after = (((shown[pair] + count) / totals[pair] - fraction) ** 2 for pair, count in rows[group].items())
        return sum(before) - sum(after)

    def spare(group: Group) -> bool:
        return all(used[pair] + 1 < groups[pair] for pair in rows[group])

    def take(group: Group) -> None:
        taken.add(group)
        shown.update(rows[group])
        used.update(rows[group].keys())

    for group in order:
        if spare(group) and gain(group) > 1e-12:
            take(group)
    for pair in sorted(totals):
        if not shown[pair]:
            candidates = [group for group in order if group not in taken and pair in rows[group] and spare(group)]
            if candidates:
                take(max(candidates, key=gain))
    return taken


def choose_subset(keys_by_pair: Mapping[str, Sequence[int]], n: int, seed: int = 0) -> dict[str, list[int]]:
    """`n` rows, as evenly over the tasks as their rows allow, and inside a task over its pairs; all rows if fewer.

    A task (or pair) with too few rows gives all it has, and the others share the rest. Which rows of a pair are taken
    is decided by a hash of the seed and the row's key, whatever the order they come in; a larger `n` takes the same
    rows and more.

    Args:
        keys_by_pair: for each pair (`.../<task>`), a number that names each row.
        n: rows wanted.
        seed: of the draw.

    Returns:
        The keys taken of every pair, an empty list where none is.
    """
    tasks: dict[str, dict[str, int]] = {}
    for pair, keys in keys_by_pair.items():
        tasks.setdefault(pair.rsplit("/", 1)[-1], {})[pair] = len(keys)
    chosen: dict[str, list[int]] = {}
    for task, share in even_shares({task: sum(sizes.values()) for task, sizes in tasks.items()}, n).items():
        for pair, count in even_shares(tasks[task], share).items():
            drawn = sorted(keys_by_pair[pair], key=lambda key: (_draw(seed, key), key)) if count else []
            chosen[pair] = drawn[:count]
    return {pair: chosen[pair] for pair in sorted(chosen)}


def even_shares(sizes: Mapping[str, int], n: int) -> dict[str, int]:
    """`n` shared out as evenly as it goes when nobody can take more than their size; all there is if that is less.

    Shares of those that are not exhausted differ by at most 1.
    """
    left = max(0, min(n, sum(sizes.values())))
    shares = {}
    # The smallest first: what it cannot take is left for the others.
    for place, name in enumerate(sorted(sizes, key=lambda name: (sizes[name], name))):
        shares[name] = min(sizes[name], left // (len(sizes) - place))
        left -= shares[name]
    return shares


def _draw(seed: int, key: int) -> bytes:
    return hashlib.blake2b(f"{seed}\0{key}".encode(), digest_size=8).digest()
