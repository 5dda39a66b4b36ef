# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Write what a run is into its folder's plan.json, or say how the run that is there differs.

    python -m recipes.medgrpo run_plan --run outputs/NAME model=qwen2_5_vl seed=0 steps=20

A folder holds one run. Started again with the same settings it goes on, also with more steps; with others it is
refused, because results of two runs would be mixed.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recipes.medgrpo.files import InputError, read_json, write_json
from recipes.medgrpo.terminal import Parser, command

FILE = "plan.json"


def setting(text: str) -> tuple[str, Any]:
    """`NAME=VALUE` as (name, value): a whole number where the value is one, else text. For argparse."""
    name, equals, value = text.partition("=")
    if not equals or not re.fullmatch(r"[a-z][a-z_0-9]*", name):
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE, got {text!r}")
    return name, int(value) if re.fullmatch(r"\d+", value) else value


def record(run: Path, plan: Mapping[str, Any]) -> None:
    """Write the plan of a run; a plan that is there already must be the same, or have fewer `steps`.

    A summary of fewer steps is taken away: the run is not complete any more.

    Raises:
        InputError: the folder holds another run; the message names every setting that differs.
    """
    file = run / FILE
    if not file.exists():
        write_json(file, dict(plan))
        return
    found = read_json(file)
    if not isinstance(found, dict):
        raise InputError(f"{file}: expected an object, found {found!r:.60}")
    names = [name for name in {**plan, **found} if plan.get(name) != found.get(name)]
    if names == ["steps"] and (found.get("steps") or 0) < plan.get("steps", 0):
        (run / "summary.json").unlink(missing_ok=True)
        write_json(file, dict(plan))
    elif names:
        differ = ", ".join(f"{name} {found.get(name, 'unset')!s} and not {plan.get(name, 'unset')!s}" for name in names)
        raise InputError(f"{run}: holds another run, with {differ}: choose another OUTPUT_DIR or remove it")


@command("run_plan")
def main(argv: list[str] | None = None) -> int:
    parser = Parser("run_plan", __doc__)
    parser.add_argument("--run", type=Path, required=True, metavar="DIR", help="the run's folder")
    parser.add_argument(
        "settings", nargs="+", type=setting, metavar="NAME=VALUE", help="one setting; without a value it is left out"
    )
    args = parser.parse_args(argv)
    record(args.run, {name: value for name, value in args.settings if value != ""})
    return 0


if __name__ == "__main__":
    sys.exit(main())
