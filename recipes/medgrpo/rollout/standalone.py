# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Sampling answers through verl's rollout servers: the engine that training samples with, started for itself.

`RolloutServers` stands where `TransformersEngine` does and takes requests as it does. The servers are those that
`actor_rollout_ref.rollout.name` of a training configuration names, made by verl's `LLMServerManager` in standalone
mode and asked through its `LLMServerClient`, with the arguments of verl's single-turn agent loop. Three things differ
from a training step:

- the weights come from the checkpoint folder (`rollout.load_format=auto`); in training the actor sends them;
- every request brings its seed, so that an answer does not depend on which others are asked: a run that is resumed
  goes on with the draws that it would have made. vLLM's server of verl 0.9.1 hands all of `sampling_params` to vLLM's
  `SamplingParams`, which has a `seed`;
- temperature and greatest length are the caller's. top-p and top-k are the configuration's.

With the CPU rollout this is tested, and with vLLM's build for CPUs. With vLLM on GPUs it has not been run. SGLang takes
no frames from verl's client, only what verl's agent loop precomputes, and is refused.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

if TYPE_CHECKING:
    from recipes.medgrpo.rollout.transformers_engine import Answer, Request, SamplingSettings

ROOT = Path(__file__).resolve().parents[3]
CONFIG_FOLDER = Path(__file__).resolve().parents[1] / "config"
CONFIGS = ("medgrpo_cpu", "medgrpo_gpu")
PLUGIN = "recipes.medgrpo.plugin"
ROUTER = "recipes/medgrpo/config/router.yaml"


class RolloutError(ConnectionError):
    """The rollout servers could not be configured, started or asked; one line that says why."""


def default_config() -> str:
    """The configuration of this machine: with `VERL_PLATFORM=cpu` the CPU run's."""
    return CONFIGS[0] if os.environ.get("VERL_PLATFORM", "").lower() == "cpu" else CONFIGS[1]


def compose_config(name: str, overrides: Sequence[str], model: str) -> Any:
    """The training configuration `name` with hydra `overrides`, changed to serve the checkpoint in `model` alone.

    Returns an OmegaConf mapping with `actor_rollout_ref` and `ray_kwargs` resolved; the rest, which may ask for
    environment variables that only a training run has, as it stands.

    Raises:
        RolloutError: an unknown configuration, an override that does not fit, or SGLang.
    """
    from hydra import compose, initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf import OmegaConf, open_dict
    from omegaconf.errors import OmegaConfBaseException

    try:
        with initialize_config_dir(str(CONFIG_FOLDER), version_base=None):
            config = compose(name, overrides=list(overrides))
        with open_dict(config):
            config.actor_rollout_ref.model.path = model
            config.actor_rollout_ref.rollout.load_format = "auto"
            if str(config.actor_rollout_ref.rollout.router_config_path) == ROUTER:
                config.actor_rollout_ref.rollout.router_config_path = str(ROOT / ROUTER)
            # In training the servers share the trainer's GPUs, and this is 0.
            config.actor_rollout_ref.rollout.nnodes = config.trainer.nnodes
            for part in ("actor_rollout_ref", "ray_kwargs"):
                config[part] = OmegaConf.create(OmegaConf.to_container(config[part], resolve=True))
    except (HydraException, OmegaConfBaseException) as error:
        asked = " ".join(["configuration", name, *overrides])
        raise RolloutError(f"{asked}: {' '.join(str(error).split())}") from error
    if config.actor_rollout_ref.rollout.name == "sglang":
        raise RolloutError(
            f"configuration {name}: actor_rollout_ref.rollout.name: expected an engine that takes frames (vllm, "
            "transformers_cpu), got sglang"
        )
    return config


def sampling_parameters(rollout: Mapping[str, Any], settings: SamplingSettings, seed: int) -> dict[str, Any]:
    """What a server is told of one request: the keys that verl's agent loop sends, a limit in tokens, and a seed."""
    return {
        "temperature": settings.temperature,
        "top_p": settings.top_p,
        "top_k": settings.top_k,
        "repetition_penalty": 1.0,
        "logprobs": rollout["calculate_log_probs"],
        "max_tokens": settings.max_new_tokens,
        "seed": seed,
    }


class RolloutServers:
    """Rollout servers of a training configuration, from `with` to its end.

    Making one reads the configuration. Entering it starts Ray and the servers; leaving it stops both, after an error
    too.

    Args:
        model: checkpoint folder in HF format.
        config_name: file of `recipes/medgrpo/config` without its ending; this machine's where none is given.
        overrides: hydra overrides on top, `key=value`.

    Raises:
        RolloutError: also by `with` and by `generate`.
    """

    def __init__(self, model: str, config_name: str | None = None, overrides: Sequence[str] = ()):
        # The servers may have another working directory.
        self.model = str(Path(model).resolve())
        self.config_name = config_name or default_config()
        self.config = compose_config(self.config_name, overrides, self.model)
        self.rollout = self.config.actor_rollout_ref.rollout
        self._processor: Any = None
        self._manager: Any = None
        self._client: Any = None
        self._runner: asyncio.Runner | None = None

    @property
    def truncation(self) -> dict[str, Any]:
        """`top_p` and `top_k` of the training configuration, for `SamplingSettings`."""
        return {"top_p": float(self.rollout.top_p), "top_k": int(self.rollout.top_k)}

    @property
    def described(self) -> dict[str, Any]:
        """What of the configuration the answers depend on (JSON); on how many devices they are sampled is not in it."""
        from omegaconf import OmegaConf

        name = self.rollout.name
        options = (self.rollout.get("engine_kwargs") or {}).get(name)
        return {
            "rollout": name,
            "dtype": self.rollout.dtype,
            "quantization": self.rollout.get("quantization"),
            "engine_kwargs": OmegaConf.to_container(options) if options else {},
            **self.truncation,
        }

    def differences(self, temperature: float, max_new_tokens: int) -> list[str]:
        """Where these are not what the training configuration samples with, a line each."""
        asked = {"temperature": temperature, "max_new_tokens": max_new_tokens}
        training = {"temperature": self.rollout.temperature, "max_new_tokens": self.rollout.response_length}
        return [
            f"{name} {asked[name]}: {self.config_name} trains with {value}"
            for name, value in training.items()
            if asked[name] != value
        ]

    @property
    def processor(self) -> Any:
        """The checkpoint's processor."""
        if self._processor is None:
            from transformers import AutoConfig, AutoProcessor

            self._processor = AutoProcessor.from_pretrained(self.model)
            self._processor.config = AutoConfig.from_pretrained(self.model)
        return self._processor

    def prompt_ids(self, messages: list[dict], videos: Sequence[tuple[Any, dict]]) -> list[int]:
        """As `transformers_engine.prompt_ids` says, with the checkpoint's processor."""
        from recipes.medgrpo.rollout.transformers_engine import prompt_ids

        return prompt_ids(self.processor, messages, videos)

    def __enter__(self) -> RolloutServers:
        os.environ.setdefault("VERL_USE_EXTERNAL_MODULES", PLUGIN)  # verl loads it when it is imported
        from verl.workers.rollout.llm_server import LLMServerManager

        from recipes.medgrpo.rollout import vllm_times

        # Answers whose times may be wrong look like any others.
        if self.rollout.name == "vllm" and vllm_times.enabled() and (odd := vllm_times.problems()):
            raise RolloutError("; ".join(odd))
        try:
            self._start_ray()
            self._manager = LLMServerManager.create(self.config)
            self._client = self._manager.get_client()
            self._runner = asyncio.Runner()
        except BaseException as error:
            self._stop()
            if not isinstance(error, Exception):
                raise
            raise RolloutError(f"the rollout servers ({self.rollout.name}) did not start: {_reason(error)}") from error
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def _start_ray(self) -> None:
        """As `verl.trainer.main_ppo` does, with what the recipes' scripts put into the environment."""
        import ray
        from omegaconf import OmegaConf
        from verl.trainer.constants_ppo import get_ppo_ray_runtime_env

        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
        ours = {"VERL_USE_EXTERNAL_MODULES": PLUGIN, "PYTHONPATH": path}
        if platform := os.environ.get("VERL_PLATFORM"):
            ours["VERL_PLATFORM"] = platform
        settings = OmegaConf.to_container(self.config.ray_kwargs.get("ray_init") or OmegaConf.create({}))
        assert isinstance(settings, dict)
        # Without an address Ray would join any cluster that it finds on this machine.
        settings.setdefault("address", os.environ.get("RAY_ADDRESS") or "local")
        # Every server process says a hundred lines at its start. `ray_kwargs.ray_init.log_to_driver=true` shows them.
        settings.setdefault("log_to_driver", False)
        environment = OmegaConf.merge(
            get_ppo_ray_runtime_env(self.config), {"env_vars": ours}, settings.get("runtime_env") or {}
        )
        ray.init(**{**settings, "runtime_env": OmegaConf.to_container(environment)})

    def _stop(self) -> None:
        import ray

        if self._runner is not None:
            self._runner.close()
        self._manager = self._client = self._runner = None
        ray.shutdown()

    def generate(self, requests: Sequence[Request], settings: SamplingSettings) -> list[Answer]:
        """Answers in the order of `requests`; all of them, or a `RolloutError`."""
        if self._runner is None:
            raise RolloutError("the rollout servers are not running: expected `with RolloutServers(...) as engine`")
        try:
            return self._runner.run(self._ask_all(requests, settings))
        except ExceptionGroup as group:
            first = group.exceptions[0]
            raise first from first.__cause__

    async def _ask_all(self, requests: Sequence[Request], settings: SamplingSettings) -> list[Answer]:
        import ray

        from recipes.medgrpo.data.video import parted

        # What a prompt shows goes to Ray's store once, however many answers it gets: (images, clips).
        shown: dict[int, list[Any]] = {}
        for request in requests:
            if id(request.videos) not in shown:
                shown[id(request.videos)] = [ray.put(part) if part else None for part in parted(request.videos)]
        room = asyncio.Semaphore(self.rollout.max_num_seqs * len(self._manager.get_replicas()))
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._ask(request, settings, shown[id(request.videos)], room)) for request in requests
            ]
        return [task.result() for task in tasks]

    async def _ask(
        self, request: Request, settings: SamplingSettings, shown: Sequence[Any], room: asyncio.Semaphore
    ) -> Answer:
        from recipes.medgrpo.rollout.transformers_engine import Answer

        server = f"rollout server ({self.rollout.name})" + (f" asked for row {request.key}" if request.key else "")
        try:
            async with room:
                output = await self._client.generate(
                    request_id=uuid4().hex,
                    prompt_ids=request.prompt_ids,
                    sampling_params=sampling_parameters(self.rollout, settings, request.seed),
                    image_data=shown[0],
                    video_data=shown[1],
                )
        except Exception as error:
            raise RolloutError(f"{server}: {_reason(error)}") from error
        if output.stop_reason == "aborted" or not output.token_ids:
            raise RolloutError(f"{server}: expected an answer, got none (stop_reason {output.stop_reason!r})")
        ids = list(output.token_ids)
        limit = settings.max_new_tokens
        if self.rollout.max_model_len:
            # vLLM's server ends an answer there.
            limit = min(limit, self.rollout.max_model_len - len(request.prompt_ids))
        truncated = len(ids) >= limit and ids[-1] != self.processor.tokenizer.eos_token_id
        return Answer(ids, list(output.log_probs or []), truncated)


def _reason(error: BaseException) -> str:
    """One line: the error of the server where Ray wraps it, and its last line where it is a traceback."""
    cause = getattr(error, "cause", None) or error
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    return f"{type(cause).__name__}: {lines[-1] if lines else 'no message'}"
