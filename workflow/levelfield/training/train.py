"""The one training procedure: loads data and start, trains a case with one seed, measures, records. Names no framework."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import numpy as np

from levelfield import host, registry
from levelfield.backends import load_backend
from levelfield.backends.base import Backend, evaluate
from levelfield.commit import commit
from levelfield.data.arrays import load_description, load_split, refuse_unfit
from levelfield.errors import UserError
from levelfield.level.start import Start, load_start
from levelfield.measure import calibrate, environment, kernels, limit, summary
from levelfield.measure.clock import Stopwatch
from levelfield.measure.device import hold_processor
from levelfield.measure.energy import Energy, source
from levelfield.measure.gpu import Gpu, as_one, clock_mhz
from levelfield.measure.latency import probe
from levelfield.measure.noise import Restlessness
from levelfield.measure.pauses import Pauses, StepClock
from levelfield.measure.sampler import Sampler, together
from levelfield.measure.settling import NOT_WAITED, settle
from levelfield.models.base import model_of, parameters
from levelfield.records import Epoch, Run, Steps, Times, save_arrays, set_aside, write_epochs, write_run
from levelfield.study.departures import too_few, trained_on
from levelfield.study.protocol import Case, Protocol, digest
from levelfield.training.departed import order_of, part_of, sequences_of
from levelfield.training.progress import progress

Split = tuple[np.ndarray, np.ndarray]
"""x and y, as `load_split` gives them."""
Found = TypeVar("Found")
FEWEST = 20
"""Steps of a training of which it is told whether its loss fell: a tenth of them is two batches."""


@dataclass
class Training:
    """What the epochs left behind: records and, for each epoch, pauses and the wait for the device after its return."""

    epochs: list[Epoch] = field(default_factory=list)
    steps: list[Steps] = field(default_factory=list)
    pauses: list[Pauses] = field(default_factory=list)
    waited_seconds: list[float] = field(default_factory=list)

    @property
    def sequences(self) -> int:
        """That were trained on, all epochs together: fewer than there are where a departure leaves some out."""
        return sum(int(steps.sequences.sum()) for steps in self.steps)

    @property
    def sequences_per_second(self) -> float:
        return self.sequences / sum(epoch.train_seconds for epoch in self.epochs)


def train(
    study: str,
    case: Case,
    seed: int,
    data: Path,
    start_file: Path,
    threads: int,
    out: Path,
    image: str | None = None,
    gpus: Sequence[Gpu] = (),
    calibrations: Path | None = None,
    take: int = 1,
) -> Run:
    """Trains `case` from the start of `seed` and writes run.json, epochs.csv, steps.npz and weights.npz into `out`.

    data: folder of the study's encoded reviews. threads: what the process may use. image: digest of the container's image.
    gpus: those held for the run. calibrations: folder of the machines' calibrations; without it the share of the limit
    stays empty. take: how often this run was made. Raises UserError where the start is another seed's, altered, or made for other
    data, where the sequences are too few, where the model's outputs do not fit the labels, and where its size is not the protocol's.
    """
    started = now()
    protocol, departures = case.protocol, frozenset(case.departures)
    start, start_sha256 = load_start(start_file)
    description = load_description(data)
    if "labels" in description:  # older data does not tell them
        refuse_unfit(description["title"], description["labels"], [(protocol.model.name, protocol.model.outputs)])
    x_train, y_train = load_split(data, "train", protocol)
    x_val, y_val = load_split(data, "val", protocol)
    x_train, x_val = sequences_of(x_train, departures), sequences_of(x_val, departures)
    check_start(start, seed, protocol, len(x_train))
    if reason := too_few(departures, protocol.batch_size, len(x_train), len(x_val)):
        raise UserError(f"{case.name}: {reason}")
    if "drop-last-batch" in departures:
        kept = len(x_val) // protocol.batch_size * protocol.batch_size
        x_val, y_val = x_val[:kept], y_val[:kept]

    samplers, gpu = [Sampler(one.uuid) for one in gpus], as_one(list(gpus))
    with Stopwatch() as importing:
        make = load_backend(case.backend, protocol.devices)
        registry.builder(protocol.model.name, registry.backend(case.backend).framework)
    with Stopwatch() as building:
        backend: Backend = make(protocol, departures, case.device, threads)
        weights = start.weights_for(protocol, departures, registry.backend(case.backend).framework)
        backend.draw_from(seed)
        backend.load(weights)
    check_parameters(backend, case)
    check_device(backend, case)
    if gpus and backend.device == "cpu":  # as `device: auto` has it where a framework is built for CPUs
        hold_processor()

    trained = part_of((x_train, y_train), trained_on(departures, len(x_train), protocol.batch_size))

    def warm_up() -> None:
        backend.warm_up(*trained, weights, len(x_val))

    with Stopwatch(backend.synchronize) as warming:
        warm_up()
    used = gpu if backend.device == "cuda" else None
    settling = settle(warm_up, lambda: [clock_mhz(one.uuid) for one in gpus]) if used else NOT_WAITED
    print(
        f"{case.name}, seed {seed}: {description['title']}, {len(x_train):,} + {len(x_val):,} sequences, on {backend.device}, "
        f"{threads} threads; warm-up took {warming.seconds:.1f} s{settling}",
        flush=True,
    )

    age = host.process_age_seconds()
    for sampler in samplers:
        sampler.reset()
    before = summary.before_training(backend)
    with Restlessness(threads=threads, on_gpu=backend.device == "cuda") as rest:
        training = train_epochs(backend, case, start, (x_train, y_train), (x_val, y_val), gpus)
    ended = now()
    use = together([sampler.stop() for sampler in samplers])
    uuids = [one.uuid for one in gpus if backend.device == "cuda"]
    memory = summary.memory(backend, used, use, before)
    epochs, steps = training.epochs, training.steps
    save_arrays(out / "weights.npz", backend.weights())
    save_arrays(out / "steps.npz", {name: np.concatenate([getattr(s, name) for s in steps]) for name in asdict(steps[0])})
    write_epochs(out / "epochs.csv", epochs)

    run = Run(
        study=study,
        case=case.name,
        backend=case.backend,
        departures=list(case.departures),
        seed=seed,
        started=started,
        ended=ended,
        take=take,
        corpus=description["corpus"],
        train_sequences=len(x_train),
        validation_sequences=len(x_val),
        protocol=asdict(protocol),
        protocol_sha256=digest(protocol),
        data_sha256=description["sha256"],
        start_sha256=start_sha256,
        commit=commit(),
        image=image,
        parameters=backend.parameters(),
        machine=environment.machine(backend, threads, gpu, registry.backend(case.backend).environment),
        times=Times(
            import_seconds=importing.seconds,
            build_seconds=building.seconds,
            warm_up_seconds=warming.seconds,
            train_seconds=sum(epoch.train_seconds for epoch in epochs),
            validation_seconds=sum(epoch.validation_seconds for epoch in epochs),
            process_seconds=host.process_age_seconds(),
        ),
        memory=memory,
        checks=checks(steps, epochs) | summary.time_checks(training.pauses, training.waited_seconds, None),
        measurements={
            "start_up_seconds": age - importing.seconds - warming.seconds - settling.seconds if age else None,
            **settling.measurements(),
            **summary.gpu_measurements(use if used else None),
            **summary.energy_measurements(epochs, training.sequences, source(uuids, backend.device)),
            **rest.measurements(),
        },
    )
    write_run(out, run)  # the training is safe; an extra that fails from here on costs itself alone
    with suppress(OSError):  # as on a full disk
        set_aside(out, out / "takes" / str(take))  # until the take has ended, by its job
    add_extras(
        run,
        training,
        backend,
        protocol,
        (x_train, y_train),
        lambda: calibration_of(calibrations, protocol, threads, backend.device, used),
    )
    write_run(out, run)
    return run


def now() -> str:
    """ISO 8601, UTC, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def calibration_of(
    folder: Path | None, protocol: Protocol, threads: int, device: str, gpu: Gpu | None
) -> limit.Calibration | None:
    """This machine's calibration; None where no folder for it was named, and on a GPU that NVML does not know (a Jetson), or several: it is of one."""
    if folder is None or (device == "cuda" and (gpu is None or protocol.devices > 1)):
        return None
    return calibrate.of_this_machine(folder, protocol, threads, gpu)


def add_extras(
    run: Run,
    training: Training,
    backend: Backend,
    protocol: Protocol,
    data: Split,
    calibration: Callable[[], limit.Calibration | None],
) -> None:
    """Adds to the record what is measured after the training: latency, kernels, the share of the limit.

    One that raises leaves its figures empty and its reason in `measurements`, as `probe_failed`, `profile_failed` or
    `calibration_failed`. data: of training; calibration: gives the machine's.
    """
    x, y = data
    size = protocol.batch_size
    failed: dict[str, str] = {}

    def attempt(what: str, work: Callable[[], Found]) -> Found | None:
        try:
            return work()
        except Exception as error:  # whatever it is, the run that was timed stands
            failed[f"{what}_failed"] = f"{type(error).__name__}: {error}"
            print(f"{run.case}, seed {run.seed}: the {what} failed, and the run stands: {failed[f'{what}_failed']}", flush=True)
            return None

    run.latency = attempt("probe", lambda: probe(backend, x, y, size / training.sequences_per_second))
    profile = attempt("profile", lambda: backend.kernels(x[:size], y[:size])) or []
    calibrated = attempt("calibration", calibration)
    run.kernels = kernels.told(profile, model_of(protocol).kernels)
    run.checks |= summary.time_checks(training.pauses, training.waited_seconds, run.latency)
    run.measurements |= {
        "kernel": kernels.verdict(profile, model_of(protocol).kernels),
        **summary.step_measurements(training.pauses, run.latency),
        **limit.measurements(protocol, training.sequences_per_second, calibrated, frozenset(run.departures)),
        **failed,
    }
    run.times.process_seconds = host.process_age_seconds()


def train_epochs(
    backend: Backend, case: Case, start: Start, train_data: Split, validation_data: Split, gpus: Sequence[Gpu]
) -> Training:
    """All epochs of the start's order, each validated."""
    protocol, departures, done = case.protocol, frozenset(case.departures), Training()
    uuids = [gpu.uuid for gpu in gpus if backend.device == "cuda"]
    for number in range(1, protocol.epochs + 1):
        order = order_of(start.order, number - 1, departures, protocol.batch_size)
        steps = steps_of(order, protocol)
        with progress(f"{case.name} seed {start.seed} epoch {number}/{protocol.epochs}", steps) as report:
            with Energy(uuids, backend.device) as energy, Stopwatch(backend.synchronize) as training:
                stamps = StepClock(steps, report)
                losses, correct = backend.train_epoch(*train_data, order, stamps)
            done.pauses.append(stamps.pauses())
        done.waited_seconds.append(training.waited_seconds)
        with Stopwatch(backend.synchronize) as validating:
            validation = evaluate(backend, *validation_data)
        sizes = batch_sizes(len(order), len(losses), protocol.batch_size)
        done.steps.append(Steps(np.full(len(losses), number, np.int32), losses, (correct / sizes).astype(np.float32), sizes))
        epoch = Epoch(
            epoch=number,
            train_seconds=training.seconds,
            validation_seconds=validating.seconds,
            train_loss=float(np.average(losses.astype(np.float64), weights=sizes)),
            train_accuracy=float(correct.sum() / sizes.sum()),
            validation_loss=validation.loss,
            validation_accuracy=validation.accuracy,
            sequences_per_second=float(sizes.sum() / training.seconds),
            tokens_per_second=float(sizes.sum() * protocol.length / training.seconds),
            energy_joules=energy.joules,
        )
        done.epochs.append(epoch)
        print(
            f"{case.name}, seed {start.seed}, epoch {number}: {epoch.train_seconds:.1f} s, loss {epoch.train_loss:.4f}, "
            f"accuracy {epoch.train_accuracy:.4f}; validation loss {epoch.validation_loss:.4f}, "
            f"accuracy {epoch.validation_accuracy:.4f} ({epoch.validation_seconds:.1f} s)",
            flush=True,
        )
    return done


def steps_of(order: np.ndarray, protocol: Protocol) -> int:
    return -(-len(order) // protocol.batch_size)


def batch_sizes(sequences: int, steps: int, batch_size: int) -> np.ndarray:
    """Size of each step's batch, int32 (steps,): full ones, and the rest last where it was not dropped."""
    sizes = np.full(steps, batch_size, np.int32)
    if steps * batch_size > sequences:
        sizes[-1] = sequences - (steps - 1) * batch_size
    return sizes


def checks(steps: list[Steps], epochs: list[Epoch]) -> dict[str, bool]:
    """What must hold of any training that worked; recorded, and told by the tables where it does not.

    losses_finite: of each step, and of each validation, which alone sees what the last update made of the weights.
    losses_fell: the last tenth's mean is below the first's; left out of fewer steps than `FEWEST`, whose tenth is a single batch.
    """
    losses = np.concatenate([epoch.loss for epoch in steps])
    validated = [epoch.validation_loss for epoch in epochs]
    found = {"losses_finite": bool(np.isfinite(losses).all() and np.isfinite(validated).all())}
    if len(losses) >= FEWEST:
        tenth = len(losses) // 10
        found["losses_fell"] = bool(losses[-tenth:].mean() < losses[:tenth].mean())
    return found


def check_start(start: Start, seed: int, protocol: Protocol, sequences: int) -> None:
    """Raises UserError where the start is not that of this seed, these epochs and this data."""
    if start.seed != seed or start.order.shape[1] != sequences or start.order.shape[0] < protocol.epochs:
        raise UserError(
            f"the start is of seed {start.seed} for {start.order.shape[0]} epochs of {start.order.shape[1]:,} sequences; "
            f"needed: seed {seed}, {protocol.epochs} epochs of {sequences:,}: run snakemake again, which makes it anew"
        )


def check_parameters(backend: Backend, case: Case) -> None:
    """Raises UserError where the model has another number of trainable parameters than the protocol says."""
    protocol = case.protocol
    expected, found = parameters(protocol, frozenset(case.departures)), backend.parameters()
    if found != expected:
        raise UserError(f"{case.name} has {found:,} trainable parameters, the protocol's model has {expected:,}")


def check_device(backend: Backend, case: Case) -> None:
    """Raises UserError where the framework put the weights elsewhere than it says: the run would be told as one of that device."""
    if backend.lies_on != backend.device:
        raise UserError(
            f"{case.name} computes on {backend.device}, says {case.backend}, and its weights lie on {backend.lies_on}: a variable or a file "
            "of settings names another device: `levelfield doctor` and the framework's documentation tell which there are"
        )
