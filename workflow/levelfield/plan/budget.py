"""The time that a run is granted: asked of a scheduler before the run, and not what it will need."""

from math import ceil

from levelfield.models.base import TRAINING, forward_operations
from levelfield.study.protocol import Protocol

OPERATIONS_PER_SECOND = 10e9
"""About what the slowest backend (keras-torch) reached with the LSTM on two cores without a GPU: 7.7 to 9.0e9 in committed runs."""
SEQUENCES_PER_SECOND = 30
"""Trained on, of any model, however few its operations: feeding, embedding and optimiser take their time, too. keras-torch on two cores: 33."""
APART_MINUTES = 10
"""Starting a container, importing and compiling, warm-up and the probe after training."""


def minutes(protocol: Protocol, train_sequences: int, validation_sequences: int) -> int:
    """Minutes for a run of `protocol`: the operations of its epochs at a rate that a GPU exceeds many times, and what stands apart."""
    operations = (TRAINING * train_sequences + validation_sequences) * forward_operations(protocol)
    sequences = train_sequences + validation_sequences / TRAINING
    seconds = max(operations / OPERATIONS_PER_SECOND, sequences / SEQUENCES_PER_SECOND)
    return APART_MINUTES + ceil(protocol.epochs * seconds / 60)
