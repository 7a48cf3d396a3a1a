"""Which runs a folder stands for, and the record of one with its study."""

from pathlib import Path

from levelfield.errors import UserError
from levelfield.study.config import Study
from levelfield.tell.kept import BrokenRecord, Records
from levelfield.tell.outcomes import Record, load_study, outcomes, read_record


def runs_in(folder: Path) -> list[Path]:
    """The run whose folder this is, or all finished runs of a study's folder; raises UserError where it is neither."""
    if (folder / "run.json").is_file():
        return [folder]
    if not (folder / "study.json").is_file():
        raise UserError(
            f"{folder} holds neither run.json nor study.json: give the folder of a finished run, such as "
            "results/article/runs/torch/seed-0, or that of a study"
        )
    found = outcomes(folder, load_study(folder))
    runs = [folder / "runs" / case.name / f"seed-{seed}" for case, seed, status, *_ in found if status == "finished"]
    if not runs:
        raise UserError(f"no run of {folder} has finished: `levelfield runs {folder}` tells why")
    return runs


def record_of(run: Path) -> tuple[Study, Record]:
    """The study that lies around a run's folder, and the run's record; raises UserError where one of them is not whole."""
    run = run.resolve()
    folder, name, seed = run.parents[2], run.parent.name, run.name.removeprefix("seed-")
    study = load_study(folder)
    case = next((case for case in study.expanded if case.name == name), None)
    if case is None or not seed.isdecimal():
        raise UserError(f"{run} is no run of {folder}: those are {folder}/runs/<case>/seed-<n>")
    try:
        return study, read_record(Records(folder), study, case, int(seed))
    except BrokenRecord as error:
        raise UserError(f"{folder}/{error}") from None
