"""The floating-point operations that the protocol asks for, whoever does them. Needs the standard library alone."""

from levelfield.protocol import Protocol

DIRECTIONS, GATES = 2, 4
TRAINING = 3
"""A product's backward pass is two products of the same size, one for each factor's gradient (Griewank and Walther,
Evaluating Derivatives, 2008, ch. 3; the usual "three times forward")."""


def forward_operations(protocol: Protocol) -> int:
    """Floating-point operations of the model's matrix products for one sequence, forward.

    A product of an (n, k) and a (k, m) matrix is n·m·k multiplications and as many additions. For each token, direction
    and layer the LSTM multiplies its input (embedding, or 2·units in the second layer) and its state (units) with 4·units
    columns (Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000). Both directions of the second layer run
    over the whole sequence: the last state of each depends on all tokens. Gates, activations and the embedding's look-up are
    left out: less than 1 % of it.
    """
    units = protocol.units
    tokens = sum(2 * DIRECTIONS * GATES * units * (inputs + units) for inputs in (protocol.embedding, 2 * units))
    return protocol.length * tokens + 2 * 2 * units


def training_operations(protocol: Protocol) -> int:
    """The same for one sequence of a training step, forward and backward: 235,930,368 in the reference experiment."""
    return TRAINING * forward_operations(protocol)
