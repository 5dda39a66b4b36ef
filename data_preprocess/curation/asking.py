# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""How many questions are asked of paid models: some at a time, failures counted, nothing asked for that is there."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from reward_score.paid_call import CallBudgetExceeded, Caller, CallError, CallSettingsError, CallUnproven

Thing = TypeVar("Thing")


@dataclass
class Asked:
    """What came of asking.

    Attributes:
        there, new: replies that were there before, and new ones.
        open: things that still lack one.
        failures: of the infrastructure, by kind.
        unreadable: why a thing cannot be asked about, by its key: something of it is missing or broken.
    """

    there: int = 0
    new: int = 0
    open: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    unreadable: dict[str, str] = field(default_factory=dict)


async def outcome(reply: Awaitable[dict[str, Any]], failures: Counter[str], last: bool) -> dict[str, Any] | None:
    """``said`` or, where the model would not, ``declined``; None, and a failure counted, where it is the
    infrastructure's.

    Args:
        reply: of a `Caller`.
        failures: are counted here.
        last: a reply that nobody can tell the fault of is a failure, too.

    Raises:
        CallUnproven: unless it is the last time.
        CallSettingsError, CallBudgetExceeded: another try is useless.
    """
    try:
        return {"said": await reply}
    except (CallSettingsError, CallBudgetExceeded):
        raise
    except CallError as error:
        if isinstance(error, CallUnproven) and not last:
            raise
        if not error.answer_caused:
            failures[type(error).__name__] += 1
            return None
        return {"declined": type(error).__name__}


async def ask_each(
    things: Iterable[Thing],
    ask: Callable[[Thing, bool], Awaitable[bool]],
    callers: Sequence[Caller],
    at_once: int,
    done: Callable[[], object] = lambda: None,
) -> None:
    """Ask about each thing, so many at a time, and close the callers.

    Args:
        things: they are taken one by one, in a thread: the next one may be long in coming.
        ask: (the thing, whether it is the last time) to whether it has to be asked about again. That is done at the
            end, when the models have answered others, so that it can be told whose fault a reply is.
        done: is called after each.

    Raises:
        CallSettingsError, CallBudgetExceeded: another try is useless. Whatever else `ask` raises.
    """
    todo, again = iter(things), []
    end, turn = object(), asyncio.Lock()

    async def take() -> Any:
        async with turn:
            return await asyncio.to_thread(next, todo, end)

    async def work() -> None:
        while (thing := await take()) is not end:
            if await ask(thing, False):
                again.append(thing)
            done()

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(at_once):
                group.create_task(work())
        await asyncio.gather(*(ask(thing, True) for thing in again))
    except BaseExceptionGroup as errors:
        raise _first(errors) from None
    finally:
        await asyncio.gather(*(caller.aclose() for caller in callers))


def spent(caller: Caller) -> dict[str, Any]:
    """For a manifest, by model: the dollars and the requests and tokens of everything in a caller's store.

    Over the life of the store: what was spent on what was there before is part of what the rows cost.
    """
    lanes = asyncio.run(caller.store.snapshot())
    used = {"requests": "calls", "prompt_tokens": "prompt_tokens", "answer_tokens": "completion_tokens"}
    return {
        "cost_usd": {lane: one.get("cost_usd", 0.0) + one.get("unconfirmed_usd", 0.0) for lane, one in lanes.items()},
        "usage": {lane: {what: int(one.get(name, 0)) for what, name in used.items()} for lane, one in lanes.items()},
    }


def _first(errors: BaseExceptionGroup) -> BaseException:
    found: BaseException = errors
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found
