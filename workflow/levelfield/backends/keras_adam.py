"""The protocol's Adam in Keras: its own class, with what sets it apart from the Adam that it documents taken out."""

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

ON_TENSORFLOW = keras.backend.backend() == "tensorflow"
if ON_TENSORFLOW:
    import tensorflow as tf

OwnAdam: Any = type(keras.optimizers.Adam.__new__(keras.optimizers.Adam))  # not made whole: that would start TensorFlow
"""Keras's Adam as it is on this framework: on PyTorch a class of its own, which updates all weights in a few calls."""


class ExactAdam(OwnAdam):  # type: ignore[misc]  # Keras has no types
    """Keras's Adam, with two roundings taken out that set it apart from the Adam that it documents.

    Its bias correction raises float32(0.999) to the step: at the first steps α_t is off by 6e-6 of itself, which training
    can amplify to 4e-3 in the loss of step 50; here the learning rate is scaled by what is missing. And on TensorFlow it squares
    the duplicate slices of an embedding's gradient one by one; here they are summed first. (The departure
    `sparse-embedding-adam` is Keras's own Adam.)
    """

    def apply(self, grads: Sequence[Any], trainable_variables: Sequence[Any] | None = None) -> None:
        if ON_TENSORFLOW:  # which hands an embedding's gradient over as IndexedSlices; the others' are dense
            grads = [tf.convert_to_tensor(grad) for grad in grads]  # before any clipping: a norm of slices is another one
        super().apply(grads, trainable_variables)

    def _backend_update_step(self, grads: Sequence[Any], trainable_variables: Sequence[Any], learning_rate: Any) -> None:
        super()._backend_update_step(grads, trainable_variables, learning_rate * self._missing())

    def _missing(self) -> Any:
        """√(1 − β₂^t) / (1 − β₁^t) over what Keras computes of it: a scalar of the framework underneath."""
        step = ops.cast(self.iterations + 1, "float32")
        corrections = []
        for beta in (self.beta_1, self.beta_2):
            exact = -ops.expm1(step * math.log(beta)) if beta else 1.0
            corrections.append(exact / (1 - ops.power(ops.cast(beta, "float32"), step)))
        return ops.sqrt(corrections[1]) / corrections[0]
