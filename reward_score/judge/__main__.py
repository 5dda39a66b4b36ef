# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Look into the judge's store, export its verdicts, remove old ones.

    python -m reward_score.judge cache stats  --store FOLDER [--json]
    python -m reward_score.judge cache export --store FOLDER [--output verdicts.jsonl]
    python -m reward_score.judge cache prune  --store FOLDER [--older-than DAYS] [--model NAME] [--prompt VERSION]
                                              [--max-mb SIZE] [--dry-run]

FOLDER is the folder in the judge's setting ``store``. The store keeps each verdict under a digest of the judged texts
and not the texts themselves. `stats` and `export` can be used during a run; `prune` only between runs.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..paid_call import CallError
from ..paid_call.metering import FAILED
from ..paid_call.store.maintenance import prune, reply_lines, statistics


def statistics_lines(found: dict[str, Any]) -> list[str]:
    """What `statistics` found, as lines of text."""
    total = sum(group["n"] for group in found["verdicts"])
    lines = [f"{total} verdicts, {found['bytes'] / 2**20:.1f} MB in use, {found['file_bytes'] / 2**20:.1f} MB of file"]
    if total:
        days = [time.strftime("%Y-%m-%d", time.localtime(found[name])) for name in ("oldest", "newest")]
        lines.append(f"oldest of {days[0]}, newest of {days[1]}")
    lines += [f"  {group['n']:>9}  {group['model']}  {group['prompt']}  {group['task']}" for group in found["verdicts"]]
    for lane, counters in sorted(found["lanes"].items()):
        n = Counter(counters)
        failed = sum(value for name, value in counters.items() if name.startswith(FAILED))
        lines.append(
            f"{lane}: {n['judgements']:.0f} judgements ({n['cache_hits']:.0f} from the store), {failed:.0f} failed, "
            f"{n['calls']:.0f} calls, {n['prompt_tokens']:.0f} + {n['completion_tokens']:.0f} tokens, "
            f"${n['cost_usd']:.4f} spent, ${n['unconfirmed_usd']:.4f} perhaps spent"
        )
    return lines


def write_lines(output: Path, lines: Iterable[str]) -> int:
    """Write all lines under the final name, or nothing; how many they were."""
    output.parent.mkdir(parents=True, exist_ok=True)
    handle, draft = tempfile.mkstemp(dir=output.parent, prefix=f".{output.name}.")
    try:
        number = 0
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            for number, line in enumerate(lines, 1):
                file.write(line)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(draft, 0o644)
        os.replace(draft, output)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise
    return number


def positive(text: str) -> float:
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"{text}: expected more than 0")
    return value


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m reward_score.judge",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    cache = parser.add_subparsers(dest="part", required=True).add_parser("cache", help="manage the store of verdicts")
    uses = cache.add_subparsers(dest="use", required=True)
    folder = argparse.ArgumentParser(add_help=False)
    folder.add_argument("--store", required=True, type=Path, metavar="FOLDER", help="the store's folder")
    stats = uses.add_parser("stats", parents=[folder], help="count verdicts, bytes and costs", allow_abbrev=False)
    stats.add_argument("--json", action="store_true", help="print one JSON object")
    export = uses.add_parser("export", parents=[folder], help="write the verdicts as JSON lines", allow_abbrev=False)
    export.add_argument("--output", type=Path, help="file to write (default: standard output)")
    prune = uses.add_parser("prune", parents=[folder], help="remove verdicts", allow_abbrev=False)
    prune.add_argument("--older-than", type=positive, metavar="DAYS", help="verdicts not used for this many days")
    prune.add_argument("--model", help="only verdicts of this model")
    prune.add_argument("--prompt", help="only verdicts of this prompt version")
    prune.add_argument("--max-mb", type=positive, help="then remove the least recently used ones, down to this size")
    prune.add_argument("--dry-run", action="store_true", help="say how many would be removed, and remove nothing")
    args = parser.parse_args(argv)
    if args.use == "prune" and (args.older_than, args.model, args.prompt, args.max_mb) == (None,) * 4:
        prune.error("expected at least one of --older-than, --model, --prompt, --max-mb")
    return args


def run(args: argparse.Namespace) -> None:
    if args.use == "stats":
        found = statistics(args.store)
        print(json.dumps(found, indent=2) if args.json else "\n".join(statistics_lines(found)))
    elif args.use == "export" and args.output:
        print(f"{args.output}: {write_lines(args.output, reply_lines(args.store))} verdicts")
    elif args.use == "export":
        sys.stdout.writelines(reply_lines(args.store))
    else:
        chosen = {name: vars(args)[name] for name in ("model", "prompt", "max_mb", "dry_run")}
        removed = prune(args.store, older_than_days=args.older_than, **chosen)
        print(f"{args.store}: {removed} verdicts {'would be ' if args.dry_run else ''}removed")


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    try:
        run(args)
    except BrokenPipeError:
        # `export | head`: the reader has what it wanted. Python would complain again when it closes the stream.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        print("judge: interrupted", file=sys.stderr)
        return 130
    except (CallError, OSError) as error:
        print(f"judge: error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
