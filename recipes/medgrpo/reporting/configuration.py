# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""How a run was set up, from its plan and from what Hydra kept; nothing of it is a secret."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from recipes.medgrpo.files import ROOT, InputError, read_json

CONFIGS = ROOT / "recipes/medgrpo/config"
REWARD = "reward.custom_reward_function.reward_kwargs"
HIDDEN = "(not shown)"
HYDRA = ("outputs/*/*/.hydra", "recipe/grpo/outputs/*/*/.hydra")
"""Where Hydra keeps the configuration of each attempt; the second is that of a GPU recipe on the CPU."""
_SECRET = re.compile(r"(?:^|[._-])(?:api_?key|key|secret|password|passwd|token|credentials?|authorization)$", re.I)
_USER_IN_ADDRESS = re.compile(r"(?<=://)[^/@\s]+@")


@dataclass(frozen=True)
class Configuration:
    """What a run was told.

    Attributes:
        plan: `plan.json`, empty where there is none.
        config: the training's configuration as Hydra kept it, None where it did not. default: our own files of that
            name, without what a command line changed.
    """

    plan: dict[str, Any]
    config: DictConfig | None = None
    default: DictConfig | None = None

    @classmethod
    def of(cls, run: Path) -> Configuration:
        """The run's. Raises InputError for a plan that is no object."""
        file = run / "plan.json"
        plan = read_json(file) if file.exists() else {}
        if not isinstance(plan, dict):
            raise InputError(f"{file}: expected an object, found {type(plan).__name__}")
        # Each attempt has a folder that is named by its time.
        folders = [folder for place in HYDRA for folder in run.glob(place)]
        for folder in sorted(folders, key=lambda folder: folder.parts[-3:], reverse=True):
            config, hydra = _loaded(folder / "config.yaml"), _loaded(folder / "hydra.yaml")
            if config is not None and "algorithm" in config:
                name = OmegaConf.select(hydra, "hydra.job.config_name") if hydra is not None else None
                return cls(plan, config, _default(str(name)))
        return cls(plan)

    def get(self, key: str) -> Any:
        """A setting of the training, resolved; None where it is not known."""
        if self.config is None:
            return None
        try:
            value = OmegaConf.select(self.config, key)
            return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
        except OmegaConfBaseException:
            return None

    def reward(self) -> dict[str, Any]:
        """The reward's settings as far as they say what a raw signal becomes; those of the recipe where unknown."""
        config = self.config if self.config is not None else _loaded(CONFIGS / "base.yaml")
        assert config is not None
        kept = OmegaConf.to_container(OmegaConf.select(config, REWARD))
        assert isinstance(kept, dict)
        settings = {str(name): value for name, value in kept.items() if name not in ("statistics", "judge_settings")}
        tasks = self.get("data.medgrpo.tasks")
        settings["rewarded_tasks"] = self.get(f"{REWARD}.rewarded_tasks") if self.config is not None else tasks
        # Who the judge is changes nothing of what its signal becomes.
        settings["judge"] = None if settings.get("judge") is None else "offline"
        return settings

    def data_dir(self, run: Path) -> Path | None:
        """The folder of the rows that were trained on: in the run's folder, or where the configuration says."""
        if (run / "data").is_dir():
            return run / "data"
        files = self.get("data.train_files")
        first = files[0] if isinstance(files, list) and files else files
        folder = Path(first).parent if isinstance(first, str) else None
        return folder if folder is not None and folder.is_dir() else None

    def rows(self) -> list[tuple[str, str, str | None, str]]:
        """Settings as (name, value, default or None, "changed" or ""): the plan's, then the training's."""
        shown: list[tuple[str, str, str | None, str]] = [
            (name, _text(name, value), None, "changed") for name, value in self.plan.items()
        ]
        if self.config is None or self.default is None:
            return shown
        run = dict(_leaves(OmegaConf.to_container(self.config)))
        for name, value in _leaves(OmegaConf.to_container(self.default)):
            if name in run:
                # A path of ours that a script gives whole is the same path.
                same = run[name] == value or str(run[name]).endswith(f"/{value}")
                shown.append((name, _text(name, run[name]), _text(name, value), "" if same else "changed"))
        return shown


def _loaded(file: Path) -> DictConfig | None:
    try:
        config = OmegaConf.load(file)
    except (OSError, YAMLError, OmegaConfBaseException, ValueError):
        return None
    return config if isinstance(config, DictConfig) else None


def _default(name: str) -> DictConfig | None:
    named = _loaded(CONFIGS / f"{name}.yaml") if re.fullmatch(r"\w+", name) else None
    base = _loaded(CONFIGS / "base.yaml")
    if named is None or base is None:
        return base
    merged = OmegaConf.merge(base, named)
    assert isinstance(merged, DictConfig)
    for name in ("defaults", "hydra"):
        merged.pop(name, None)
    return merged


def _leaves(tree: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _text(name: str, value: Any) -> str:
    if _SECRET.search(name) and value is not None:
        return HIDDEN
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_text(str(key), one)}" for key, one in value.items()) or "{}"
    if isinstance(value, list):
        return "[" + ", ".join(_text(name, one) for one in value) + "]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = _USER_IN_ADDRESS.sub("", str(value))
    # The machine's folders are nobody's business.
    return "/".join(["...", *text.split("/")[-2:]]) if text.startswith("/") and text.count("/") > 1 else text
