#!/usr/bin/env bash
# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
#
# Train rows of the ablation from the same SFT model and the same calibration, and make their table.
# recipes/medgrpo/studies/ablation/variants.txt lists all rows.
#
#   bash examples/run_ablation.sh A B C D E       # the paper's rows, then the table
#   bash examples/run_ablation.sh F               # all eight tasks rewarded
#   bash examples/run_ablation.sh zscore drpo     # alternatives to the paper's normalisation
#   CALIBRATION_ROWS=160 bash examples/run_ablation.sh A settled_by tal_wasserstein    # calibrate on every row for it
#   bash examples/run_ablation.sh table           # the table of the finished rows
#   SEEDS="0 1 2" bash examples/run_ablation.sh A B                # on the CPU: several seeds, pooled in the table
#   bash examples/run_ablation.sh --dry-run A E                    # print the commands instead
#   bash examples/run_ablation.sh A E --cfg job --resolve          # print what hydra composes for the 8-GPU recipe
#
# With GPUs and MODEL_PATH (the SFT checkpoint), a row is the recipe of that model and then examples/run_evaluate.sh.
# It reads the recipe's variables (DATA_DIR, STATISTICS, JUDGE..., N_GPUS, ...). All rows use the same statistics, so
# calibrate all tasks (`--tal-wasserstein` for that row; the row settled_by reads raw_signals.jsonl beside them).
# Otherwise a row is a CPU run with the tiny model. It takes data, model, SFT and statistics from
# `bash examples/run_medgrpo.sh`, which is run first if its output is missing. Every row is evaluated on all tasks, so
# that forgetting shows. A row is in OUTPUT_DIR/rows/ROW, and the table is in OUTPUT_DIR/rows. A second call skips what
# is done. Arguments with = are hydra overrides.
set -euo pipefail

main() {
  ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
  NAME=run_ablation
  # shellcheck source=examples/lib/commands.sh
  source "$ROOT/examples/lib/commands.sh"
  find_recipe
  read_hydra_arguments "$@"
  why=$(cpu_reasons)
  # What is only printed is the 8-GPU recipe's, on any machine.
  ! only_prints || why=
  if [[ -n $why ]]; then export JUDGE=${JUDGE:-offline}; else export JUDGE=${JUDGE:-openai}; fi
  export JUDGE_MODEL=${JUDGE_MODEL-}
  [[ -n $JUDGE_MODEL || -n $why ]] || JUDGE_MODEL=gpt-4.1
  # shellcheck source=examples/lib/judge.sh
  source "$ROOT/examples/lib/judge.sh"

  local rows=() overrides=() argument
  for argument in "${ARGUMENTS[@]}"; do
    if [[ $argument == *=* || $argument == "~"* ]]; then
      overrides+=("$argument")
    elif [[ $argument != table ]]; then
      read_row "$argument" || PROBLEMS+=("row '$argument': expected table or some of $(row_names)")
      rows+=("$argument")
    fi
  done
  no_other_options "rows, key=value, "
  ((${#ARGUMENTS[@]} + ${#OPTIONS[@]})) || PROBLEMS+=("no row: expected table or some of $(row_names)")
  if [[ $JUDGE == none ]]; then
    PROBLEMS+=("JUDGE is 'none': row E is without a judge by itself, expected the judge of the other rows")
  else
    check_judge scoring
  fi
  if ((${#OPTIONS[@]})); then
    print_rows
  elif [[ -n $why ]]; then
    echo "Rows of the ablation in small, on the CPU with a tiny $MODEL: $why (the 8-GPU recipes need both)." >&2
    on_cpu
  else
    echo "Rows of the ablation by the 8-GPU recipe: $(gpu_count) GPUs found and MODEL_PATH is $MODEL_PATH." >&2
    on_gpus
  fi
}

ROWS_FILE=recipes/medgrpo/studies/ablation/variants.txt

# row_names: every row of the table, on one line.
row_names() {
  sed -nE 's/^([A-Za-z_0-9]+) *\|.*/\1/p' "$ROOT/$ROWS_FILE" | paste -sd ' '
}

# read_row ROW: its settings as ROW_TASKS, ROW_NORMALIZER, ROW_ADVANTAGE, ROW_JUDGE (yes or none) and ROW_MORE (hydra
# overrides); fails without such a row.
read_row() {
  [[ $1 =~ ^[A-Za-z_0-9]+$ ]] && IFS='|' read -r ROW_TASKS ROW_NORMALIZER ROW_ADVANTAGE ROW_JUDGE _ ROW_MORE \
    < <(sed -nE "s/ *\| */|/g; s/^$1\|//p" "$ROOT/$ROWS_FILE")
}

# What hydra composes for each row, one YAML document after the other.
print_rows() {
  local row
  ABSENT=()
  stop_if_wrong
  for row in "${rows[@]}"; do
    echo "--- # row $row"
    row_settings "$row" RAW_SIGNALS
    env "${SETTINGS[@]}" bash "$ROOT/examples/$GPU_RECIPE" "${OPTIONS[@]}" "${MORE[@]}" "${overrides[@]}"
  done
}

# row_settings ROW FILE: the variables of a row for its script, as SETTINGS, and its overrides, as MORE. FILE is the
# calibration's raw_signals.jsonl.
row_settings() {
  read_row "$1"
  read -ra MORE <<<"$ROW_MORE"
  local at
  for at in "${!MORE[@]}"; do
    [[ ${MORE[at]} != *=RAW_SIGNALS ]] || MORE[at]=${MORE[at]%RAW_SIGNALS}$(quoted "$2")
  done
  SETTINGS=(TASKS="$ROW_TASKS" NORMALIZER="$ROW_NORMALIZER" ADVANTAGE="$ROW_ADVANTAGE")
  # Without a judge in training the answers are still judged where they are only scored, by that of the other rows.
  if [[ $ROW_JUDGE == none ]]; then SETTINGS+=(JUDGE=none SCORING_JUDGE="$JUDGE"); else SETTINGS+=(JUDGE="$JUDGE"); fi
}

# the_table OUTPUT ARGUMENT...: of the rows that are done.
the_table() {
  local output=$1
  shift
  [[ -n $DRY_RUN || -z $why ]] || use_environment cpu report
  JUDGE_STORE=${JUDGE_STORE:-$output/judge}
  set_judge
  run PYTHONPATH="$PYTHONPATH" python -m recipes.medgrpo ablation "$@" --output "$output" \
    "${JUDGE_ARGS[@]}"
}

on_cpu() {
  local seed row base run bases=() parts output
  SEEDS=${SEEDS:-${SEED:-0}}            # of the runs, one after the other
  for seed in $SEEDS; do
    [[ $seed =~ ^[0-9]+$ ]] || PROBLEMS+=("SEEDS: '$seed', expected whole numbers")
  done
  stop_if_wrong
  for seed in $SEEDS; do
    case $SEEDS in *" "*) base=${OUTPUT_DIR:+$OUTPUT_DIR/seed$seed} ;; *) base=${OUTPUT_DIR:-} ;; esac
    base=$(realpath -m -- "${base:-$ROOT/outputs/${MODEL}_seed$seed}")
    bases+=("$base")
    ((${#rows[@]})) || continue
    # It rewards all eight tasks: what it trains is row F.
    run OUTPUT_DIR="$base" SEED="$seed" TASKS=all NORMALIZER=logistic ADVANTAGE=grpo \
      bash "$ROOT/examples/run_medgrpo.sh"
    for row in "${rows[@]}"; do
      run=$base/rows/$row
      parts=(data model sft eval/sft statistics.json raw_signals.jsonl)
      [[ $row != F || ${#overrides[@]} -gt 0 ]] || parts+=(grpo attempts eval/medgrpo)
      row_settings "$row" "$base/raw_signals.jsonl"
      # A reward with a signal more needs it measured: the same answers, scored once more.
      signals_of "${MORE[@]}" "${overrides[@]}"
      ((${#SIGNALS[@]} == 0)) || parts=(data model sft eval/sft)
      if [[ -z $DRY_RUN ]]; then
        share_parts "$base" "$run" "${parts[@]}"
        echo "$base" >"$run/shared"
        printf '\n==== row %s, seed %s\n' "$row" "$seed"
      fi
      run OUTPUT_DIR="$run" SEED="$seed" "${SETTINGS[@]}" bash "$ROOT/examples/run_medgrpo.sh" \
        "${MORE[@]}" "${overrides[@]}"
    done
  done
  output=${bases[0]}/rows
  ((${#bases[@]} == 1)) || output=$(realpath -m -- "${OUTPUT_DIR:-$ROOT/outputs/${MODEL}_ablation}")
  the_table "$output" --runs "${bases[@]}"
}

on_gpus() {
  local row run checkpoint raw
  export STEPS=${STEPS:-5000}           # the paper's
  DATA_DIR=${DATA_DIR:-}                # as the recipe's
  EVAL_DATA=${EVAL_DATA:-${DATA_DIR:-DATA_DIR}/val.parquet}      # what every row answers
  GROUND_TRUTH=${GROUND_TRUTH:-$EVAL_DATA}      # its answers: the parquet itself, or annotations
  OUTPUT_DIR=${OUTPUT_DIR:-$ROOT/outputs/ablation_$MODEL}
  N_GPUS=${N_GPUS:-8} STATISTICS=${STATISTICS:-}
  absolute OUTPUT_DIR EVAL_DATA GROUND_TRUTH MODEL_PATH STATISTICS
  whole_numbers STEPS N_GPUS
  if ((${#rows[@]})); then
    needs_gpus "$N_GPUS" "N_GPUS is $N_GPUS"
    needs STATISTICS "" "run_calibrate.sh's, of all tasks"
    raw=$(dirname "$STATISTICS")/raw_signals.jsonl
    for row in "${rows[@]}"; do
      row_settings "$row" "$raw"
      [[ " $ROW_MORE" != *=RAW_SIGNALS* || -f $raw ]] ||
        ABSENT+=("row $row: $raw is missing, expected what run_calibrate.sh wrote beside STATISTICS")
      signals_of "${MORE[@]}" "${overrides[@]}"
      ((${#SIGNALS[@]} == 0)) || [[ ! -f $STATISTICS ]] || grep -q '"wasserstein"' "$STATISTICS" ||
        ABSENT+=("row $row: $STATISTICS does not have its signal, expected run_calibrate.sh ${SIGNALS[*]}")
    done
    needs DATA_DIR train.parquet "data_preprocess/medvidbench.py's output"
    needs MODEL_PATH config.json "the SFT checkpoint in HF format"
  fi
  needs EVAL_DATA "" "rows for the evaluation"
  needs GROUND_TRUTH "" "the answers to EVAL_DATA"
  # The recipe and run_evaluate.sh list what else is wrong before they start.
  stop_if_wrong
  [[ -n $DRY_RUN ]] || use_environment gpu report
  # One store for every row: a pair of texts is judged once.
  export JUDGE_STORE=${JUDGE_STORE:-$OUTPUT_DIR/judge}
  evaluated() {
    run OUTPUT_DIR="$1" MODEL_PATH="$2" EVAL_DATA="$EVAL_DATA" GROUND_TRUTH="$GROUND_TRUTH" JUDGE="$JUDGE" \
      bash "$ROOT/examples/run_evaluate.sh"
  }
  ((${#rows[@]} == 0)) || evaluated "$OUTPUT_DIR/eval/sft" "$MODEL_PATH"
  for row in "${rows[@]}"; do
    run=$OUTPUT_DIR/rows/$row
    checkpoint=$run/checkpoints/global_step_$STEPS/actor/huggingface
    row_settings "$row" "$raw"
    # verl writes data.pt behind all of a checkpoint, and config.json before its weights.
    if [[ -f $checkpoint/config.json && -f $run/checkpoints/global_step_$STEPS/data.pt ]]; then
      echo "row $row: trained already" >&2
    else
      run OUTPUT_DIR="$run" "${SETTINGS[@]}" bash "$ROOT/examples/$GPU_RECIPE" "${MORE[@]}" "${overrides[@]}"
    fi
    # So that a row that was made with other settings is not taken for this one.
    run PYTHONPATH="$PYTHONPATH" python -m recipes.medgrpo run_plan --run "$run" model="$MODEL" steps="$STEPS" \
      tasks="$([[ $ROW_TASKS == all ]] || echo "$ROW_TASKS")" normalizer="$ROW_NORMALIZER" advantage="$ROW_ADVANTAGE" \
      training_judge="${ROW_JUDGE/yes/}" overrides="$(of_the_method "${MORE[@]}" "${overrides[@]}")"
    evaluated "$run/eval/medgrpo" "$checkpoint"
  done
  the_table "$OUTPUT_DIR/rows" --runs "$OUTPUT_DIR" --ground-truth "$GROUND_TRUTH" --model-family "$MODEL"
}

main "$@"; exit
