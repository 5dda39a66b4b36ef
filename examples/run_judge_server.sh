#!/usr/bin/env bash
# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
#
# Serve an open model as the judge of captions with `vllm serve` on this machine. The server is OpenAI-compatible, so
# calibration, training and evaluation use it like any endpoint. The script prints the settings for them.
#
#   JUDGE_MODEL_PATH=Qwen/Qwen3-30B-A3B-Instruct-2507 JUDGE_DEVICES=7 bash examples/run_judge_server.sh
#   JUDGE_MODEL_PATH=folder JUDGE_DEVICES=4,5,6,7 JUDGE_TP=2 JUDGE_DP=2 bash examples/run_judge_server.sh
#   bash examples/run_judge_server.sh --dry-run                   # print the command; needs no GPU
#
# The server listens on loopback only, unless JUDGE_HOST is set. Then MEDGRPO_JUDGE_API_KEY must be set too, and the
# server asks for it. The script reports that the server is ready after it has judged one pair. It serves until you
# interrupt the script (Ctrl-C, SIGTERM). Do not give it GPUs that train. Arguments go to `vllm serve`. This script has
# not been run on GPUs. It has been run with JUDGE_MACHINE=cpu, vLLM 0.24 and a tiny model, whose judgements are
# meaningless.
set -xeuo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
NAME=run_judge_server
# shellcheck source=examples/lib/commands.sh
source "$ROOT/examples/lib/commands.sh"

# ---- settings, each one from the environment -------------------------------------------------------------------
JUDGE_MODEL_PATH=${JUDGE_MODEL_PATH:-}          # required: folder or hub name of an instruction-tuned text model
JUDGE_MODEL=${JUDGE_MODEL:-${JUDGE_MODEL_PATH##*/}}     # its name at the endpoint, which labels statistics and reports
JUDGE_HOST=${JUDGE_HOST:-127.0.0.1}
JUDGE_PORT=${JUDGE_PORT:-8000}
JUDGE_DEVICES=${JUDGE_DEVICES:-}      # as CUDA_VISIBLE_DEVICES; empty: as it is set
JUDGE_TP=${JUDGE_TP:-1}               # GPUs that share one replica
JUDGE_DP=${JUDGE_DP:-1}               # replicas
JUDGE_MAX_MODEL_LEN=${JUDGE_MAX_MODEL_LEN:-16384}       # two captions of 8,000 characters and the prompt
JUDGE_GPU_MEMORY_UTILIZATION=${JUDGE_GPU_MEMORY_UTILIZATION:-0.9}
JUDGE_READY_S=${JUDGE_READY_S:-1800}  # seconds that loading and compiling may take
JUDGE_MACHINE=${JUDGE_MACHINE:-gpu}   # cpu: vLLM's build for CPUs, to try a small model

# ---- checks ----------------------------------------------------------------------------------------------------
read_arguments "$@"
whole_numbers JUDGE_PORT JUDGE_TP JUDGE_DP JUDGE_MAX_MODEL_LEN JUDGE_READY_S
one_of JUDGE_MACHINE gpu cpu
[[ $JUDGE_GPU_MEMORY_UTILIZATION =~ ^0\.[0-9]+$ ]] ||
  PROBLEMS+=("JUDGE_GPU_MEMORY_UTILIZATION is '$JUDGE_GPU_MEMORY_UTILIZATION', expected a share below 1 such as 0.9")
[[ $JUDGE_DEVICES =~ ^([0-9]+(,[0-9]+)*)?$ ]] ||
  PROBLEMS+=("JUDGE_DEVICES is '$JUDGE_DEVICES', expected numbers of GPUs such as 6,7")
case $JUDGE_MODEL in *[[:cntrl:]\"\\]*) PROBLEMS+=("JUDGE_MODEL '$JUDGE_MODEL': expected a plain name") ;; esac
[[ -n $JUDGE_MODEL_PATH ]] || ABSENT+=("JUDGE_MODEL_PATH is not set: expected a folder or hub name of the judge's model")
case $JUDGE_MODEL_PATH in ./* | /* | ../*) needs JUDGE_MODEL_PATH config.json "a model in HF format" ;; esac
case $JUDGE_HOST in 127.0.0.1 | localhost | ::1) ;; *)
  # An empty key is none: vLLM would ask for nothing. No trace meanwhile, it would show the key.
  { set +x; } 2>/dev/null
  [[ -n ${MEDGRPO_JUDGE_API_KEY:-} ]] ||
    ABSENT+=("JUDGE_HOST is '$JUDGE_HOST', which others can reach: set MEDGRPO_JUDGE_API_KEY, which the server then asks for")
  set -x
  ;;
esac
if ((${#PROBLEMS[@]} == 0)); then
  if [[ $JUDGE_MACHINE == gpu ]]; then
    needed=$((JUDGE_TP * JUDGE_DP))
    needs_gpus "$needed" "JUDGE_TP x JUDGE_DP is $needed"
    if [[ -n $JUDGE_DEVICES ]]; then
      named=$(tr ',' '\n' <<<"$JUDGE_DEVICES" | sort -u | wc -l)
      ((named == needed)) || PROBLEMS+=("JUDGE_DEVICES '$JUDGE_DEVICES' names $named GPUs, JUDGE_TP x JUDGE_DP is $needed")
    fi
  fi
  # A server of someone else's would answer the health check in place of ours.
  ! (exec 3<>"/dev/tcp/${JUDGE_HOST/0.0.0.0/127.0.0.1}/$JUDGE_PORT") 2>/dev/null ||
    ABSENT+=("JUDGE_PORT $JUDGE_PORT: something answers there already")
fi
stop_if_wrong

# ---- start -----------------------------------------------------------------------------------------------------
# Read whole before anything runs: bash follows later changes of a running script line by line.
{
ADDRESS=${JUDGE_HOST/0.0.0.0/127.0.0.1}
[[ $ADDRESS != *:* ]] || ADDRESS=[$ADDRESS]
BASE_URL=http://$ADDRESS:$JUDGE_PORT/v1
SERVER=(
  vllm serve "${JUDGE_MODEL_PATH:-JUDGE_MODEL_PATH}" --served-model-name "${JUDGE_MODEL:-JUDGE_MODEL}"
  --host "$JUDGE_HOST" --port "$JUDGE_PORT" --max-model-len "$JUDGE_MAX_MODEL_LEN"
  --tensor-parallel-size "$JUDGE_TP" --data-parallel-size "$JUDGE_DP"
  # The prompt's instructions are the same in every request.
  --enable-prefix-caching
)
[[ $JUDGE_MACHINE == cpu ]] || SERVER+=(--gpu-memory-utilization "$JUDGE_GPU_MEMORY_UTILIZATION")
SERVER+=("${ARGUMENTS[@]}")
CHECK=(
  python -m recipes.medgrpo judge_check --judge openai --judge-base-url "$BASE_URL"
  --judge-model "${JUDGE_MODEL:-JUDGE_MODEL}" --judge-ping
)
[[ -z $JUDGE_DEVICES ]] || export CUDA_VISIBLE_DEVICES=$JUDGE_DEVICES
if [[ -n $DRY_RUN ]]; then
  run ${JUDGE_DEVICES:+CUDA_VISIBLE_DEVICES="$JUDGE_DEVICES"} "${SERVER[@]}"
  run "${CHECK[@]}"
  exit 0
fi
[[ $JUDGE_MACHINE == cpu ]] || use_environment gpu
if [[ -v MEDGRPO_JUDGE_API_KEY ]]; then
  # vLLM reads its key here: on a command line everyone on the machine would see it. No trace meanwhile.
  { set +x; } 2>/dev/null
  export VLLM_API_KEY=$MEDGRPO_JUDGE_API_KEY
  set -x
else
  export MEDGRPO_JUDGE_API_KEY=none   # any word for a server without keys
fi

# A group of its own, so that its workers end with it; and it must not outlive this script, even one that is killed.
! command -v setpriv >/dev/null || SERVER=(setpriv --pdeathsig TERM "${SERVER[@]}")
set -m
"${SERVER[@]}" &
SERVER_PID=$!
set +m
stop() {
  kill -TERM -- "-$SERVER_PID" 2>/dev/null || return 0
  local left=60
  while kill -0 -- "-$SERVER_PID" 2>/dev/null && ((left-- > 0)); do sleep 0.5; done
  kill -KILL -- "-$SERVER_PID" 2>/dev/null || true
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

{ set +x; } 2>/dev/null
deadline=$((SECONDS + JUDGE_READY_S))
until (exec 3<>"/dev/tcp/${JUDGE_HOST/0.0.0.0/127.0.0.1}/$JUDGE_PORT" &&
  printf 'GET /health HTTP/1.0\r\nHost: judge\r\n\r\n' >&3 && timeout 10 grep -q '^HTTP/1.[01] 200' <&3) 2>/dev/null; do
  kill -0 "$SERVER_PID" 2>/dev/null || {
    echo "$NAME: the server ended before it was ready, its output is above" >&2
    exit 1
  }
  ((SECONDS < deadline)) || {
    echo "$NAME: the server was not ready after $JUDGE_READY_S s (JUDGE_READY_S)" >&2
    exit 1
  }
  sleep 1 &
  wait $! || true
done
"${CHECK[@]}" || {
  echo "$NAME: the server answers, but could not judge a pair: see above" >&2
  exit 1
}
cat <<TEXT

The judge is ready. For calibration, training and evaluation:

export JUDGE=openai
export JUDGE_BASE_URL=$BASE_URL
export JUDGE_MODEL=$JUDGE_MODEL
$([[ -v VLLM_API_KEY ]] && echo 'export MEDGRPO_JUDGE_API_KEY=...   # the one that this server was started with' ||
  echo 'export MEDGRPO_JUDGE_API_KEY=none')
export JUDGE_PROMPT_PRICE=0 JUDGE_COMPLETION_PRICE=0   # it costs no money
TEXT
wait "$SERVER_PID"
exit
}
