"""Writes a whole finished study with made-up figures, through the same records as a real one; no framework is needed.

The figures follow from (case, seed) alone. `failures` says which runs did not finish and how.
"""

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from levelfield.level.parity import Measured, Parity, judge
from levelfield.models.base import model_of, parameters, shapes
from levelfield.records import (
    Epoch,
    Latency,
    Machine,
    Memory,
    Run,
    Steps,
    Times,
    save_arrays,
    write_epochs,
    write_json,
    write_run,
)
from levelfield.study.config import Study, read_study
from levelfield.study.departures import trained_on
from levelfield.study.protocol import Case, digest
from levelfield.study.published import BILSTM, TRANSFORMER

STEP_SECONDS = {
    "keras-tensorflow": 0.120,
    "keras-jax": 0.170,
    "keras-torch": 0.400,
    "torch": 0.105,
    "torch-compile": 0.107,
    "jax": 0.150,
    "flax": 0.156,
}
"""Of the LSTM with batches of 32."""
MODEL_SPEED = {
    "bilstm": {},
    "transformer": {"": 0.1, "jax": 0.05, "flax": 0.055, "keras-jax": 0.065},
    "cnn": {"": 0.2, "keras-tensorflow": 0.1, "torch-compile": 0.15},
}
"""By model: the factor on a step's time, by backend where it is not the others' (""): another is fastest with each model."""
SHIFT = {"extra-tanh": 0.006, "last-step-output": 0.012, "naive-init": 0.09, "adapted-init": 0.03, "second-bias": 0.002}
TITLES = {
    "IMDB reviews (own file)": "IMDB",
    "VADER movie-review snippets": "VADER snippets, not IMDB",
    "synthetic sequences": "synthetic, timing only",
}
EVERY_KIND = [
    "keras-tensorflow",
    "torch",
    "jax",
    {"backend": "torch", "departures": ["second-bias"]},
    {"backend": "torch", "departures": ["naive-init"]},
    {"backend": "torch", "name": "torch-article", "departures": sorted(BILSTM.departures["PyTorch"])},
    {"backend": "keras-tensorflow", "name": "keras-article", "departures": sorted(BILSTM.departures["Keras"])},
]
"""Cases that between them give every table: matched ones, single departures, and the article's two programs."""
TUTORIAL = {
    "backend": "flax", "name": "jax-tutorial", "settings": {"learning_rate": 1e-4, "batch_size": 128, "epochs": 10},
    "departures": sorted(TRANSFORMER.departures["JAX"]),
}  # fmt: skip
EXAMPLE = {"backend": "keras-tensorflow", "name": "keras-example", "departures": ["own-dropout", "sparse-embedding-adam"]}
TRANSFORMERS = [EXAMPLE, TUTORIAL, "keras-tensorflow", "flax"]
"""The two published programs of the Transformer, and the matched cases: for `protocol={"model": "transformer"}`."""

VALIDATION = 25_000
"""Validation sequences, however few are trained on: an accuracy is told in steps of one of them."""
FINISHED, FAILED, MISSING, FAILED_PARITY = "finished", "failed", "missing", "failed-parity"


def make_study(
    folder: Path,
    cases=("keras-tensorflow", "torch"),
    seeds=(0, 1, 2),
    epochs: int = 2,
    steps: int = 782,
    failures: dict | None = None,
    gpus: dict[str, str] | None = None,
    corpus: str = "IMDB reviews (own file)",
    vary: dict | None = None,
    speed: float = 1.0,
    protocol: dict | None = None,
    twin: bool = False,
    hashed: bool = False,
    **more,
) -> Path:
    """Makes the study `folder.name` in `folder` and returns the folder.

    `cases`: as in a config, names of backends or dictionaries. `steps`: of an epoch with batches of 32. `failures`: {(case, seed): "failed" |
    "missing"} and {case: "failed-parity"}. `gpus`: the GPU model that a case ran on; CPU for those not named. `speed`:
    factor on all training times, to make a second study that is slower or faster. `protocol`: more of it, such as a model. `twin`: the first case runs twice. `more`: other keys of the config.
    `hashed`: with checksums, as a run writes its record; without them it is as of an earlier version, and a test may edit it.
    """
    folder, failures, gpus = Path(folder), failures or {}, gpus or {}
    sequences = 32 * (steps - 1) + 8  # as 25,000 = 32 · 781 + 8: the last batch of an epoch is smaller
    study = read_study(
        {
            "study": folder.name, "cases": list(cases), "seeds": list(seeds), "vary": vary or {}, "twin": twin,
            "protocol": {"epochs": epochs} | (protocol or {}), "data": {"train": sequences, "validation": VALIDATION},
        } | more,
        "made_study.py",
    )  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "study.json", study.model_dump(mode="json"))
    data = _data(corpus, sequences)
    write_json(folder / "data" / "data.json", data)
    (folder / "cases").mkdir(exist_ok=True)
    for case in study.expanded:
        case.write(folder / "cases" / f"{case.name}.json")
        passed = failures.get(case.name) != FAILED_PARITY
        if study.parity:
            _parity(case, passed).write(folder / "parity" / f"{case.name}.json")
        if not passed:
            continue
        for seed in study.seeds:
            kind = failures.get((case.name, seed), FINISHED)
            run_folder = folder / "runs" / case.name / f"seed-{seed}"
            if kind == FINISHED:
                _finished(run_folder, study, case, seed, gpus.get(case.name), data, speed, hashed)
            elif kind == FAILED:
                write_json(run_folder / "failure.json", _failure(study, case, seed))
    return folder


def _data(corpus: str, sequences: int) -> dict:
    return {
        "corpus": corpus, "title": TITLES[corpus], "why": "made up for a test", "source_sha256": "5" * 64,
        "sha256": digest(corpus),
        "train_sequences": sequences, "validation_sequences": VALIDATION, "vocabulary": 20_000, "length": 200,
        "padding": "pre", "truncation": "pre", "citation": None if corpus.startswith("synthetic") else "Maas et al. (2011)",
    }  # fmt: skip


def _parity(case: Case, passed: bool) -> Parity:
    rng = np.random.default_rng(_key(case.name, 0))
    tensors = {name: float(f"{10 ** rng.uniform(-6.4, -5.3):.3g}") for name in shapes(case.protocol)}
    off = {
        "weights_after_warm_up": 0.0, "probabilities": 6e-8 if passed and case.matched else 4.1e-3,
        "loss_step_1": 6e-9, "loss_step_10": 3e-8, "loss_step_50": 2e-6, "weights_step_1": 7e-8, "weights_step_10": 8e-7,
        "weights_step_50": 9e-5, "moved_step_1": 7e-5, "moved_step_10": 8e-4, "moved_step_50": 9e-3,
        "probabilities_step_1": 8e-8 if passed and case.matched else 4.1e-3, "travelled_step_50": 2e-4,
    }  # fmt: skip
    distances = {name: {"embedding" if name[0] in "wm" else name: value} for name, value in off.items()}
    distances["gradients"] = tensors
    found = Measured(50, distances, [1e-8 * 1.2**step for step in range(50)])
    return Parity(
        case=case.name, backend=case.backend, departures=list(case.departures), matched=case.matched, seed=0, device="cpu",
        precision=case.protocol.precision, versions={"numpy": "2.4.6"}, protocol_sha256=digest(case.protocol),
        start_sha256=digest(["start", 0]), corpus="IMDB reviews (own file)", **judge(found, _bounds(distances)),
    )  # fmt: skip


def _bounds(distances: dict) -> dict:
    """Of gradients 1e-5, of outputs and losses 1e-6, of all else, and of the loss of step 50, ten times what is found."""
    of = {"gradients": 1e-5, "probabilities": 1e-6, "loss_step_1": 1e-6, "loss_step_10": 1e-6}
    return {name: {t: of.get(name, 10 * value) for t, value in found.items()} for name, found in distances.items()}


def _failure(study: Study, case: Case, seed: int) -> dict:
    return {
        "study": study.study, "case": case.name, "backend": case.backend, "departures": list(case.departures), "seed": seed,
        "started": "2026-01-05T10:00:00+00:00", "error": "MemoryError: 12.0 GB asked for, 8.0 GB there",
        "log_tail": "step 120\nstep 130\nMemoryError: <script>alert(1)</script>", "seconds": 31.5,
    }  # fmt: skip


def _key(name: str, seed: int) -> int:
    return int(digest([name, seed])[:12], 16)


def _learning(rng: np.random.Generator, sizes: np.ndarray, shift: float) -> tuple[np.ndarray, np.ndarray]:
    """Loss and accuracy of each batch of `sizes` (epochs, steps): a falling curve with a batch's noise."""
    progress = np.arange(sizes.size) / sizes.shape[1]
    level = 0.22 + shift + 0.47 * np.exp(-1.9 * progress)
    loss = np.clip(level + rng.normal(0, 0.07, level.size), 0.02, None)
    right = rng.binomial(32, np.clip(1.02 - 0.52 * level, 0.5, 0.97))
    return loss.astype(np.float32), (right / 32).astype(np.float32)


def _batches(case: Case, sequences: int) -> np.ndarray:
    """The size of each batch, (epochs, steps)."""
    size = case.protocol.batch_size
    whole, rest = divmod(trained_on(case.departures, sequences, size), size)
    return np.tile(np.array([size] * whole + [rest] * bool(rest), np.int32), (case.protocol.epochs, 1))


def _finished(
    folder: Path, study: Study, case: Case, seed: int, gpu: str | None, data: dict, speed: float, hashed: bool
) -> None:
    asked, protocol, rng, shared = (
        speed,
        case.protocol,
        np.random.default_rng(_key(case.name, seed)),
        np.random.default_rng(seed),
    )
    shift = sum(SHIFT.get(name, 0) for name in case.departures)
    sizes = _batches(case, data["train_sequences"])
    steps = sizes.shape[1]
    loss, accuracy = _learning(rng, sizes, shift)
    loss[:10] = (0.69 + np.random.default_rng([seed, 10]).normal(0, 0.01, 10))[
        : loss.size
    ]  # from one start, all compute the same
    epoch_of = np.repeat(np.arange(1, protocol.epochs + 1, dtype=np.int32), steps)
    sizes = sizes.ravel()
    save_arrays(folder / "steps.npz", asdict(Steps(epoch_of, loss, accuracy, sizes)))

    by_backend = MODEL_SPEED[protocol.model.name]
    speed *= by_backend.get(case.backend, by_backend.get("", 1)) * (protocol.batch_size / 32) ** 0.7
    step_seconds = STEP_SECONDS.get(case.backend, 0.2) * speed * (0.05 if gpu else 1) * np.exp(shared.normal(0, 0.03))
    epochs = []
    for epoch in range(1, protocol.epochs + 1):
        mine, seconds = epoch_of == epoch, float(steps * step_seconds * np.exp(rng.normal(0, 0.01)))
        sequences = int(sizes[mine].sum())
        epochs += [
            Epoch(
                epoch=epoch,
                train_seconds=seconds,
                validation_seconds=0.3 * seconds,
                train_loss=float(np.average(loss[mine], weights=sizes[mine])),
                train_accuracy=float(np.average(accuracy[mine], weights=sizes[mine])),
                validation_loss=float(0.34 + 0.02 / epoch + shift + shared.normal(0, 0.005) + rng.normal(0, 0.003)),
                validation_accuracy=float(
                    np.clip(0.862 - 0.02 / epoch - shift / 2 + shared.normal(0, 0.003) + rng.normal(0, 0.001), 0, 1)
                ),
                sequences_per_second=sequences / seconds,
                tokens_per_second=sequences * protocol.length / seconds,
                energy_joules=210.0 * seconds if gpu else None,
            )
        ]  # fmt: skip
    write_epochs(folder / "epochs.csv", epochs)

    train, validation = sum(e.train_seconds for e in epochs), sum(e.validation_seconds for e in epochs)
    run = Run(
        study=study.study, case=case.name, backend=case.backend, departures=list(case.departures), seed=seed,
        started=_started(study, case, seed, data, asked), corpus=data["corpus"],
        train_sequences=data["train_sequences"], validation_sequences=data["validation_sequences"],
        protocol=asdict(protocol), protocol_sha256=digest(protocol), data_sha256=data["sha256"],
        start_sha256=digest(["start", seed]), commit="c" * 40, image=None, parameters=parameters(protocol, frozenset(case.departures)),
        machine=_machine(case, gpu),
        times=Times(2.0, 1.5, 12.0 if case.backend == "torch-compile" else 3.0, train, validation, train + validation + 8.5),
        memory=Memory(
            int(2.1e9 + 1e7 * seed), *((int(3e8), int(5e8), int(9e8)) if gpu else (None, None, None))
        ),
        latency=Latency(step_seconds, 1.1 * step_seconds, 1.4 * step_seconds, 50),
        kernels=[f"cudnn_{model_of(protocol).kernels.what.lower()}_forward"] if gpu else [],
        checks={"losses_finite": True, "losses_fell": True, "no_stall": True, "times_agree": True},
        measurements=_measurements(gpu),
    )  # fmt: skip
    if hashed:
        write_run(folder, run)
    else:
        write_json(folder / "run.json", run)


def _started(study: Study, case: Case, seed: int, data: dict, speed: float) -> str:
    """One run after the other, each in a slot that is longer than the longest of them."""
    longest = max(one.protocol.epochs for one in study.expanded) * data["train_sequences"] / 32
    slot = 30 + 1.5 * speed * longest * max(STEP_SECONDS.get(one.backend, 0.2) for one in study.expanded)
    begun = datetime(2026, 1, 5, 10, tzinfo=UTC) + timedelta(seconds=round(slot * study.runs.index((case.name, seed))))
    return begun.isoformat()


def _measurements(gpu: str | None) -> dict:
    """Some of those that a run takes, with a text and an empty one among them."""
    return {
        "kernel": "cuDNN" if gpu else "oneDNN", "gpu_power_watts": 210.0 if gpu else None, "share_of_limit": 0.31,
        "others_cpu_share": 0.01, "noise_warning": None,
    }  # fmt: skip


def _machine(case: Case, gpu: str | None) -> Machine:
    return Machine(
        host="node-1", cpu="Made Processor 9000", cpus=2, threads=2, memory_bytes=16 * 2**30, system="Linux 6.1",
        python="3.11.2", device="cuda" if gpu else "cpu", gpu=gpu, gpu_uuid="GPU-0" if gpu else None,
        driver="550.54" if gpu else None, cuda="12.4" if gpu else None, cudnn="9.1" if gpu else None,
        versions={case.backend.split("-")[0]: "3.0.0", "numpy": "2.4.6"}, flags={"TF32": "0"},
    )  # fmt: skip
