"""Sessions that a study asks for: which seeds belong to which, which may run now, and what the next one waits for."""

import json
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from levelfield.host import boot, host_id
from levelfield.measure.device import SCHEDULER_JOBS
from levelfield.plan.outcome import failed_by_its_log
from levelfield.study.config import Study

BREAK = timedelta(hours=1)
"""Without a run on a host, after which a new session begins."""


def begun(folder: Path, study: Study, now: datetime | None = None) -> tuple[list[int], str | None]:
    """The seeds of the sessions that have begun or may begin now, and in one sentence what the next one waits for, if so.

    A session begins once every run of those before it has finished or failed, and the last of them was on another host, in another
    boot, or ended an hour ago; where a scheduler chose the hosts, the hour alone tells. folder: of the study.
    """
    now = now or datetime.now(UTC)
    seeds: list[int] = []
    for number, mine in enumerate(study.sessions_of_seeds, 1):
        if number > 1 and not _has_begun(folder, study, mine):
            what = f"session {number} of {study.sessions} ({_named(mine)}) waits"
            asked = [(case, seed) for case, seed in study.runs if seed in seeds and case not in study.accepted]
            missing = [run for run in asked if not _ended(folder, *run)]
            if missing:
                return (
                    seeds,
                    f"{what} until {len(missing)} runs of {_named(seeds)} have ended; then type the same command again (`accepted` in the config names cases that need not)",
                )
            last, scheduled = _last(folder, study, seeds)
            if last and last <= now < last + BREAK:
                ways = "" if scheduled else ", after a restart of this host, or on another one"
                after = (last + BREAK).strftime("%Y-%m-%d %H:%M UTC")
                return seeds, f"{what} for another session: type the same command after {after}{ways}"
        seeds = seeds + mine
    return seeds, None


def recorded(folder: Path, study: Study) -> list[int]:
    """The seeds of the first session and of all others that have begun: what a job finds that tells results."""
    first, *others = study.sessions_of_seeds
    return first + [seed for mine in others if _has_begun(folder, study, mine) for seed in mine]


def missing_blocks(folder: Path, study: Study) -> list[list[str]]:
    """For each session the names of the blocks of which a run is not there."""
    missing = {
        block.name: block.seed
        for block in study.blocks
        if not all(_record(folder, case, block.seed).exists() for case in block.cases if case not in study.accepted)
    }
    return [[name for name, seed in missing.items() if seed in mine] for mine in study.sessions_of_seeds]


def told(folder: Path, study: Study) -> list[str]:
    """A sentence for each session whose blocks are missing, and what the next one waits for."""
    found = [
        f"session {number} of {study.sessions} misses {len(missing)} blocks: {'; '.join(missing)}"
        for number, missing in enumerate(missing_blocks(folder, study), 1)
        if missing
    ]
    return found + [waits for waits in [begun(folder, study)[1]] if waits]


def _named(seeds: list[int]) -> str:
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"


def _record(folder: Path, case: str, seed: int) -> Path:
    return folder / "runs" / case / f"seed-{seed}" / "run.json"


def _ended(folder: Path, case: str, seed: int) -> bool:
    """Whether a run has finished or failed, were it before it began: its job, or the proof of its case."""
    record, logs = _record(folder, case, seed), folder / "logs"
    if record.exists() or record.with_name("failure.json").exists():
        return True
    unproven = not (folder / "parity" / f"{case}.json").exists() and failed_by_its_log(logs / "parity" / f"{case}.log")
    return unproven or failed_by_its_log(logs / "train" / case / f"seed-{seed}.log")


def _has_begun(folder: Path, study: Study, seeds: list[int]) -> bool:
    return any(_ended(folder, case, seed) for case, seed in study.runs if seed in seeds)


def _last(folder: Path, study: Study, seeds: list[int]) -> tuple[datetime | None, bool]:
    """When the last finished run of these seeds was over that a run here and now would share its session with; whether a scheduler
    ran any."""
    here, ends, scheduled = (host_id(), boot()), [], False
    for case, seed in study.runs:
        if seed in seeds:
            # it failed, or is damaged, and does not count: the tables say so
            with suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
                run = json.loads(_record(folder, case, seed).read_text(encoding="utf-8"))
                machine, ended = run["machine"], datetime.fromisoformat(run.get("ended") or run["started"])
                if ended.tzinfo is None:
                    raise ValueError("no time with its zone")
                by_scheduler = any(name in machine["scheduler"] for name in SCHEDULER_JOBS)
                if by_scheduler or (machine["host_id"], machine["boot"]) == here:
                    ends.append(ended)
                scheduled |= by_scheduler
    return max(ends, default=None), scheduled
