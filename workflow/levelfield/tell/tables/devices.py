"""The table of several devices: what each number of them trains a second, against one, and as a share of the ideal."""

from dataclasses import replace

import pandas as pd

from levelfield.study.protocol import Case, Protocol
from levelfield.tell.estimates import NOTHING, Estimate, ratio
from levelfield.tell.results import Results
from levelfield.tell.tables.groups import Pairs, finished
from levelfield.tell.tables.table import Row, Table, number, spread


def several_devices(results: Results) -> Table | None:
    """A row each case and machine, those of one program together; None where all cases train on as many devices."""
    cases = [case for case in results.study.expanded if case.name not in results.twins]
    if len({case.protocol.devices for case in cases}) < 2:
        return None
    runs = finished(results)
    alone = {_program(case): case.name for case in cases if case.protocol.devices == 1}
    places = list(dict.fromkeys(map(_program, cases)))
    several = [case.name for case in cases if case.protocol.devices > 1 and _program(case) in alone]
    family = len(runs[runs["case"].isin(several)].groupby(["case", "machine"]))
    rows = []
    for case in sorted(cases, key=lambda case: (places.index(_program(case)), case.protocol.devices)):
        for machine, mine in runs[runs["case"] == case.name].groupby("machine", sort=False):
            one = runs[(runs["case"] == alone.get(_program(case))) & (runs["machine"] == machine)]
            rows.append(_row(case, machine, mine, one, max(1, family)))
    data = pd.DataFrame(rows, columns=COLUMNS)
    shown = {"case": data["case"]}
    if data["machine"].nunique() > 1:
        shown["machine"] = data["machine"]
    shown |= {
        "devices": data["devices"],
        "sequences/s": [
            spread(*cell, 1) for cell in zip(data["sequences_per_second"], data["sequences_per_second_sd"], strict=True)
        ],
        "times one device's": [_told(row) for row in data.itertuples()],
        "share of the ideal": [number(share, 2) for share in data["share_of_ideal"]],
        "clean pairs": data["pairs"],
        "seeds": data["seeds"],
    }
    notes = [
        "The same batch, shared between the devices; the ideal is as many times one device's throughput as there are devices. Times one "
        "device's: geometric mean of the ratios by seed over clean pairs of a session, which are of two blocks each; in brackets intervals "
        "that hold together in 95 of 100 studies. "
        "On a CPU the devices are parts of one processor, which one device may use whole: what is told there is what sharing costs."
    ]
    return Table("devices", f"Several devices: {results.context}", data, pd.DataFrame(shown), notes)


COLUMNS = [
    "case", "machine", "devices", "sequences_per_second", "sequences_per_second_sd", "times_one_device", "times_low", "times_high",
    "share_of_ideal", "pairs", "seeds",
]  # fmt: skip


def _program(case: Case) -> tuple[str, tuple[str, ...], Protocol]:
    """What a case is but for the number of its devices."""
    return case.backend, case.departures, replace(case.protocol, devices=1)


def _row(case: Case, machine: str, mine: pd.DataFrame, one: pd.DataFrame, family: int) -> tuple[str | float | None, ...]:
    rates = mine["sequences_per_second"]
    found = Estimate(1.0, None, None, None, len(mine)) if case.protocol.devices == 1 else _times(mine, one, family)
    share = None if found.value is None else found.value / case.protocol.devices
    return (
        case.name, machine, case.protocol.devices, rates.mean(), rates.std(), found.value, found.low, found.high, share, found.pairs,
        mine["seed"].nunique(),
    )  # fmt: skip


def _times(mine: pd.DataFrame, one: pd.DataFrame, family: int) -> Estimate:
    """Throughput over one device's, by seed, over pairs of clean runs; each number of devices has blocks of its own."""
    mine, one = (side.set_index("seed") for side in (mine, one))
    seeds = mine.index.intersection(one.index)
    found = Pairs(mine.loc[seeds], one.loc[seeds], "")
    first, second = (side.loc[found.clean_in_session, "sequences_per_second"] for side in (found.first, found.second))
    return ratio(first, second, family) if len(first) else NOTHING


def _told(row: Row) -> str:
    if row.devices == 1 or pd.isna(row.times_one_device):
        return "1" if row.devices == 1 else ""
    interval = "" if pd.isna(row.times_low) else f" [{row.times_low:.2f}, {row.times_high:.2f}]"
    return f"{row.times_one_device:.2f}{interval}"
