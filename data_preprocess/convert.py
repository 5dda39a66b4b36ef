# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""One checked annotation row to one parquet row: times, frames, prompt, target.

`convert_block` turns a run of rows of one file into an Arrow table and an audit; everything about several blocks, and
about files that are written, is `pipeline.py`'s.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import orjson
import pyarrow as pa

from data_preprocess.annotations import TASKS, RecordError, Sample, file_number, parse_record, unsayable
from data_preprocess.audit import Audit
from data_preprocess.box_spaces import CANVAS, oddity, to_pixels
from data_preprocess.chat import CLIP, RESPONSE_TOKENS, STILL, build_prompt
from data_preprocess.frame_store import FrameStore
from data_preprocess.frames import FrameError, FrameRoot
from data_preprocess.geometry import (
    MAX_PIXELS,
    MIN_PIXELS,
    Size,
    assumed_size,
    canvas_of,
    processed_size,
    rounding_ious,
    vision_tokens,
)
from data_preprocess.ground_truth import gold_times, outside_clip
from data_preprocess.json_stream import Block, block_rows
from data_preprocess.parquet_schema import schema, to_table
from data_preprocess.prompt_length import PromptLength, TokenizerError
from data_preprocess.timeline import (
    Clock,
    Timeline,
    clock_report,
    exact,
    frame_seconds,
    native_clock,
    rate_disagrees,
    uniform,
)
from data_preprocess.wording import short
from reward_score.answers import render_stg
from reward_score.boxes import to_model
from reward_score.conventions import DEFAULT
from reward_score.errors import BadGroundTruth
from reward_score.tasks import check_target

TIMED = ("tal", "stg", "dvc")
"""The tasks whose answers have times, which a still image has not."""
# Columns of `extra_info` that are the sample's own.
_AS_READ = tuple("index file row_id qa_type task source video_id question fps clip_start clip_end".split())


@dataclass(frozen=True)
class Settings:
    """Everything that decides what a row becomes, apart from the row.

    Sizes are in pixels of a processed frame. `frame_store` is the folder of resized frames, "" for none; with `verify`
    "none" no frame file is touched. `relative_to` is the folder of the parquet files: frames below it are listed
    relative to it, so that the folder can be moved; with "" every frame is listed by its absolute path.
    `max_prompt_tokens` needs a `tokenizer`; 0 is no limit. `response_tokens` holds (task, tokens) pairs that stand for
    the table's. `box_spaces` holds (source, space) pairs, as `box_spaces.to_pixels` takes them, of sources whose boxes
    are no corners in pixels of the canvas. Links may lead into the `link_roots`. `stills` says how a single listed
    frame is shown: as a `video` of it, or as an `image`, in all tasks but those that ask for times (`TIMED`).
    """

    frames_root: str
    model_family: str = DEFAULT
    min_pixels: int = MIN_PIXELS
    max_pixels: int = MAX_PIXELS
    tasks: tuple[str, ...] = TASKS
    truth: str = "structure"
    clock: str = "native"
    timeline: str = "uniform"
    max_growth: float = 2.0
    tick_tolerance: float = 0.25
    outside_clip: str = "reject"
    verify: str = "exists"
    frame_store: str = ""
    relative_to: str = ""
    frame_format: str = "ppm"
    jpeg_draft: bool = False
    stg_decimals: int = 1
    system_prompt: str = "missing"
    one_shot: bool = False
    tokenizer: str = ""
    max_prompt_tokens: int = 0
    thin: str = "none"
    response_tokens: tuple[tuple[str, int], ...] = ()
    box_spaces: tuple[tuple[str, str], ...] = ()
    link_roots: tuple[str, ...] = ()
    stills: str = "video"
    seed: int = 0


@dataclass(frozen=True)
class Clip:
    """What rows about the same frames share.

    `files` are the listed frames on this disk, `line` when they are shown; `length`, in seconds, is what gold times are
    held against. `odd_rate` says that the frames contradict the stated rate.
    """

    files: list[str]
    clock: Clock
    line: Timeline
    length: float
    odd_rate: bool


@dataclass(frozen=True)
class Converted:
    """A row, and what it was made of."""

    sample: Sample
    row: dict[str, Any]
    line: Timeline
    picks: tuple[int, ...]
    clock: Clock
    answer_tokens: int | None
    rounding: tuple[float, ...]
    thinned: bool


class Converter:
    """Samples to parquet rows; frames are requested from the store, and lie there after its next `flush`."""

    def __init__(self, settings: Settings, threads: int = 1):
        self.settings = settings
        self.root = FrameRoot(settings.frames_root, settings.verify, settings.link_roots)
        self.length = PromptLength(settings.tokenizer, settings.model_family) if settings.tokenizer else None
        self.budgets = {**RESPONSE_TOKENS, **dict(settings.response_tokens)}
        self.store: FrameStore | None = None
        if settings.frame_store:
            suffix = f".{settings.frame_format}"
            self.store = FrameStore(
                settings.frame_store, suffix, threads, settings.jpeg_draft, root=settings.frames_root
            )
        # What is cut off the path of a frame that lies below the parquet's folder.
        self._folder = ""
        if settings.relative_to:
            # The frames root has no links in its path, the store keeps those that the user put there.
            place = settings.relative_to if settings.frame_store else os.path.realpath(settings.relative_to)
            self._folder = os.path.join(place, "")
        self._size = lru_cache(maxsize=1024)(
            lambda on_disk: processed_size(on_disk, settings.model_family, settings.min_pixels, settings.max_pixels)
        )
        # Several rows ask about one clip.
        self._clips = lru_cache(maxsize=1024)(self._place_clip)

    def convert(self, sample: Sample, audit: Audit) -> Converted:
        """The parquet row of a sample, its split still open ("" or "test").

        Raises:
            RecordError: a time outside the clip, a prompt that is too long.
            FrameError: a frame cannot be found, or its size is unusable.
        """
        settings = self.settings
        clip = self._clips(sample.source, sample.frames, sample.numbers, sample.fps, sample.declared)
        self._check_times(sample, clip, audit)
        line, clock, times, files = clip.line, clip.clock, clip.line.listed, clip.files
        size_on_disk = assumed_size(sample.source) if settings.verify == "none" else self.root.size(files[0])
        canvas = canvas_of(sample.source, size_on_disk)
        try:
            size = self._size(size_on_disk)
        except ValueError as error:
            raise FrameError(sample.frames[0], str(error)) from None
        sample = self._on_canvas(sample, canvas, audit)
        still = settings.stills == "image" and len(sample.frames) == 1 and sample.task not in TIMED
        prompt = build_prompt(
            sample.task,
            sample.question,
            system=settings.system_prompt,
            one_shot=settings.one_shot,
            seed=settings.seed,
            key=f"{sample.file}\0{sample.index}",
            family=settings.model_family,
            mark=STILL if still else CLIP,
        )
        listed, count, prompt_tokens = line, self.length, None
        if count is not None and settings.max_prompt_tokens:
            thinner = count.fit(prompt, size, line, settings.max_prompt_tokens, settings.thin)
            if thinner is None:
                raise self._too_long(sample, count(prompt, size, line.times, line.sample_fps))
            line = thinner
        picks, shown_at = line.picks, line.times
        if sample.region:
            picks = keep_boxed(picks, shown_at, times, [path == sample.region[0] for path in sample.frames])
        if settings.timeline == "exact":
            shown_at = tuple(times[pick] for pick in picks)
        if count is not None:
            prompt_tokens = count(prompt, size, shown_at, line.sample_fps)
            if 0 < settings.max_prompt_tokens < prompt_tokens:
                # The boxed frame took the place of another one, and its time stamp may be longer.
                raise self._too_long(sample, prompt_tokens)
        answer = sample.answer
        rounding: tuple[float, ...] = ()
        if sample.task == "stg" and sample.ground is not None:
            answer, rounding = self._boxes_as_said(sample.ground["boxes"], canvas, size)
        flags = [*sample.flags, *_odd_shape(sample.source, canvas, size_on_disk)]
        if clip.odd_rate:
            flags.append("fps_disagrees")
        shown = self._frames(sample, files, picks, size, canvas, size_on_disk, flags)
        extra = {
            **{name: getattr(sample, name) for name in _AS_READ},
            "split": "" if sample.ground is not None else "test",
            "answer": answer,
            "canvas": canvas,
            "processed_size": size,
            "model_family": settings.model_family,
            "duration": line.duration,
            "sample_interval": 1 / sample.fps,
            "frames": len(picks),
            "region": _region(sample, picks, shown_at),
            "time_rule": clock.rule,
            "flags": flags,
            "other": _other_keys(sample.extra),
            "response_tokens": self.budgets[sample.task],
            "vision_tokens": vision_tokens(len(picks), size, settings.model_family),
        }
        if count is not None:
            extra["prompt_tokens"] = prompt_tokens
        if sample.task == "stg" and sample.ground is not None and answer is not None:
            try:
                check_target(sample.pair, answer, sample.ground, extra)
            except BadGroundTruth as error:
                said = unsayable(error, _boxes_key(sample))
                raise RecordError(sample.file, sample.index, said.key, said.expected, said.found) from None
        video = {
            "video": shown,
            "sample_fps": line.sample_fps,
            "resized_height": size[1],
            "resized_width": size[0],
            "frame_seconds": shown_at if settings.timeline == "exact" and not still else None,
        }
        ground = sample.ground if sample.ground is not None else {}
        row = {
            "data_source": sample.pair,
            "prompt": prompt,
            "videos": [video],
            "ability": sample.task,
            "reward_model": {"style": "rule", "ground_truth": orjson.dumps(ground).decode()},
            "extra_info": extra,
        }
        answer_tokens = count.answer(answer) if count is not None and answer is not None else None
        return Converted(sample, row, line, picks, clock, answer_tokens, rounding, line is not listed)

    def listed(self, paths: Sequence[str]) -> list[str]:
        """Frame paths as the parquet lists them: relative to its folder where they lie below it, else as they are."""
        return [path.removeprefix(self._folder) for path in paths]

    def _place_clip(
        self, source: str, frames: tuple[str, ...], numbers: tuple[int, ...], fps: float, declared: float | None
    ) -> Clip:
        """Where a clip's frames lie, and when they are shown."""
        settings = self.settings
        clock = native_clock(source, frames, numbers, fps, declared)
        # Only where the two lengths disagree is there a choice: elsewhere a list with a hole has one true clock.
        unclear = bool(clock_report(numbers, clock, fps, declared).get("rows_disagreeing"))
        times = tuple(frame_seconds(numbers, clock, fps, declared, settings.clock if unclear else "native"))
        if settings.timeline == "exact":
            line = exact(times, fps)
        else:
            line = uniform(times, fps, settings.max_growth, settings.tick_tolerance)
        length = line.duration
        if unclear:
            # As long as its longest clock says: which of them the annotators followed is not known.
            length = max(length, declared or 0.0, (len(numbers) - 1) / fps, (numbers[-1] - numbers[0]) / clock.rate)
        return Clip(self.root.clip(frames), clock, line, length, rate_disagrees(times, fps))

    def _check_times(self, sample: Sample, clip: Clip, audit: Audit) -> None:
        """Compares the gold times with the clip's bounds."""
        bounds = gold_times(sample.ground) if sample.ground is not None else ()
        if sample.declared is not None:
            report = clock_report(sample.numbers, clip.clock, sample.fps, sample.declared, bounds)
            audit.clocks[sample.source].update(report)
        beyond = outside_clip(bounds, clip.length, max(1.0, 1 / sample.fps))
        if beyond > 0:
            audit.timeline[sample.source]["rows_with_gold_outside"] += 1
            if self.settings.outside_clip == "reject":
                expected = f"times within the clip of {clip.length:g} s"
                raise RecordError(sample.file, sample.index, "struc_info", expected, f"one {beyond:g} s beyond it")

    def _on_canvas(self, sample: Sample, canvas: Size, audit: Audit) -> Sample:
        """The sample with its boxes, if it has any, as corners in pixels of the canvas.

        Raises:
            RecordError: boxes that are no such corners.
        """
        given = sample.ground["boxes"] if sample.task == "stg" and sample.ground is not None else {}
        key = _boxes_key(sample)
        if sample.region is not None:
            given = {"": sample.region[1]}
        if not given:
            return sample
        space = dict(self.settings.box_spaces).get(sample.source)
        boxes = {time: to_pixels(box, space or CANVAS, canvas) for time, box in given.items()}
        odd = oddity(boxes.values(), canvas)
        audit.boxes[sample.source].add(boxes.values(), canvas, odd)
        if odd:
            expected = f"boxes (x1, y1, x2, y2) in pixels of the {canvas[0]}x{canvas[1]} canvas"
            raise RecordError(sample.file, sample.index, key, expected, odd)
        if space in (None, CANVAS):
            return sample
        if sample.region is not None:
            return replace(sample, region=(sample.region[0], boxes[""]))
        on_canvas = {time: list(box) for time, box in boxes.items()}
        return replace(sample, ground={**(sample.ground or {}), "boxes": on_canvas})

    def _too_long(self, sample: Sample, tokens: int) -> RecordError:
        expected = f"a prompt of at most {self.settings.max_prompt_tokens} tokens"
        return RecordError(sample.file, sample.index, "video", expected, f"{tokens} tokens")

    def _boxes_as_said(
        self, boxes: Mapping[str, Sequence[float]], canvas: Size, size: Size
    ) -> tuple[str, tuple[float, ...]]:
        """The answer in the model's space, and the IoU of each box with what is left of it there."""
        family, decimals = self.settings.model_family, self.settings.stg_decimals
        said = {float(time): to_model(tuple(box), canvas, size, family) for time, box in boxes.items()}
        return render_stg(said, decimals), tuple(rounding_ious(said.values(), decimals))

    def _frames(
        self,
        sample: Sample,
        files: Sequence[str],
        picks: Sequence[int],
        size: Size,
        canvas: Size,
        on_disk: Size,
        flags: list[str],
    ) -> list[str]:
        """The files to show; those that the store will make are requested of it."""
        store = self.store
        if store is None:
            if sample.region:
                flags.append("box_not_drawn")
            return [files[pick] for pick in picks]
        listed, box = sample.region or ("", None)
        boxed = files[sample.frames.index(listed)] if box else ""
        return [
            store.request(files[pick], size, box if files[pick] == boxed else None, canvas, on_disk) for pick in picks
        ]


def _region(sample: Sample, picks: Sequence[int], shown_at: Sequence[float]) -> dict[str, list[float]] | None:
    """What a region caption is about: its box in pixels of the canvas, and the clip seconds of the frames that bear it.

    Args:
        picks: positions in the listed frames.
        shown_at: clip seconds at which each pick is shown.
    """
    if sample.region is None:
        return None
    frame, box = sample.region
    seconds = [at for pick, at in zip(picks, shown_at, strict=True) if sample.frames[pick] == frame]
    return {"box": list(box), "seconds": seconds}


def _boxes_key(sample: Sample) -> str:
    """The row's key that boxes come from."""
    if sample.region is not None:
        return "RC_info.start_frame_bbox"
    return "conversations.1.value" if "from_text" in sample.flags else "struc_info"


def keep_boxed(
    picks: Sequence[int], shown_at: Sequence[float], times: Sequence[float], boxed: Sequence[bool]
) -> tuple[int, ...]:
    """The picks with the boxed frame among them: where no tick shows it, it takes the place of the nearest tick's.

    Args:
        picks: positions in the listed frames.
        shown_at: clip seconds at which each pick is shown.
        times: clip seconds of the listed frames.
        boxed: which of the listed frames is the boxed one.
    """
    if any(boxed[pick] for pick in picks):
        return tuple(picks)
    wanted = boxed.index(True)
    nearest = min(range(len(picks)), key=lambda tick: abs(shown_at[tick] - times[wanted]))
    return (*picks[:nearest], wanted, *picks[nearest + 1 :])


def _other_keys(extra: Mapping[str, Any]) -> str | None:
    """Unknown keys of the row as JSON, without `train`: every row has it, and the splits here do not follow it."""
    other = {key: value for key, value in extra.items() if key != "train"}
    return orjson.dumps(other).decode() if other else None


def _odd_shape(source: str, canvas: Size, on_disk: Size) -> list[str]:
    """A frame whose sides relate otherwise than its canvas's: boxes may lie elsewhere than they were drawn."""
    return [] if abs(canvas[0] * on_disk[1] / (canvas[1] * on_disk[0]) - 1) < 0.05 else ["frame_unlike_canvas"]


def _enter(done: Converted, audit: Audit) -> None:
    """Counts a written row."""
    sample, line, extra = done.sample, done.line, done.row["extra_info"]
    words = len(sample.answer.split()) if sample.answer is not None else None
    numbers = (extra["frames"], line.duration, sample.fps, words, extra["vision_tokens"])
    tokens = (extra.get("prompt_tokens"), done.answer_tokens)
    audit.written(sample.pair, sample.video_id, extra["flags"], (*numbers, *tokens))
    source = sample.source
    audit.time_rules[source][done.clock.rule] += 1
    if done.answer_tokens is not None and done.answer_tokens > extra["response_tokens"]:
        audit.flags[sample.pair]["answer_over_budget"] += 1
    if done.rounding:
        audit.rounding[source].extend(done.rounding)
    counts = audit.timeline[source]
    counts["rows"] += 1
    if line.moved or line.repeated or line.left_out:
        changed = {"frames_moved": line.moved, "frames_repeated": line.repeated, "frames_left_out": line.left_out}
        counts.update({name: count for name, count in changed.items() if count})
    if line.divisor > 1:
        counts["rows_at_lower_rate"] += 1
    if done.thinned:
        counts["rows_thinned"] += 1
    first, last = sample.frames[0], sample.frames[-1]
    if file_number(first) != sample.numbers[0] or file_number(last) != sample.numbers[-1]:
        counts["rows_with_other_file_numbers"] += 1


def convert_block(block: Block, converter: Converter) -> tuple[pa.Table, Audit]:
    """The rows of a block that can be used, in their order, and what happened to all of them.

    The table has the columns of `schema`, and three that `pipeline` needs: `_group` (videos that stay on one side of a
    split), `_key` (names the row when a subset is drawn) and `_answered`.

    Raises:
        OSError: the disk.
    """
    audit = Audit()
    settings = converter.settings
    # Only the name: where the file lay is no part of the data, and would make equal runs differ.
    name = os.path.basename(block.file)
    store = converter.store
    before = (store.made, store.reused) if store is not None else (0, 0)
    done: list[Converted] = []
    for index, raw in block_rows(block):
        audit.rows["read"] += 1
        try:
            sample = parse_record(raw, name, index, settings.truth)
            audit.identity(sample)
            if sample.task not in settings.tasks:
                audit.rows["other_tasks"] += 1
                continue
            done.append(converter.convert(sample, audit))
        except RecordError as error:
            audit.reject(error)
        except FrameError as error:
            audit.reject(error.at(name, index))
        except TokenizerError as error:
            # The template rendered a plain question when it was loaded: this row's is to blame.
            expected = "a question that the chat template can render"
            audit.reject(RecordError(name, index, "conversations.0.value", expected, short(str(error))))
    errors = store.flush() if store is not None else {}
    if store is not None:
        audit.frames.update({"made": store.made - before[0], "reused": store.reused - before[1]})
    rows = []
    for converted in done:
        shown = converted.row["videos"][0]["video"]
        broken = next((at for at, path in enumerate(shown) if path in errors), None) if errors else None
        if broken is not None:
            listed = converted.sample.frames[converted.picks[broken]]
            audit.reject(FrameError(listed, errors[shown[broken]].reason, name, converted.sample.index))
            continue
        converted.row["videos"][0]["video"] = converter.listed(shown)
        _enter(converted, audit)
        rows.append(converted.row)
    return to_table(rows, schema(bool(settings.tokenizer))), audit
