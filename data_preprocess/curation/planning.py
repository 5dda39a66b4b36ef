# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What a curation comes to before it costs anything: rows, models' calls, tokens, dollars, hours and disk.

Everything is counted on the videos themselves, with the clips and questions that would be made. What is assumed of
machines and models is a setting.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path

from data_preprocess.curation.captions.context import PAIRS, Context, ShowSettings, contexts
from data_preprocess.curation.clips import ClipSettings, Cutter
from data_preprocess.curation.model import Clip, Video
from data_preprocess.curation.produce import Recipe
from data_preprocess.curation.questions.excerpts import ExcerptSettings, excerpts
from data_preprocess.curation.rows import TASKS_OF, drafts
from data_preprocess.curation.settings import open_choice

PUBLISHED_ROWS = 531_850
"""Rows of the large set."""
KNOWN_ROWS: Mapping[str, int] = {
    "tal": 1700 + 1637,
    "stg": 780 + 780,
    "dvc": 750 + 730 + 751 + 728,
    "rc": 140 + 170 + 138 + 168,
    "cvs": 600 + 648,
    "nap": 670 + 670,
    "vs": 580 + 302 + 263,
    "sa": 150 + 160,
}
"""Rows of each task in the files that can be had, training and test. How many the large set has is not published."""
# Every context is shown to both of them, and each answer that is kept is a row.
_CAPTIONERS = 2
# Sources that come as videos, from which frames are written.
_VIDEOS = ("AVOS", "Cholec80_CVS", "JIGSAWS", "NurViD")
LECTURED = ("AVOS", "NurViD")
"""Sources of web videos, in which somebody may explain."""
_LETTERS_A_TOKEN = 4


@dataclass(frozen=True)
class PlanSettings:
    """What a plan assumes."""

    frame_tokens: int = open_choice(300, "tokens of a frame: 258 to 765 with hosted models", least=1)
    prompt_tokens: int = open_choice(900, "tokens of a call's words: prompt, labels, context", least=1)
    dvc_tokens: int = open_choice(400, "tokens of a described clip", least=1)
    vs_tokens: int = open_choice(150, "tokens of a summary", least=1)
    rc_tokens: int = open_choice(60, "tokens of a region's description", least=1)
    spoken: float = open_choice(
        0.6, "share of a web video's seconds in excerpts, where no transcript tells: not published"
    )
    excerpt_seconds: float = open_choice(22.5, "seconds of an excerpt then: the middle of 15 to 30", least=1)
    speech_tokens: int = open_choice(75, "tokens of what is said in an excerpt then: 2.5 words a second", least=1)
    facts: float = open_choice(4.0, "facts of an excerpt that are asked about: one of each kind", least=0.1)
    facts_tokens: int = open_choice(320, "tokens of the first prompt beside what is said", least=1)
    questions_tokens: int = open_choice(240, "tokens of the second prompt beside the facts", least=1)
    blind_tokens: int = open_choice(
        130, "tokens of a question that is asked without the video, with its prompt", least=1
    )
    fact_tokens: int = open_choice(
        60, "tokens of a fact with its quote in JSON, and of a question with its answer", least=1
    )
    kept_questions: float = open_choice(
        0.58, "share of the questions that are kept: Surg-QA has 2.3 of each clip", least=0.01
    )
    call_seconds: float = open_choice(8.0, "seconds of a call", least=0.01)
    calls_at_once: int = open_choice(32, "calls under way at a time", least=1)
    kept: float = open_choice(0.8, "share of the captions that validation keeps: not published", least=0.01)
    bytes_a_pixel: float = open_choice(0.15, "bytes of a pixel in a written frame: JPEG of quality 90", least=0.001)
    decoded_a_second: float = open_choice(20.0, "seconds of video that are decoded in a second", least=0.01)


@dataclass
class Calls:
    """Calls by pair, and tokens of all of them."""

    calls: Counter[str] = field(default_factory=Counter)
    prompt_tokens: int = 0
    answer_tokens: int = 0

    def add(self, pair: str, calls: float, prompt_tokens: float, answer_tokens: float) -> None:
        """Some calls more, with tokens of all of them."""
        self.calls[pair] += round(calls)
        self.prompt_tokens += round(prompt_tokens)
        self.answer_tokens += round(answer_tokens)

    def hours(self, settings: PlanSettings) -> float:
        """Hours of all calls, as many at once as the settings allow."""
        return self.calls.total() * settings.call_seconds / settings.calls_at_once / 3600

    def dollars(self, price: tuple[float, float]) -> float:
        """Cost at a price for a million prompt and answer tokens."""
        return (self.prompt_tokens * price[0] + self.answer_tokens * price[1]) / 1e6


@dataclass
class Plan:
    """Counts of a curation: by pair the clips and the rows that can be made; calls of captioners, and of the models
    that read lectures."""

    rows: Counter[str] = field(default_factory=Counter)
    clips: Counter[str] = field(default_factory=Counter)
    videos: Counter[str] = field(default_factory=Counter)
    captions: Calls = field(default_factory=Calls)
    lectures: Calls = field(default_factory=Calls)
    frame_bytes: float = 0.0
    frames: int = 0
    video_seconds: float = 0.0

    def describe(self, pair: str, context: Context, settings: PlanSettings) -> None:
        """Adds the calls of one context."""
        prompt = settings.prompt_tokens + len(context.shown) * settings.frame_tokens
        answer = getattr(settings, f"{context.task}_tokens")
        self.captions.add(pair, _CAPTIONERS, _CAPTIONERS * prompt, _CAPTIONERS * answer)

    def read(self, pair: str, speech_tokens: float, settings: PlanSettings) -> None:
        """Adds the calls of one excerpt: for its facts, for questions about them, and a guess at each of these."""
        facts, said = settings.facts, settings.facts * settings.fact_tokens
        prompts = settings.facts_tokens + speech_tokens + settings.questions_tokens + said
        self.lectures.add(pair, 2 + facts, prompts + facts * settings.blind_tokens, 3 * said)

    def decode_hours(self, settings: PlanSettings) -> float:
        """Hours of decoding each video once."""
        return self.video_seconds / settings.decoded_a_second / 3600


def plan(
    videos: Iterable[Video],
    recipe: Recipe,
    show: ShowSettings,
    settings: PlanSettings,
    transcripts: Path | None = None,
    cutting: ExcerptSettings = ExcerptSettings(),  # noqa: B008 - it is frozen
) -> Plan:
    """Counts what the recipe makes of some videos; nothing is called, opened or written but transcripts read.

    Args:
        videos: of any sources.
        recipe: of clips and rows.
        show: how clips are shown to captioners.
        settings: what is assumed.
        transcripts: a folder of what is said; without one, a share of each web video is taken as spoken.
        cutting: how lectures are cut.

    Raises:
        TranscriptError, SourceError: a file of that folder that cannot be read.
    """
    made = Plan()
    for video in videos:
        if not video.numbers:
            continue
        listed: set[int] = set()
        seen: dict[str, set[tuple[int, int, float]]] = {}

        def note(pair: str, clip: Clip, listed: set[int] = listed, seen: dict = seen) -> None:
            seen.setdefault(pair, set()).add((clip.numbers[0], clip.numbers[-1], clip.fps))
            listed.update(clip.numbers)

        for draft in drafts(video, recipe.clips, recipe.rows, recipe.seed):
            made.rows[draft.pair] += 1
            note(draft.pair, draft.clip)
        if any(video.source in sources for sources in PAIRS.values()):
            for clip in Cutter(video, recipe.clips, recipe.seed).all():
                for context in contexts(clip, show):
                    pair = f"{video.source}/{context.task}"
                    made.describe(pair, context, settings)
                    note(pair, clip)
        for clip, tokens in _lecture(video, settings, transcripts, cutting):
            made.read(f"{video.source}/qa", tokens, settings)
            note(f"{video.source}/qa", clip)
        for pair, clips in seen.items():
            made.clips[pair] += len(clips)
            made.videos[pair] += 1
        made.frames += len(listed)
        if video.source in _VIDEOS:
            made.frame_bytes += len(listed) * video.size[0] * video.size[1] * settings.bytes_a_pixel
            made.video_seconds += video.duration
    for pair, calls in made.captions.calls.items():
        made.rows[pair] = int(calls * settings.kept)
    for pair in made.lectures.calls:
        made.rows[pair] = int(made.clips[pair] * settings.facts * settings.kept_questions)
    return made


def _lecture(
    video: Video, settings: PlanSettings, transcripts: Path | None, cutting: ExcerptSettings
) -> Iterator[tuple[Clip, float]]:
    """The excerpts of a video, and tokens of what is said in each."""
    if transcripts is not None:
        for excerpt in excerpts(video, transcripts, cutting):
            yield excerpt.clip, len(excerpt.text) / _LETTERS_A_TOKEN
    elif video.source in LECTURED and settings.spoken:
        cutter, length = Cutter(video, ClipSettings(), 0), settings.excerpt_seconds
        for number in range(int(video.duration * settings.spoken / length)):
            start = number * length / settings.spoken
            clip = cutter.cut(start, start + length, min(cutting.excerpt_rate, cutter.own_rate))
            if clip is not None:
                yield clip, settings.speech_tokens


def wanted(total: int, sources: Iterable[str]) -> dict[str, int]:
    """Rows of each pair out of `total`: tasks as in the files that can be had, pairs of a task alike.

    Args:
        total: rows of all 23 pairs.
        sources: those that are there; pairs of others are left out.
    """
    there = set(sources)
    pairs: dict[str, list[str]] = {
        task: [source for source, tasks in TASKS_OF.items() if task in tasks] or list(PAIRS[task])
        for task in KNOWN_ROWS
    }
    known = sum(KNOWN_ROWS.values())
    goal, exact, given = {}, 0.0, 0
    for task, named in pairs.items():
        for source in named:
            # Rounded sums, so that all pairs together come to exactly the total.
            exact += total * KNOWN_ROWS[task] / known / len(named)
            goal[f"{source}/{task}"], given = round(exact) - given, round(exact)
    return {pair: rows for pair, rows in goal.items() if pair.partition("/")[0] in there}


def short_of(made: Plan, goal: Mapping[str, int], recipe: Recipe) -> dict[str, str]:
    """The pairs that have fewer rows than wanted, each with how many and why, in words."""
    said = {}
    for pair, rows in goal.items():
        there = made.rows[pair]
        if there >= rows:
            continue
        task = pair.rpartition("/")[2]
        missing = f"{rows - there:,} short"
        if not there:
            said[pair] = f"{missing}: nothing can be asked of these videos"
        elif task == "sa":
            said[pair] = f"{missing}: a trial is shown whole, so that it has as many rows as rates that fit it"
        else:
            passes = ceil(recipe.clips.passes * rows / there)
            said[pair] = f"{missing} of {made.videos[pair]:,} videos: --set passes={passes} would make about enough"
    return said
