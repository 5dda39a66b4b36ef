# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
# shellcheck shell=bash
#
# The CPU run's stages on verl's trainers, to be sourced behind commands.sh by run_medgrpo.sh and run_curation.sh: how
# verl is set up on a machine without a GPU, how a stage is logged, and the commands of SFT and GRPO. RUN is the run's
# folder, MODEL its family and SEED its seed.

fail() { printf '%s: %s\n' "$NAME" "$*" >&2; exit 2; }

# cpu_environment: what verl and Ray are told in all stages.
cpu_environment() {
  export VERL_USE_EXTERNAL_MODULES=recipes.medgrpo.plugin VERL_PLATFORM=cpu
  export MEDGRPO_DATA=$RUN/data MEDGRPO_MODEL=$RUN/model MEDGRPO_STATISTICS=$RUN/statistics.json
  export HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1
  # Ray puts its workers behind every other process of the machine (nice 15).
  export RAY_worker_niceness=0
  export RAY_DEDUP_LOGS=0 HYDRA_FULL_ERROR=1 PYTHONWARNINGS=ignore PYTHONUNBUFFERED=1
  export GLOO_SOCKET_IFNAME=${GLOO_SOCKET_IFNAME:-lo} OMP_NUM_THREADS=${OMP_NUM_THREADS:-2}
  # Threads that wait may spin a little, not long: several processes share few cores, and with the default a machine
  # that is busy with something else runs some steps twenty times slower.
  export GOMP_SPINCOUNT=${GOMP_SPINCOUNT:-20000}
  unset RAY_ADDRESS
}

# A killed script must not leave a trainer behind that writes into the same folder. Only for a part of a pipeline:
# there `exec` makes the command this shell's own child.
with_parent() {
  if command -v setpriv >/dev/null; then exec setpriv --pdeathsig KILL "$@"; else exec "$@"; fi
}

# logged NAME COMMAND...: everything to logs/NAME.log, a line per step to the terminal, the error where it fails.
logged() {
  local log=$RUN/logs/$1.log
  shift
  printf '\n# %s\n' "$*" >>"$log"
  if ! with_parent "$@" 2>&1 | tee -a "$log" | python -m recipes.medgrpo step_lines; then
    # What was said most often, and what was said last: the cause and the end.
    local errors
    errors=$(grep -aoE '([A-Za-z_]+\.)*[A-Z][A-Za-z]*(Error|Exception|Failure|Killed|Stop)\b: .*' "$log" |
      grep -av 'ModuleNotFoundError' | tail -n 200 | cut -c 1-600) || true
    sort <<<"$errors" | uniq -c | sort -rn | sed -nE '1s/^ *[0-9]+ /  /p' >&2
    tail -n 1 <<<"$errors" | sed 's/^/  /' >&2
    fail "this stage failed; its whole output is in $log"
  fi
}

# vision_pixels: the preprocessor's arguments for frames of four to eight vision tokens.
vision_pixels() {
  local cell
  cell=$(python -c "from reward_score.conventions import CONVENTIONS; print(CONVENTIONS['$MODEL'].cell ** 2)")
  echo --min-pixels $((4 * cell)) --max-pixels $((8 * cell))
}

# sft_done STEPS: whether SFT has ended with that many steps.
sft_done() { [[ -f $RUN/sft/latest_checkpointed_iteration.txt && -f $RUN/sft/global_step_$1/huggingface/config.json ]]; }

# cpu_sft NAME FOLDER [OVERRIDE...]: verl's SFT trainer, anew, into a folder of RUN; its metrics stand beside the folder.
cpu_sft() {
  rm -rf "${RUN:?}/$2"
  VERL_FILE_LOGGER_PATH=$RUN/$2_metrics.jsonl logged "$1" torchrun --standalone --nproc_per_node=1 \
    -m verl.trainer.sft_trainer --config-path="$ROOT/recipes/medgrpo/config" --config-name=sft_cpu \
    trainer.experiment_name="$1" trainer.default_local_dir="$RUN/$2" "${@:3}"
}

# grpo_done STEPS: whether GRPO has ended with that many steps.
grpo_done() { [[ -f $RUN/grpo/global_step_$1/data.pt && -f $RUN/grpo/global_step_$1/actor/huggingface/config.json ]]; }

# cpu_grpo STEPS SAVE_FREQ [OPTION|OVERRIDE...]: verl's GRPO trainer, from its last checkpoint on. Its metrics go to a
# file of this attempt's own: verl's file logger starts its file anew.
cpu_grpo() {
  local attempt template
  # What the family's chat template is told, in SFT and evaluation by the same convention.
  mapfile -t template < <(python -c "from reward_score.conventions import convention_of
for name, value in convention_of('$MODEL').template.items():
    print(f'+data.apply_chat_template_kwargs.{name}={str(value).lower()}')")
  attempt=$(($(find "$RUN/attempts" -name 'grpo_*.jsonl' | wc -l) + 1))
  VERL_FILE_LOGGER_PATH=$RUN/attempts/grpo_$attempt.jsonl logged grpo python -m verl.trainer.main_ppo \
    --config-path="$ROOT/recipes/medgrpo/config" --config-name=medgrpo_cpu \
    data.seed="$SEED" actor_rollout_ref.rollout.seed="$SEED" \
    actor_rollout_ref.rollout.router_config_path="$(quoted "$ROOT/recipes/medgrpo/config/router.yaml")" \
    trainer.total_training_steps="$1" trainer.save_freq="$2" \
    trainer.experiment_name=grpo trainer.default_local_dir="$RUN/grpo" "${template[@]}" "${@:3}"
}
