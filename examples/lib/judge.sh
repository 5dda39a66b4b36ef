# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
# shellcheck shell=bash
#
# Who judges captions, to be sourced: JUDGE and JUDGE_* of the environment, checked by `check_judge`, as arguments of
# the commands (JUDGE_ARGS) and as hydra overrides of a training (JUDGE_OVERRIDES) by `set_judge`.
#
# The key comes from MEDGRPO_JUDGE_API_KEY, MEDGRPO_JUDGE_API_KEY_FILE or OPENAI_API_KEY, read where the reward is
# computed (on several nodes: in the environment that each `ray start` got). No line here expands it, so that neither a
# trace nor a configuration can show it.

# JUDGE: offline (word overlap, no network), openai (any compatible endpoint), in training also router (verl's own
# reward-model servers) and none: captions are then rewarded for their similarity alone (the paper's ablation without a
# judge). The caller sets the defaults of JUDGE and JUDGE_MODEL.
SCORING_JUDGE=${SCORING_JUDGE:-offline}             # of JUDGE=none: who judges where answers are only scored, and whose
                                                    # statistics the training may use: offline or openai
JUDGE_BASE_URL=${JUDGE_BASE_URL:-https://api.openai.com/v1}
ENCODER=${ENCODER:-}        # of sentence similarity: folder, hub name or address; empty: the packaged one

# Each of these becomes an option of the commands, --judge-..., and a setting of the judge in training. Empty: not set.
JUDGE_TEXTS=(
  JUDGE_MODEL
  JUDGE_STORE                   # verdicts, limits and account
  JUDGE_BASE_URL
  JUDGE_PROMPT                  # name or file; default: comparative
  JUDGE_SECOND_MODEL            # another model, averaged with the first; default: none
  JUDGE_SECOND_BASE_URL         # of its endpoint; default: the first's
  JUDGE_SECOND_KEY_VARIABLE     # name of the variable with its key; default: the first's
)
JUDGE_NUMBERS=(
  JUDGE_BUDGET_USD              # dollars over the whole run; default: no budget
  JUDGE_REQUESTS_PER_MIN        # over all reward workers; default: no limit
  JUDGE_TOKENS_PER_MIN
  JUDGE_IN_FLIGHT               # default: as configured
  JUDGE_PROMPT_PRICE            # dollars per million tokens; default: the price table
  JUDGE_COMPLETION_PRICE
  JUDGE_SECOND_PROMPT_PRICE
  JUDGE_SECOND_COMPLETION_PRICE
)
[[ ${JUDGE_PROMPT:-} != */* && ${JUDGE_PROMPT:-} != *.* ]] || absolute JUDGE_PROMPT

# Who judges where answers are scored: in calibration and evaluation.
scoring_judge() {
  if [[ $JUDGE == none ]]; then printf '%s' "$SCORING_JUDGE"; else printf '%s' "$JUDGE"; fi
}

# judges scoring|training: the kinds that may be asked there, as reward_score/settings.py lists them.
judges() {
  local file=$ROOT/reward_score/settings.py tuple='_JUDGES = (\([^)]*\))$'
  { sed -n "s/^SCORING$tuple/\1/p" "$file"; [[ $1 == scoring ]] || sed -n "s/^TRAINING$tuple/\1/p" "$file"; } |
    tr -d '",' | xargs
}

# check_judge scoring|training: what is wrong with these settings.
check_judge() {
  local kinds name
  kinds="$(judges "$1") none"
  [[ " $kinds " == *" $JUDGE "* ]] || PROBLEMS+=("JUDGE '$JUDGE': expected ${kinds// / or }")
  kinds=$(judges scoring)
  [[ $JUDGE != none || " $kinds " == *" $SCORING_JUDGE "* ]] ||
    PROBLEMS+=("SCORING_JUDGE '$SCORING_JUDGE': expected ${kinds// / or }")
  [[ $(scoring_judge) != offline ]] || return 0
  numbers "${JUDGE_NUMBERS[@]}"
  [[ -n $JUDGE_MODEL && $JUDGE_MODEL != *[[:cntrl:]\"\\]* ]] ||
    PROBLEMS+=("JUDGE_MODEL '$JUDGE_MODEL': expected the model's name at the judge's endpoint")
  for name in "${JUDGE_TEXTS[@]:1}"; do
    [[ ${!name:-} != *[[:cntrl:]\"\\]* ]] || PROBLEMS+=("$name '${!name}': expected no double quotes and backslashes")
  done
  # -v asks for the name alone: a test of the value would put the key into a trace.
  [[ $(scoring_judge) != openai || -v MEDGRPO_JUDGE_API_KEY || -v MEDGRPO_JUDGE_API_KEY_FILE || -v OPENAI_API_KEY ]] ||
    ABSENT+=("no key for the judge: set MEDGRPO_JUDGE_API_KEY (any word for a server without keys)")
}

# set_judge: make the arrays. JUDGE_ARGS name the judge that scores, JUDGE_OVERRIDES the one that rewards.
set_judge() {
  local variable name value reward=reward.custom_reward_function.reward_kwargs rewards=()
  JUDGE_ARGS=(--judge "$(scoring_judge)")
  JUDGE_OVERRIDES=("$reward.judge=${JUDGE/#none/null}")
  if [[ -n $ENCODER ]]; then
    JUDGE_ARGS+=(--encoder "$ENCODER")
    JUDGE_OVERRIDES+=("++$reward.encoder=$(quoted "$ENCODER")")
  fi
  [[ $(scoring_judge) != offline ]] || return 0
  if [[ $JUDGE == router ]]; then
    # The servers' address is verl's to know.
    JUDGE_BASE_URL=
    rewards+=("~$reward.judge_settings.base_url")
  fi
  for variable in "${JUDGE_TEXTS[@]}" "${JUDGE_NUMBERS[@]}"; do
    value=${!variable:-}
    [[ -n $value ]] || continue
    name=${variable#JUDGE_}
    name=${name,,}
    JUDGE_ARGS+=("--judge-${name//_/-}" "$value")
    [[ " ${JUDGE_NUMBERS[*]} " == *" $variable "* ]] || value=$(quoted "$value")
    name=${name/#second_/second.}
    rewards+=("++$reward.judge_settings.${name/#in_flight/max_in_flight}=$value")
  done
  [[ $JUDGE == none ]] || JUDGE_OVERRIDES+=("${rewards[@]}")
}
