# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
# shellcheck shell=bash
#
# The CPU run's stage between SFT and calibration, to be sourced behind cpu_run.sh by run_medgrpo.sh; on GPUs it is
# examples/run_intervene.sh. docs/interventions.md has the method.

# 1: train on the SFT model's answers up to their first mistake and its correction; gold: on the reference answers of
# the same rows, to compare with; empty: no such stage.
INTERVENE=${INTERVENE:-}
INTERVENE_ROWS=${INTERVENE_ROWS:-32}    # rows per pair that the SFT model answers for it
INTERVENE_EPOCHS=${INTERVENE_EPOCHS:-4} # [paper]
INTERVENE_LR=${INTERVENE_LR:-3e-4}      # a tenth of the SFT's, as the published stage goes on from a trained model

check_interventions() {
  [[ -z $INTERVENE ]] || one_of INTERVENE 1 gold
  whole_numbers INTERVENE_ROWS INTERVENE_EPOCHS
}

# interventions: from the model SFT to the one in START, in the folder int of the run.
interventions() {
  local rows=$RUN/int/interventions.parquet many
  stage "4/7 interventions: the SFT model's first mistakes, corrected"
  if [[ ! -f int/raw_signals.jsonl ]]; then
    python -m recipes.medgrpo calibrate --model "$SFT" --data data/train.parquet --output int/statistics.json \
      --rows-per-pair "$INTERVENE_ROWS" --seed "$SEED" "${JUDGE_ARGS[@]}" "${SERVERS[@]}" >logs/int_recorded.log
  fi
  if [[ -f int/summary.json && -f $rows ]]; then
    echo "already done"
  else
    python -m recipes.medgrpo intervene --model "$SFT" --recorded int/raw_signals.jsonl --data data/train.parquet \
      --output int --seed "$SEED" "${JUDGE_ARGS[@]}" "${SERVERS[@]}"
  fi
  [[ $INTERVENE != gold ]] || rows=$RUN/int/gold.parquet
  stage "4/7 SFT on ${rows##*/}, $INTERVENE_EPOCHS epochs"
  if [[ -f int/sft/latest_checkpointed_iteration.txt ]]; then
    echo "already done"
  else
    # Fewer rows than a batch are a batch of their own.
    many=$(python -c "import sys, pyarrow.parquet as p; print(min(16, p.read_metadata(sys.argv[1]).num_rows))" "$rows")
    if [[ $RECIPE == gpu ]]; then
      # Of two processes.
      recipe int_sft "${GPU_RECIPE/run_medgrpo/run_sft}" MODEL_PATH="$SFT" TRAIN_FILE="$rows" \
        EPOCHS="$INTERVENE_EPOCHS" TRAIN_BATCH_SIZE=$((many / 2 * 2)) LR="$INTERVENE_LR"
      ln -sfn "$RUN/int_sft" int/sft
    else
      cpu_sft int_sft int/sft model.path="$(quoted "$SFT")" data.train_files="$(quoted "$rows")" \
        data.train_batch_size="$many" data.micro_batch_size_per_gpu="$many" \
        optim.lr="$INTERVENE_LR" optim.lr_warmup_steps=0 \
        trainer.total_epochs="$INTERVENE_EPOCHS" trainer.total_training_steps=null
    fi
  fi
  START=$RUN/int/sft/global_step_$(<int/sft/latest_checkpointed_iteration.txt)/huggingface
}
