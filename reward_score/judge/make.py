# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""From settings to a judge."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from ..settings import JUDGES
from .client import Judge
from .errors import JudgeSettingsError
from .offline import OfflineJudge
from .panel import AveragedJudge

NOT_SHARED = ("prompt_price", "completion_price")
"""Settings that a second judge does not take over from the first: another model has another price."""


def members(kind: str, settings: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """(kind, settings) of each judge that these settings name: one, or two that are averaged.

    Raises:
        JudgeSettingsError: a second judge that is no mapping, or would be sent the first one's key elsewhere.
    """
    first = {name: value for name, value in settings.items() if name != "second"}
    second = settings.get("second")
    if second is None:
        return [(kind, first)]
    if not isinstance(second, Mapping):
        raise JudgeSettingsError(f"judge: second is {second!r}: expected the settings of a judge")
    shared = {name: value for name, value in first.items() if name not in NOT_SHARED}
    own = {name: value for name, value in second.items() if name != "kind"}
    other = second.get("kind", kind)
    if own.get("base_url", first.get("base_url")) != first.get("base_url") and "key_variable" not in own:
        told = "second has an endpoint of its own and no key_variable: it is not sent the first one's key"
        raise JudgeSettingsError(f"judge: {told}")
    return [(kind, first), (other, own if other == "offline" else {**shared, **own})]


def members_of(judge: str | None, settings: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Settings of every judge behind a store: one, two that are averaged, or none for the offline judge."""
    if judge is None:
        return []
    return [given for kind, given in members(judge, settings) if kind != "offline" and given.get("store")]


def make_judge(kind: str, settings: Mapping[str, Any], router_address: str | None = None) -> Any:
    """The judge that settings name.

    Args:
        kind: one of `JUDGES`. ``offline``: `OfflineJudge`, without settings. ``openai``: `Judge`, with these arguments.
            ``router``: a `Judge` at verl's reward-model servers, `settings` are its arguments but for ``base_url``.
        settings: as the kind wants them. ``second``: what another judge has differently (``model``, ``base_url``,
            perhaps ``kind``); the scores are then the mean of both, see `AveragedJudge`.
        router_address: ``host:port`` of verl's reward router, where one runs.

    Raises:
        JudgeSettingsError: a kind or a setting that is missing, unknown or out of range.
    """
    judges = [_one(name, given, router_address) for name, given in members(kind, settings)]
    return judges[0] if len(judges) == 1 else AveragedJudge(judges)


def _one(kind: str, settings: Mapping[str, Any], router_address: str | None) -> Any:
    if kind == "router" and router_address is None:
        raise JudgeSettingsError("judge: router: verl runs no reward model: set reward.reward_model.enable=True")
    if kind not in JUDGES:
        raise JudgeSettingsError(f"judge: {kind!r}: expected {', '.join(JUDGES)}")
    makers: dict[str, Callable[..., Any]] = {
        "offline": OfflineJudge,
        "openai": Judge,
        "router": partial(Judge.for_router, router_address or ""),
    }
    try:
        return makers[kind](**settings)
    except TypeError as error:
        # Python's own words for an argument that does not exist.
        raise JudgeSettingsError(f"judge: {kind}: {error}") from None
