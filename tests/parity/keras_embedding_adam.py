"""Keras on TensorFlow: Adam on an embedding whose row occurs twice in a batch, against Adam worked by hand (run me)."""

import os

os.environ |= {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "2"}
import keras
import tensorflow as tf

table = keras.Variable([[0.0], [0.0]])
adam = keras.optimizers.Adam(learning_rate=0.001)
with tf.GradientTape() as tape:  # row 0 is looked up twice with slope 1, row 1 once with slope 2: both have the gradient 2
    loss = tf.reduce_sum(tf.gather(table.value, [0, 0, 1]) * [[1.0], [1.0], [2.0]])
adam.apply(tape.gradient(loss, [table.value]), [table])
by_hand = -0.001 * (1 - 0.999) ** 0.5 * 2 / ((1 - 0.999) ** 0.5 * 2 + 1e-7)
print(f"keras {keras.__version__}: row 0 moved by {table.numpy()[0, 0]:.6f}, row 1 by {table.numpy()[1, 0]:.6f}")
print(f"Adam by hand: both by {by_hand:.6f}; row 0 has v = (1² + 1²)(1 − β₂) where Adam has (1 + 1)²(1 − β₂)")
