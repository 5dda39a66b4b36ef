#!/usr/bin/env bash
# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
#
# The trainings that docs/collapse.md registers, on the CPU, in blocks: one world, one learning rate and one seed with
# four variants, which start from one SFT model and one calibration.
#
#   bash examples/run_collapse.sh                 # every block in the registered order, then the table
#   SEEDS=0 RATES=0.3 WORLDS=heterogeneous bash examples/run_collapse.sh        # one block
#   AT_ONCE=2 OMP_NUM_THREADS=1 bash examples/run_collapse.sh                   # two trainings side by side
#   bash examples/run_collapse.sh table           # the table of what there is
#   EARLIER=trainings.json bash examples/run_collapse.sh table    # and of whole blocks whose folders are elsewhere
#   bash examples/run_collapse.sh --dry-run       # print the commands instead
#
# A second call skips what is done, and a training that was stopped goes on at its last checkpoint. A block is in
# OUTPUT_DIR/WORLD_rateRATE_seedSEED, its SFT model in OUTPUT_DIR/WORLD_seedSEED, and trainings.md in OUTPUT_DIR.
# Arguments with = are hydra overrides of every training: those runs are not the registered ones.
set -euo pipefail

main() {
  ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
  NAME=run_collapse
  # shellcheck source=examples/lib/commands.sh
  source "$ROOT/examples/lib/commands.sh"
  find_recipe
  WORLDS=${WORLDS:-heterogeneous even}  # in the registered order
  RATES=${RATES:-0.3 0.1}               # x3 and x1 of the CPU run's
  SEEDS=${SEEDS:-0 1 2}
  VARIANTS=${VARIANTS:-A B B_dr_grpo adaptive}
  AT_ONCE=${AT_ONCE:-1}                 # trainings of a block side by side
  EARLIER=${EARLIER:-}                  # files of earlier tables
  OUTPUT_DIR=${OUTPUT_DIR:-$ROOT/outputs/collapse}
  export STEPS=${STEPS:-300} SAVE_FREQ=${SAVE_FREQ:-20} EVAL_STEPS=${EVAL_STEPS-100 200}
  export EVAL_SAMPLES=${EVAL_SAMPLES:-4} EVAL_SEED=${EVAL_SEED:-0}
  unset MODEL_PATH                      # with it, a machine with GPUs would run their recipe
  absolute OUTPUT_DIR
  read_arguments "$@"
  local name
  for name in $WORLDS; do
    [[ " heterogeneous even " == *" $name "* ]] || PROBLEMS+=("WORLDS: '$name', expected heterogeneous or even")
  done
  for name in $RATES; do
    [[ $name =~ ^[0-9]+(\.[0-9]+)?$ ]] || PROBLEMS+=("RATES: '$name', expected numbers")
  done
  for name in $SEEDS; do
    [[ $name =~ ^[0-9]+$ ]] || PROBLEMS+=("SEEDS: '$name', expected whole numbers")
  done
  for name in $VARIANTS; do
    variant "$name" || PROBLEMS+=("VARIANTS: '$name', expected some of A B B_dr_grpo adaptive")
  done
  whole_numbers STEPS SAVE_FREQ AT_ONCE
  local overrides=() only_table=
  for name in "${ARGUMENTS[@]}"; do
    if [[ $name == table ]]; then
      only_table=yes
    elif [[ $name == *=* ]]; then
      overrides+=("$name")
    else
      PROBLEMS+=("argument '$name', expected table, key=value or --dry-run")
    fi
  done
  stop_if_wrong
  [[ -n $only_table ]] || trainings
  the_table
}

# variant NAME: the variables of one of the registered trainings, as SETTINGS; fails without such a one.
variant() {
  SETTINGS=(TASKS="tal stg vs rc")
  case $1 in
    A) SETTINGS+=(NORMALIZER=logistic LINEAR_SHARE=0 ADVANTAGE=grpo) ;;
    B) SETTINGS+=(NORMALIZER=none ADVANTAGE=grpo) ;;
    B_dr_grpo) SETTINGS+=(NORMALIZER=none ADVANTAGE=dr_grpo) ;;
    adaptive) SETTINGS+=(NORMALIZER=adaptive ADVANTAGE=grpo) ;;
    B_all) SETTINGS=(TASKS=all NORMALIZER=none ADVANTAGE=grpo) ;;
    *) return 1 ;;
  esac
}

declare -A MADE=()
GOING=0

trainings() {
  local world rate seed
  # What this script started ends with it; a training that was killed goes on at its last checkpoint.
  trap 'kill $(jobs -p) 2>/dev/null || true' EXIT
  trap 'exit 143' TERM
  for world in $WORLDS; do
    for rate in $RATES; do
      # shellcheck disable=SC2086  # words
      for seed in $SEEDS; do block "$world" "$rate" "$seed" $VARIANTS; done
    done
  done
  # The control: nothing should collapse where all eight tasks are trained on.
  [[ " $WORLDS " == *" heterogeneous "* && " $RATES " == *" 0.3 "* && " $VARIANTS " == *" B "* ]] || return 0
  for seed in $SEEDS; do block heterogeneous 0.3 "$seed" B_all; done
}

# block WORLD RATE SEED VARIANT...: the SFT model if it is not there, and the trainings.
block() {
  local world=$1 rate=$2 seed=$3 base run name
  base=$OUTPUT_DIR/${world}_seed$seed
  run=$OUTPUT_DIR/${world}_rate${rate}_seed$seed
  shift 3
  [[ -n $DRY_RUN ]] || printf '\n==== %s, learning rate %s, seed %s: %s\n' "$world" "$rate" "$seed" "$*"
  if [[ ! -f $base/eval/sft/scores.json && -z ${MADE[$base]:-} ]]; then
    run OUTPUT_DIR="$base" SEED="$seed" WORLD="$world" ONLY_SFT=yes EVAL_STEPS= bash "$ROOT/examples/run_medgrpo.sh"
    MADE[$base]=yes
  fi
  for name in "$@"; do
    variant "$name"
    if [[ -n $DRY_RUN ]]; then
      training "$run/$name"
      continue
    fi
    share_parts "$base" "$run/$name" data model sft eval/sft statistics.json raw_signals.jsonl
    echo "$base" >"$run/$name/shared"
    ((GOING < AT_ONCE)) || one_ended
    training "$run/$name" 2>&1 | sed -u "s/^/$name: /" &
    GOING=$((GOING + 1))
  done
  while ((GOING > 0)); do one_ended; done
}

# training FOLDER: with SETTINGS. It ends with this script, however that ends.
training() {
  local parent=()
  [[ -n $DRY_RUN ]] || ! command -v setpriv >/dev/null || parent=(setpriv --pdeathsig TERM)
  run OUTPUT_DIR="$1" SEED="$seed" WORLD="$world" LR="$rate" "${SETTINGS[@]}" \
    "${parent[@]}" bash "$ROOT/examples/run_medgrpo.sh" "${overrides[@]}"
}

# Wait for one of the trainings; when it failed, for the others too, and stop.
one_ended() {
  GOING=$((GOING - 1))
  ! wait -n || return 0
  wait
  echo "$NAME: a training failed, see above; start again to go on" >&2
  exit 1
}

# Of every training that has begun.
the_table() {
  local world rate seed name folders=()
  for world in $WORLDS; do
    for rate in $RATES; do
      for seed in $SEEDS; do
        for name in $VARIANTS B_all; do
          folders+=("$OUTPUT_DIR/${world}_rate${rate}_seed$seed/$name")
        done
      done
    done
  done
  if [[ -z $DRY_RUN ]]; then
    local found=()
    for name in "${folders[@]}"; do [[ ! -f $name/plan.json ]] || found+=("$name"); done
    ((${#found[@]})) || { echo "$NAME: $OUTPUT_DIR: no training yet" >&2; exit 2; }
    folders=("${found[@]}")
    use_environment cpu report
  fi
  # shellcheck disable=SC2086  # words
  run PYTHONPATH="$PYTHONPATH" python -m recipes.medgrpo collapse --output "$OUTPUT_DIR" --runs "${folders[@]}" \
    ${EARLIER:+--earlier $EARLIER}
}

main "$@"; exit
