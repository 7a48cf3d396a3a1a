"""What Keras records of an epoch: each step's own loss and right answers, on the device, and a word to the progress after each call."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from levelfield.backends.base import Progress

ON = keras.backend.backend()
if ON == "tensorflow":
    import tensorflow as tf
elif ON == "torch":
    import torch

    from levelfield.backends.torch import loss_and_right

CAPACITY = 1 << 15
"""Steps that an epoch may have before the buffers are made larger; 128 KiB each."""

Tensor = Any
"""Of the framework underneath."""


def steps_of(sequences: int, batch_size: int) -> int:
    return -(-sequences // batch_size)


class StepRecord(keras.metrics.Metric):  # type: ignore[misc]  # Keras has no types
    """Writes each batch's own loss and right answers into buffers on the device; its result is the accuracy so far.

    `fit` reports running means over the epoch, whose differences lose digits; the buffers hold the values themselves. Nothing is
    int32: TensorFlow keeps that in the host's memory (tensorflow#33835), and a GPU would be waited for at every step. Right
    answers are counted in float32, exact to 16 million a batch; `int` is Keras's own for an index, int64 on TensorFlow.

    capacity: steps that an epoch may have.
    """

    def __init__(self, capacity: int = CAPACITY) -> None:
        super().__init__(name="accuracy")
        self.losses = self.add_variable((capacity,), "zeros", name="losses")
        self.correct = self.add_variable((capacity,), "zeros", name="correct")
        self.steps = self.add_variable((), "zeros", dtype="int", name="steps")
        self.right = self.add_variable((), "zeros", name="right")
        self.seen = self.add_variable((), "zeros", name="seen")

    def update_state(self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None) -> None:
        logits = ops.cast(y_pred, "float32")
        if logits.shape[-1] == 1:
            labels, scores = ops.cast(ops.reshape(y_true, (-1,)), "float32"), ops.reshape(logits, (-1,))
            losses, answers = ops.softplus(scores) - scores * labels, ops.equal(scores > 0, labels > 0.5)
        else:
            labels = ops.cast(ops.reshape(y_true, (-1,)), "int")
            losses = keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)
            largest = tf.argmax if ON == "tensorflow" else ops.argmax  # Keras's own gives int32 there
            answers = ops.equal(ops.cast(largest(logits, axis=-1), "int"), labels)
        answers = ops.cast(answers, "float32")
        loss, right, seen = self._means(losses, answers, sample_weight)
        at = ops.reshape(self.steps, (1, 1))
        self.losses.assign(ops.scatter_update(self.losses, at, ops.reshape(loss, (1,))))
        self.correct.assign(ops.scatter_update(self.correct, at, ops.reshape(right, (1,))))
        self.steps.assign_add(1)
        self.right.assign_add(right)
        self.seen.assign_add(seen)

    def _means(self, losses: Tensor, answers: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """The batch's loss, its right answers and its sequences."""
        return ops.mean(losses), ops.sum(answers), ops.sum(ops.ones_like(answers))

    def result(self) -> Tensor:
        return self.right / ops.maximum(self.seen, 1.0)

    def fetched(self, steps: int) -> tuple[np.ndarray, np.ndarray]:
        """The epoch's losses, float32, and right answers, int32, of so many steps."""
        return ops.convert_to_numpy(self.losses)[:steps].copy(), ops.convert_to_numpy(self.correct)[:steps].astype(np.int32)


class KeptLogits(keras.losses.Loss):  # type: ignore[misc]  # Keras has no types
    """The same on PyTorch, which compiles nothing: the loss, which keeps the logits it is called with. Each step's figures are computed
    from them when the epoch ends.

    A metric of Keras's took 0.3 to 0.9 ms a step on a CPU, 1 to 3 % of the published Transformer's.
    """

    def __init__(self, loss: keras.losses.Loss) -> None:
        super().__init__(name=loss.name)
        self.loss = loss
        self.begin(np.zeros(0, np.float32), 1)

    def begin(self, labels: np.ndarray, size: int) -> None:
        """Forgets what was kept. labels: (sequences,) of the epoch, in its order. size: sequences of a step."""
        self.labels, self.size, self.logits = labels, size, list[Tensor]()

    def __call__(self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None) -> Tensor:
        self.logits.append(y_pred.detach())
        return self.loss(y_true, y_pred, sample_weight)

    def fetched(self, steps: int) -> tuple[np.ndarray, np.ndarray]:
        """As `StepRecord.fetched`."""
        logits = torch.cat(self.logits[:steps]).float()
        labels = torch.from_numpy(self.labels[: len(logits)]).to(logits.device)
        several = logits.shape[1] > 1
        losses, right = loss_and_right(logits, labels.long() if several else labels.float(), "none")
        loss = torch.stack([each.mean() for each in losses.split(self.size)])
        correct = torch.stack([each.sum() for each in right.split(self.size)])
        return loss.cpu().numpy(), correct.cpu().numpy().astype(np.int32)

    def so_far(self, logs: dict[str, Any]) -> tuple[float, float]:
        """Mean loss and accuracy of the steps made."""
        _, correct = self.fetched(len(self.logits))
        return float(logs["loss"]), correct.sum() / min(len(correct) * self.size, len(self.labels))


def means(logs: dict[str, Any]) -> tuple[float, float]:
    """Mean loss and accuracy of the steps made, as `StepRecord` has them."""
    return float(logs["loss"]), float(logs["accuracy"])


class ReportStep(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
    """Hands each step's number, or each call's last one's, and what `told` makes of the means that `fit` keeps anyway to a progress.

    Where a call makes several steps Keras counts the last call as a whole one, though fewer were left.
    """

    def __init__(
        self, progress: Progress, wait: bool, steps: int, told: Callable[[dict[str, Any]], tuple[float, float]] = means
    ):
        super().__init__()
        self.progress, self.steps, self.told = progress, steps, told
        self.async_safe = not wait  # without it fit waits for loss and accuracy after each step

    def on_train_batch_end(self, batch: int, logs: dict[str, Any]) -> None:
        self.progress(min(batch + 1, self.steps), lambda: self.told(logs))
