"""Frameworks "on a GPU": they compute on the CPU and say that it was a GPU, so that all around them can be tried without one."""

import os
import time

from levelfield.backends.base import silent
from levelfield.backends.flax import Flax
from levelfield.backends.jax import Jax
from levelfield.backends.jax_devices import JaxDevices

BACKENDS = {
    "pretended-jax": {
        "image": "jax",
        "framework": "jax",
        "environment": {"JAX_PLATFORMS": "cpu"},
        "devices": "pretended_gpu:PretendedJaxDevices",
    },
    "pretended-flax": {"image": "jax", "framework": "flax", "environment": {"JAX_PLATFORMS": "cpu"}},
}
KERNELS = ["void cudnn::rnn::RNN_blockPersist_fp_LSTM<float, float, float>(int)", "loop_multiply_fusion", "cudnn_rnn"]
"""As a profile of JAX's on a GPU names them."""


STEP_SECONDS = float(os.environ.get("PACE", 0.001))


class OnAGpu:
    def __init__(self, protocol, departures, device, threads):
        super().__init__(protocol, departures, "cpu", threads)
        self.device, self.preallocates = "cuda", False

    @property
    def lies_on(self):
        return self.device

    def flags(self):
        return super().flags() | {"pretended": "computes on the CPU"}

    def train_epoch(self, x, y, order, progress=silent, wait=False):
        def paced(step, fetch):
            time.sleep(STEP_SECONDS)
            progress(step, fetch)

        return super().train_epoch(x, y, order, paced, wait)

    def peak_memory(self):
        return 300 << 20, 500 << 20

    def kernels(self, x, y):
        return KERNELS


class PretendedJax(OnAGpu, Jax):
    pass


class PretendedFlax(OnAGpu, Flax):
    def kernels(self, x, y):
        return []  # a driver that keeps its counters from users


class PretendedJaxDevices(OnAGpu, JaxDevices):
    pass
