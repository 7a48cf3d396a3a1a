"""What tables, figures and page are made from: a study's config, its data's description and its collected records."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from levelfield.errors import UserError
from levelfield.study.config import TWIN, Study
from levelfield.study.protocol import Sizes
from levelfield.tell.kept import BrokenRecord, Records, one_line, parsed
from levelfield.tell.outcomes import load_study

DESCRIBED = {
    **dict.fromkeys(("corpus", "title", "why", "sha256", "padding", "truncation"), str),
    **dict.fromkeys(("train_sequences", "validation_sequences", "vocabulary", "length"), int),
}
"""What tables and page tell of the data."""
COLLECTED = {
    "runs.parquet": {
        "case", "seed", "status", "error", "accepted", "departures", "unclean", "incoherent", "first_losses_apart", "session", "block", "position",
        "started", "ended", "train_seconds", "earlier_takes", "take", "checks", "corpus", "commit", "versions", "python", "device", "gpu", "gpu_uuid", "cpu", "threads", "host", "host_id",
        "boot", "sha256",
    },
    "epochs.parquet": {"case", "seed", "epoch", "train_seconds", "validation_seconds", "energy_joules", "sequences_per_second"},
}  # fmt: skip
"""Columns without which nothing can be told."""


def kind_of_machine(runs: pd.DataFrame) -> pd.Series:
    """What each run ran on, in words: `Tesla V100`, `GPU not told`, `AMD EPYC, 2 threads`."""
    threads = runs["threads"].map(lambda count: "1 thread" if count == 1 else f"{count:.0f} threads").astype(str)
    return runs["gpu"].fillna("GPU not told").where(runs["device"] == "cuda", runs["cpu"] + ", " + threads)


def machine_of(runs: pd.DataFrame) -> pd.Series:
    """The same, and on how many hosts of it, where there are several: only runs of one host are a pair, and intervals are over the hosts."""
    words = kind_of_machine(runs)
    several = hosts_of(runs).groupby(words).transform("nunique")
    return words.where(several < 2, words + ", " + several.astype(str) + " hosts")


def hosts_of(runs: pd.DataFrame) -> pd.Series:
    """The host of each run: its number, or in earlier records its name."""
    return runs["host_id"].fillna(runs["host"]).astype(str)


def must_be_there(folder: Path, name: str) -> None:
    if not (folder / name).is_file():
        raise UserError(f"{folder / name} is missing: type `levelfield collect {folder}` after the runs")


def load_data(folder: Path) -> dict[str, Any]:
    """What `data/data.json` says of the data; raises UserError where it does not."""
    try:
        told = parsed(Records(folder).read("data/data.json"))
    except (BrokenRecord, ValueError, RecursionError) as error:
        raise UserError(f"{folder}/data/data.json: {one_line(error)}: run `snakemake` again, or fetch the study anew") from None
    if missing := sorted(DESCRIBED.keys() - {name for name, kind in DESCRIBED.items() if isinstance(told.get(name), kind)}):
        raise UserError(f"{folder}/data/data.json: {missing[0]} is not there, or no such value: run `snakemake` again")
    return {"source_sha256": None, "citation": None} | told


def read_collected(folder: Path, name: str) -> pd.DataFrame:
    """A table that `collect` wrote; raises UserError where it is cut off or of a version that collected otherwise."""
    try:
        table = pd.read_parquet(folder / name)
    except (OSError, ValueError) as error:  # pyarrow's own are among them
        raise UserError(f"{folder / name}: cannot be read ({one_line(error)}): type `levelfield tell {folder}`") from None
    if missing := sorted(COLLECTED[name] - set(table.columns)):
        raise UserError(
            f"{folder / name}: has no column {missing[0]}, it is of another version: type `levelfield tell {folder}`"
        )
    return table


def sizes_in_words(model: Sizes) -> str:
    """A model's sizes: `embedding 128, units 64, outputs 1`."""
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in vars(model).items() if name != "name")


@dataclass(frozen=True, eq=False)
class Results:
    """A collected study; `runs` has a row for each planned run, the failed and missing ones too."""

    folder: Path
    study: Study
    data: dict[str, Any]
    runs: pd.DataFrame
    epochs: pd.DataFrame

    @classmethod
    def read(cls, folder: Path) -> "Results":
        """Reads `results/<study>/`; raises UserError where it has not been collected."""
        folder = Path(folder)
        for name in ("study.json", "data/data.json", "runs.parquet", "epochs.parquet"):
            must_be_there(folder, name)
        study, data = load_study(folder), load_data(folder)
        return cls(folder, study, data, read_collected(folder, "runs.parquet"), read_collected(folder, "epochs.parquet"))

    @cached_property
    def cases(self) -> list[str]:
        """The cases in the study's order."""
        return [case.name for case in self.study.expanded]

    @cached_property
    def rows(self) -> list[str]:
        """The cases as a chart's rows: those of one model together."""
        return [case for cases in self.by_model.values() for case in cases]

    @property
    def variants(self) -> int:
        """In how many sizes a study that varies one takes each of its cases."""
        return len(self.study.variants)

    @cached_property
    def models(self) -> dict[str, str]:
        """Each case's model in words: its name, and its sizes where the study has one model in several."""
        kinds = dict.fromkeys(case.protocol.model for case in self.study.expanded)
        names = [kind.name for kind in kinds]
        told = {kind: kind.name if names.count(kind.name) == 1 else f"{kind.name} ({sizes_in_words(kind)})" for kind in kinds}
        return {case.name: told[case.protocol.model] for case in self.study.expanded}

    @cached_property
    def by_model(self) -> dict[str, list[str]]:
        """Each model's cases, in the study's order. Between models nothing is compared."""
        return {
            model: [case for case in self.cases if self.models[case] == model] for model in dict.fromkeys(self.models.values())
        }

    @property
    def several_models(self) -> bool:
        return len(self.by_model) > 1

    @cached_property
    def lines(self) -> dict[str, str]:
        """Each case's name without its model, where the study has several: `torch` of `torch+model=cnn`."""
        if not self.several_models:
            return {case: case for case in self.cases}
        return {case.name: case.name.replace(f"+model={case.protocol.model.name}", "") for case in self.study.expanded}

    @cached_property
    def twins(self) -> dict[str, str]:
        """The case that a study with `twin: true` runs a second time, by the second one's name: the two show the noise floor."""
        if not self.study.twin:
            return {}
        cases = {case.name: case for case in self.study.expanded}
        others = {name: cases.get(name.replace(TWIN, "", 1)) for name in cases if TWIN in name}
        return {
            name: other.name
            for name, other in others.items()
            if other and (other.backend, other.protocol) == (cases[name].backend, cases[name].protocol)
        }

    @cached_property
    def finished(self) -> pd.DataFrame:
        """The finished runs."""
        return self.runs[self.runs["status"] == "finished"]

    @cached_property
    def throughput(self) -> pd.DataFrame:
        """Training of each finished run, all epochs together: columns case, seed, sequences_per_second, tokens_per_second."""
        rates, runs = ["sequences_per_second", "tokens_per_second"], ["case", "seed"]
        counts = self.epochs[rates].mul(self.epochs["train_seconds"], axis=0)
        total = self.epochs[[*runs, "train_seconds"]].assign(**counts).groupby(runs, as_index=False, sort=False).sum()
        return total[runs].assign(**{rate: total[rate] / total["train_seconds"] for rate in rates})

    @cached_property
    def machines(self) -> list[str]:
        """What ran, in words; several where the runs differ."""
        return sorted(machine_of(self.finished).unique())

    @cached_property
    def context(self) -> str:
        """What every figure says beneath its title: which data, which machine, how many seeds."""
        used = self.data["train_sequences"]
        seeds = self.finished["seed"].nunique()
        machine = " and ".join(self.machines) or "no run has finished"
        return f"{self.data['title']}, {used:,} training sequences · {machine} · {seeds} {'seed' if seeds == 1 else 'seeds'}"
