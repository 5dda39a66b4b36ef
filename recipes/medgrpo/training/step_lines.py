# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Print one readable line per training step from a trainer's output on standard input.

    trainer 2>&1 | tee -a trainer.log | python -m recipes.medgrpo step_lines

verl prints one line of some hundred figures per step among its workers' messages. This keeps the step and the
figures that tell whether a run is healthy, and the sampler's warnings; the log has everything.
"""

from __future__ import annotations

import re
import sys
import time

from recipes.medgrpo.terminal import Parser, command

WARNING = re.compile(r"medgrpo warning: .*")
STEP = re.compile(r"step:(\d+) - (.*)")
# Where a figure stands in the line, what it is called here.
FIGURES = {
    "train/loss": "loss",
    "medgrpo/pairs_mean/reward": "reward",
    "medgrpo/pairs_mean/acc": "acc",
    "medgrpo/pairs_mean/format": "format",
    "medgrpo/rollouts/failed": "failed",
    "medgrpo/drift/pairs": "drifting",
    "training/rollout_actor_probs_pearson_corr": "rollout/actor",
    "timing_s/step": "seconds",
}
SFT_INTERVAL_S = 5.0


def step_line(line: str) -> tuple[int, dict[str, float]] | None:
    """(step, figures by their short names) of a step's line, None for any other line."""
    match = STEP.search(line)
    if match is None:
        return None
    values = dict(re.findall(r"([\w./@()]+):(-?[\d.]+(?:e[+-]?\d+)?)", match[2]))
    figures = {short: float(values[name]) for name, short in FIGURES.items() if name in values}
    return (int(match[1]), figures) if figures else None


@command("step_lines")
def main(argv: list[str] | None = None) -> None:
    Parser("step_lines", __doc__).parse_args(argv)
    printed = 0.0
    for line in sys.stdin:
        if warning := WARNING.search(line):
            print(f"  {warning[0]}", flush=True)
        found = step_line(line)
        if found is None:
            continue
        step, figures = found
        # SFT steps take a fraction of a second: a few lines a minute are enough.
        if "loss" in figures and time.monotonic() - printed < SFT_INTERVAL_S:
            continue
        printed = time.monotonic()
        print(f"  step {step:>4}  " + "  ".join(f"{name} {value:.3f}" for name, value in figures.items()), flush=True)


if __name__ == "__main__":
    sys.exit(main())
