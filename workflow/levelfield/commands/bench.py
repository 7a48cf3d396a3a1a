"""Measure the bars that this project set itself: a table, kept as JSON in results/bench/."""

import json
import os
import re
import socket
import subprocess
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from levelfield import registry
from levelfield.commit import commit
from levelfield.errors import UserError
from levelfield.host import cpu_model, cpus_available
from levelfield.measure.noise import Restlessness
from levelfield.records import write_json

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / "tests/performance"


@dataclass(frozen=True)
class Bar:
    """A figure of one benchmark and the most that it may be."""

    what: str
    bench: str
    """The module of `tests/performance/` and its argument, a space between."""
    figure: str
    most: float
    unit: str = ""


RECORDED = [
    Bar(f"step with all recording / without, {name}, {model}", f"bench_recording {name} {model}", "ratio", 1.01)
    for name, row in registry.backends().items()
    for model in registry.models()
    if registry.supports(name, model) and not row.like
]
"""Each framework's own row with each model."""
ADAM = [
    Bar(f"epoch with our Adam / Keras's own, {name}, {model}", f"bench_adam {name} {model}", "ratio", 1.01)
    for name, row in registry.backends().items()
    for model in registry.models()
    if row.framework == "keras" and not row.like and "sparse-embedding-adam" not in row.departures
]
"""Where Keras's own is the protocol's, but for rounding: on TensorFlow it is another for embeddings (`sparse-embedding-adam`)."""
BARS = [
    Bar("torch epoch / plain tutorial loop", "bench_torch", "ratio", 0.97),
    *RECORDED,
    *ADAM,
    Bar("the same, torch-compile", "bench_recording torch-compile", "ratio", 1.01),
    Bar("makespan of the article / sum of its epochs", "bench_study", "makespan_ratio", 1.15),
    Bar("start-up of a run", "bench_study", "start_up_seconds", 1.5, "s"),
    Bar("reading and encoding 50,000 reviews / Keras's calls", "bench_encoding", "ratio", 0.33),
    Bar("text from CSV to arrays / reading it and splitting it into words", "bench_text", "ours_over_plain", 2.0),
    Bar("planning 10,000 runs", "bench_planning", "seconds", 60, "s"),
    Bar("planning 10,000 runs / 1,000 runs", "bench_planning", "factor", 12),
    Bar("collecting and tabulating 10,000 runs", "bench_tables", "seconds", 60, "s"),
    Bar("the same, peak memory", "bench_tables", "peak_bytes", 2 << 30, "B"),
]


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("benches", nargs="*", metavar="bench", help="such as bench_torch; all where none is named")
    parser.add_argument("--out", type=Path, default=Path("results/bench"), metavar="DIR", help="where the JSON goes")
    parser.add_argument(
        "--missing", action="store_true", help="only what the JSON lacks, after a bench that was broken off; of this commit"
    )


def run(args: Namespace) -> int:
    """Each bench is written down as soon as it is measured: one that is broken off costs itself alone, and what the file has of this
    commit and was not asked for stays."""
    if not FOLDER.is_dir():
        raise UserError(f"{FOLDER} is not there: the benches run from a checkout, with `make bench`")
    known = {bar.bench.split()[0] for bar in BARS}
    if unknown := set(args.benches) - known:
        raise UserError(f"unknown bench {min(unknown)!r}; there are {', '.join(sorted(known))}")
    asked = dict.fromkeys(bar.bench for bar in BARS if not args.benches or bar.bench.split()[0] in args.benches)
    path = args.out / f"{re.sub('[^A-Za-z0-9]+', '-', f'{cpu_model()} {cpus_available()} cpus').strip('-').lower()}.json"
    where = {"host": socket.gethostname(), "cpu": cpu_model(), "cpus": cpus_available(), "commit": commit()}
    found = earlier(path, where)
    for bench in asked:
        if args.missing and bench in found:
            continue
        print(f"{bench} …", file=sys.stderr, flush=True)
        with Restlessness() as rest:
            details = measured(bench)
        noise = {"noise_warning": rest.measurements()["noise_warning"]}
        found[bench] = details | noise | {"measured": datetime.now(UTC).isoformat(timespec="seconds")}
        write_json(path, where | {"bars": rows_of(found, found)})
    rows = rows_of(found, asked)
    show(rows)
    print(path)
    return 1 if {verdict(row) for row in rows} - {MET, SKIPPED} else 0


MET, MISSED, OPEN, SKIPPED, FAILED = "met", "missed", "not decided", "skipped", "failed"


def verdict(row: dict[str, Any]) -> str:
    """Whether the bar is met: shown by the whole 95 % interval where the benchmark gives one, else by the figure."""
    details, most = row["details"], row["most"]
    if off := details.keys() & {SKIPPED, FAILED}:
        return str(min(off))
    low, high = details.get("interval") or (row["found"], row["found"])
    return MET if high <= most else MISSED if low > most else OPEN


def rows_of(found: dict[str, dict[str, Any]], asked: Iterable[str]) -> list[dict[str, Any]]:
    """A row for each bar whose bench was asked for and measured."""
    bars = [bar for bar in BARS if bar.bench in asked and bar.bench in found]
    return [asdict(bar) | {"found": found[bar.bench].get(bar.figure), "details": found[bar.bench]} for bar in bars]


def earlier(path: Path, where: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What the file holds of benches that were measured at the same commit on the same machine; nothing where it is of another, or
    where the checkout was changed since its commit."""
    if not path.exists() or not where["commit"] or where["commit"].endswith("+changes"):
        return {}
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        if any(told[name] != value for name, value in where.items()):
            return {}
        return {row["bench"]: row["details"] for row in told["bars"] if row["details"].keys().isdisjoint(("failed", "skipped"))}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: is damaged ({type(error).__name__}: {error}): remove it") from None


def measured(bench: str) -> dict[str, Any]:
    """What the benchmark found, in a process of its own; `skipped` or `failed` with the reason where it found nothing."""
    module, *argument = bench.split()
    if module == "bench_encoding" and "LEVELFIELD_IMDB" not in os.environ:
        return {"skipped": "LEVELFIELD_IMDB names no imdb.npz"}
    code = f"import json, {module} as bench; print(json.dumps(bench.measure(*{argument!r})))"
    threads = {f"{library}_NUM_THREADS": str(cpus_available()) for library in ("OMP", "MKL", "OPENBLAS")}
    paths = {"PYTHONPATH": os.pathsep.join([str(FOLDER), str(FOLDER.parent), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | threads | paths, encoding="utf-8"
    )
    if done.returncode:
        print(done.stderr[-3000:], file=sys.stderr)
        return {"failed": (done.stderr.strip().splitlines() or ["no word"])[-1]}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def show(rows: list[dict[str, Any]]) -> None:
    table = Table("what", "found", "95 %", "bar", "")
    for row in rows:
        details, found = row["details"], row["found"]
        judged = verdict(row)
        said = details.get(judged) or (judged if judged == MET else f"[bold]{judged}[/bold]")
        if noise := details.get("noise_warning"):
            said += f" ({noise})"
        interval = "–".join(f"{end:.3f}" for end in details.get("interval", ()))
        table.add_row(row["what"], told(found, row["unit"]), interval, f"≤ {told(row['most'], row['unit'])}", said)
    Console(width=140).print(table)


def told(figure: float | None, unit: str) -> str:
    if figure is None:
        return "—"
    return f"{figure / 2**30:.2f} GiB" if unit == "B" else f"{figure:.3g} {unit}".strip()
