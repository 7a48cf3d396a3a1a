"""Where a study's figures come from: machine, software, code, data, settings, single runs, and how to run it again."""

import json
from dataclasses import fields
from pathlib import PurePath
from typing import Any

import pandas as pd
import yaml

from levelfield import registry
from levelfield.data.origin import is_imdb, kind_of
from levelfield.data.sources.imdb import MAAS
from levelfield.data.sources.snippets import HUTTO
from levelfield.models.base import model_of
from levelfield.study.asked import config_of
from levelfield.study.protocol import Sizes
from levelfield.tell.coherence import FIRST_STEPS, mixtures, unhashed
from levelfield.tell.collect import allowances
from levelfield.tell.results import Results, sizes_in_words
from levelfield.tell.tables.groups import finished, missed_checks
from levelfield.tell.tables.speed import kernel_heading
from levelfield.tell.tables.table import Table

POLARITY = ["negative", "positive"]
MOST_RUNS = 2_000
"""Rows of the table of single runs; a bigger study has them in `runs.parquet`."""


def citations(data: dict[str, Any]) -> list[str]:
    """Whom to cite: those whose texts this study used, or whom the owner of an own file names; nobody else."""
    published = MAAS if is_imdb(data) else HUTTO if kind_of(data) == "snippets" else None
    cited = data["citation"] or published
    return [cited] if cited else []


def facts(results: Results) -> dict[str, dict[str, str]]:
    """Facts under headings: data, machine, software of each case, code."""
    runs, data = results.finished, results.data
    found = {
        "Data": {
            "corpus": data["corpus"], "why this one": data["why"], "source, sha256": data["source_sha256"],
            "arrays, sha256": data["sha256"],
            "training sequences": f"{data['train_sequences']:,}", "validation sequences": f"{data['validation_sequences']:,}",
            "vocabulary": f"{data['vocabulary']:,} ids", "length": f"{data['length']} tokens",
            "padding, truncation": f"{data['padding']}, {data['truncation']}",
        },
        "Machine": {
            name: _different(runs[column])
            for name, column in {
                "host": "host", "identity of the host": "host_id", "processor": "cpu", "logical processors": "cpus", "threads given": "threads", "memory, bytes": "memory_bytes",
                "system": "system", "device": "device", "GPU": "gpu", "driver": "driver", "CUDA": "cuda", "cuDNN": "cudnn",
            }.items()
        },
        "Code": {
            "commit": _different(runs["commit"]), "container image": _different(runs["image"]) or "none: run in the checkout's environment",
            "Python": _different(runs["python"]), "first run, UTC": str(runs["started"].min() if len(runs) else ""),
            "last run, UTC": str(runs["started"].max() if len(runs) else ""),
        },
        "Coherence": coherence(results),
    }  # fmt: skip
    return {heading: {name: value for name, value in rows.items() if value} for heading, rows in found.items()}


def coherence(results: Results) -> dict[str, str]:
    """What the records prove of each other: clean runs, sessions, first losses, and what is mixed in them."""
    runs = finished(results)
    if runs.empty:
        return {}
    apart = runs["first_losses_apart"].max()
    matched = {case.name for case in results.study.expanded if case.matched}
    allowed = [value for name, value in allowances(results.folder, results.study).items() if name in matched]
    known = sorted((value for value in allowed if value is not None), reverse=True)
    bound = f", allowed {sum(known[:2]):.0e}" if len(known) == len(allowed) else ", no bound is known for all of them"
    return {
        "clean runs": f"{int(runs['clean'].sum())} of {len(runs)}",
        "taken again": f"{int((runs['take'] > 1).sum())} of {len(runs)} runs, since the first take was spoilt"
        if (runs["take"] > 1).any()
        else "",
        "blocks": str(runs.groupby(["block", "session"]).ngroups),
        "sessions": str(runs["session"].nunique()),
        f"losses of the first {FIRST_STEPS} steps, matched cases": ""
        if pd.isna(apart)
        else f"at most {apart:.1e} apart{bound}",
        "mixed": " ".join(mixtures(runs)),
        "checksums": unhashed(runs),
    }


def _different(column: pd.Series) -> str:
    """The different values of a column, as text; nothing where none was recorded."""
    values = [f"{value:.0f}" if isinstance(value, float) else str(value) for value in column.dropna().unique()]
    return "; ".join(sorted(values))


def software(results: Results) -> Table:
    """Versions, flags and kernels of each case, as its runs found them."""
    rows, heading = [], f"{kernel_heading(results)}s"
    for case, runs in results.finished.groupby("case", sort=False):
        rows.append(
            {
                "case": case, "backend": runs["backend"].iloc[0], "versions": _pairs(runs["versions"]), "flags": _pairs(runs["flags"]),
                heading: _different(runs["kernels"]), "checks": _checks(runs),
            }
        )  # fmt: skip
    shown = pd.DataFrame(rows, columns=["case", "backend", "versions", "flags", heading, "checks"])
    return Table("software", "Software of each case", shown, shown)


def _pairs(column: pd.Series) -> str:
    texts = {", ".join(f"{key} {value}" for key, value in json.loads(text).items()) for text in column.dropna()}
    return "; ".join(sorted(texts))


def _checks(runs: pd.DataFrame) -> str:
    missed = sorted(set(missed_checks(runs)))
    return f"missed: {', '.join(missed)}" if missed else "all held"


def single_runs(results: Results) -> Table:
    """Every planned run and what became of it."""
    runs = results.runs.head(MOST_RUNS)
    shown = pd.DataFrame(
        {
            "case": runs["case"], "seed": runs["seed"].astype(str), "status": runs["status"], "started, UTC": runs["started"].fillna(""),
            "whole process, s": runs["process_seconds"].map(lambda value: "" if pd.isna(value) else f"{value:,.1f}"),
            **{name: runs[name].map(lambda value: "" if pd.isna(value) else f"{value:.0f}") for name in ("session", "position", "take")},
            "error": runs["error"].fillna(""), "unclean": runs["unclean"].fillna(""),
        }
    )  # fmt: skip
    return Table("runs", f"Single runs ({len(runs):,} of {len(results.runs):,})", shown, shown)


def config(results: Results) -> str:
    """The study as a config file that repeats it; an own data file by its name alone, its folder was this machine's."""
    study = results.study.model_dump(mode="json", exclude_defaults=True, exclude_none=True)
    if study.get("data", {}).get("file"):
        study["data"]["file"] = PurePath(study["data"]["file"]).name
    text: str = yaml.safe_dump(study, sort_keys=False, allow_unicode=True)
    return text


def command(results: Results) -> str:
    """What to type in a checkout to run the study again."""
    threads = int(results.finished["threads"].max()) if len(results.finished) else 2
    return f"make setup\n. .venv/bin/activate\nsnakemake --cores {threads} --configfile {config_of(results.study.study)}"


def departures(results: Results) -> Table | None:
    """The departures that the study's cases make, with their meaning; None where all are matched."""
    made = {
        (name, registry.departure(case.protocol.model.name, name)): None
        for case in results.study.expanded
        for name in case.departures
    }
    if not made:
        return None
    order = list(registry.departures())
    rows = [(name, one.meaning, one.reference) for name, one in sorted(made, key=lambda found: order.index(found[0]))]
    shown = pd.DataFrame(rows, columns=["departure", "what it is", "where it comes from"])
    return Table("meanings", "The departures", shown, shown)


def protocol(results: Results) -> dict[str, str]:
    """The protocol's settings in words; where cases have their own, all values that occur."""
    found = {}
    for field in fields(results.study.protocol):
        values = dict.fromkeys(getattr(case.protocol, field.name) for case in results.study.expanded)
        told = [f"{value.name} ({sizes_in_words(value)})" if isinstance(value, Sizes) else str(value) for value in values]
        found[field.name.replace("_", " ")] = "; ".join(told)
    return found


def models(results: Results) -> str:
    """One sentence a model of the study: what it is made of."""
    labels, told = results.data.get("labels", POLARITY), dict[str, str]()
    asked = "whether the review is positive" if list(labels) == POLARITY else f"which of the {len(labels)} labels a text has"
    for case in results.study.expanded:
        told.setdefault(results.models[case.name], model_of(case.protocol).in_words(case.protocol))
    if len(told) == 1:
        return f"The model: {next(iter(told.values()))}. Its answer: {asked}."
    parts = "; ".join(f"{name}, {words}" for name, words in told.items())
    return f"The models, whose answer is {asked}: {parts}."
