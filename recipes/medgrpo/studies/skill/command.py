# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Assess skill from a few trials of a domain that was never trained on, with frozen clip features.

    python -m recipes.medgrpo skill features --model CHECKPOINT --data DATA/train.parquet --output FEATURES
    python -m recipes.medgrpo skill synthetic --output FEATURES
    python -m recipes.medgrpo skill run --features FEATURES --output outputs/skill
    python -m recipes.medgrpo skill run --features FEATURES --output outputs/skill_published --protocol published

`features` writes those of a checkpoint's vision tower for the rows that ask for skill. `synthetic` writes domains with
a known best accuracy. Any other folder of `.npy` files with a table `items.csv` (file, domain, surgeon, trial, label)
will do. `run` leaves one domain out at a time, trains an attention head with first-order ProtoMAML and as a ProtoNet
on the others, stops on a further one, and asks about the left one's trials after 1, 2, 4, 8 and 16 trials of each
class by other surgeons, beside a linear probe. It writes `skill.json` and `skill.md`. A run that was interrupted goes
on after the last training. docs/skill.md has the method and what was measured.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from recipes.medgrpo.evaluation.tables import publish
from recipes.medgrpo.files import InputError, data_fingerprint, read_json
from recipes.medgrpo.terminal import Parser, command, progress, whole
from reward_score.bootstrap import RESAMPLES

SHOTS = (1, 2, 4, 8, 16)


@command("skill")
def main(argv: list[str] | None = None) -> int:
    args = _arguments().parse_args(argv)
    args.run(args)
    return 0


def _features(args: argparse.Namespace) -> None:
    if sorted(set(args.cuts)) != args.cuts or not all(6 < cut <= 30 for cut in args.cuts):
        raise InputError(f"--cuts {' '.join(map(str, args.cuts))}: expected growing totals from 7 to 30")
    from recipes.medgrpo.studies.skill.features import write_features

    count = write_features(args.model, args.data, args.output, args.cuts, args.device)
    print(f"{args.output}: features of {count} recordings")


def _synthetic(args: argparse.Namespace) -> None:
    from recipes.medgrpo.studies.skill.world import World, write_world

    world = World(seed=args.seed, skill=args.skill)
    count = write_world(world, args.output, SHOTS)
    rates = ", ".join(f"{world.bayes_rate(k):.3f} (k = {k})" for k in SHOTS)
    print(f"{args.output}: {count} recordings in {world.domains} domains; best possible accuracy {rates}")


def _run(args: argparse.Namespace) -> None:
    import torch

    from recipes.medgrpo.studies.skill.figures import Figures, Found, as_json, less, mean_of
    from recipes.medgrpo.studies.skill.items import TABLE, by_domain, read_features, read_trials
    from recipes.medgrpo.studies.skill.language import read_answers, said_of
    from recipes.medgrpo.studies.skill.protocol import Study, gathered
    from recipes.medgrpo.studies.skill.text import MEAN, markdown
    from recipes.medgrpo.studies.skill.training import PROBE, Settings
    from recipes.medgrpo.studies.skill.world import ABOUT

    torch.set_num_threads(1)  # more wait for each other with matrices this small
    trials = read_trials(args.features)
    domains = by_domain(trials)
    known = read_json(args.features / ABOUT) if (args.features / ABOUT).exists() else {}
    said = read_answers(args.answers) if args.answers else None
    if said is not None and "cuts" not in known:
        raise InputError(f"{args.features / ABOUT}: expected the cuts of `skill features`, to read --answers by")
    settings = Settings(loss=args.loss, channels=args.channels, ways=args.ways, epochs=args.epochs)
    study = Study(
        domains,
        read_features(args.features, trials),
        settings,
        protocol=args.protocol,
        shots=args.shots,
        folds=args.folds,
        folder=args.output / "answers",
        identity={"features": data_fingerprint(args.features / TABLE), "about": known},
    )
    cells, stops = study.cells(args.methods, args.seeds, args.test), []
    tested = {domain: domains[domain] for domain in dict.fromkeys(cell.domain for cell in cells)}
    with progress(len(cells), "training", "skill") as bar:
        for cell in cells:
            found = study.run(cell)
            if "stop_epoch" in found:
                where = {"domain": cell.domain, "method": cell.method, "seed": cell.seed, "fold": cell.fold}
                stops.append(where | {"epoch": int(found["stop_epoch"]), "accuracy": float(found["stop_accuracy"])})
            bar.update()
    surgeons = {trial.surgeon for found in tested.values() for trial in found}
    figures = Figures(sorted(surgeons), args.resamples, args.seeds[0])
    per: dict[tuple[str, int | None], dict[str, Any]] = {}
    for domain, method, shots, answers in gathered(study, cells):
        per.setdefault((method, shots), {})[domain] = figures.draws(answers)
    if said is not None:
        per["language_model", None] = {
            domain: figures.draws(said_of(found, said, known["cuts"], args.answers)) for domain, found in tested.items()
        }
    rows = []
    means: dict[tuple[str, int | None], Found] = {}
    for (method, k), found in per.items():
        for domain, one in found.items():
            count = len({trial.surgeon for trial in domains[domain]})
            rows.append({"domain": domain, "method": method, "shots": k, **as_json(one, count)})
        if len(found) == len(tested):
            means[method, k] = mean_of(list(found.values()))
            mean = as_json(means[method, k], len(surgeons))
            rows.append({"domain": MEAN, "method": method, "shots": k, **mean})
    rows.sort(key=lambda row: (row["domain"] == MEAN, row["domain"]))
    differences = []
    for (method, k), one in means.items():
        for other, theirs in ((PROBE, k), ("language_model", None)):
            if method not in (other, "language_model") and (other, theirs) in means:
                less_than = as_json(less(one, means[other, theirs]), len(surgeons))
                differences.append({"first": method, "second": other, "shots": k, **less_than})
    about = {
        "what": known.get("what", "a folder of .npy files"),
        "trials": sum(map(len, tested.values())),
        "domains": len(tested),
        "classes": study.ways,
        "surgeons": len(surgeons),
        "features": known,
    } | ({"bayes_rate": known["bayes_rate"]} if "bayes_rate" in known else {})
    result = {
        "format": 1,
        "about": about,
        "protocol": args.protocol,
        "optimistic": args.protocol == "published",
        "shots": list(args.shots),
        "seeds": list(args.seeds),
        "figures": rows,
        "differences": differences,
        "stops": stops,
    }
    publish(args.output, "skill", result, markdown(result))


def _arguments() -> Parser:
    parser = Parser("skill", __doc__)
    uses = parser.add_subparsers(required=True, title="subcommands", metavar="features|synthetic|run")
    features = uses.add_parser("features", help="features of a checkpoint's vision tower")
    add = features.add_argument
    add("--model", required=True, metavar="DIR", help="the checkpoint's folder, in Hugging Face format")
    add("--data", required=True, metavar="PARQUET", help="rows of the preprocessor; those of the task sa count")
    add("--device", default="cpu", help="cpu or cuda")
    add(
        "--cuts",
        nargs="+",
        type=whole(7, 30),
        default=[18],
        metavar="N",
        help="totals where a class begins (default: 18)",
    )
    synthetic = uses.add_parser("synthetic", help="domains with a known best accuracy")
    add = synthetic.add_argument
    add("--seed", type=whole(0), default=0, help="of the domains")
    add("--skill", type=float, default=3.0, help="distance between the classes, in standard deviations of a trial")
    run = uses.add_parser("run", help="train, stop, test, and write the tables")
    add = run.add_argument
    add("--features", required=True, type=Path, help="folder of .npy files with items.csv")
    add("--protocol", choices=("loo", "published"), default="loo", help="where training stops: published is optimistic")
    add("--test", nargs="+", metavar="DOMAIN", help="domains to leave out and test, one at a time (default: all)")
    add("--methods", nargs="+", choices=("protomaml", "protonet", "linear_probe"), help="(default: all)")
    add("--shots", nargs="+", type=whole(1), default=list(SHOTS), metavar="K", help="(default: 1 2 4 8 16)")
    add("--ways", type=whole(2), help="classes of a training episode (default: all)")
    add("--folds", type=whole(2), default=2, help="parts of a domain's surgeons, each asked about in turn")
    add("--seeds", nargs="+", type=whole(0), default=[0], metavar="N", help="of training and support sets (default: 0)")
    add("--loss", choices=("cosine", "cross_entropy"), default="cosine", help="cosine is the published one")
    add("--channels", type=whole(1), default=8, help="principal components of the features")
    add("--epochs", type=whole(1), default=60, help="at most, of 20 batches of 8 episodes")
    add(
        "--answers", type=Path, metavar="JSONL", help="a language model's answers to the rows, from generate --one-shot"
    )
    add("--resamples", type=whole(1), default=RESAMPLES, help="of the bootstrap over surgeons")
    run.set_defaults(run=_run, methods=["protomaml", "protonet", "linear_probe"])
    features.set_defaults(run=_features)
    synthetic.set_defaults(run=_synthetic)
    for one in (features, synthetic, run):
        one.add_argument("--output", required=True, type=Path, help="folder to write to")
    return parser


if __name__ == "__main__":
    sys.exit(main())
