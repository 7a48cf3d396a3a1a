"""The maximum over time where windows are equal, as padding's are: where its gradient goes, and what of it reaches a kernel (run me)."""

import os

os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "JAX_PLATFORMS": "cpu"}
import autograd
import jax
import numpy as np
import tensorflow as tf
import torch
from torch.nn.functional import adaptive_max_pool1d

windows, kernel = np.array([[1, 2], [1, 2], [2, 0]], "float32"), np.array([0.5, 1], "float32")  # two are equal, and the maximum


def torchs(maximum):
    responses = torch.tensor(windows @ kernel, requires_grad=True)
    maximum(responses[None, None]).backward()
    return responses.grad.numpy()


def tensorflows(maximum):
    responses = tf.Variable(windows @ kernel)
    with tf.GradientTape() as tape:
        found = maximum(responses)
    return tape.gradient(found, responses).numpy()


for name, of_responses in {
    f"torch {torch.__version__}, amax": torchs(lambda r: r.amax(dim=2)),
    "torch, max(dim)": torchs(lambda r: r.max(dim=2).values),
    "torch, adaptive_max_pool1d": torchs(lambda r: adaptive_max_pool1d(r, 1)),
    f"tensorflow {tf.__version__}, reduce_max": tensorflows(tf.reduce_max),
    f"jax {jax.__version__}, max": np.array(jax.grad(jax.numpy.max)(windows @ kernel)),
    "autograd, max (the reference)": autograd.grad(autograd.numpy.max)(windows @ kernel),
}.items():
    print(f"{name}: to the windows {of_responses}, through them to the kernel {of_responses @ windows}")
