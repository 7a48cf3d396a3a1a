"""What the article reported, and its figures with the history that was never cleared undone.

A. Oudad, Comparing Keras and PyTorch on sentiment classification (2021-03-20): one run of each side, no seed and no time given.
"""

REFERENCE = "A. Oudad, Comparing Keras and PyTorch on sentiment classification (2021)"
SEQUENCES = 25_000
"""Training and validation sequences of the article, each; its corpus is Keras's IMDB."""

SIDES = {"Keras": ("keras-tensorflow", "keras-article"), "PyTorch": ("torch", "torch-article")}
"""Each side of the article: the matched case that stands for it (a backend's name), and the case that repeats its program."""

REPORTED: dict[str, dict[str, tuple[float, ...]]] = {
    "Keras": {
        "train_loss": (0.4479, 0.2855),
        "train_accuracy": (0.7916, 0.8880),
        "validation_loss": (0.3639, 0.3468),
        "validation_accuracy": (0.8440, 0.8542),
    },
    "PyTorch": {
        "train_loss": (0.4881, 0.3962),
        "train_accuracy": (0.7556, 0.8173),
        "validation_loss": (0.4024, 0.3343),
        "validation_accuracy": (0.8233, 0.8624),
    },
}
"""By side and figure: epochs 1 and 2, as printed."""


def undone(means_so_far: tuple[float, ...]) -> tuple[float, ...]:
    """Each epoch's own figure out of means over all epochs so far: n · mean_n − (n − 1) · mean_(n−1)."""
    before = (0.0, *means_so_far[:-1])
    return tuple(
        round(n * mean - (n - 1) * last, 4) for n, (mean, last) in enumerate(zip(means_so_far, before, strict=True), 1)
    )


CORRECTED = {
    side: {
        figure: undone(values) if side == "PyTorch" and figure.startswith("train") else values
        for figure, values in figures.items()
    }
    for side, figures in REPORTED.items()
}
"""The same with PyTorch's training figures undone: 0.3043 and 0.8790 in epoch 2. Nothing else can be mended afterwards."""


def side_of(case: str) -> str | None:
    """The article's side that a case stands beside: the matched backend's own case, or the one that repeats its program."""
    return next((side for side, names in SIDES.items() if case in names), None)
