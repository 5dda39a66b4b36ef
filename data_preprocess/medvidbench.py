# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Turn MedVidBench / MedVidU annotations into verl parquet.

    python data_preprocess/medvidbench.py --annotations trainval.json --frames-root DIR --output DIR
    python data_preprocess/medvidbench.py --annotations a.json b.jsonl.gz --frames-root DIR --output DIR \\
        --model-family qwen3_vl --tokenizer MODEL_DIR --max-prompt-tokens 8192 --thin uniform --subset 51505
    python data_preprocess/medvidbench.py inspect trainval.json     # keys, counts, one example per pair
    python data_preprocess/medvidbench.py leaks trainval.json       # do frame lists give answers away?

Writes `train.parquet` and `val.parquet` (split by source video), `test.parquet` for rows without answers, the resized
frames, and `audit.json`, which says what was read, written, rejected and changed. All files are written atomically. An
interrupted run resumes. If inputs and settings equal those of the audit, the command does nothing.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

if not __package__:
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tqdm import tqdm

from data_preprocess import leaks, overview
from data_preprocess.annotations import RecordError
from data_preprocess.audit import Audit
from data_preprocess.convert import Settings
from data_preprocess.frame_store import identify
from data_preprocess.frames import FrameError
from data_preprocess.geometry import processed_size
from data_preprocess.json_stream import not_regular
from data_preprocess.options import Running, parse_arguments, settings_of
from data_preprocess.parts import PipelineError
from data_preprocess.pipeline import SPLITS, Splitting, choose_rows, make_parts, write_splits
from data_preprocess.prompt_length import TokenizerError
from data_preprocess.provenance import FORMAT, curated, describe, portable, sha256
from data_preprocess.publishing import OutputError, publish, to_replace, up_to_date
from data_preprocess.wording import is_text, short, status_of

# What must be free on the output's disk beyond a tenth of the annotations' own size (measured: parts and parquet).
_SPARE_BYTES = 64 << 20
# After this many rows, a run stops when more than half of them are unusable.
_HOPELESS = 1_000
# Of the reasons for rejects, so many are named where no row is left.
_REASONS = 3


class SettingsError(ValueError):
    """A setting that cannot be used."""


def _state(file: str) -> tuple[int, ...]:
    """What changes when a file is written to, or replaced."""
    found = os.stat(file)
    return (found.st_size, found.st_mtime_ns, found.st_ino)


@contextmanager
def _alone(output: Path) -> Iterator[None]:
    """Holds the output folder for this run; a second run into it is refused."""
    with open(output / ".medvidbench.lock", "w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SettingsError(f"{output}: another run is writing here") from None
        yield


def run(
    files: Sequence[str], output: str | Path, settings: Settings, splitting: Splitting, running: Running
) -> dict[str, Any]:
    """The whole conversion; returns the audit, that of the earlier run where there is nothing to do.

    Raises:
        RecordError, FrameError: a file that cannot be read, no frames root.
        SettingsError: settings that cannot be used, too many unusable rows, or no row left to write.
        OutputError: the folder holds parquet of other annotations or settings.
        PipelineError: a worker died.
        OSError: the disk.
    """
    begun = time.monotonic()
    for path in (*files, str(output), settings.frames_root, settings.frame_store):
        if not is_text(path):
            raise SettingsError(f"{short(path)}: the name is not valid Unicode, which parquet needs")
    output = Path(output).absolute()
    names = Counter(os.path.basename(file) for file in files)
    if twice := [name for name, count in names.items() if count > 1]:
        raise SettingsError(f"two inputs are named {twice[0]}: rows are known by file name and number, rename one")
    inputs: list[dict[str, Any]] = []
    states: dict[str, tuple[int, ...]] = {}
    for file in files:
        if (kind := not_regular(file)) is not None:
            raise RecordError(file, None, "", "a file that can be read twice", kind)
        try:
            states[file] = _state(file)
            inputs.append({"file": file, "bytes": states[file][0], "sha256": sha256(file)})
        except OSError as error:
            raise RecordError(file, None, "", "a readable file", error.strerror or str(error)) from None
    try:
        processed_size((640, 480), settings.model_family, settings.min_pixels, settings.max_pixels)
    except ValueError as error:
        raise SettingsError(str(error)) from None
    metadata = describe(inputs, settings, splitting)
    key = metadata["medgrpo.fingerprint"]
    store = identify(settings.frame_store) if settings.frame_store else ""
    done = None if running.force else up_to_date(output, key, store, running.max_rejects, settings.verify)
    if done is not None:
        return {**done, "up_to_date": True}
    if settings.verify != "none" and not os.path.isdir(settings.frames_root):
        raise FrameError(settings.frames_root, "expected a folder of frames (--frames-root)")
    output.mkdir(parents=True, exist_ok=True)
    with _alone(output):
        to_replace(output, metadata)
        need = sum(entry["bytes"] for entry in inputs) // 10 + _SPARE_BYTES
        if (free := shutil.disk_usage(output).free) < need:
            raise SettingsError(f"{output}: {free >> 20} MiB free, expected at least {need >> 20} MiB")
        # Parts belong to this run, and to frames that are still there. Those of other annotations are another run's.
        mine = f".medvidbench-{_digest(''.join(sorted(names)))[:8]}-"
        scratch = output / f"{mine}{_digest(key + store)[:16]}"
        for stale in output.glob(f"{mine}*"):
            if stale != scratch or not running.resume or running.force:
                shutil.rmtree(stale, ignore_errors=True)
        scratch.mkdir(exist_ok=True)
        found = _run(states, scratch, settings, splitting, running, metadata)
        report = {"format": FORMAT, "fingerprint": key, "frame_store_id": store, "inputs": inputs, **found}
        if made_by := curated(inputs):
            report["curation"] = made_by
        report["wall_s"] = round(time.monotonic() - begun, 3)
        made = [Path(name).stem for name in report["outputs"]]
        try:
            publish(scratch, output, report, to_replace(output, metadata, made))
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        return report


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _run(
    states: dict[str, tuple[int, ...]],
    scratch: Path,
    settings: Settings,
    splitting: Splitting,
    running: Running,
    metadata: dict[str, str],
) -> dict[str, Any]:
    """Makes parts and splits of the files in `states` in the scratch folder; what the audit says of them."""
    audit, parts = Audit(), []
    try:
        with tqdm(unit=" rows", desc="rows", disable=None, mininterval=1.0) as bar:
            for part in make_parts(list(states), settings, scratch, running.workers, running.engine):
                audit.merge(vars(part.audit))
                parts.append(part.path)
                bar.update(part.audit.rows["read"])
                _refuse_rejects(audit, running.max_rejects, final=False)
        _refuse_spaces(audit, settings)
        _refuse_rejects(audit, running.max_rejects, final=True)
        if not audit.rows["written"]:
            why = "".join(f"; {x['rows']} rows: {x['examples'][0]}" for x in audit.reasons()[:_REASONS])
            raise SettingsError(f"no row to write: {audit.rows['read']} read, {audit.rows['rejected']} rejected{why}")
        if changed := next((file for file, state in states.items() if _state(file) != state), None):
            raise RecordError(changed, None, "", "a file that stays as it is while it is read", "another one")
    except (RecordError, FrameError, SettingsError, TokenizerError):
        # The input is wrong: the next run cannot use these parts.
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    validation, subset, shared = choose_rows(parts, splitting)
    with tqdm(total=audit.rows["written"], unit=" rows", desc="parquet", disable=None, mininterval=1.0) as bar:
        with_tokens = bool(settings.tokenizer)
        per_split = write_splits(parts, scratch, with_tokens, validation, subset, metadata, bar.update)
    outputs = {
        path.name: {"rows": sum(per_split[path.stem].values()), "bytes": path.stat().st_size, "sha256": sha256(path)}
        for path in sorted(scratch.glob("*.parquet"))
    }
    return {
        "settings": portable(settings),
        "splitting": asdict(splitting),
        "outputs": outputs,
        **audit.report(per_split),
        "frame_rejects": audit.frame_rejects,
        "validation_groups": sorted(validation),
        "test_groups_with_answers": shared,
    }


def _refuse_spaces(audit: Audit, settings: Settings) -> None:
    """Ends a run with a source whose boxes count something else than pixels of its canvas, unless the user named it."""
    for source, counts in sorted(audit.boxes.items()):
        finding, certain = counts.finding()
        if certain and source not in dict(settings.box_spaces):
            raise SettingsError(
                f"{source}: {finding} (--box-space {source}=SPACE converts them, --box-space {source}=canvas goes on)"
            )


def _refuse_rejects(audit: Audit, share: float, final: bool) -> None:
    """Ends a run with too many unusable rows: at once where none may be, or where most of many are, else at its end."""
    read, rejected = audit.rows["read"], audit.rows["rejected"]
    hopeless = read >= _HOPELESS and rejected > read / 2
    if rejected > share * read and (final or share == 0 or hopeless):
        reasons = audit.reasons()
        more = f", for {len(reasons)} reasons" if len(reasons) > 1 else ""
        raise SettingsError(
            f"{reasons[0]['examples'][0]} ({rejected} of {read} rows are unusable{more}; --max-rejects is {share:g})"
        )


def print_summary(audit: dict[str, Any], output: str) -> None:
    """The audit in short: one line a pair, then what was odd, then the totals."""
    if audit.get("up_to_date"):
        print(f"{output}: up to date ({audit['rows']['written']} rows)")
        return
    print(f"{'pair':<38} {'train':>7} {'val':>7} {'test':>7} {'frames':>7} {'seconds':>8} {'fps':>5}")
    for pair, entry in audit["pairs"].items():
        counts = " ".join(f"{entry[split]:>7}" for split in SPLITS)
        middle = f"{entry['frames']['mean']:>7.1f} {entry['duration']['mean']:>8.1f} {entry['fps']['p50']:>5.2f}"
        print(f"{pair:<38} {counts} {middle}")
        if entry["train"] and not entry["val"] and audit["splitting"]["val_fraction"] > 0:
            print(f"warning: {pair} has no validation rows", file=sys.stderr)
    for title, name in (("flags", "flags"), ("times", "timeline"), ("clock from", "time_rules"), ("clocks", "clocks")):
        for key, counts in audit[name].items():
            print(f"{title}: {key}: {', '.join(f'{name} {count}' for name, count in counts.items())}")
    for source, overlap in audit["stg_rounding_iou"].items():
        print(f"boxes: {source}: IoU of gold and rounded target {overlap['mean']:.4f} (least {overlap['min']:.4f})")
    for source, counts in audit["boxes"].items():
        if counts["finding"]:
            print(f"warning: {source}: {counts['finding']} (--box-space)", file=sys.stderr)
    for source, names in audit["own_groups"].items():
        print(
            f"warning: {source}: {len(names)} video ids follow no rule and are split apart, such as {names[0]}",
            file=sys.stderr,
        )
    for reason in audit["rejected"]:
        print(f"rejected: {reason['rows']} rows: {reason['reason']}; such as {reason['examples'][0]}")
    if shared := audit["test_groups_with_answers"]:
        print(f"test videos that are in train or val too: {len(shared)}, such as {shared[0]}")
    rows = audit["rows"]
    if 0 < audit["splits"]["train"] < audit["splitting"]["subset"]:
        print(f"the subset has {audit['splits']['train']} rows: there are no more")
    left_out = (
        (rows["rejected"], "rejected"),
        (rows["other_tasks"], "of other tasks"),
        (rows["not_in_subset"], "not drawn"),
    )
    print(
        f"{rows['written']} of {rows['read']} rows written to {output} "
        f"({', '.join(f'{count} {what}' for count, what in left_out)}), "
        f"{rows['read'] / max(audit['wall_s'], 1e-3):.0f} rows/s, {audit['wall_s']:.1f} s"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; the exit status: 0, or 2 with one line on stderr (130 when interrupted)."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if arguments[:1] == ["inspect"]:
        return overview.main(arguments[1:])
    if arguments[:1] == ["leaks"]:
        return leaks.main(arguments[1:])
    wrong = (RecordError, FrameError, SettingsError, OutputError, PipelineError, TokenizerError)
    return status_of("medvidbench", lambda: _main(arguments), wrong)


def _main(arguments: list[str]) -> int:
    options = parse_arguments(arguments, __doc__)
    settings, splitting, running = settings_of(options)
    files = options.annotations
    if options.engine == "ray":
        files = [os.path.abspath(file) for file in files]
    print_summary(run(files, options.output, settings, splitting, running), options.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
