# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Turn MedVidBench / MedVidU annotations into verl parquet.

    python data_preprocess/medvidbench.py --annotations trainval.json --frames-root DIR --output DIR
    python data_preprocess/medvidbench.py --annotations a.json b.json --frames-root DIR --output DIR \\
        --model-family qwen3_vl --tasks tal stg --tokenizer MODEL_DIR

Writes `train.parquet` and `val.parquet` (split by video), `test.parquet` for rows without answers, `audit.json` with
what was read, written, rejected and changed, and the resized frames under `frames/`. All files appear whole or not
at all; a run whose inputs and settings are those of the audit has nothing to do.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

if not __package__:
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from tqdm import tqdm

from data_preprocess.frames import FrameError, FrameRoot, FrameStore
from data_preprocess.geometry import (
    FACTORS,
    FRAMES_PER_TOKEN,
    MAX_PIXELS,
    MIN_PIXELS,
    canvas_of,
    processed_size,
    vision_tokens,
)
from data_preprocess.records import TASKS, RecordError, Sample, parse_record, read_rows
from data_preprocess.splits import choose_validation
from data_preprocess.timeline import clip_seconds, native_clock, uniform
from reward_score.answers import render_stg
from reward_score.boxes import iou, to_canvas, to_model

SPLITS = ("train", "val", "test")
FORMATS = {
    "vs": "Answer with one short paragraph of plain text and nothing else.",
    "cvs": (
        "Score each criterion 0, 1 or 2. Answer with one line and nothing else, in this form: "
        "Two structures: <score>, Cystic plate: <score>, Hepatocystic triangle: <score>"
    ),
    "sa": (
        "Score each aspect 1 to 5. Answer with one line and nothing else, in this form: "
        "Respect for tissue: <score>/5, Suture/needle handling: <score>/5, Time and motion: <score>/5, "
        "Flow of operation: <score>/5, Overall performance: <score>/5, Quality of final product: <score>/5"
    ),
}
"""System message of the tasks whose questions state no answer format, with `--system-prompt`."""

# Rows held in memory at a time; a row is some 10 kB of paths and text.
_BATCH = 2_000
_EXAMPLES = 3
# What must be free on the output's disk beyond the annotations' own size.
_SPARE_BYTES = 64 << 20
# Line ends are written out: a template engine drops the last one.
_CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endfor %}"
    "{{ '<|im_start|>assistant\\n' }}"
)
_VISION = ("<|vision_start|>", "<|video_pad|>", "<|vision_end|>")


class SettingsError(ValueError):
    """A setting that cannot be used."""


@dataclass(frozen=True)
class Settings:
    """Everything that decides what is written, apart from the input files."""

    model_family: str = "qwen2_5_vl"
    min_pixels: int = MIN_PIXELS
    max_pixels: int = MAX_PIXELS
    val_fraction: float = 0.2
    seed: int = 0
    tasks: tuple[str, ...] = TASKS
    tokenizer: str | None = None
    frame_store: bool = True
    frame_format: str = "png"
    stg_decimals: int = 1
    system_prompt: bool = False
    skip_bad_rows: bool = False


def schema(with_tokens: bool) -> pa.Schema:
    """The parquet columns, one Arrow type each for all tasks."""
    text, number, real = pa.string(), pa.int64(), pa.float64()
    extra = {
        "index": number,
        "file": text,
        "split": text,
        "row_id": text,
        "qa_type": text,
        "task": text,
        "source": text,
        "video_id": text,
        "question": text,
        "answer": text,
        "canvas": pa.list_(number),
        "processed_size": pa.list_(number),
        "model_family": text,
        "duration": real,
        "sample_interval": real,
        "fps": real,
        "frames": number,
        "clip_start": text,
        "clip_end": text,
        "time_rule": text,
    }
    if with_tokens:
        extra["token_length"] = number
    video = {"video": pa.list_(text), "sample_fps": real, "resized_height": number, "resized_width": number}
    columns = {
        "data_source": text,
        "prompt": pa.list_(pa.struct({"role": text, "content": text})),
        "videos": pa.list_(pa.struct(video)),
        "ability": text,
        "reward_model": pa.struct({"style": text, "ground_truth": text}),
        "extra_info": pa.struct(extra),
    }
    return pa.schema(columns)


class PromptLength:
    """Tokens of a prompt, vision tokens included, as the model family's processor lays it out."""

    def __init__(self, folder: str, family: str):
        from transformers import AutoTokenizer

        try:
            self.tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError) as error:
            reason = str(error).split("\n")[0]
            raise SettingsError(f"--tokenizer {folder}: expected a folder with a tokenizer: {reason}") from None
        self.family = family
        self._count = lru_cache(maxsize=4096)(self._tokens)

    def __call__(self, prompt: list[dict[str, str]], frames: int, size: tuple[int, int], fps: float) -> int:
        patches = -(-frames // FRAMES_PER_TOKEN)
        start, pad, end = _VISION
        if self.family == "qwen3_vl":
            # Each temporal patch is announced by the mean time of its two frames.
            times = [(i + (FRAMES_PER_TOKEN - 1) / 2) / fps for i in range(0, patches * FRAMES_PER_TOKEN, 2)]
            clip, pads = "".join(f"<{time:.1f} seconds>{start}{pad}{end}" for time in times), patches
        else:
            clip, pads = start + pad + end, 1
        messages = tuple((turn["role"], turn["content"].replace("<video>", clip)) for turn in prompt)
        return self._count(messages) - pads + vision_tokens(frames, size, self.family)

    def _tokens(self, messages: tuple[tuple[str, str], ...]) -> int:
        chat = [{"role": role, "content": content} for role, content in messages]
        template = None if getattr(self.tokenizer, "chat_template", None) else _CHATML
        text = self.tokenizer.apply_chat_template(
            chat, chat_template=template, tokenize=False, add_generation_prompt=True
        )
        return len(self.tokenizer.encode(text, add_special_tokens=False))


class Audit:
    """Counts of what was read, changed and rejected; `report` is their JSON form."""

    def __init__(self) -> None:
        self.rows: Counter[str] = Counter()
        self.rejected: dict[str, list[str]] = defaultdict(list)
        self.rejects: Counter[str] = Counter()
        self.pairs: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        self.videos: dict[str, set[str]] = defaultdict(set)
        self.flags: dict[str, Counter[str]] = defaultdict(Counter)
        self.rules: dict[str, Counter[str]] = defaultdict(Counter)
        self.timeline: dict[str, Counter[str]] = defaultdict(Counter)
        self.rounding: dict[str, list[float]] = defaultdict(list)
        self.seen: dict[str, set[int]] = {"id": set(), "id_qa_type_question": set()}
        self.duplicates: Counter[str] = Counter()

    def reject(self, error: RecordError | FrameError) -> None:
        reason = f"{error.key}: expected {error.expected}" if isinstance(error, RecordError) else "unusable frame"
        self.rows["rejected"] += 1
        self.rejects[reason] += 1
        if len(self.rejected[reason]) < _EXAMPLES:
            self.rejected[reason].append(str(error))

    def identity(self, sample: Sample) -> None:
        keys = {"id": sample.row_id, "id_qa_type_question": (sample.row_id, sample.qa_type, sample.question)}
        for name, key in keys.items():
            digest = hash(key)
            self.duplicates[name] += digest in self.seen[name]
            self.seen[name].add(digest)

    def written(self, sample: Sample, row: dict[str, Any]) -> None:
        extra, pair = row["extra_info"], self.pairs[sample.pair]
        self.rows["written"] += 1
        self.videos[sample.pair].add(sample.video_id)
        self.flags[sample.pair].update(sample.flags)
        self.rules[sample.source][extra["time_rule"]] += 1
        for name in ("frames", "duration", "fps", "token_length"):
            if name in extra:
                pair[name].append(extra[name])
        if sample.answer is not None:
            pair["answer_words"].append(len(sample.answer.split()))

    def report(self, per_split: dict[str, Counter[str]]) -> dict[str, Any]:
        pairs = {}
        for pair in sorted(self.pairs):
            values = {name: _spread(numbers) for name, numbers in self.pairs[pair].items()}
            splits = {split: per_split[split][pair] for split in SPLITS}
            pairs[pair] = {"rows": sum(splits.values()), "videos": len(self.videos[pair]), **splits, **values}
        return {
            "rows": {name: self.rows[name] for name in ("read", "written", "rejected", "other_tasks")},
            "rejected": [
                {"reason": reason, "rows": count, "examples": self.rejected[reason]}
                for reason, count in self.rejects.most_common()
            ],
            "splits": {split: sum(per_split[split].values()) for split in SPLITS},
            "pairs": pairs,
            "flags": {pair: dict(counts) for pair, counts in sorted(self.flags.items()) if counts},
            "duplicates": {name: self.duplicates[name] for name in self.seen},
            "time_rules": {source: dict(counts) for source, counts in sorted(self.rules.items())},
            "timeline": {source: dict(counts) for source, counts in sorted(self.timeline.items())},
            "stg_rounding_iou": {source: float(np.mean(v)) for source, v in sorted(self.rounding.items())},
        }


def _spread(numbers: Sequence[float]) -> dict[str, float]:
    return {"min": float(min(numbers)), "mean": float(np.mean(numbers)), "max": float(max(numbers))}


class Converter:
    """Samples to parquet rows; frames are requested from the store, and lie there after its next `flush`."""

    def __init__(self, settings: Settings, root: FrameRoot, store: FrameStore, audit: Audit):
        self.settings, self.root, self.store, self.audit = settings, root, store, audit
        self.length = PromptLength(settings.tokenizer, settings.model_family) if settings.tokenizer else None

    def row(self, sample: Sample) -> dict[str, Any]:
        """The parquet row of a sample, its split still open ("" or "test").

        Raises:
            FrameError: a frame cannot be found, or its size is unusable.
        """
        try:
            return self._row(sample)
        except FrameError as error:
            raise error.at(sample.file, sample.index) from None

    def _row(self, sample: Sample) -> dict[str, Any]:
        settings = self.settings
        frame_size = self.root.size(sample.frames[0])
        canvas = canvas_of(sample.source, frame_size)
        try:
            size = processed_size(frame_size, settings.model_family, settings.min_pixels, settings.max_pixels)
        except ValueError as error:
            raise FrameError(sample.frames[0], str(error)) from None
        clock = native_clock(sample.source, sample.frames, sample.numbers, sample.fps, sample.declared)
        times = clip_seconds(sample.numbers, clock)
        line = uniform(times, sample.fps)
        picks = list(line.picks)
        if sample.region:
            picks = _keep_boxed(picks, times, [path == sample.region[0] for path in sample.frames])
        prompt = [{"role": "user", "content": f"<video>\n{sample.question}"}]
        if settings.system_prompt and sample.task in FORMATS:
            prompt.insert(0, {"role": "system", "content": FORMATS[sample.task]})
        answer = sample.answer
        if sample.task == "stg" and sample.ground is not None:
            answer = self._boxes_as_said(sample, canvas, size)
        extra = {
            "index": sample.index,
            "file": sample.file,
            "split": "" if sample.ground is not None else "test",
            "row_id": sample.row_id,
            "qa_type": sample.qa_type,
            "task": sample.task,
            "source": sample.source,
            "video_id": sample.video_id,
            "question": sample.question,
            "answer": answer,
            "canvas": list(canvas),
            "processed_size": list(size),
            "model_family": settings.model_family,
            "duration": line.duration,
            "sample_interval": 1 / sample.fps,
            "fps": sample.fps,
            "frames": len(picks),
            "clip_start": sample.clip_start,
            "clip_end": sample.clip_end,
            "time_rule": clock.rule,
        }
        if self.length:
            extra["token_length"] = self.length(prompt, len(picks), size, line.sample_fps)
        self._count(sample, line)
        return {
            "data_source": sample.pair,
            "prompt": prompt,
            "videos": [
                {
                    "video": self._files(sample, picks, size, canvas),
                    "sample_fps": line.sample_fps,
                    "resized_height": size[1],
                    "resized_width": size[0],
                }
            ],
            "ability": sample.task,
            "reward_model": {
                "style": "rule",
                "ground_truth": json.dumps(sample.ground if sample.ground is not None else {}, ensure_ascii=False),
            },
            "extra_info": extra,
        }

    def _boxes_as_said(self, sample: Sample, canvas: tuple[int, int], size: tuple[int, int]) -> str:
        family, decimals = self.settings.model_family, self.settings.stg_decimals
        boxes = {float(time): tuple(box) for time, box in sample.ground["boxes"].items()}
        said = {time: to_model(box, canvas, size, family) for time, box in boxes.items()}
        for at, box in said.items():
            rounded = [round(value, decimals) for value in box]
            self.audit.rounding[sample.source].append(iou(boxes[at], to_canvas(rounded, canvas, size, family)))
        return render_stg(said, decimals)

    def _files(self, sample: Sample, picks: list[int], size: tuple[int, int], canvas: tuple[int, int]) -> list[str]:
        boxed, box = sample.region or (None, None)
        files = []
        for listed in (sample.frames[pick] for pick in picks):
            if listed == boxed:
                files.append(self.store.request(listed, size, box, canvas))
            elif self.settings.frame_store:
                files.append(self.store.request(listed, size))
            else:
                files.append(self.root.find(listed)[0])
        return files

    def _count(self, sample: Sample, line: Any) -> None:
        counts = self.audit.timeline[sample.source]
        changed = {"moved": line.moved, "repeated": line.repeated, "left_out": line.left_out}
        counts.update({"rows": 1, "rows_at_lower_rate": int(line.divisor > 1), **changed})
        tolerance = max(1.0, 1 / sample.fps)
        late = max(_gold_times(sample), default=0.0) > line.duration + tolerance
        counts["rows_with_gold_outside"] += int(late or min(_gold_times(sample), default=0.0) < -tolerance)
        ends = ((sample.frames[i], sample.numbers[i]) for i in (0, -1))
        counts["rows_with_other_file_numbers"] += int(any(_file_number(path) != number for path, number in ends))


def _keep_boxed(picks: list[int], times: Sequence[float], boxed: Sequence[bool]) -> list[int]:
    """The list with the boxed frame in it: where no tick shows it, it takes the place of the nearest one."""
    if not any(boxed[pick] for pick in picks):
        wanted = boxed.index(True)
        picks[min(range(len(picks)), key=lambda tick: abs(times[picks[tick]] - times[wanted]))] = wanted
    return picks


def _gold_times(sample: Sample) -> list[float]:
    ground = sample.ground or {}
    spans = [*ground.get("spans", []), *((event["start"], event["end"]) for event in ground.get("events", []))]
    return [time for span in spans for time in span] + [float(time) for time in ground.get("boxes", {})]


def _file_number(path: str) -> int | None:
    digits = path.rsplit("/", 1)[-1].rsplit(".", 1)[0].rsplit("_", 1)[-1]
    return int(digits) if digits.isdecimal() else None


def convert_all(
    files: Sequence[str], converter: Converter, settings: Settings, audit: Audit
) -> Iterator[list[dict[str, Any]]]:
    """Batches of finished rows, in the order of the input."""
    batch: list[tuple[Sample, dict[str, Any]]] = []
    for sample in _samples(files, settings, audit):
        try:
            batch.append((sample, converter.row(sample)))
        except FrameError as error:
            _reject(error, settings, audit)
        if len(batch) >= _BATCH:
            yield _finish(batch, converter.store, settings, audit)
            batch = []
    if batch:
        yield _finish(batch, converter.store, settings, audit)


def _samples(files: Sequence[str], settings: Settings, audit: Audit) -> Iterator[Sample]:
    bar = tqdm(unit=" rows", desc="rows", disable=None, mininterval=1.0)
    for file in files:
        for index, row in read_rows(file):
            bar.update()
            audit.rows["read"] += 1
            try:
                sample = parse_record(row, file, index)
            except RecordError as error:
                _reject(error, settings, audit)
                continue
            audit.identity(sample)
            if sample.task in settings.tasks:
                # Only the name: where the file lay is no part of the data, and would make equal runs differ.
                yield replace(sample, file=os.path.basename(file))
            else:
                audit.rows["other_tasks"] += 1
    bar.close()


def _reject(error: RecordError | FrameError, settings: Settings, audit: Audit) -> None:
    if not settings.skip_bad_rows:
        raise error
    audit.reject(error)


def _finish(
    batch: list[tuple[Sample, dict[str, Any]]], store: FrameStore, settings: Settings, audit: Audit
) -> list[dict[str, Any]]:
    """The batch's rows whose frames could all be stored."""
    errors = store.flush()
    rows = []
    for sample, row in batch:
        broken = next((path for path in row["videos"][0]["video"] if path in errors), None) if errors else None
        if broken:
            _reject(errors[broken].at(sample.file, sample.index), settings, audit)
            continue
        audit.written(sample, row)
        rows.append(row)
    return rows


def write_splits(
    batches: Iterator[list[dict[str, Any]]], output: Path, scratch: Path, settings: Settings
) -> tuple[dict[str, Counter[str]], set[tuple[str, str]]]:
    """Writes the rows to one parquet per split in `scratch`: rows of each split and pair, and validation videos.

    Which video is for validation is known only when all rows are: they wait in an Arrow file, not in memory.
    """
    columns = schema(settings.tokenizer is not None)
    counts: Counter[tuple[tuple[str, str], str]] = Counter()
    waiting = scratch / "rows.arrow"
    with pa.OSFile(str(waiting), "wb") as sink, pa.ipc.new_file(sink, columns) as writer:
        for rows in batches:
            for row in rows:
                extra = row["extra_info"]
                if extra["split"] != "test":
                    counts[(extra["source"], extra["video_id"]), row["data_source"]] += 1
            writer.write_batch(pa.RecordBatch.from_pylist(rows, schema=columns))
    validation = choose_validation(counts, settings.val_fraction, settings.seed)
    per_split: dict[str, Counter[str]] = {split: Counter() for split in SPLITS}
    with ExitStack() as stack:
        reader = pa.ipc.open_file(stack.enter_context(pa.memory_map(str(waiting))))
        writers: dict[str, pq.ParquetWriter] = {}
        for number in range(reader.num_record_batches):
            batch = _with_split(reader.get_batch(number), validation)
            splits = pc.struct_field(batch["extra_info"], "split")
            for split in SPLITS:
                part = batch.filter(pc.equal(splits, split))
                if part.num_rows:
                    if split not in writers:
                        path = scratch / f"{split}.parquet"
                        writers[split] = stack.enter_context(pq.ParquetWriter(path, columns, compression="zstd"))
                    writers[split].write_batch(part, row_group_size=_BATCH)
                    per_split[split].update(part["data_source"].to_pylist())
    waiting.unlink()
    return per_split, validation


def _with_split(batch: pa.RecordBatch, validation: set[tuple[str, str]]) -> pa.RecordBatch:
    extra = batch["extra_info"]
    columns = {extra.type.field(i).name: column for i, column in enumerate(extra.flatten())}
    videos = zip(columns["source"].to_pylist(), columns["video_id"].to_pylist(), strict=True)
    splits = [
        split or ("val" if video in validation else "train")
        for split, video in zip(columns["split"].to_pylist(), videos, strict=True)
    ]
    columns["split"] = pa.array(splits, pa.string())
    new = pa.StructArray.from_arrays(list(columns.values()), fields=list(extra.type))
    return batch.set_column(batch.schema.get_field_index("extra_info"), batch.schema.field("extra_info"), new)


def _sha256(path: str | Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def fingerprint(inputs: list[dict[str, Any]], frames_root: str, output: Path, settings: Settings) -> str:
    """Hash of what decides the output: inputs, settings, places (stored paths are absolute), and this code."""
    here = Path(__file__).resolve().parent
    names = ("medvidbench", "records", "timeline", "geometry", "frames", "splits")
    code = [here / f"{name}.py" for name in names]
    code += [here.parent / "reward_score" / name for name in ("answers.py", "boxes.py")]
    parts = {
        "inputs": [(Path(entry["file"]).name, entry["sha256"]) for entry in inputs],
        "frames_root": os.path.realpath(frames_root),
        "output": str(output),
        "settings": asdict(settings),
        "code": [_sha256(path) for path in code if path.exists()],
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def up_to_date(output: Path, key: str) -> dict[str, Any] | None:
    """The audit of a finished run with this fingerprint whose files are all there, else None."""
    try:
        audit = json.loads((output / "audit.json").read_text())
        if audit["fingerprint"] != key:
            return None
        sizes = {name: entry["bytes"] for name, entry in audit["outputs"].items()}
        return audit if all((output / name).stat().st_size == size for name, size in sizes.items()) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def publish(scratch: Path, output: Path, audit: dict[str, Any]) -> None:
    """Moves the finished files to their names, the audit last; parquet of an earlier run that has no successor goes."""
    (output / "audit.json").unlink(missing_ok=True)
    for split in SPLITS:
        name = f"{split}.parquet"
        made = scratch / name
        if made.exists():
            _sync(made)
            os.replace(made, output / name)
        else:
            (output / name).unlink(missing_ok=True)
    partial = scratch / "audit.json"
    partial.write_text(json.dumps(audit, indent=1, ensure_ascii=False) + "\n")
    _sync(partial)
    os.replace(partial, output / "audit.json")


@contextmanager
def _alone(output: Path) -> Iterator[None]:
    """Holds the output folder for this run; a second run into it is refused."""
    with open(output / ".medvidbench.lock", "w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SettingsError(f"{output}: another run is writing here") from None
        yield


def _sync(path: Path) -> None:
    with open(path, "rb") as handle:
        os.fsync(handle.fileno())


def run(files: Sequence[str], frames_root: str, output: str | Path, settings: Settings, force: bool = False) -> dict:
    """The whole command; returns the audit, that of the earlier run where there is nothing to do.

    Raises:
        RecordError, FrameError: a row or a frame that cannot be used (with `skip_bad_rows`: counted instead).
        SettingsError: settings that cannot be used, or no row left to write.
        OSError: the disk.
    """
    begun = time.monotonic()
    output = Path(output).absolute()
    inputs = []
    for file in files:
        try:
            inputs.append({"file": file, "bytes": os.path.getsize(file), "sha256": _sha256(file)})
        except OSError as error:
            raise RecordError(file, None, "", "a readable file", error.strerror or str(error)) from None
    try:
        processed_size((640, 480), settings.model_family, settings.min_pixels, settings.max_pixels)
    except ValueError as error:
        raise SettingsError(str(error)) from None
    key = fingerprint(inputs, frames_root, output, settings)
    done = None if force else up_to_date(output, key)
    if done is not None:
        return {**done, "up_to_date": True}
    root = FrameRoot(frames_root)
    output.mkdir(parents=True, exist_ok=True)
    with _alone(output):
        return _run(inputs, root, output, settings, key, begun)


def _run(
    inputs: list[dict[str, Any]], root: FrameRoot, output: Path, settings: Settings, key: str, begun: float
) -> dict[str, Any]:
    need = sum(entry["bytes"] for entry in inputs) + _SPARE_BYTES
    if (free := shutil.disk_usage(output).free) < need:
        raise SettingsError(f"{output}: {free >> 20} MiB free, expected at least {need >> 20} MiB")
    for stale in output.glob(".medvidbench-*"):
        shutil.rmtree(stale, ignore_errors=True)
    audit = Audit()
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=".medvidbench-", dir=output)))
        workers = min(2, os.cpu_count() or 1)
        store = stack.enter_context(FrameStore(root, output / "frames", f".{settings.frame_format}", workers))
        converter = Converter(settings, root, store, audit)
        batches = convert_all([entry["file"] for entry in inputs], converter, settings, audit)
        per_split, validation = write_splits(batches, output, scratch, settings)
        if not audit.rows["written"]:
            raise SettingsError(f"no row to write: {audit.rows['read']} read, {audit.rows['rejected']} rejected")
        outputs = {
            path.name: {
                "rows": sum(per_split[path.stem].values()),
                "bytes": path.stat().st_size,
                "sha256": _sha256(path),
            }
            for path in sorted(scratch.glob("*.parquet"))
        }
        report = {
            "format": 1,
            "fingerprint": key,
            "settings": asdict(settings),
            "inputs": inputs,
            "frames_root": root.root,
            "outputs": outputs,
            **audit.report(per_split),
            "validation_videos": sorted(list(video) for video in validation),
            "frames": {"made": store.made, "reused": store.reused},
            "wall_s": round(time.monotonic() - begun, 3),
        }
        publish(scratch, output, report)
    return report


def print_summary(audit: dict[str, Any], output: str) -> None:
    """The audit in short: one line a pair, then the totals."""
    if audit.get("up_to_date"):
        print(f"{output}: up to date ({audit['rows']['written']} rows)")
        return
    print(f"{'pair':<38} {'train':>7} {'val':>7} {'test':>7} {'frames':>7} {'seconds':>8}")
    for pair, entry in audit["pairs"].items():
        counts = " ".join(f"{entry[split]:>7}" for split in SPLITS)
        print(f"{pair:<38} {counts} {entry['frames']['mean']:>7.1f} {entry['duration']['mean']:>8.1f}")
        if entry["train"] and not entry["val"] and audit["settings"]["val_fraction"] > 0:
            print(f"warning: {pair} has no validation rows", file=sys.stderr)
    rows, frames = audit["rows"], audit["frames"]
    print(
        f"{rows['written']} of {rows['read']} rows written to {output} ({rows['rejected']} rejected, "
        f"{rows['other_tasks']} of other tasks), {frames['made']} frames made, {frames['reused']} reused, "
        f"{audit['wall_s']:.1f} s"
    )


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="medvidbench.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = Settings()
    add = parser.add_argument
    add("--annotations", nargs="+", required=True, metavar="FILE", help="JSON list or JSON lines, gzipped or not")
    add("--frames-root", required=True, metavar="DIR", help="folder that holds the listed frames")
    add("--output", required=True, metavar="DIR")
    add("--model-family", choices=sorted(FACTORS), default=default.model_family)
    add("--min-pixels", type=int, default=default.min_pixels, help="of a processed frame (%(default)s)")
    add("--max-pixels", type=int, default=default.max_pixels, help="of a processed frame (%(default)s)")
    add("--val-fraction", type=float, default=default.val_fraction, help="share of each pair's rows (%(default)s)")
    add("--seed", type=int, default=default.seed, help="of the split (%(default)s)")
    add("--tasks", nargs="+", choices=TASKS, default=list(default.tasks), help="tasks to write (all)")
    add("--tokenizer", metavar="DIR", help="store each prompt's length in tokens, by this tokenizer")
    add("--frame-store", action=argparse.BooleanOptionalAction, default=True, help="resize frames once, ahead")
    add("--frame-format", choices=("png", "jpg"), default=default.frame_format, help="of stored frames (%(default)s)")
    add("--stg-decimals", type=int, choices=range(4), default=default.stg_decimals, help="in box targets (%(default)s)")
    add("--system-prompt", action=argparse.BooleanOptionalAction, default=False, help="state the format of vs, cvs, sa")
    add("--skip-bad-rows", action="store_true", help="count unusable rows in the audit instead of stopping")
    add("--force", action="store_true", help="convert even when up to date")
    options = parser.parse_args(arguments)
    if not 0 <= options.val_fraction < 1:
        parser.error(f"--val-fraction {options.val_fraction}: expected 0 to below 1")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; the exit status: 0, or 2 with one line on stderr."""
    options = parse_arguments(arguments)
    values = {name: getattr(options, name) for name in Settings.__dataclass_fields__}
    settings = Settings(**{**values, "tasks": tuple(task for task in TASKS if task in options.tasks)})
    try:
        audit = run(options.annotations, options.frames_root, options.output, settings, options.force)
    except (RecordError, FrameError, SettingsError) as error:
        print(f"medvidbench.py: error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        place = error.filename or options.output
        print(f"medvidbench.py: error: {place}: {error.strerror or error}", file=sys.stderr)
        return 2
    print_summary(audit, options.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
