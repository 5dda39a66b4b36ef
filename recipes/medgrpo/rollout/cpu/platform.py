# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""The CPU as a verl platform (`verl.plugin.platform`), selected by `VERL_PLATFORM=cpu`."""

import types
from contextlib import contextmanager

import psutil
import torch
from verl.plugin.platform import PlatformBase, PlatformRegistry


def _resident(*_) -> int:
    return psutil.Process().memory_info().rss


def _nothing(*_, **__) -> None:
    return None


def _device_module() -> types.ModuleType:
    """What verl expects of `torch.cuda`; memory figures are the process's resident set, in bytes."""
    module = types.ModuleType("recipes.medgrpo.rollout.cpu.device_module")
    for name in ("set_device", "synchronize", "empty_cache", "ipc_collect", "reset_peak_memory_stats"):
        setattr(module, name, _nothing)
    for name in ("memory_allocated", "memory_reserved", "max_memory_allocated", "max_memory_reserved"):
        setattr(module, name, _resident)
    vars(module).update(
        is_available=lambda: False,
        is_initialized=lambda: True,
        current_device=lambda: "cpu",
        device_count=lambda: 1,
        manual_seed=torch.manual_seed,
        manual_seed_all=torch.manual_seed,
        get_rng_state=torch.get_rng_state,
        set_rng_state=torch.set_rng_state,
        mem_get_info=lambda *_: (psutil.virtual_memory().available, psutil.virtual_memory().total),
        get_device_name=lambda *_: "cpu",
    )
    return module


@PlatformRegistry.register(platform="cpu")
class CPUPlatform(PlatformBase):
    device_name = "cpu"
    vendor_name = "cpu"
    device_module = _device_module()

    def is_available(self):
        return True

    def is_platform_available(self, use_smi_check=False):
        return False  # never found by itself: a machine with a GPU must not end up here

    def current_device(self):
        return "cpu"

    def device_count(self):
        return 1

    def set_device(self, device_index):
        pass

    def synchronize(self, device_index=None):
        pass

    def manual_seed(self, seed):
        torch.manual_seed(seed)

    def manual_seed_all(self, seed):
        torch.manual_seed(seed)

    def set_allocator_settings(self, settings):
        pass

    def empty_cache(self):
        pass

    def get_device_capability(self, device_index=0):
        return None, None

    def communication_backend_name(self):
        return "gloo"

    def visible_devices_envvar(self):
        return "CUDA_VISIBLE_DEVICES"

    @contextmanager
    def nvtx_range(self, msg):
        yield

    def profiler_start(self):
        pass

    def profiler_stop(self):
        pass

    def ray_resource_name(self):
        return "GPU"  # verl counts "GPU" or "NPU" only; the launcher declares one logical slot

    def ray_noset_envvars(self):
        return ["RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES"]

    def is_ipc_supported(self):
        return False

    def rollout_env_vars(self):
        # vLLM binds its workers' threads to cores if not told otherwise (vllm/utils/ompmultiprocessing.py:122).
        return {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_NO_USAGE_STATS": "1"}

    def cudart(self):
        return None
