# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
# shellcheck shell=bash
#
# Who judges captions, to be sourced: JUDGE and JUDGE_* of the environment, checked by `judge_problems`, as arguments of
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
JUDGE_SECOND_MODEL=${JUDGE_SECOND_MODEL:-}          # another model, averaged with the first; empty: none
JUDGE_SECOND_BASE_URL=${JUDGE_SECOND_BASE_URL:-}    # of its endpoint; empty: the first's
JUDGE_SECOND_KEY_VARIABLE=${JUDGE_SECOND_KEY_VARIABLE:-}    # name of the variable with its key; empty: the first's
JUDGE_SECOND_PROMPT_PRICE=${JUDGE_SECOND_PROMPT_PRICE:-}    # dollars per million tokens; empty: the price table
JUDGE_SECOND_COMPLETION_PRICE=${JUDGE_SECOND_COMPLETION_PRICE:-}
JUDGE_PROMPT=${JUDGE_PROMPT:-}                      # name or file; empty: comparative
JUDGE_BUDGET_USD=${JUDGE_BUDGET_USD:-}              # dollars over the whole run; empty: no budget
JUDGE_REQUESTS_PER_MIN=${JUDGE_REQUESTS_PER_MIN:-}  # over all reward workers; empty: no limit
JUDGE_TOKENS_PER_MIN=${JUDGE_TOKENS_PER_MIN:-}
JUDGE_IN_FLIGHT=${JUDGE_IN_FLIGHT:-}                # empty: as configured
JUDGE_PROMPT_PRICE=${JUDGE_PROMPT_PRICE:-}          # dollars per million tokens; empty: the price table
JUDGE_COMPLETION_PRICE=${JUDGE_COMPLETION_PRICE:-}
[[ $JUDGE_PROMPT != */* && $JUDGE_PROMPT != *.* ]] || JUDGE_PROMPT=$(realpath -m -- "$JUDGE_PROMPT")

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

# expect NAME KIND...: a line if the variable's value is none of these.
expect() {
  local name=$1
  shift
  [[ " $* " == *" ${!name} "* ]] || printf "%s '%s': expected %s\n" "$name" "${!name}" "$(sed 's/ / or /g' <<<"$*")"
}

# judge_problems scoring|training: one line for everything that is wrong with these settings.
judge_problems() {
  local name asked
  # shellcheck disable=SC2046 # words
  expect JUDGE $(judges "$1") none
  # shellcheck disable=SC2046
  [[ $JUDGE != none ]] || expect SCORING_JUDGE $(judges scoring)
  asked=$(scoring_judge)
  [[ $asked != offline ]] || return 0
  [[ -n $JUDGE_MODEL && $JUDGE_MODEL != *[[:cntrl:]\"\\]* ]] ||
    printf "JUDGE_MODEL '%s': expected the model's name at the judge's endpoint\n" "$JUDGE_MODEL"
  [[ $JUDGE_SECOND_MODEL != *[[:cntrl:]\"\\]* ]] ||
    printf "JUDGE_SECOND_MODEL '%s': expected the model's name at its endpoint\n" "$JUDGE_SECOND_MODEL"
  [[ $JUDGE_PROMPT != *[[:cntrl:]\"\\]* ]] ||
    printf "JUDGE_PROMPT '%s': expected a prompt's name or a file's path without quotes\n" "$JUDGE_PROMPT"
  for name in JUDGE_BUDGET_USD JUDGE_REQUESTS_PER_MIN JUDGE_TOKENS_PER_MIN JUDGE_IN_FLIGHT JUDGE_PROMPT_PRICE \
    JUDGE_COMPLETION_PRICE JUDGE_SECOND_PROMPT_PRICE JUDGE_SECOND_COMPLETION_PRICE; do
    [[ -z ${!name} || ${!name} =~ ^[0-9]+(\.[0-9]+)?$ ]] || printf "%s is '%s', expected a number\n" "$name" "${!name}"
  done
  # -v asks for the name alone: a test of the value would put the key into a trace.
  [[ $asked != openai || -v MEDGRPO_JUDGE_API_KEY || -v MEDGRPO_JUDGE_API_KEY_FILE || -v OPENAI_API_KEY ]] ||
    echo "no key for the judge: set MEDGRPO_JUDGE_API_KEY (any word for a server without keys)"
}

ENCODER=${ENCODER:-}        # of sentence similarity: folder, hub name or address; empty: the packaged one

# set_judge STORE: make the arrays. JUDGE_ARGS name the judge that scores, JUDGE_OVERRIDES the one that rewards.
set_judge() {
  local name value asked settings=reward.custom_reward_function.reward_kwargs.judge_settings rewards=()
  asked=$(scoring_judge)
  JUDGE_ARGS=(--judge "$asked")
  case $JUDGE in none) value=null ;; *) value=$JUDGE ;; esac
  JUDGE_OVERRIDES=(reward.custom_reward_function.reward_kwargs.judge="$value")
  if [[ -n $ENCODER ]]; then
    JUDGE_ARGS+=(--encoder "$ENCODER")
    JUDGE_OVERRIDES+=("++reward.custom_reward_function.reward_kwargs.encoder=$(quoted "$ENCODER")")
  fi
  [[ $asked != offline ]] || return 0
  JUDGE_ARGS+=(--judge-model "$JUDGE_MODEL" --judge-store "$1")
  rewards+=("++$settings.model=$(quoted "$JUDGE_MODEL")" "++$settings.store=$(quoted "$1")")
  if [[ $asked == openai ]]; then
    JUDGE_ARGS+=(--judge-base-url "$JUDGE_BASE_URL")
    rewards+=("++$settings.base_url=$(quoted "$JUDGE_BASE_URL")")
  else
    # The servers' address is verl's to know.
    rewards+=("~$settings.base_url")
  fi
  if [[ -n $JUDGE_PROMPT ]]; then
    JUDGE_ARGS+=(--judge-prompt "$JUDGE_PROMPT")
    rewards+=("++$settings.prompt=$(quoted "$JUDGE_PROMPT")")
  fi
  if [[ -n $JUDGE_SECOND_MODEL ]]; then
    JUDGE_ARGS+=(--judge-second-model "$JUDGE_SECOND_MODEL")
    rewards+=("++$settings.second.model=$(quoted "$JUDGE_SECOND_MODEL")")
    for name in base_url key_variable prompt_price completion_price; do
      value=JUDGE_SECOND_${name^^}
      value=${!value}
      [[ -n $value ]] || continue
      JUDGE_ARGS+=("--judge-second-${name//_/-}" "$value")
      case $name in *_price) ;; *) value=$(quoted "$value") ;; esac
      rewards+=("++$settings.second.$name=$value")
    done
  fi
  for name in budget_usd requests_per_min tokens_per_min in_flight prompt_price completion_price; do
    value=JUDGE_${name^^}
    value=${!value}
    [[ -n $value ]] || continue
    JUDGE_ARGS+=("--judge-${name//_/-}" "$value")
    case $name in in_flight) name=max_in_flight ;; esac
    rewards+=("++$settings.$name=$value")
  done
  [[ $JUDGE == none ]] || JUDGE_OVERRIDES+=("${rewards[@]}")
}
