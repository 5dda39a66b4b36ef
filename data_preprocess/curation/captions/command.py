# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Have clips described by two captioners, keep what passes validation, and write it as rows.

    python data_preprocess/curate.py caption CholecT50 --root DIR --frames-root FRAMES --output OUT
        --captioner-a base_url=URL model=NAME [key_variable=VAR ...] --captioner-b base_url=URL model=NAME [...]

A captioner is any OpenAI-compatible endpoint that takes images, hosted or an own model under `vllm serve`. Its
NAME=VALUE arguments are the settings of a paid call: prompt_price and completion_price (dollars per million tokens),
budget_usd, requests_per_min, tokens_per_min, max_in_flight, max_tokens, temperature, prompts (a folder of other
prompts), and more. The key is in OPENAI_API_KEY or in the variable that key_variable names.

`OUT/captions.json` is what `medvidbench.py` reads: dense captions, summaries and captions of regions, both
captioners' (`_a` and `_b`). `OUT/curation.json` says what it was made of: prompts, models, counts by reason, dollars.
The tables beside it keep every step: started again, the command asks for what is missing alone, and with another
--set similarity=... it asks for nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
import sys
from argparse import Namespace
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson
from tqdm import tqdm

from data_preprocess.atomic import write_json, write_json_list
from data_preprocess.curation.asking import spent
from data_preprocess.curation.captions import arguments as shared
from data_preprocess.curation.captions.captioner import SIDES, Captioner
from data_preprocess.curation.captions.pipeline import Asked, Describing, Folder, decide
from data_preprocess.curation.captions.rows import caption_row
from data_preprocess.curation.captions.stand_in import found_out
from data_preprocess.curation.captions.validation import RULES, KeepSettings
from data_preprocess.curation.produce import FORMAT, MANIFEST
from data_preprocess.curation.rows.wordings import wordings
from data_preprocess.curation.workers import Workers
from data_preprocess.frames import FrameRoot
from data_preprocess.provenance import sha256
from data_preprocess.wording import Parser, status_of
from reward_score.similarity import load_similarity

ROWS, STORE = "captions.json", "calls"


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line entry; returns the exit status."""
    made = shared.parser("caption", __doc__ or "", KeepSettings)
    made.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder to write")
    for side in SIDES:
        made.add_argument(f"--captioner-{side}", nargs="+", required=True, metavar="NAME=VALUE", help="see above")
    made.add_argument("--frames", action="store_true", help="write the frames that are not there, from the sources")
    made.add_argument("--leave-open", type=int, default=0, metavar="N", help="contexts that may stay undescribed")
    made.add_argument("--wordings", default="", metavar="FILE", help="questions in other words, in the form of ours")
    made.add_argument("--encoder", help="sentence encoder, as the reward's setting (default: the packaged MiniLM)")
    made.add_argument("--mistakes", nargs="+", type=Path, metavar="LOG", help="of stand-ins: say what was found")
    options = made.parse_args(arguments)
    if options.leave_open < 0:
        made.error("--leave-open: expected a number from 0")
    if missing := next((log for log in options.mistakes or () if not log.is_file()), None):
        made.error(f"--mistakes: expected the log of a stand-in, found no file {missing}")
    both = [shared.captioner_options(made, f"--captioner-{side}", vars(options)[f"captioner_{side}"]) for side in SIDES]
    return status_of("curate", lambda: _run(made, options, both), shared.WRONG)


def _run(made: Parser, options: Namespace, given: Sequence[dict[str, Any]]) -> int:
    asked, (keep,) = shared.asked_for(options, made, KeepSettings, frames=options.frames)
    both = [shared.make_captioner(made, one, options.output / STORE) for one in given]
    if both[0].asks == both[1].asks:
        made.error("--captioner-b: expected another model's name or sampling than the first's")
    words, similarity = wordings(options.wordings), load_similarity(options.encoder)
    folder = Folder(options.output)
    try:
        total = sum(1 for _ in asked)
        with tqdm(total=total, unit=" contexts", desc="describing", disable=None, mininterval=1.0) as bar:
            workers = Workers(options.threads, options.engine)
            work = Describing(folder, both, FrameRoot(options.frames_root), options.at_once, workers)
            came = asyncio.run(work.run(asked, bar.update))
        if len(came.unreadable) > options.max_rejects * total or (total and len(came.unreadable) == total):
            print(
                f"curate: error: {len(came.unreadable)} of {total} contexts have frames that are missing or broken, "
                f"such as {min(came.unreadable.values())} (--max-rejects is {options.max_rejects:g}; --frames writes "
                "those that are missing)",
                file=sys.stderr,
            )
            return 2
        if came.open > options.leave_open:
            kinds = ", ".join(f"{kind} {count}" for kind, count in came.failures.most_common())
            print(
                f"curate: error: {came.open} of {total} contexts are open ({kinds}); started again, they are asked for "
                "again. --leave-open writes the rows without them",
                file=sys.stderr,
            )
            return 2
        counts, reasons, told = Counter[str](), Counter[str](), hashlib.sha256()

        def rows() -> Iterator[bytes]:
            for one in decide(folder, asked, both, keep, similarity):
                pair = f"{shared.pair_of(one.context)}_{one.side}"
                counts[f"{pair} described"] += 1
                told.update(one.context.key.encode())
                reasons.update([*one.reasons, *(f"flagged: {flag}" for flag in one.flags)])
                if not one.reasons and one.description is not None:
                    counts[f"{pair} kept"] += 1
                    yield orjson.dumps(caption_row(one.context, one.description, one.side, words))

        write_json_list(options.output / ROWS, rows())
        settings = {**asked.about["settings"], **asdict(keep), "words": words.digest}
        manifest = _manifest(both, came, counts, reasons, settings, told.hexdigest())
        manifest |= {
            "sources": asked.about["sources"],
            "encoder": options.encoder or "all-MiniLM-L6-v2",
            "open": came.open,
            "unreadable": dict(sorted(Counter(came.unreadable.values()).items())),
            "sha256": sha256(options.output / ROWS),
        }
        write_json(options.output / MANIFEST, manifest)
        print("\n".join(_report(manifest)))
        if options.mistakes:
            print("\n".join(found_out(folder.descriptions, folder.decisions, options.mistakes)))
        print(f"{manifest['rows']:,} rows written to {options.output / ROWS}")
        return 0
    finally:
        folder.close()


def _manifest(
    both: Sequence[Captioner], came: Asked, counts: Counter[str], reasons: Counter[str], settings: dict, told: str
) -> dict[str, Any]:
    pairs = sorted({name.rpartition(" ")[0] for name in counts})
    tasks = sorted({pair.split("/")[1].rpartition("_")[0] for pair in pairs})
    return {
        "format": FORMAT,
        "rows": sum(counts[f"{pair} kept"] for pair in pairs),
        "pairs": {pair: {"described": counts[f"{pair} described"], "kept": counts[f"{pair} kept"]} for pair in pairs},
        "rejected": {name: count for name, count in sorted(reasons.items()) if not name.startswith("flagged")},
        "flagged": {name.partition(": ")[2]: n for name, n in sorted(reasons.items()) if name.startswith("flagged")},
        "captioners": {
            side: {
                **{name: value for name, value in one.settings().items() if name not in shared.HIDDEN},
                "prompts": {task: [one.prompt(task).version, one.prompt(task).digest] for task in tasks},
                "price_known": one.price_known,
            }
            for side, one in zip(SIDES, both, strict=True)
        },
        "asked": {"new": came.new, "there": came.there, "failures": dict(came.failures)},
        **spent(both[0]),
        "rules": RULES,
        "settings": settings,
        "contexts_sha256": told,
    }


def _report(manifest: dict[str, Any]) -> Iterator[str]:
    yield f"{'pair':<28} {'described':>10} {'kept':>8}"
    for pair, found in manifest["pairs"].items():
        yield f"{pair:<28} {found['described']:>10,} {found['kept']:>8,}"
    for what in ("rejected", "flagged"):
        yield from (f"{what}: {reason}: {count:,}" for reason, count in manifest[what].items())
    yield from (f"left out: {why}: {count:,} contexts" for why, count in manifest["unreadable"].items())
    for side, one in manifest["captioners"].items():
        cost = f"${manifest['cost_usd'].get(one['model'], 0.0):.4f}" if one["price_known"] else "its price is not known"
        yield f"captioner {side}: {one['model']}: {cost}"
