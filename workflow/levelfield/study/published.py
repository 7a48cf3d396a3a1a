"""What was published of the models, side by side as it was printed, and what of it can be corrected afterwards."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from levelfield import registry
from levelfield.study.departures import ARTICLE, TUTORIAL
from levelfield.study.protocol import Case, Protocol


@dataclass(frozen=True)
class Publication:
    """A published comparison of two sides, which a study can repeat program for program. Its corpus is Keras's IMDB."""

    reference: str
    model: str
    sequences: int
    """Training sequences; as many for validation."""
    sides: Mapping[str, tuple[str, str]]
    """Each side's backend, whose matched case stands for it, and the name of the case that repeats its program."""
    departures: Mapping[str, frozenset[str]]
    """By side, those that its program makes."""
    settings: Mapping[str, Mapping[str, Any]]
    """By side, those of its program's settings that are not the protocol's; the epochs are free."""
    reported: Mapping[str, Mapping[str, Mapping[int, float]]]
    """By side, figure and epoch, as printed."""
    notes: str
    """Sentences: how the figures came about."""
    studies: tuple[str, str]
    """The study that repeats it, and the one that says what each difference is worth."""
    means_so_far: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Figures that a side printed as means over all epochs so far: they can be undone."""

    def corrected(self, side: str, figure: str) -> dict[int, float]:
        """The figure by epoch as `reported`, or undone where it was a mean over all epochs so far."""
        values = dict(self.reported[side].get(figure, {}))
        return undone(values) if figure in self.means_so_far.get(side, ()) else values

    def side_of(self, case: Case) -> str | None:
        """The side that a case stands beside: its backend's own matched case, under the protocol's own settings (however many epochs,
        and wherever the data lies), or the one that repeats its program."""
        for side, (backend, program) in self.sides.items():
            named, made = (case.name, case.backend), frozenset(case.departures)
            if named == (backend, backend) and not made and self._has(case, {}):
                return side
            if named == (program, backend) and made == self.departures[side] and self._has(case, self.settings[side]):
                return side
        return None

    def _has(self, case: Case, settings: Mapping[str, Any]) -> bool:
        """Whether a case has the published protocol but for these settings, however many epochs, and wherever the data lies."""
        published = replace(Protocol(model=registry.model(self.model).sizes()), **settings)
        free = {name: getattr(published, name) for name in ("epochs", "data_on", "deterministic", "devices")}
        return replace(case.protocol, **free) == published

    def repeats(self, case: Case) -> bool:
        """Whether a case repeats a side's program."""
        side = self.side_of(case)
        return side is not None and case.name == self.sides[side][1]


def undone(means_so_far: Mapping[int, float]) -> dict[int, float]:
    """Each epoch's own figure out of means over all epochs so far: n · mean_n − (n − 1) · mean_(n−1)."""
    return {n: round(n * mean - (n - 1) * means_so_far.get(n - 1, 0.0), 4) for n, mean in means_so_far.items()}


BILSTM = Publication(
    reference=ARTICLE,
    model="bilstm",
    sequences=25_000,
    sides={"Keras": ("keras-tensorflow", "keras-article"), "PyTorch": ("torch", "torch-article")},
    departures={
        "Keras": frozenset({"sparse-embedding-adam", "running-mean-curve"}),
        "PyTorch": frozenset(
            {
                "last-step-output",
                "extra-tanh",
                "adapted-init",
                "second-bias",
                "clip-norm",
                "drop-last-batch",
                "framework-epsilon",
                "history-not-cleared",
            }
        ),
    },
    settings={"Keras": {}, "PyTorch": {}},
    reported={
        "Keras": {
            "train_loss": {1: 0.4479, 2: 0.2855},
            "train_accuracy": {1: 0.7916, 2: 0.8880},
            "validation_loss": {1: 0.3639, 2: 0.3468},
            "validation_accuracy": {1: 0.8440, 2: 0.8542},
        },
        "PyTorch": {
            "train_loss": {1: 0.4881, 2: 0.3962},
            "train_accuracy": {1: 0.7556, 2: 0.8173},
            "validation_loss": {1: 0.4024, 2: 0.3343},
            "validation_accuracy": {1: 0.8233, 2: 0.8624},
        },
    },
    notes="Each side ran once, without a seed; neither time nor hardware is given.",
    studies=("reproduction", "ablation"),
    means_so_far={"PyTorch": ("train_loss", "train_accuracy")},
)
"""The article of 2021-03-20. Undone, PyTorch's training figures of epoch 2 are 0.3043 and 0.8790."""

TRANSFORMER = Publication(
    reference=f"keras.io, Text classification with Transformer; {TUTORIAL}",
    model="transformer",
    sequences=25_000,
    sides={"Keras": ("keras-tensorflow", "keras-example"), "JAX": ("flax", "jax-tutorial")},
    departures={
        "Keras": frozenset({"own-dropout", "sparse-embedding-adam"}),
        "JAX": frozenset(
            {
                "double-softmax",
                "heads-share-width",
                "own-dropout",
                "framework-init",
                "framework-epsilon",
                "drop-last-batch-of-each-worker",
                "same-order-each-epoch",
                "no-start-token",
            }
        ),
    },
    settings={"Keras": {}, "JAX": {"learning_rate": 1e-4, "batch_size": 128}},
    reported={
        "Keras": {"validation_accuracy": {1: 0.8444, 2: 0.8745}},
        "JAX": {"validation_accuracy": {1: 0.5576, 10: 0.8508}},
    },
    notes="Each page shows one run (Keras's at commit 1909c67 of keras-io). Keras's took 15 and 13 s an epoch, on hardware that is not "
    "stated; which backend it ran on is not stated either, and TensorFlow is taken. JAX's validates in batches of 256, here in those of its "
    "training, which changes the time of validation alone. The matched program trains for the protocol's epochs, so it has no figure of the "
    "tenth.",
    studies=("reproduction-transformer", "ablation-transformer"),
)
"""Two official pages of "the same" model: keras.io's at commit 1909c67, the JAX AI Stack's at commit 2801700."""

PUBLICATIONS = (BILSTM, TRANSFORMER)


def of(cases: Iterable[Case]) -> Publication | None:
    """The publication that some of the cases repeat, else the one that some stand beside; None where there is none."""
    cases = list(cases)
    for beside in (Publication.repeats, Publication.side_of):
        for publication in PUBLICATIONS:
            if any(beside(publication, case) for case in cases):
                return publication
    return None
