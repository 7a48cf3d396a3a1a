"""Departures of the optimiser; each backend declares which of them it can make."""

from levelfield.study.departures import ARTICLE, Departure

FRAMEWORK_EPSILON = 1e-8
"""Of Adam under `framework-epsilon`: PyTorch's and Optax's default."""
CLIP_NORM = 5.0
"""Largest global norm of the gradient under `clip-norm`."""

DEPARTURES = {
    "clip-norm": Departure("optimiser", "The gradient's global norm is clipped at 5.", f"{ARTICLE}, PyTorch side"),
    "framework-epsilon": Departure(
        "optimiser",
        "Adam's ε as the framework has it by default: m̂ / (√v̂ + 1e-8).",
        "PyTorch and Optax documentation, Adam",
    ),
    "sparse-embedding-adam": Departure(
        "optimiser",
        "Duplicate slices of the embedding's gradient are squared one by one in Adam's second moment.",
        "Keras on TensorFlow, Adam with IndexedSlices",
    ),
}

EXCLUDES = (frozenset({"clip-norm", "sparse-embedding-adam"}),)
"""Departures that exclude each other: Keras on TensorFlow makes dense what it clips (`clip_by_global_norm`), and no slice is left to be
squared by itself."""
