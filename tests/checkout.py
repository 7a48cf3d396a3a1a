"""A checkout of its own for the workflow's tests, with a study small enough to be trained in seconds."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
SMALL = {
    "study": "small",
    "data": {"synthetic": True, "train": 40, "validation": 24},
    "protocol": {"model": {"name": "bilstm", "embedding": 4, "units": 3}, "vocabulary": 50, "length": 12, "batch_size": 16},
    "cases": ["jax", "torch"],
    "seeds": [0],
    "device": "cpu",
    "retakes": 0,
}


class Checkout:
    """A copy of the workflow in a folder, where `snakemake` is run as a person runs it."""

    def __init__(self, folder: Path, python: Path = Path(sys.executable)):
        self.folder, self.python = folder, python

    @classmethod
    def made(cls, folder: Path, python: Path = Path(sys.executable)) -> "Checkout":
        """Copies the workflow into `folder`. python: what runs it."""
        for name in ("Snakefile", "workflow", "config", "containers"):
            source = ROOT / name
            ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
            shutil.copytree(source, folder / name, ignore=ignored) if source.is_dir() else shutil.copy(source, folder / name)
        return cls(folder, python)

    def study(self, **changes) -> dict:
        """Writes config/small.yaml with these changes; returns what it holds."""
        config = SMALL | changes
        (self.folder / "config/small.yaml").write_text(yaml.safe_dump(config))
        return config

    def snakemake(self, *arguments: str, config: str | None = "config/small.yaml", **environment: str):
        """Runs `snakemake --cores 2 …`; returns the finished process, its output in `stdout`."""
        chosen = ["--configfile", config] if config else []
        return subprocess.run(
            [self.python, "-m", "snakemake", "--cores", "2", *arguments, *chosen],
            cwd=self.folder,
            env=self.environment() | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="backslashreplace",
            timeout=500,
        )

    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if name not in ("LEVELFIELD_IMDB", "PYTHONPATH")}
        return kept | {"PATH": f"{self.python.parent}:{os.environ['PATH']}"}

    def planned(self, *arguments: str, **options) -> dict[str, int]:
        """How many jobs of each rule a dry run plans."""
        done = self.snakemake("-n", *arguments, **options)
        assert done.returncode == 0, done.stdout[-3000:]
        if "Job stats:" not in done.stdout:
            return {}
        table = done.stdout.rpartition("Job stats:")[2].splitlines()[3:]
        rows = [line.split() for line in table[: next(i for i, line in enumerate(table) if not line.strip())]]
        return {rule: int(count) for rule, count in rows if rule not in ("total", "all")}
