#!/usr/bin/env bash
# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
#
# From source datasets to a training, on this machine: synthetic trees of the eight sources, rows of the tasks that
# annotations decide, rows of the tasks that two captioners describe, questions about lectures, the preprocessor's
# parquet of all of them, and on it two steps of the CPU run's SFT, a small calibration and two steps of its GRPO.
#
#   bash examples/run_curation.sh
#
# The models are stand-ins: servers without a model, which word the annotations and make mistakes at a known rate. What
# the validation finds of these is printed. What they say is for this demonstration alone, and so are the transcripts.
# A second call goes on where the first one stopped.
set -euo pipefail

main() {
  ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
  NAME=run_curation
  # shellcheck source=examples/lib/commands.sh
  source "$ROOT/examples/lib/commands.sh"
  # shellcheck source=examples/lib/cpu_run.sh
  source "$ROOT/examples/lib/cpu_run.sh"
  find_recipe                           # of the model family MODEL, qwen2_5_vl by default
  SEED=${SEED:-0}                       # of the trees, the clips and the mistakes
  OUTPUT_DIR=${OUTPUT_DIR:-$ROOT/outputs/curation_seed$SEED}
  VIDEOS=${VIDEOS:-4}                   # of each source
  SECONDS_EACH=${SECONDS_EACH:-120}     # of a video
  MISTAKES=${MISTAKES:-0.2}             # share of the stand-ins' descriptions with a mistake
  whole_numbers VIDEOS SECONDS_EACH
  numbers MISTAKES
  [[ $SEED =~ ^[0-9]+$ ]] || PROBLEMS+=("SEED is '$SEED', expected a whole number")
  stop_if_wrong
  use_environment cpu report curation
  SECONDS=0
  mkdir -p "$OUTPUT_DIR/logs" "$OUTPUT_DIR/attempts"
  RUN=$(cd "$OUTPUT_DIR" && pwd)
  cd "$RUN"
  # Loopback servers of our own: no proxy, and any word is their key.
  export NO_PROXY=127.0.0.1,localhost no_proxy=127.0.0.1,localhost STAND_IN_KEY=none
  curate() { python "$ROOT/data_preprocess/curate.py" "$@"; }
  stage() { printf '\n== %s (after %d s)\n' "$*" "$SECONDS"; }

  stage "1/8 synthetic trees of the sources (seed $SEED)"
  if [[ ! -d sources ]]; then
    # Under its name only when it is whole: a second call does not go on with half of the sources.
    rm -rf sources.partial
    curate synthetic --output sources.partial --videos "$VIDEOS" --seconds "$SECONDS_EACH" --seed "$SEED" --errata
    mv sources.partial sources
  fi

  stage "2/8 rows that annotations decide, and the frames of all clips"
  [[ -f curated/curation.json ]] || curate all --root sources --output curated --frames --seed "$SEED"

  stage "3/8 rows that two stand-ins describe; $MISTAKES of their descriptions have a mistake"
  describe

  stage "4/8 questions about what stand-ins for lectures say; $MISTAKES of the facts and questions have a mistake"
  ask_about_lectures

  stage "5/8 annotations to parquet"
  local pixels
  pixels=$(vision_pixels)
  # shellcheck disable=SC2086
  python "$ROOT/data_preprocess/medvidbench.py" --annotations curated/annotations.json captions/captions.json \
    questions/questions.json --frames-root curated/frames --output data --model-family "$MODEL" $pixels \
    --system-prompt none --val-fraction 0.2 --seed "$SEED" | tail -n 1

  train
  printf '\nAll of it is in %s (after %d s).\n' "$RUN" "$SECONDS"
}

# With the CPU run's own configuration. Its longest rows are those of its own clips; these list up to 180 frames.
train() {
  local longest=3072 sft=$RUN/sft/global_step_2/huggingface pairs
  cpu_environment
  stage "6/8 two steps of SFT, a tiny random $MODEL"
  [[ -f model/config.json ]] ||
    python -m recipes.medgrpo tiny_model --family "$MODEL" --text data/train.parquet --output model --seed "$SEED" 2>/dev/null
  if sft_done 2; then echo "already done"; else cpu_sft sft sft trainer.total_training_steps=2 data.max_length=$longest; fi

  stage "7/8 calibration: what the SFT model's answers earn, two of one row of each pair"
  if [[ -f statistics.json ]]; then
    echo "already done"
  else
    python -m recipes.medgrpo calibrate --model "$sft" --data data/train.parquet --output statistics.json \
      --rows-per-pair 1 --samples 2 --seed "$SEED" | tail -n 1
  fi

  stage "8/8 two steps of GRPO, four answers to a prompt of each pair"
  if grpo_done 2; then
    echo "already done"
  else
    python -m recipes.medgrpo preflight --data data --statistics statistics.json --checkpoints grpo \
      --model-family "$MODEL" >/dev/null
    pairs=$(python -c "from pyarrow import parquet; print(len(parquet.read_table('data/train.parquet', columns=['data_source'])['data_source'].unique()))")
    MEDGRPO_MODEL=$sft cpu_grpo 2 2 data.max_prompt_length=$longest data.train_batch_size="$pairs" \
      actor_rollout_ref.rollout.n=4
  fi
}

# Two stand-ins, which end with this shell: their standard input is a pipe that it holds open.
describe() {
  local side held
  rm -f held a.url b.url
  mkfifo held
  for side in a b; do
    curate standin --name "stand-in-$side" --mistakes "$MISTAKES" --seed "$SEED" --log "mistakes_$side.jsonl" \
      <held >"$side.url" &
  done
  exec {held}>held
  for side in a b; do
    for _ in {1..600}; do [[ -s $side.url ]] && break || sleep 0.1; done
    [[ -s $side.url ]] || { echo "run_curation: a stand-in did not start" >&2; exit 2; }
  done
  captioner() { echo "base_url=$(<"$1.url") model=stand-in-$1 key_variable=STAND_IN_KEY prompt_price=0 completion_price=0"; }
  # shellcheck disable=SC2046
  curate caption all --root sources --frames-root curated/frames --frames --output captions --seed "$SEED" \
    --captioner-a $(captioner a) --captioner-b $(captioner b) --mistakes mistakes_a.jsonl mistakes_b.jsonl
  exec {held}>&-
  wait
  rm -f held
}

# One stand-in for all three models, which ends as those do.
ask_about_lectures() {
  local held model
  rm -f held c.url
  mkfifo held
  curate standin --of lectures --name stand-in-c --mistakes "$MISTAKES" --seed "$SEED" --log mistakes_c.jsonl \
    <held >c.url &
  exec {held}>held
  for _ in {1..600}; do [[ -s c.url ]] && break || sleep 0.1; done
  [[ -s c.url ]] || { echo "run_curation: a stand-in did not start" >&2; exit 2; }
  model=(base_url="$(<c.url)" model=stand-in-c key_variable=STAND_IN_KEY prompt_price=0 completion_price=0)
  curate questions AVOS NurViD --root sources --transcripts sources/transcripts --output questions \
    --frames curated/frames --extractor "${model[@]}" --writer "${model[@]}" --blind "${model[@]}" \
    --mistakes mistakes_c.jsonl
  exec {held}>&-
  wait
  rm -f held
}

main "$@"; exit
