# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Skill from a few trials: who is learnt from, what the heads compute, the figures, and a world with a known answer."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score, roc_auc_score
from torch.func import functional_call

from recipes.medgrpo.files import InputError
from recipes.medgrpo.studies.skill import command, episodes, heads, protocol
from recipes.medgrpo.studies.skill.figures import Answers, Figures
from recipes.medgrpo.studies.skill.items import Trial, by_domain, read_features, read_trials
from recipes.medgrpo.studies.skill.training import PROBE, PROTOMAML, PROTONET, Clips, Settings, answers
from recipes.medgrpo.studies.skill.world import World, write_world

SMALL = World(domains=3, surgeons=6, trials=4)
QUICK = Settings(size=16, epochs=2, batches=2, tasks=4, looks=4, test_steps=2)


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def trials_of(*rows: tuple[str, int, int]) -> list[Trial]:
    """Trials of one domain: (surgeon, label, how many)."""
    return [
        Trial("d", surgeon, f"{surgeon}{label}{at}", label, (f"{surgeon}{label}{at}.npy",))
        for surgeon, label, count in rows
        for at in range(count)
    ]


CLASSES = trials_of(*((surgeon, label, 3) for surgeon in "ABCDEF" for label in (0, 1)))


def made(folder, world):
    write_world(world, folder)
    trials = read_trials(folder)
    return by_domain(trials), read_features(folder, trials)


# Who is learnt from, and who is asked about.


def test_nobody_who_is_asked_about_is_support_and_everybody_is_asked_about_once():
    found = episodes.splits(CLASSES, 3, np.random.default_rng(0))
    for split in found:
        assert not {trial.surgeon for trial in split.pool} & {trial.surgeon for trial in split.query}
        assert len(split.pool) + len(split.query) == len(CLASSES)
    assert sorted(trial.name for split in found for trial in split.query) == sorted(trial.name for trial in CLASSES)


def test_folds_are_alike_where_surgeons_have_one_class():
    """Two experts among eight: each of two folds has one, or nobody could be learnt from."""
    skewed = trials_of(*((name, 1 if name in "DE" else 0, 5) for name in "BCDEFGHI"))
    for seed in range(20):
        for split in episodes.splits(skewed, 2, np.random.default_rng(seed)):
            assert {trial.label for trial in split.pool} == {trial.label for trial in split.query} == {0, 1}
    with pytest.raises(InputError, match="expected 9 surgeons or more"):
        episodes.splits(skewed, 9, np.random.default_rng(0))


def test_support_sets_share_no_trial_and_use_all_that_there_are():
    for shots, count in ((1, 18), (4, 4), (16, 1), (19, 0)):
        sets = episodes.support_sets(CLASSES, 2, shots, np.random.default_rng(0))
        names = [trial.name for row in sets for trial in row]
        assert len(sets) == count and len(names) == len(set(names))
        assert all([trial.label for trial in row] == [0] * shots + [1] * shots for row in sets)
    # A class that is not there at all is not a smaller task.
    assert episodes.support_sets([trial for trial in CLASSES if trial.label], 2, 1, np.random.default_rng(0)) == []


def test_an_episode_s_query_is_by_other_surgeons():
    rng = np.random.default_rng(0)
    three = [*CLASSES, *trials_of(*((surgeon, 2, 3) for surgeon in "ABCDEF"))]
    seen = set()
    for _ in range(50):
        episode = episodes.draw(three, 2, 2, 1, rng)
        assert not {trial.surgeon for trial in episode.support} & {trial.surgeon for trial in episode.query}
        classes = tuple(trial.label for trial in episode.query)
        assert [trial.label for trial in episode.support] == sorted([*classes, *classes])
        seen.add(classes)
    assert seen == {(0, 1), (0, 2), (1, 2)}
    with pytest.raises(InputError, match="no episode of 2 classes with 1 trials to learn from and 1 by other surgeons"):
        episodes.draw(trials_of(("A", 0, 3), ("A", 1, 3)), 2, 1, 1, rng)


@pytest.mark.parametrize("chosen", protocol.PROTOCOLS)
def test_whoever_is_asked_about_was_not_trained_on_in_any_domain(tmp_path, monkeypatch, chosen):
    """The same six surgeons do all four exercises."""
    domains = {
        name: [replace(trial, domain=name, name=name + trial.name) for trial in CLASSES]
        for name in ("a", "b", "c", "d")
    }
    features = {trial.files[0]: np.ones((2, 3)) + trial.label for trial in CLASSES}
    calls = []

    def spied(clips, train, stop_on, **options):
        calls.append((train, stop_on))
        return heads.Encoder(clips.channels, 4), {"epoch": 1, "accuracy": 0.5}

    monkeypatch.setattr(protocol, "fit", spied)
    study = protocol.Study(domains, features, QUICK, protocol=chosen, shots=[1], folds=2, folder=tmp_path, identity={})
    for cell in study.cells([PROTONET], [0]):
        query = study.run(cell)["query"]
        asked = {trial.surgeon for trial in domains[cell.domain] if trial.name in query}
        train, stop_on = calls.pop()
        assert len(asked) == 3 and not {trial.surgeon for trials in train.values() for trial in trials} & asked
        stopped = {trial.domain for trial in stop_on}
        if chosen == protocol.LOO:
            assert stopped.isdisjoint({cell.domain, *train}) and cell.domain not in train and len(train) == 2
            assert not {trial.surgeon for trial in stop_on} & asked
        else:
            # As published: it stops on all that it is then tested on.
            assert stopped == {cell.domain} and len(stop_on) == len(CLASSES) and len(train) == 3


@pytest.mark.slow
def test_the_split_decides_what_can_be_known_of_a_world_without_skill(tmp_path):
    """No class shows in it, and surgeons show, who have one class each: with surgeons on both sides, or a camera on
    each, a probe is far above chance."""
    domains, features = made(tmp_path, World(domains=6, surgeons=8, trials=8, skill=0.0, steady=1.0))
    rng = np.random.default_rng(0)

    def by_surgeon(trials):
        return episodes.splits(trials, 2, rng)

    def by_trial(trials):
        mixed = [trials[at] for at in rng.permutation(len(trials))]
        return [(mixed[:32], mixed[32:]), (mixed[32:], mixed[:32])]

    def by_camera(trials):
        return [[[replace(trial, files=(trial.files[view],)) for trial in trials] for view in range(2)]]

    def accuracy(split):
        right = []
        for name, trials in domains.items():
            clips = Clips(features, [trial for other in domains if other != name for trial in domains[other]], 12)
            for pool, query in split(trials):
                sets = episodes.support_sets(pool, 2, 12, rng)
                said = answers(clips, None, sets, query, method=PROBE, ways=2, settings=QUICK).argmax(-1)
                right.append((said == [trial.label for trial in query]).mean())
        return np.mean(right)

    assert 0.4 < accuracy(by_surgeon) < 0.6
    assert accuracy(by_trial) > 0.68
    assert accuracy(by_camera) > 0.7


# The heads.


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return heads.Encoder(4, 8)


def clips_of(*lengths):
    torch.manual_seed(1)
    longest = max(lengths)
    mask = torch.stack([torch.arange(longest) < length for length in lengths])[:, None].float()
    return torch.randn(len(lengths), 4, longest) * mask, mask


def test_the_head_compares_distances_to_the_classes_means():
    vectors = torch.randn(6, 5)
    weights, bias = heads.prototype_head(vectors, 3)
    query = torch.randn(7, 5)
    means = torch.stack([vectors[:2].mean(0), vectors[2:4].mean(0), vectors[4:].mean(0)])
    distances = ((query[:, None] - means) ** 2).sum(-1)
    torch.testing.assert_close((query @ weights.T + bias).softmax(-1), (-distances).softmax(-1))


def test_protomaml_begins_as_the_protonet_and_then_learns(encoder):
    support = clips_of(9, 7, 9, 8)
    weights = dict(encoder.named_parameters())
    options = {"ways": 2, "rate": 0.1, "loss": heads.column_loss}
    body, matrix, bias = heads.adapt(encoder, weights, support, steps=0, **options)
    right = heads.prototype_head(encoder(*support), 2)
    assert all(body[name] is value for name, value in weights.items())
    torch.testing.assert_close((matrix, bias), right)

    def cost(steps):
        body, matrix, bias = heads.adapt(encoder, weights, support, steps=steps, **options)
        logits = functional_call(encoder, body, support) @ matrix.T + bias
        return heads.column_loss(logits, torch.tensor([0, 0, 1, 1])).item()

    assert cost(0) > cost(5) > cost(20)


def test_the_outer_gradient_is_of_first_order_and_passes_through_the_prototypes(encoder):
    """Against the same written out with two plain backward passes."""
    support, query, labels = clips_of(9, 7), clips_of(8, 9), torch.tensor([0, 1])
    weights = dict(encoder.named_parameters())
    body, matrix, bias = heads.adapt(encoder, weights, support, ways=2, steps=1, rate=0.1, loss=heads.column_loss)
    heads.column_loss(functional_call(encoder, body, query) @ matrix.T + bias, labels).backward()
    found = {name: value.grad.clone() for name, value in weights.items()}

    made = [part.detach().requires_grad_() for part in heads.prototype_head(encoder(*support), 2)]
    inner = heads.column_loss(encoder(*support) @ made[0].T + made[1], labels)
    slopes = torch.autograd.grad(inner, [*weights.values(), *made])
    moved = {n: (v - 0.1 * s).detach().requires_grad_() for (n, v), s in zip(weights.items(), slopes, strict=False)}
    head = [(part - 0.1 * slope).detach().requires_grad_() for part, slope in zip(made, slopes[-2:], strict=True)]
    outer = heads.column_loss(functional_call(encoder, moved, query) @ head[0].T + head[1], labels)
    direct = torch.autograd.grad(outer, [*moved.values(), *head])
    through = torch.autograd.grad(heads.prototype_head(encoder(*support), 2), weights.values(), direct[-2:])
    for name, own, passed in zip(weights, direct, through, strict=False):
        torch.testing.assert_close(found[name], own + passed, atol=1e-6, rtol=1e-4)
    assert any(bool(passed.abs().max() > 1e-4) for passed in through)


def test_padding_changes_nothing_and_neither_do_the_other_clips(encoder):
    x, mask = clips_of(12, 5)
    alone = encoder(x[1:, :, :5], mask[1:, :, :5])
    torch.testing.assert_close(encoder(x, mask)[1:], alone)
    # Whatever stands where nothing is.
    torch.testing.assert_close(encoder(x + 9 * (1 - mask), mask)[1:], alone)
    weights, support = dict(encoder.named_parameters()), clips_of(9, 7)
    options = {"ways": 2, "steps": 3, "rate": 0.1}
    both = heads.logits_of(encoder, weights, support, (x, mask), **options)
    torch.testing.assert_close(both[1:], heads.logits_of(encoder, weights, support, (x[1:], mask[1:]), **options))


def test_what_a_domain_adds_to_all_of_its_clips_changes_nothing(encoder):
    weights, support, (x, mask) = dict(encoder.named_parameters()), clips_of(9, 7), clips_of(6, 9)
    options = {"ways": 2, "steps": 2, "rate": 0.1}
    shifted = tuple((part[0] + torch.arange(4.0)[:, None], part[1]) for part in (support, (x, mask)))
    right = heads.logits_of(encoder, weights, support, (x, mask), **options)
    torch.testing.assert_close(heads.logits_of(encoder, weights, *shifted, **options), right, atol=1e-4, rtol=1e-4)


def test_the_published_loss_compares_columns():
    labels = torch.tensor([0, 1])
    assert float(heads.column_loss(torch.tensor([[40.0, 0], [0, 40.0]]), labels)) == pytest.approx(0, abs=1e-6)
    # Both said to be of the first class: columns (1, 1) and (0, 0) against (1, 0) and (0, 1).
    assert float(heads.column_loss(torch.tensor([[40.0, 0], [40.0, 0]]), labels)) == pytest.approx(1 - 0.5**0.5 / 2)
    even = heads.column_loss(torch.log(torch.tensor([[0.5, 0.5], [0.5, 0.5]])), labels)
    assert float(even) == pytest.approx(1 - 0.5**0.5)


def test_the_probe_is_a_logistic_regression():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(12, 5)) + np.repeat(np.arange(3), 4)[:, None]
    query = rng.normal(size=(9, 5))
    right = LogisticRegression(C=1.0, tol=1e-8, max_iter=1000).fit(x, np.repeat(np.arange(3), 4)).predict_proba(query)
    found = heads.linear_probe(torch.tensor(x).float(), torch.tensor(query).float(), 3)
    np.testing.assert_allclose(found, right, atol=2e-3)


def test_components_are_of_the_trained_domains_alone(tmp_path):
    domains, features = made(tmp_path, SMALL)
    fitted = domains["d1"]
    clips = Clips(features, fitted, 8)
    others = features | {
        file: value * 50 for trial in domains["d0"] for file in trial.files if (value := features[file]) is not None
    }
    again = Clips(others, fitted, 8)
    file = fitted[0].files[0]
    np.testing.assert_array_equal(clips.small(file), again.small(file))
    small = [clips.small(file) for trial in fitted for file in trial.files]
    moments = np.mean([part @ part.T / part.shape[1] for part in small], axis=0)
    np.testing.assert_allclose(moments, np.eye(8), atol=1e-3)


# Figures.


@pytest.mark.parametrize("classes", [2, 3])
def test_figures_are_scikit_learn_s(classes):
    rng = np.random.default_rng(classes)
    labels = np.arange(30) % classes
    trials = [Trial("d", f"s{at % 7}", f"t{at}", int(label), ()) for at, label in enumerate(labels)]
    probabilities = rng.dirichlet(np.ones(classes), 30) + 0.3 * np.eye(classes)[labels]
    probabilities = np.round(probabilities / probabilities.sum(1, keepdims=True), 2)  # with ties
    found = Answers(trials, classes)
    found.add(trials, probabilities[None])
    weights = rng.integers(0, 4, 30)
    rows = np.repeat(np.arange(30), weights)
    for counted, chosen in ((np.ones(30), np.arange(30)), (weights, rows)):
        values = {name: float(value[0]) for name, value in found.measure(counted[None].astype(float)).items()}
        said = probabilities[chosen].argmax(1)
        assert values["accuracy"] == pytest.approx(np.mean(said == labels[chosen]))
        assert values["macro_f1"] == pytest.approx(f1_score(labels[chosen], said, average="macro"))
        areas = [roc_auc_score(labels[chosen] == one, probabilities[chosen, one]) for one in range(classes)]
        assert values["auc"] == pytest.approx(np.mean(areas))


def test_support_sets_count_alike_and_areas_compare_within_one():
    """Two folds: each trial is asked about in one of them, and two of different folds are never compared."""
    trials = [Trial("d", name, name, label, ()) for name, label in (("a", 0), ("b", 1), ("c", 0), ("d", 1))]
    found = Answers(trials, 2)
    found.add(trials[:2], np.array([[[0.9, 0.1], [0.6, 0.4]], [[0.4, 0.6], [0.3, 0.7]]]))
    found.add(trials[2:], np.array([[[0.1, 0.9], [0.05, 0.95]]]))
    values = {name: float(value[0]) for name, value in found.measure(np.ones((1, 4))).items()}
    assert values["accuracy"] == pytest.approx((0.5 + 0.5 + 0 + 1) / 4)
    assert values["auc"] == 1.0


def test_intervals_draw_surgeons():
    """One surgeon has half of the trials and all of the errors: without them all is right."""
    trials = [Trial("d", "s" if at < 10 else f"s{at}", f"t{at}", at % 2, ()) for at in range(20)]
    found = Answers(trials, 2)
    probabilities = np.eye(2)[[(at + (at < 10)) % 2 for at in range(20)]]
    found.add(trials, probabilities[None])
    values, draws = Figures([trial.surgeon for trial in trials], 500, 0).draws(found)
    assert values["accuracy"] == 0.5
    assert draws["accuracy"].max() == 1.0 and np.quantile(draws["accuracy"], 0.025) < 0.35


# The world whose answer is known.


@pytest.mark.parametrize("shots", [1, 4, None])
def test_the_best_accuracy_is_that_of_the_best_rule(shots):
    """By drawing: the middle is estimated from the support and from what is known of domains."""
    world, rng, draws = World(), np.random.default_rng(0), 400_000
    centre = world.offset * rng.normal(size=draws)
    label = rng.integers(0, 2, draws)
    query = centre + world.skill * (label - 0.5) + rng.normal(size=draws)
    middle = centre
    if shots:
        support = centre + rng.normal(size=draws) / np.sqrt(2 * shots)
        middle = support * 2 * shots / (2 * shots + 1 / world.offset**2)
    assert np.mean((query > middle) == label) == pytest.approx(world.bayes_rate(shots), abs=0.002)


@pytest.mark.slow
def test_the_head_comes_near_the_best_accuracy_and_not_above(tmp_path):
    world = World()
    domains, features = made(tmp_path, world)
    study = protocol.Study(
        {name: domains[name] for name in ("d0", "d1", "d2", "d3", "d4")},
        features,
        Settings(epochs=12, looks=32, test_steps=5),
        protocol="loo",
        shots=[1, 4],
        folds=2,
        folder=tmp_path / "answers",
        identity={},
    )
    cells = [cell for cell in study.cells([PROTONET, PROTOMAML, PROBE], [0]) if cell.domain == "d0"]
    study.domains = {"d0": domains["d0"]} | study.domains
    found = {}
    for cell in cells:
        content = study.run(cell)
        labels = {trial.name: trial.label for trial in domains["d0"]}
        for shots in (1, 4):
            right = content[f"k{shots}"].argmax(-1) == [labels[str(name)] for name in content["query"]]
            found.setdefault((cell.method, shots), []).append(right.mean())
    accuracy = {key: np.mean(values) for key, values in found.items()}
    print(accuracy, world.bayes_rate(1), world.bayes_rate(4))
    for shots in (1, 4):
        best = world.bayes_rate(shots)
        # 64 trials: a standard error of 0.04.
        assert all(accuracy[method, shots] < best + 0.08 for method in (PROTONET, PROTOMAML, PROBE))
        assert max(accuracy[PROTONET, shots], accuracy[PROTOMAML, shots]) > best - 0.08
        assert accuracy[PROTONET, shots] > accuracy[PROBE, shots] + 0.1


# The command.


@pytest.fixture
def small(tmp_path, monkeypatch):
    from recipes.medgrpo.studies.skill import training

    monkeypatch.setattr(training.Settings, "__init__", _quick(training.Settings.__init__))
    write_world(SMALL, tmp_path / "features")
    return tmp_path


def _quick(original):
    def init(self, **given):
        original(self, **{"size": 16, "batches": 2, "tasks": 4, "looks": 4, "test_steps": 2, **given})

    return init


@pytest.mark.slow
def test_the_command_runs_goes_on_and_says_what_is_optimistic(small, monkeypatch, capsys):
    given = ["run", "--features", str(small / "features"), "--epochs", "2", "--shots", "1", "16", "--resamples", "50"]
    assert command.main([*given, "--output", str(small / "loo")]) == 0
    result = json.loads((small / "loo/skill.json").read_text())
    text = (small / "loo/skill.md").read_text()
    assert "optimistic" not in text and not result["optimistic"]
    rows = {(row["domain"], row["method"], row["shots"]): row for row in result["figures"]}
    assert set(rows) == {
        (d, m, 1) for d in ("d0", "d1", "d2", "mean of domains") for m in ("protomaml", "protonet", "linear_probe")
    }
    mean = np.mean([rows[f"d{at}", "protonet", 1]["auc"]["value"] for at in range(3)])
    assert rows["mean of domains", "protonet", 1]["auc"]["value"] == pytest.approx(mean)
    assert f"{SMALL.bayes_rate(1):.3f} (k = 1)" in text
    pairs = {(row["first"], row["second"]) for row in result["differences"]}
    assert pairs == {("protomaml", "linear_probe"), ("protonet", "linear_probe")}

    # Started again it trains nothing, and after a kill only what is missing.
    calls = []
    monkeypatch.setattr(protocol, "fit", lambda *a, **k: calls.append(k["method"]) or pytest.fail("trained again"))
    assert command.main([*given, "--output", str(small / "loo")]) == 0
    assert json.loads((small / "loo/skill.json").read_text()) == result and calls == []
    assert command.main([*given, "--output", str(small / "loo"), "--channels", "4"]) == 2
    assert "holds answers of other features or settings" in capsys.readouterr().err

    monkeypatch.undo()
    assert command.main([*given, "--output", str(small / "published"), "--protocol", "published", "--epochs", "1"]) == 0
    assert "optimistic" in (small / "published/skill.md").read_text().splitlines()[0]


def test_domains_that_are_named_are_left_out_in_turn_and_no_others(tmp_path, monkeypatch, capsys):
    write_world(World(domains=4, surgeons=6, trials=4), tmp_path / "features")
    calls = []

    def spied(clips, train, stop_on, **options):
        calls.append((sorted(train), {trial.domain for trial in stop_on}))
        return heads.Encoder(clips.channels, 4), {"epoch": 1, "accuracy": 0.5}

    monkeypatch.setattr(protocol, "fit", spied)
    given = ["run", "--features", str(tmp_path / "features"), "--output", str(tmp_path / "out"), "--shots", "1"]
    given += ["--methods", "protonet", "linear_probe", "--resamples", "20"]
    assert command.main([*given, "--test", "d3", "d1"]) == 0
    # A domain that is tested is learnt from where another is. Nobody is in two domains: one training for both folds.
    assert calls == [(["d0", "d3"], {"d2"}), (["d1", "d2"], {"d0"})]
    result = json.loads((tmp_path / "out/skill.json").read_text())
    found = {(row["domain"], row["method"]): row["accuracy"]["value"] for row in result["figures"]}
    assert set(found) == {(d, m) for d in ("d1", "d3", "mean of domains") for m in ("protonet", "linear_probe")}
    assert {stop["domain"] for stop in result["stops"]} == {"d1", "d3"}
    assert (result["about"]["domains"], result["about"]["trials"]) == (2, 2 * 4 * 6)
    mean = (found["d1", "protonet"] + found["d3", "protonet"]) / 2
    assert found["mean of domains", "protonet"] == pytest.approx(mean)

    assert command.main([*given, "--test", "d1", "d9"]) == 2
    assert "d9: expected some of d0, d1, d2, d3" in capsys.readouterr().err


def rewritten(folder, change):
    table = folder / "items.csv"
    rows = list(csv.reader(table.open()))
    change(rows)
    table.write_text("\n".join(",".join(row) for row in rows) + "\n")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda rows: rows[0].__setitem__(4, "class"), "no column label"),
        (lambda rows: rows[3].__setitem__(4, "-1"), "line 4: label: expected a class from 0 on, found '-1'"),
        (lambda rows: rows[2].__setitem__(2, "someone"), "line 3: trial d0s00t0: expected surgeon d0s00"),
        (lambda rows: rows[2].__setitem__(2, ""), "line 3: surgeon: expected a value"),
        (lambda rows: [row.__setitem__(4, "2") for row in rows[1:3]], "expected trials of the classes 0 to 2"),
        (lambda rows: rows[1].__setitem__(0, "gone.npy"), "gone.npy: cannot be read as .npy"),
        (lambda rows: rows.__delitem__(slice(49, None)), "expected three domains or more"),
    ],
)
def test_a_table_that_cannot_be_used_is_one_line(small, change, said, capsys):
    rewritten(small / "features", change)
    assert command.main(["run", "--features", str(small / "features"), "--output", str(small / "out")]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert not (small / "out/skill.json").exists()


def test_features_that_are_no_numbers_are_one_line(small):
    trials = read_trials(small / "features")
    file = small / "features" / trials[0].files[0]
    for values, said in (
        (np.full((3, 12), np.nan), "expected finite numbers"),
        (np.ones((3, 7)), "expected 7 channels"),
        (np.ones((2, 3, 4)), r"expected numbers of shape \(steps, channels\)"),
    ):
        np.save(file, values)
        with pytest.raises(InputError, match=said):
            read_features(small / "features", trials)


# A checkpoint's features, and a language model beside them.


@pytest.fixture
def feature_folder(qwen2_5_vl, tmp_path):
    folder = tmp_path / "features"
    given = ["features", "--model", str(qwen2_5_vl.path), "--data", str(qwen2_5_vl.data / "train.parquet")]
    assert command.main([*given, "--output", str(folder)]) == 0
    return folder


def test_features_are_what_the_text_layers_are_handed(family):
    """Of each temporal patch the mean over its picture, of two clips of different lengths."""
    requests = [family.request(0, frames=6), family.request(1, frames=4)]
    clips = [request.videos[0] for request in requests]
    seen = []
    hook = family.engine.model.model.visual.register_forward_hook(lambda *found: seen.append(found[-1].pooler_output))
    try:
        for request in requests:
            family.engine._prefill([request])
    finally:
        hook.remove()
    found = family.engine.clip_features(clips)
    assert [len(part) for part in found] == [3, 2]
    for part, whole in zip(found, seen, strict=True):
        torch.testing.assert_close(part, whole.unflatten(0, (len(part), -1)).mean(1), atol=1e-5, rtol=1e-4)


def test_rows_become_trials_with_their_surgeon(feature_folder, qwen2_5_vl):
    import pyarrow.parquet as pq

    rows = [row for row in pq.read_table(qwen2_5_vl.data / "train.parquet").to_pylist() if row["ability"] == "sa"]
    with open(feature_folder / "items.csv", newline="") as file:
        table = list(csv.DictReader(file))
    assert len(table) == len(rows)
    for line, row in zip(table, rows, strict=True):
        marks = json.loads(row["reward_model"]["ground_truth"])["scores"]
        task, _, name = row["extra_info"]["video_id"].rpartition("_")
        assert line["domain"] == task.lower().replace("_", "") and line["surgeon"] == name[0]
        assert line["label"] == str(int(sum(marks.values()) >= 18))
        frames = len(row["videos"][0]["video"])
        assert np.load(feature_folder / line["file"]).shape == ((frames + 1) // 2, 64)


def test_curated_cameras_are_recordings_of_one_trial(plugged, tmp_path):
    """From the native files of JIGSAWS to the table: a trial seen by two cameras is one trial of one surgeon."""
    from data_preprocess import curate, medvidbench
    from recipes.medgrpo.data.rows import Rows
    from recipes.medgrpo.studies.skill.features import recordings

    given = ["--no-media", "--sources", "JIGSAWS", "--videos", "6", "--seconds", "60", "--output", str(tmp_path)]
    assert curate.main(["synthetic", *given]) == 0
    assert curate.main(["JIGSAWS", "--root", str(tmp_path / "JIGSAWS"), "--output", str(tmp_path / "rows")]) == 0
    given = ["--annotations", str(tmp_path / "rows/annotations.json"), "--frames-root", str(tmp_path)]
    given += ["--output", str(tmp_path / "data"), "--verify", "none", "--tasks", "sa", "--val-fraction", "0"]
    assert medvidbench.main(given) == 0
    rows = Rows.open([str(tmp_path / "data/train.parquet")])
    trials = {}
    for line in recordings(rows, [18]):
        trials.setdefault(line.trial, []).append((line, rows.row(line.place)["extra_info"]["video_id"]))
    assert len(trials) == 6 and {line.domain for found in trials.values() for line, _ in found} == {
        *("suturing", "needlepassing", "knottying")
    }
    for found in trials.values():
        assert {video[-1] for _, video in found} == {"1", "2"} and len({video[:-1] for _, video in found}) == 1
        assert len({(line.domain, line.surgeon, line.label) for line, _ in found}) == 1


def test_a_language_model_is_read_by_the_total_of_its_marks(tmp_path):
    from recipes.medgrpo.studies.skill.language import read_answers, said_of
    from reward_score.answers import ASPECTS, render_sa

    trials = [Trial("d", f"s{at}", f"t{at}", label, (f"row{at:06d}.npy",)) for at, label in enumerate((1, 0, 1, 0))]
    marks = (4, 2, 3, None)
    lines = [{"header": {}}]
    for at, mark in enumerate(marks):
        answer = render_sa(dict.fromkeys(ASPECTS, mark)) if mark else "I cannot say."
        lines.append({"place": at, "answer": answer})
    file = tmp_path / "answers.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = said_of(trials, read_answers(file), [18], file)
    values = {name: float(value[0]) for name, value in found.measure(np.ones((1, 4))).items()}
    # The last one names no class: neither right nor of another class.
    assert values["accuracy"] == 0.75 and values["auc"] == 1.0
    with pytest.raises(InputError, match=r"no answer to row000009 \(t9\)"):
        said_of([Trial("d", "s", "t9", 0, ("row000009.npy",))], read_answers(file), [18], file)
    file.write_text('{"index": 3}\n')
    with pytest.raises(InputError, match="line 1: expected place and answer"):
        read_answers(file)
