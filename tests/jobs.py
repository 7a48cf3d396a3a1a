"""The commands that the rules call, on a study of seconds: its data and start, and runs of any backend, each in a process."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

PROTOCOL = {"vocabulary": 50, "length": 12, "batch_size": 16, "epochs": 2}
LSTM = {"name": "bilstm", "embedding": 4, "units": 3}


def levelfield(
    *arguments, code: str = "", before: tuple[str, ...] = (), environment: dict | None = None, **how
) -> subprocess.CompletedProcess:
    """Runs a command; all that it says stands in `stdout`, bytes that are no text as `\\xff`. code: run before it, in its process.

    before: a program, with arguments, that runs Python.
    """
    run = ["-c", f"import sys; from levelfield.commands import cli\n{code}\nsys.exit(cli.main(sys.argv[1:]))"]
    return subprocess.run(
        [*before, sys.executable, *(run if code else ["-m", "levelfield"]), *map(str, arguments)],
        env=os.environ | (environment or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="backslashreplace",
        timeout=300,
        **how,
    )


@dataclass(frozen=True)
class Tiny:
    """Data and start of a tiny study in `folder`."""

    folder: Path
    protocol: dict
    environment: dict = field(default_factory=dict)

    @classmethod
    def made(cls, folder: Path, model: dict = LSTM, paths: tuple[Path, ...] = (), **changes) -> "Tiny":
        """paths: where modules and entry points beside Levelfield's are found. changes: of the protocol."""
        known = os.pathsep.join([*map(str, paths), os.environ.get("PYTHONPATH", "")])
        tiny = cls(folder, PROTOCOL | {"model": model} | changes, {"PYTHONPATH": known, "LEVELFIELD_LOCKS": str(folder)})
        for done in (tiny.data(folder / "data"), tiny.start(folder / "start.npz")):
            assert done.returncode == 0, done.stdout
        return tiny

    def data(self, out: Path, train: int = 72, **how) -> subprocess.CompletedProcess:
        settings = json.dumps({"synthetic": True, "train": train, "validation": 24})
        sizes = ("--vocabulary", self.protocol["vocabulary"], "--length", self.protocol["length"])
        return self.run("data", "--settings", settings, *sizes, "--downloads", self.folder / "downloads", "--out", out, **how)

    def start(self, out: Path, seed: int = 0, **how) -> subprocess.CompletedProcess:
        given = ("--protocol", json.dumps(self.protocol), "--seed", seed, "--data", self.folder / "data")
        return self.run("start", *given, "--out", out, **how)

    def case(self, backend: str, file: Path) -> Path:
        """Writes the case of a backend; returns the file."""
        told = {"name": backend, "backend": backend, "departures": [], "protocol": self.protocol, "device": "cpu"}
        file.write_text(json.dumps(told))
        return file

    def train(self, backend: str, out: Path, *options, threads: int = 1, **how) -> subprocess.CompletedProcess:
        """The job of rule `train`, without parity; the case is written beside `out`."""
        case = self.case(backend, out.with_name(f"{out.name}.case.json"))
        given = ("--study", "tiny", "--case", case, "--seed", 0, "--data", self.folder / "data")
        given += ("--start", self.folder / "start.npz", "--threads", threads, "--out", out)
        return self.run("train", *given, *options, **how)

    def run(self, *arguments, environment: dict | None = None, **how) -> subprocess.CompletedProcess:
        return levelfield(*arguments, environment=self.environment | (environment or {}), **how)
