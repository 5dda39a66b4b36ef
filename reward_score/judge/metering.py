# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""From a lane's cumulative counters to the metrics of one training step. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from ..paid_call.metering import BUCKETS, FAILED, LATENCY, latency_quantile

ANSWER_CAUSED = ("JudgeRefused", "JudgeMalformed")
QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}


def metrics(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """What happened between two snapshots of one lane.

    Returns:
        The differences under the counters' names, the histogram's left out, and: ``latency_s/p50``, ``p90``, ``p99``
        in seconds; ``failed_share``, judgements without a score for the infrastructure's sake, and ``refused_share``,
        those refused or malformed, over all that were tried; ``cost_usd_total``, dollars over the store's life with
        the unconfirmed ones, as the budget counts them; ``mean_disagreement`` of two judges. What was not measured
        (no call, nothing compared) is left out.
    """
    change = {name: value - before.get(name, 0.0) for name, value in after.items()}
    found = {name: value for name, value in change.items() if not name.startswith(LATENCY)}
    buckets = [change.get(f"{LATENCY}{place:02d}", 0.0) for place in range(BUCKETS)]
    if sum(buckets) > 0:
        for name, share in QUANTILES.items():
            found[f"latency_s/{name}"] = latency_quantile(buckets, share)
    failed = {name.removeprefix(FAILED): value for name, value in change.items() if name.startswith(FAILED)}
    tried = change.get("judgements", 0.0) + sum(failed.values())
    if tried > 0:
        refused = sum(failed.get(name, 0.0) for name in ANSWER_CAUSED)
        found["refused_share"] = refused / tried
        found["failed_share"] = (sum(failed.values()) - refused) / tried
    if change.get("compared", 0.0) > 0:
        found["mean_disagreement"] = change.get("disagreement", 0.0) / change["compared"]
    found["cost_usd_total"] = after.get("cost_usd", 0.0) + after.get("unconfirmed_usd", 0.0)
    return found
