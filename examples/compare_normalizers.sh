#!/usr/bin/env bash
# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
#
# Train on the CPU once per normaliser and advantage, all from one SFT model and one calibration, and compare the runs.
#
#   bash examples/compare_normalizers.sh                          # seed 0, the variants below
#   SEED=1 VARIANTS="logistic:grpo none:dr_grpo" bash examples/compare_normalizers.sh
#
# A variant is NORMALIZER:ADVANTAGE. The first run is `bash examples/run_medgrpo.sh` itself. If it is missing, this
# script makes it. The other variants use its data, model, SFT and statistics, and train in OUTPUT_DIR/variants. A
# second call skips what is done. Arguments are hydra overrides for every variant but the first run.
set -euo pipefail

main() {
  ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
  NAME=compare_normalizers
  # shellcheck source=examples/lib/commands.sh
  source "$ROOT/examples/lib/commands.sh"
  find_recipe
  stop_if_wrong
  export SEED=${SEED:-0}
  VARIANTS=${VARIANTS:-none:grpo percentile_rank:grpo adaptive:grpo logistic:dr_grpo none:dr_grpo none:per_task none:drpo}
  BASE=${OUTPUT_DIR:-$ROOT/outputs/${MODEL}_seed$SEED}

  OUTPUT_DIR=$BASE NORMALIZER=logistic ADVANTAGE=grpo bash "$ROOT/examples/run_medgrpo.sh"
  local variant run runs=()
  for variant in $VARIANTS; do
    run=$BASE/variants/${variant/:/-}
    share_parts "$BASE" "$run" synthetic data model sft eval/sft statistics.json raw_signals.jsonl
    printf '\n==== %s\n' "$variant"
    OUTPUT_DIR=$run NORMALIZER=${variant%:*} ADVANTAGE=${variant#*:} bash "$ROOT/examples/run_medgrpo.sh" "$@"
    runs+=("$run")
  done
  use_environment cpu report
  python -m recipes.medgrpo normalizers --recorded "$BASE/raw_signals.jsonl" \
    --statistics "$BASE/statistics.json" --output "$BASE/normalizers"
  for run in "$BASE" "${runs[@]}"; do
    printf '\n==== %s\n' "$run"
    python -m recipes.medgrpo summary --show "$run"
  done
}

main "$@"; exit
