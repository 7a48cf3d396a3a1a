"""Where and when runs were made: their hosts by name, sessions, blocks, and the place that each run really had in its block."""

import pandas as pd

from levelfield.study.config import Study

BREAK = pd.Timedelta(hours=1)
"""A host that measured nothing for so long begins a new session."""
COLUMNS = ("host_name", "session", "block", "position")


def placed(runs: pd.DataFrame, study: Study) -> pd.DataFrame:
    """`host_name`, `session`, `block` (text) and `position` (from 1, by time) of each run, with the index of `runs`.

    runs: columns case, seed, host, host_id, boot, started, ended, process_seconds; those of runs that did not finish, and of
    records made before they told it, may be empty: a run without `started` has a block alone.
    """
    blocks = {(case, block.seed): block.name for block in study.blocks for case in block.cases}
    keys = zip(runs["case"], runs["seed"], strict=True)
    found = pd.DataFrame({"block": [blocks.get((case, int(seed))) for case, seed in keys]}, index=runs.index)
    found["host_name"] = host_names(runs)
    began, over = times(runs)
    found["session"] = None
    for (name, _boot), mine in found[began.notna()].groupby(["host_name", runs["boot"].fillna("")], sort=False):
        ordered = began[mine.index].sort_values(kind="stable").index
        latest = over[ordered].cummax().shift()
        stretch = (began[ordered] - latest > BREAK).cumsum()
        first = began[ordered].groupby(stretch).transform("min")
        found.loc[ordered, "session"] = [f"{name} {start:%Y-%m-%d %H:%M}" for start in first]
    rank = began.groupby([found["block"], found["host_name"]]).rank(method="first")
    found["position"] = rank.astype("Int64")
    return found[list(COLUMNS)]


def times(runs: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """When each run began and was over, UTC; where no end was recorded, by its process's seconds."""
    began, over = (pd.to_datetime(runs[name], utc=True, format="ISO8601").dt.as_unit("ms") for name in ("started", "ended"))
    lasted = pd.to_timedelta(pd.to_numeric(runs["process_seconds"]), unit="s").dt.as_unit("ms")
    return began, over.fillna(began + lasted).fillna(began)


def host_names(runs: pd.DataFrame) -> pd.Series:
    """Each run's host by its name, and by four digits of its number, too, where hosts of one name are several."""
    known = runs[["host", "host_id"]].drop_duplicates().groupby("host")["host_id"].nunique(dropna=False)
    several = runs["host"].map(known).fillna(1) > 1
    return runs["host"].where(~several, runs["host"] + " (" + runs["host_id"].fillna("untold").str[:4] + ")")
