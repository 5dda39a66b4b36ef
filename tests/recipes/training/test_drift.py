# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""The warnings that a pair's answers move away from how they began: when, how often, after a resume, and not else."""

import io
import json
from pathlib import Path

import pytest

from recipes.medgrpo.training.curves import Rollout
from recipes.medgrpo.training.drift import Drift, drifted
from recipes.medgrpo.training.step_lines import main as step_lines

HEALTHY = json.loads(Path(__file__).with_name("healthy_run.json").read_text())
TAL, STG = "medvidbench/AVOS/tal", "medvidbench/CoPESD/stg"


def answers(pair=TAL, form=0.9, tokens=20, nats=0.5):
    return [Rollout("g", pair, tokens, 0.5, {"format": form}, nats=nats)]


def warned(caplog):
    return [record.getMessage() for record in caplog.records if record.name.endswith("drift")]


def test_a_healthy_training_warns_of_nothing(caplog):
    """The CPU run's twenty steps, in which captions became shorter and a pair's entropy fell to a third."""
    drift, metrics = Drift(), {}
    for step in range(1, 21):
        means = {pair: curve[step - 1] for pair, curve in HEALTHY["pairs"].items()}
        rollouts = [
            Rollout("g", pair, tokens, 0.0, {"format": f}, nats=nats) for pair, (f, tokens, nats) in means.items()
        ]
        metrics = drift(step, rollouts)
        assert metrics.get("medgrpo/drift/pairs", 0) == 0
    assert not warned(caplog)
    assert 0 < metrics["medgrpo/drift/format_fall"] < 0.15
    assert 0.3 < metrics["medgrpo/drift/entropy_share"] < 0.4
    assert 1.3 < metrics["medgrpo/drift/length_factor"] < 1.8


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"form": 0.6}, "AVOS/tal: format 0.60 over its last 5 steps, 0.90 over its first: its answers stop being"),
        ({"nats": 0.07}, "AVOS/tal: entropy 0.07 over its last 5 steps, 0.50 over its first: the policy narrows"),
        ({"tokens": 41}, "AVOS/tal: tokens 41.00 over its last 5 steps, 20.00 over its first: its answers take"),
        ({"tokens": 9}, "AVOS/tal: tokens 9.00 over its last 5 steps, 20.00 over its first: its answers take"),
    ],
)
def test_what_falls_away_is_one_message_that_says_what_to_do(caplog, change, words):
    drift = Drift()
    for step in range(1, 31):
        metrics = drift(step, answers(**(change if step > 5 else {})))
        # Five steps begin, five are compared with them: the tenth is the first that can say anything.
        assert ("medgrpo/drift/pairs" in metrics) is (step >= 10)
    (message,) = warned(caplog)
    assert message.startswith("medgrpo warning: step 10: ") and words in message
    assert "go on from a checkpoint before" in message and "\n" not in message
    assert metrics["medgrpo/drift/pairs"] == 1


def test_a_pair_that_recovers_may_warn_again(caplog):
    drift = Drift()
    forms = [0.9] * 5 + [0.2] * 5 + [0.9] * 5 + [0.2] * 5
    pairs = [drift(step, answers(form=form)).get("medgrpo/drift/pairs") for step, form in enumerate(forms, 1)]
    assert len(warned(caplog)) == 2
    assert (pairs[9], pairs[14], pairs[19]) == (1, 0, 1)


def test_steps_count_where_they_have_the_pair(caplog):
    """A pair that is asked every second step needs twenty steps; the other pair is nobody's beginning."""
    drift = Drift()
    for step in range(1, 21):
        pair, form = (TAL, 0.9) if step % 2 else (STG, 0.9 if step <= 10 else 0.3)
        metrics = drift(step, answers(pair, form))
        assert ("medgrpo/drift/pairs" in metrics) is (step >= 19)
        assert f"medgrpo/{pair.removeprefix('medvidbench/')}/tokens" in metrics
    (message,) = warned(caplog)
    assert "step 20: CoPESD/stg" in message


@pytest.mark.parametrize("at", [1, 4, 5, 6, 9, 10, 12, 19])
def test_a_resumed_run_warns_when_the_whole_one_does(caplog, at):
    forms = [0.9] * 5 + [0.8, 0.7, 0.5, 0.3, 0.2, 0.2, 0.9, 0.9, 0.9, 0.9] + [0.1] * 5
    nats = [None if step % 2 else 0.4 for step in range(20)]

    def run(drift, first, last):
        return [drift(step, answers(form=forms[step - 1], nats=nats[step - 1])) for step in range(first, last + 1)]

    expected = run(Drift(), 1, 20)
    messages = warned(caplog)
    caplog.clear()
    before = Drift()
    metrics = run(before, 1, at)
    after = Drift()
    after.load_state_dict(json.loads(json.dumps(before.state_dict(), allow_nan=False)))
    assert metrics + run(after, at + 1, 20) == expected
    assert warned(caplog) == messages and messages


def test_without_probabilities_there_is_no_entropy(caplog):
    drift = Drift()
    for step in range(1, 12):
        metrics = drift(step, answers(nats=None))
    assert "medgrpo/AVOS/tal/entropy" not in metrics and "medgrpo/drift/entropy_share" not in metrics
    assert metrics["medgrpo/AVOS/tal/tokens"] == 20 and not warned(caplog)


def test_at_a_limit_is_not_beyond_it():
    limits = Drift(format_fall=0.25, entropy_share=0.5, length_factor=2).limits
    assert not drifted("format", 1.0, 0.75, limits) and drifted("format", 1.0, 0.7499, limits)
    assert not drifted("entropy", 0.5, 0.25, limits) and drifted("entropy", 0.5, 0.2499, limits)
    assert not drifted("tokens", 20, 40, limits) and drifted("tokens", 20, 40.01, limits)
    assert not drifted("tokens", 20, 10, limits) and drifted("tokens", 20, 9.99, limits)
    # What was never readable, sure or long has nothing to lose.
    assert not drifted("format", 0.1, 0.0, limits) and not drifted("entropy", 0.0, 0.0, limits)


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"window": 0}, "window 0: expected a whole number above 0"),
        ({"format_fall": 1.5}, "format_fall 1.5: expected a number above 0 and below 1"),
        ({"length_factor": 1}, "length_factor 1: expected a number above 1"),
    ],
)
def test_limits_without_meaning_are_refused(limits, words):
    with pytest.raises(ValueError, match=words):
        Drift(**limits)
    with pytest.raises(TypeError, match="unexpected keyword"):
        Drift(windows=3)


def test_the_line_of_a_step_shows_the_message(caplog, capsys, monkeypatch):
    drift = Drift(window=1)
    drift(1, answers())
    drift(2, answers(form=0.1))
    text = "(TaskRunner pid=7) " + warned(caplog)[0] + "\nstep:2 - medgrpo/drift/pairs:1.0 - x:2\n"
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    assert step_lines([]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("  medgrpo warning: step 2: AVOS/tal: format 0.10") and "drifting 1.000" in said[1]
