"""What Keras records of an epoch: each step's own loss and right answers, on the device, and a word to the progress after each call."""

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


class Kept:
    """Each step's loss and right answers, and the right answers and sequences so far: no attributes of a metric's own, which Keras looks
    through whenever one is set."""

    def __init__(self) -> None:
        self.losses: list[Tensor] = []
        self.correct: list[Tensor] = []
        self.right: Tensor = 0
        self.seen = 0


class KeptSteps(keras.metrics.Metric):  # type: ignore[misc]  # Keras has no types
    """The same on PyTorch, which compiles nothing: each step's figures are kept as the tensors that they are until the epoch ends.

    Through buffers and `keras.ops` they took 0.87 ms a step on a CPU, 3 % of the published Transformer's.
    """

    def __init__(self) -> None:
        super().__init__(name="accuracy")
        self.reset_state()

    def reset_state(self) -> None:
        self.kept = Kept()

    def update_state(self, y_true: Tensor, y_pred: Tensor, sample_weight: None = None) -> None:
        kept, labels = self.kept, y_true.reshape(-1)
        with torch.no_grad():
            loss, right = loss_and_right(y_pred.float(), labels.float() if y_pred.shape[1] == 1 else labels.long())
            correct = right.sum()
            kept.right = kept.right + correct
        kept.losses.append(loss)
        kept.correct.append(correct)
        kept.seen += len(labels)

    def result(self) -> Tensor:
        return self.kept.right / max(self.kept.seen, 1)

    def fetched(self, steps: int) -> tuple[np.ndarray, np.ndarray]:
        """As `StepRecord.fetched`."""
        losses, correct = (torch.stack(each).cpu().numpy() for each in (self.kept.losses, self.kept.correct))
        return losses[:steps], correct[:steps].astype(np.int32)


class ReportStep(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
    """Hands each step's number, or each call's last one's, and the means that `fit` keeps anyway to a progress.

    Where a call makes several steps Keras counts the last call as a whole one, though fewer were left.
    """

    def __init__(self, progress: Progress, wait: bool, steps: int):
        super().__init__()
        self.progress, self.steps = progress, steps
        self.async_safe = not wait  # without it fit waits for loss and accuracy after each step

    def on_train_batch_end(self, batch: int, logs: dict[str, Any]) -> None:
        self.progress(min(batch + 1, self.steps), lambda: (float(logs["loss"]), float(logs["accuracy"])))
