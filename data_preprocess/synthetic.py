# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Write a synthetic MedVidBench: annotations in the official format, and frames that show the answers.

    python data_preprocess/synthetic.py --output DIR                       # the tiny set that the CPU run learns from
    python data_preprocess/synthetic.py --output DIR --questions           # with a pair of the task qa, too
    python data_preprocess/synthetic.py --output DIR --world heterogeneous # some pairs easy, others hard
    python data_preprocess/synthetic.py --output DIR --profile full        # real frame sizes and clip lengths
    python data_preprocess/synthetic.py --output DIR --rows 531850 --no-frames    # scale work, a stream
    python data_preprocess/synthetic.py --output DIR --rows 600 --no-frames --plant-leak   # joints at gold boundaries

``DIR/train_annotations.json`` holds all rows with answers (the preprocessor splits by video), ``--test-rows`` adds
``DIR/test_annotations.json`` without them. Frames lie under ``DIR/frames``, where a path of the JSON is found by
leaving out its prefix (``/root/data/``, ``testdata/``, ``valdata/``). Equal settings give equal bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

if not __package__:
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import orjson
from tqdm import tqdm

from data_preprocess import synthetic_rows, synthetic_text, synthetic_video, synthetic_worlds
from data_preprocess.atomic import write_json_list, written_whole
from data_preprocess.synthetic_rows import PAIRS, QUESTION_PAIRS, Settings, rows
from data_preprocess.synthetic_video import PREFIXES, PROFILES, SOURCES, Clip, paint, picture_key
from data_preprocess.wording import Parser, status_of

MARKER = "synthetic.json"
# (videos per source, rows per pair) when not given.
DEFAULTS = {"tiny": (12, 48), "full": (8, 8)}


class SyntheticError(Exception):
    """A wrong argument or place; the message is one line for the user."""


def frame_file(path: str) -> str:
    """Where a path of the annotations lies below the frames root."""
    for prefix in PREFIXES:
        if path.startswith(prefix):
            return path[len(prefix) :]
    raise ValueError(f"unknown prefix: {path}")


def paint_clip(clip: Clip, size: tuple[int, int], root: Path) -> int:
    """Write the clip's listed frames below ``root``, each whole or not at all; returns their number."""
    canvas = SOURCES[clip.source].canvas
    folder = (root / frame_file(clip.frames[0])).parent
    folder.mkdir(parents=True, exist_ok=True)
    done = 0
    for index, path in enumerate(clip.frames):
        if index and clip.numbers[index] == clip.numbers[index - 1]:
            continue
        name = path.rsplit("/", 1)[1]
        with written_whole(folder / name, sync=False) as partial:
            partial.write_bytes(paint(picture_key(clip, index), canvas, size, name[-3:]))
        done += 1
    return done


Pairs = Sequence[tuple[str, str]]


def encoded_rows(
    settings: Settings, count: int, test: bool, frames: Path | None, label: str, pairs: Pairs = PAIRS
) -> Iterator[bytes]:
    """Rows as JSON bytes; paints each clip when it first occurs, where ``frames`` names a root."""
    painted: set[tuple[str, str, int]] = set()
    tiny = settings.profile == "tiny"
    for row, clip in tqdm(rows(settings, count, test, pairs), total=count, desc=label, unit="rows", mininterval=1.0):
        if frames is not None and (key := (clip.source, clip.video_id, clip.numbers[0])) not in painted:
            painted.add(key)
            spec = SOURCES[clip.source]
            paint_clip(clip, spec.tiny_size if tiny else spec.full_size, frames)
        yield orjson.dumps(row)


def generator_fingerprint() -> str:
    """Hash of the generator's own source: another version of it makes another set."""
    digest = hashlib.sha256()
    for module in (synthetic_text, synthetic_worlds, synthetic_video, synthetic_rows):
        digest.update(Path(str(module.__file__)).read_bytes())
    return digest.hexdigest()[:16]


def write_marker(output: Path, marker: dict[str, object]) -> None:
    """Record the settings, and whether the set is complete."""
    with written_whole(output / MARKER) as partial:
        partial.write_text(json.dumps(marker, indent=1), encoding="utf-8")


def is_complete(output: Path, wanted: dict[str, object]) -> bool:
    """Whether ``output`` already holds exactly this set; raises when it holds anything else."""
    if output.exists() and not output.is_dir():
        raise SyntheticError(f"{output}: not a folder")
    if not output.exists() or not any(output.iterdir()):
        return False
    try:
        found = json.loads((output / MARKER).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SyntheticError(f"{output}: not empty and not a synthetic set; choose an empty folder") from None
    except ValueError:
        raise SyntheticError(f"{output / MARKER}: unreadable; remove the folder or choose another") from None
    differing = [key for key in wanted if key != "complete" and found.get(key) != wanted[key]]
    if differing:
        raise SyntheticError(f"{output}: holds a set made with other settings ({', '.join(differing)})")
    return bool(found.get("complete"))


def generate(output: Path, settings: Settings, train: int, test: int, frames: bool, pairs: Pairs = PAIRS) -> bool:
    """Write the set; returns False when it was there already. An interrupted set is written anew."""
    counts = {"train_rows": train, "test_rows": test, "frames": frames, "pairs": len(pairs)}
    marker: dict[str, object] = {"complete": True, "generator": generator_fingerprint(), **asdict(settings), **counts}
    if is_complete(output, marker):
        return False
    output.mkdir(parents=True, exist_ok=True)
    for leftover in output.rglob(".*.tmp"):
        leftover.unlink()
    write_marker(output, marker | {"complete": False})
    root = output / "frames" if frames else None
    write_json_list(output / "train_annotations.json", encoded_rows(settings, train, False, root, "train rows", pairs))
    if test:
        write_json_list(output / "test_annotations.json", encoded_rows(settings, test, True, root, "test rows", pairs))
    write_marker(output, marker)
    return True


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = Parser("synthetic", (__doc__ or "").split("\n\n")[0])
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder to write, empty or absent")
    parser.add_argument("--seed", type=int, default=0, help="seed of everything that is drawn (default 0)")
    parser.add_argument(
        "--profile", choices=tuple(PROFILES), help="size of videos (default: tiny; full with --no-frames)"
    )
    parser.add_argument(
        "--variants",
        choices=("all", "plain"),
        default="all",
        help="all (default): with the oddities of the real files' format",
    )
    parser.add_argument(
        "--world",
        choices=tuple(synthetic_worlds.WORLDS),
        default="even",
        help="heterogeneous: some sources are easier, others harder (default: even)",
    )
    parser.add_argument(
        "--plant-leak", action="store_true", help="join the frame lists of AVOS and NurViD at the gold boundaries"
    )
    parser.add_argument(
        "--videos-per-source", type=int, metavar="N", help="videos per source (default: 12 tiny, 8 full)"
    )
    parser.add_argument("--questions", action="store_true", help="with rows of the task qa, which is not published")
    parser.add_argument("--stills", action="store_true", help="ask about every other region in its one frame alone")
    parser.add_argument("--rows-per-pair", type=int, metavar="N", help="rows per pair (default: 48 tiny, 8 full)")
    parser.add_argument("--rows", type=int, metavar="N", help="rows in all, instead of --rows-per-pair")
    parser.add_argument("--no-frames", action="store_true", help="write annotations only")
    parser.add_argument("--test-rows", action="store_true", help="also write rows without answers, of other videos")
    options = parser.parse_args(arguments)
    options.profile = options.profile or ("full" if options.no_frames else "tiny")
    if options.rows is not None and options.rows_per_pair is not None:
        parser.error("--rows and --rows-per-pair exclude each other")
    for name in ("videos_per_source", "rows_per_pair", "rows"):
        if (value := getattr(options, name)) is not None and value < 1:
            parser.error(f"--{name.replace('_', '-')}: expected a positive number, got {value}")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line entry; returns the exit status."""
    options = parse_arguments(arguments)
    return status_of("synthetic", lambda: _main(options), (SyntheticError,))


def _main(options: argparse.Namespace) -> int:
    videos, per_pair = DEFAULTS[options.profile]
    pairs = (*PAIRS, *QUESTION_PAIRS) if options.questions else PAIRS
    if options.rows is not None:
        # Large sets need the variety of a real one: 80 videos a source are 640 in all, the full set has 626.
        videos = min(80, max(videos, options.rows // (len(pairs) * 12)))
    videos = options.videos_per_source or videos
    settings = Settings(
        options.seed, options.profile, options.variants, videos, options.plant_leak, options.stills, options.world
    )
    train = options.rows or (options.rows_per_pair or per_pair) * len(pairs)
    test = max(len(pairs), train // 4) if options.test_rows else 0
    written = generate(options.output, settings, train, test, not options.no_frames, pairs)
    state = "written" if written else "already there, nothing to do"
    print(
        f"{options.output}: {train} rows with answers, {test} without, {len(pairs)} pairs, seed {options.seed}: {state}"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
