"""Keras on several devices: on JAX `keras.distribution.DataParallel`, on TensorFlow `tf.distribute.MirroredStrategy`.

Both split what `fit` and `predict` are given. Keras means a loss over the sequences that it is fed, on TensorFlow over each device's
and then over the devices, so that the last batch is filled up for all to have as many, and sample weights make it the mean of
those that count. On a CPU the devices are virtual ones of the one processor.
"""

from contextlib import ExitStack, nullcontext
from typing import Any

import keras
import numpy as np
from keras import ops

from levelfield.backends.base import Progress, Weights, no_logits, no_steps, silent
from levelfield.backends.devices import enough, filled
from levelfield.backends.keras import ON, Keras
from levelfield.backends.keras_record import ReportStep, StepRecord, Tensor, steps_of
from levelfield.study.protocol import Protocol

if ON == "tensorflow":
    import tensorflow as tf

    from levelfield.backends.keras import peak_of, reset_peaks
elif ON == "jax":
    import jax

    from levelfield.backends.jax_devices import devices_of, offer_devices, peak_memory


class SharedRecord(StepRecord):
    """Records what the devices' parts of a batch add up to: on TensorFlow each writes its own, and reading adds them up."""

    def _means(self, losses: Tensor, answers: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        replicas = tf.distribute.get_strategy().num_replicas_in_sync if ON == "tensorflow" else 1
        weights = ops.cast(ops.reshape(weights, (-1,)), "float32")
        counted = ops.cast(weights > 0, "float32")
        sequences = ops.sum(ops.ones_like(weights)) * replicas
        return ops.sum(losses * weights) / sequences, ops.sum(answers * counted), ops.sum(counted)


class KerasDevices(Keras):
    def __init__(self, protocol: Protocol, departures: frozenset[str], device: str, threads: int):
        with ExitStack() as self.building:
            # XLA would have to compile the exchange of gradients with the step, and MirroredStrategy's it cannot
            super().__init__(protocol, departures, device, threads, jit_compile=False if ON == "tensorflow" else None)
        del self.building

    def _begin(self, protocol: Protocol, device: str, threads: int) -> str:
        """Devices first: all variables must be made on them."""
        count = protocol.devices
        if ON == "jax":
            offer_devices(count)
        used = super()._begin(protocol, device, threads)
        if ON == "jax":
            names = [f"{one.platform}:{one.id}" for one in devices_of(count, "Keras on JAX")]
            self.distribution = keras.distribution.DataParallel(devices=names)
            keras.distribution.set_distribution(self.distribution)
            return used
        if used == "cuda":
            enough(len(tf.config.list_physical_devices("GPU")), count, "Keras on TensorFlow")
        else:
            cpu = tf.config.list_physical_devices("CPU")[0]
            if len(tf.config.get_logical_device_configuration(cpu) or ()) != count:  # they cannot be changed once they are used
                tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * count)
        kind = "GPU" if used == "cuda" else "CPU"
        self.strategy = tf.distribute.MirroredStrategy([f"{kind}:{number}" for number in range(count)])
        self.building.enter_context(self.strategy.scope())
        return used

    def _compile(self, capacity: int) -> None:
        with self.strategy.scope() if ON == "tensorflow" else nullcontext():
            super()._compile(capacity)

    def _recording(self) -> dict[str, Any]:
        return {"weighted_metrics": [SharedRecord(self.capacity)]}

    def _feed(self, *arrays: np.ndarray) -> dict[str, Any]:
        """What `fit` and `predict` are given, each device's part of a batch beside the others': x, or x, y and weights, filled up."""
        size, devices = self.protocol.batch_size, self.protocol.devices
        if ON == "jax":
            return dict(zip(("x", "y", "sample_weight"), arrays, strict=False)) | {"batch_size": size}
        whole = len(arrays[0]) // size * size
        rest = len(arrays[0]) - whole

        def dataset(_: tf.distribute.InputContext) -> tf.data.Dataset:
            """The devices' parts one after another, as a strategy takes them."""
            options = tf.data.Options()
            options.autotune.enabled = False  # see `feed`
            parts = [
                tf.data.Dataset.from_tensor_slices(tuple(array[rows] for array in arrays)).batch(together // devices, not rest)
                for rows, together in ((slice(0, whole), size), (slice(whole, None), rest))
                if len(arrays[0][rows])
            ]
            all_of_it = parts[0] if len(parts) == 1 else parts[0].concatenate(parts[1])
            return all_of_it.prefetch(2 * devices).with_options(options)

        return {"x": self.strategy.distribute_datasets_from_function(dataset)}

    def _filled(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows filled up, and the weights that make Keras's mean over all that it is fed the mean over those that count."""
        size, devices = self.protocol.batch_size, self.protocol.devices
        rows, shares = filled(rows, size, devices)
        fed = np.full(len(rows), size, np.float32)
        if rest := len(rows) % size:
            fed[-rest:] = rest
        return rows, shares * fed

    def train_epoch(
        self, x: np.ndarray, y: np.ndarray, order: np.ndarray, progress: Progress = silent, wait: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        if not len(order):
            return no_steps()
        self._make_room(len(order))
        steps = steps_of(len(order), self.protocol.batch_size)
        rows, weights = self._filled(order)
        fed = self._feed(x[rows], y[rows], weights)
        self.model.fit(
            **fed, epochs=1, steps_per_epoch=steps, shuffle=False, verbose=0, callbacks=[ReportStep(progress, wait, steps)]
        )
        return self.record.fetched(steps)

    def predict(self, x: np.ndarray) -> np.ndarray:
        if not len(x):
            return no_logits(self.protocol)
        steps = -(-len(x) // self.protocol.batch_size)
        fed = self._feed(x[self._filled(np.arange(len(x)))[0]])
        logits: np.ndarray = self.model.predict(**fed, steps=steps, verbose=0).astype(np.float32)
        return logits[: len(x)]

    def gradients(self, x: np.ndarray, y: np.ndarray) -> tuple[float, Weights]:
        rows, weights = self._filled(np.arange(len(x)))
        x, y, model = x[rows], y[rows].reshape(-1, 1), self.model
        if ON == "jax":
            x, y, weights = (
                jax.device_put(a, self.distribution.get_data_layout(a.shape).backend_layout) for a in (x, y, weights)
            )

            def loss_of(trainable: list[jax.Array], fixed: list[jax.Array]) -> jax.Array:
                logits, _ = model.stateless_call(trainable, fixed, x, training=True)
                loss: jax.Array = model.loss(y, logits, sample_weight=weights)
                return loss

            values = [[v.value for v in group] for group in (model.trainable_variables, model.non_trainable_variables)]
            loss, found = jax.value_and_grad(loss_of)(*values)
        else:
            loss, found = self._gradients_of(next(iter(self._feed(x, y, weights)["x"])))
        gradients = {n: ops.convert_to_numpy(g).copy() for n, g in zip(self.names, found, strict=True)}
        return float(ops.convert_to_numpy(loss)), gradients

    def _gradients_of(self, batch: tuple[Tensor, ...]) -> tuple[Tensor, list[Tensor]]:
        """On TensorFlow: loss and gradients of the devices' parts, added up."""
        model = self.model

        def on_each(batch: tuple[Tensor, ...]) -> list[Tensor]:
            x, y, weights = batch
            with tf.GradientTape() as tape:
                loss = model.loss(y, model(x, training=True), sample_weight=weights)  # which Keras divides by their number
            found = [tf.convert_to_tensor(g) for g in tape.gradient(loss, [v.value for v in model.trainable_variables])]
            added_up: list[Tensor] = tf.distribute.get_replica_context().all_reduce("SUM", [loss, *found])
            return added_up

        loss, *found = tf.function(lambda: self.strategy.run(on_each, args=(batch,)))()
        of_first = self.strategy.experimental_local_results
        return of_first(loss)[0], [of_first(gradient)[0] for gradient in found]

    def flags(self) -> dict[str, str]:
        return super().flags() | {"distribution": "MirroredStrategy" if ON == "tensorflow" else "DataParallel"}

    def peak_memory(self) -> tuple[int | None, int | None]:
        """Of all devices together."""
        if self.device == "cpu" or ON == "jax":
            return (None, None) if self.device == "cpu" else peak_memory(self.device)
        return peak_of(range(self.protocol.devices)), None

    def reset_peak_memory(self) -> None:
        if self.device == "cuda" and ON == "tensorflow":
            reset_peaks(range(self.protocol.devices))
