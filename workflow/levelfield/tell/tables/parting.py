"""The table of parting: at which step the losses of two programs that are the same come apart."""

from contextlib import suppress
from itertools import combinations
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pandas as pd

from levelfield.study.protocol import Protocol
from levelfield.tell.kept import BrokenRecord, Records, arrays_of
from levelfield.tell.results import Results
from levelfield.tell.tables.table import Row, Table

DISTANCES = (1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
"""A loss is about 0.7 at first, where float32's numbers are 6e-8 apart: 1e-7 is two of them."""
MOST = 8
"""Cases of one protocol of which every two are told."""


def parting(results: Results) -> Table | None:
    """A row each two matched cases of one protocol and each distance: the first step at which their losses are further apart; None
    without two such cases."""
    equals = _equals(results)
    losses = _losses(results, {case for pair in equals for case in pair})
    rows = [row for first, second in equals for row in _rows(results, losses, first, second)]
    if not rows:
        return None
    data = pd.DataFrame(rows).astype({name: "float64" for name in ("first_step", "first_step_low", "first_step_high")})
    shown = []
    for (model, case, against), mine in data.groupby(["model", "case", "against"], sort=False):
        row = {"model": model} if results.several_models else {}
        row |= {"case": results.lines[case], "against": results.lines[against]}
        row |= {f"{one.distance:.0e}".replace("e-0", "e-"): _shown(one) for one in mine.itertuples()}
        shown.append(row | {"steps": f"{mine['steps'].iloc[0]:,}", "seeds": str(mine["seeds"].iloc[0])})
    notes = [
        "From the same start and batches: the first training step whose losses, each of the batch itself and before its update, are "
        "further apart than the heading says. Middle one of the seeds, in brackets the earliest and the latest; where some seeds never came "
        "that far apart in their steps, how many did. Step 1 has the start's own weights: what is apart there is one forward pass in "
        "float32, in which every order of summation rounds differently. From then on each step makes the distance larger."
    ]
    return Table("parting", f"Where equal programs part: {results.context}", data, pd.DataFrame(shown), notes)


def _losses(results: Results, cases: set[str]) -> dict[tuple[str, int], np.ndarray]:
    """(case, seed) to the losses of all steps, of the finished runs; of none whose steps are not there any more, or damaged since."""
    records, found = Records(results.folder), {}
    for run in results.finished[results.finished["case"].isin(cases)].itertuples():
        with suppress(BrokenRecord, ValueError, KeyError, BadZipFile):
            content = records.read(f"runs/{run.case}/seed-{run.seed}/steps.npz")
            found[run.case, run.seed] = arrays_of(content)["loss"].astype(float)
    return found


def _equals(results: Results) -> list[tuple[str, str]]:
    """Every two matched cases of one protocol, a case and its twin apart; of more than `MOST` each against the first."""
    groups: dict[Protocol, list[str]] = {}
    for case in results.study.expanded:
        if case.matched and case.name not in results.twins:
            groups.setdefault(case.protocol, []).append(case.name)
    return [
        pair
        for names in groups.values()
        for pair in (combinations(names, 2) if len(names) <= MOST else ((names[0], other) for other in names[1:]))
    ]


def _rows(results: Results, losses: dict[tuple[str, int], np.ndarray], first: str, second: str) -> list[dict[str, Any]]:
    seeds = [seed for seed in results.study.seeds if (first, seed) in losses and (second, seed) in losses]
    if not seeds:
        return []
    pairs = [(losses[first, seed], losses[second, seed]) for seed in seeds]
    steps = min(len(loss) for pair in pairs for loss in pair)
    # a loss that is not finite is no distance, and further apart than any
    apart = [~(np.abs(one[:steps] - other[:steps]) <= np.array(DISTANCES)[:, None]) for one, other in pairs]
    found = []
    for place, distance in enumerate(DISTANCES):
        reached = sorted(int(np.argmax(one[place])) + 1 for one in apart if one[place].any())
        never = len(seeds) - len(reached)
        middle = [*map(float, reached), *[np.inf] * never][(len(seeds) - 1) // 2]
        found.append(
            {
                "model": results.models[first], "case": first, "against": second, "distance": distance, "steps": steps,
                "seeds": len(seeds), "seeds_apart": len(reached),
                "first_step": middle if np.isfinite(middle) else None,
                "first_step_low": reached[0] if reached else None,
                "first_step_high": None if never or not reached else reached[-1],
            }
        )  # fmt: skip
    return found


def _shown(one: Row) -> str:
    """`12 (9–14)`; `from 40, 2 of 4 seeds`; a dash where no seed came so far apart."""
    if not one.seeds_apart:
        return "–"
    low = f"{one.first_step_low:.0f}"
    if one.seeds_apart < one.seeds:
        return f"from {low}, {one.seeds_apart} of {one.seeds} seeds"
    if one.first_step_low == one.first_step_high:
        return low
    return f"{one.first_step:.0f} ({low}–{one.first_step_high:.0f})"
