# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
# shellcheck shell=bash
#
# Which trackers a training reports to, to be sourced: LOGGER, checked by `check_logger`, as a hydra override of the
# training (LOGGER_OVERRIDES) by `set_logger FOLDER`. verl's own loggers are asked; `console` and `file` are always among
# them, as the scripts and `summary` read what they write.
#
#   LOGGER=tensorboard                  files in FOLDER/tensorboard
#   LOGGER="wandb tensorboard"          several
#   LOGGER=wandb WANDB_MODE=offline     without a network; `wandb sync FOLDER/wandb/...` sends it later
#
# A tracker's own variables (WANDB_API_KEY, WANDB_ENTITY, MLFLOW_TRACKING_URI, SWANLAB_API_KEY and so on) are read by its
# package. The whole configuration goes to wandb, mlflow, swanlab and trackio; it holds no key.

LOGGER=${LOGGER:-}                      # names of trackers, empty: none
LOGGER_IMAGE_EVERY=${LOGGER_IMAGE_EVERY:-50}  # steps between two pictures of a rollout with its boxes, 0: none
TRACKERS="wandb tensorboard trackio mlflow swanlab"

# check_logger: what is wrong with these settings.
check_logger() {
  local name
  for name in $LOGGER; do
    [[ " $TRACKERS " == *" $name "* ]] || PROBLEMS+=("LOGGER: '$name', expected some of $TRACKERS")
  done
  [[ $LOGGER_IMAGE_EVERY =~ ^[0-9]+$ ]] ||
    PROBLEMS+=("LOGGER_IMAGE_EVERY is '$LOGGER_IMAGE_EVERY', expected a whole number, 0 for no picture")
}

# have_logger: the trackers' packages are in the environment that is used by now; stops before hours of work otherwise.
have_logger() {
  local name
  for name in $LOGGER; do
    python -c "import importlib.util, sys; sys.exit(importlib.util.find_spec('$name') is None)" ||
      PROBLEMS+=("LOGGER: the package $name is not installed: pip install $name")
  done
  stop_if_wrong
}

# set_logger FOLDER: the trackers' files lie below it.
set_logger() {
  LOGGER_OVERRIDES=()
  [[ $LOGGER == *[![:space:]]* ]] || return 0
  local names
  read -ra names <<<"$LOGGER"
  export TENSORBOARD_DIR=${TENSORBOARD_DIR:-$1/tensorboard} WANDB_DIR=${WANDB_DIR:-$1}
  export SWANLAB_LOG_DIR=${SWANLAB_LOG_DIR:-$1/swanlab} MLFLOW_TRACKING_URI=${MLFLOW_TRACKING_URI:-sqlite:///$1/mlflow.db}
  LOGGER_OVERRIDES=("trainer.logger=[console,file,$(IFS=,; echo "${names[*]}")]")
  LOGGER_OVERRIDES+=("trainer.v1.sampler.sampler_kwargs.image_every=$LOGGER_IMAGE_EVERY")
}
