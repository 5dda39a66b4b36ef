# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""How busy two captioners are kept: calls a second over what their latency and the calls in flight allow.

    python tests/benchmarks/bench_captions.py [--contexts 400] [--in-flight 32] [--latency 1.0]

Stand-ins answer on loopback after a fixed latency. Frames are read from disk, drawn on and sent: this is all the work
there is around a call. The goal is 0.9 of the ideal at 1 s.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests/data_preprocess/curation/captions")]

from captioned import captioners, clip_of, paint  # noqa: E402

from data_preprocess.curation.captions.context import PAIRS, Context, ShowSettings, contexts  # noqa: E402
from data_preprocess.curation.captions.pipeline import Describing, Folder  # noqa: E402
from data_preprocess.curation.transcripts import Segment  # noqa: E402
from data_preprocess.frames import FrameRoot  # noqa: E402

SHOW = ShowSettings(frames=8, longest_side=384)


def many(count: int) -> list[Context]:
    """So many contexts: those of all sources, again and again with other words said, so that none is asked twice."""
    base = [one for source in sorted(set(PAIRS["dvc"] + PAIRS["rc"])) for one in contexts(clip_of(source), SHOW)]
    said = [(Segment(0.0, 1.0, f"This is part {turn}."),) for turn in range(-(-count // len(base)))]
    return [replace(one, speech=words) for words in said for one in base][:count]


def stand_in(name: str, latency_s: float) -> tuple[subprocess.Popen, str]:
    command = [sys.executable, str(ROOT / "data_preprocess/curate.py"), "standin", "--name", name]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen([*command, "--latency", str(latency_s)], **pipes, text=True)
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--contexts", type=int, default=400)
    parser.add_argument("--in-flight", type=int, default=32)
    parser.add_argument("--latency", type=float, default=1.0)
    options = parser.parse_args()
    asked = many(options.contexts)
    servers = [stand_in(f"stand-in-{side}", options.latency) for side in "ab"]
    with tempfile.TemporaryDirectory() as where:
        paint(Path(where) / "frames", asked)
        shared = {"api_key": "none", "prompt_price": 0.0, "completion_price": 0.0}
        urls = {f"stand-in-{side}": url for side, (_, url) in zip("ab", servers, strict=True)}
        given = [{"base_url": url, "model": name, **shared} for name, url in urls.items()]
        both = captioners(given, Path(where) / "store", max_in_flight=options.in_flight)
        folder = Folder(Path(where) / "tables")
        work = Describing(folder, both, FrameRoot(Path(where) / "frames"), options.in_flight * 3 // 2)
        begun = time.perf_counter()
        came = asyncio.run(work.run(asked))
        seconds = time.perf_counter() - begun
        folder.close()
    for process, _ in servers:
        process.communicate("")
    ideal = 2 * options.in_flight / options.latency
    rate = came.new / seconds
    print(f"{came.new} descriptions in {seconds:.1f} s: {rate:.1f} a second, {rate / ideal:.2f} of the ideal")


if __name__ == "__main__":
    main()
