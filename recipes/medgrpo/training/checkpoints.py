# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Finding the newest whole checkpoint, and repairing verl's tracker when a kill left it broken.

verl 0.9.1 writes `latest_checkpointed_iteration.txt` in place (`PPOTrainer._save_checkpoint`); an empty file, or
one that names a folder which was never finished, stops `resume_mode=auto` with a traceback
(`upstream/fixes/tracker_in_place`).
"""

from __future__ import annotations

from pathlib import Path

from recipes.medgrpo.files import write_atomic

TRACKER = "latest_checkpointed_iteration.txt"


def step_of(folder: Path) -> int | None:
    """The step in `global_step_N`, None for any other name."""
    number = folder.name.removeprefix("global_step_")
    return int(number) if folder.name.startswith("global_step_") and number.isdigit() else None


def is_complete(folder: Path) -> bool:
    """Whether everything that a resume reads is there and not empty.

    verl writes each rank's model, optimiser and extra state, then `data.pt`, then the tracker.
    """
    actor = folder / "actor"
    models = list(actor.glob("model_world_size_*_rank_*.pt"))
    if not models:
        return False
    world = int(models[0].name.split("world_size_")[1].split("_")[0])
    parts = [
        actor / f"{kind}_world_size_{world}_rank_{rank}.pt"
        for kind in ("model", "optim", "extra_state")
        for rank in range(world)
    ]
    return all(file.is_file() and file.stat().st_size > 0 for file in [*parts, folder / "data.pt"])


def latest_complete(root: Path) -> int | None:
    """The highest step with a whole checkpoint below `root`."""
    steps = {step_of(folder): folder for folder in Path(root).glob("global_step_*")}
    whole = [step for step, folder in steps.items() if step is not None and is_complete(folder)]
    return max(whole, default=None)


def repair_tracker(root: Path) -> tuple[int | None, str | None]:
    """Make the tracker name the newest whole checkpoint; returns (that step, what was wrong or None)."""
    root = Path(root)
    tracker = root / TRACKER
    latest = latest_complete(root)
    text = tracker.read_text(encoding="utf-8", errors="replace").strip() if tracker.exists() else None
    if text is not None and text.isdigit() and is_complete(root / f"global_step_{int(text)}"):
        return int(text), None
    if latest is None:
        if text is None:
            return None, None
        tracker.unlink()
        return None, f"{tracker}: said {text!r} and no checkpoint is whole: starting from the first step"
    write_atomic(tracker, str(latest))
    was = "was missing" if text is None else f"said {text!r}, which is not a whole checkpoint"
    return latest, f"{tracker}: {was}: set to {latest}"
