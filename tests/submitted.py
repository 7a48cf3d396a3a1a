"""Checkouts whose studies are submitted to a cluster with the shipped profile."""

import signal
import subprocess
import sys
from pathlib import Path

import yaml
from checkout import ROOT, Checkout
from slurm import Slurm

STUDY = {"device": "cpu", "parity": False}
"""Changes to the small study, for most of the tests."""


class Submitted(Checkout):
    """A checkout on the login node of a cluster."""

    def __init__(self, folder: Path, slurm: Slurm):
        super().__init__(folder)
        self.slurm = slurm
        self.results = folder / "results/small"

    def site(self, train: dict | None = None, **changes) -> None:
        """Fills in the shipped profile as a site would: this one has no containers, no database, and is in a hurry.

        train: resources of the jobs with a GPU. changes: other keys of the profile.
        """
        profile = yaml.safe_load((ROOT / "workflow/profiles/slurm/config.yaml").read_text())
        for name in ("software-deployment-method", "apptainer-args"):
            del profile[name]
        resources = profile["set-resources"]["train"] | {"mem_mb": "1500 * attempt", "runtime": "5 * attempt"} | (train or {})
        profile["set-resources"] = dict.fromkeys(profile["set-resources"], resources)
        profile["set-threads"] = dict.fromkeys(profile["set-threads"], 1)
        profile |= {"slurm-status-command": "squeue", "slurm-init-seconds-before-status-checks": 2, "latency-wait": 20}
        profile |= {"default-resources": {"slurm_partition": "gpu"}} | changes
        (self.folder / "workflow/profiles/slurm/config.yaml").write_text(yaml.safe_dump(profile))

    @property
    def command(self) -> list[str]:
        profile = ["--profile", "workflow/profiles/slurm", "--configfile", "config/small.yaml"]
        return [sys.executable, "-m", "snakemake", *profile]

    def environment(self) -> dict[str, str]:
        return super().environment() | {name: self.slurm.environment[name] for name in ("SLURM_CONF", "PATH")}

    def submit(self, *arguments: str, seconds: int = 1200) -> subprocess.CompletedProcess:
        """Submits the study and waits for its end."""
        process = self.begin(*arguments)
        try:
            process.wait(seconds)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
        return subprocess.CompletedProcess(process.args, process.returncode, self.said())

    def begin(self, *arguments: str) -> subprocess.Popen:
        """Submits the study; what Snakemake says goes to a file."""
        with open(self.folder / "said.txt", "w") as said:
            return subprocess.Popen(
                [*self.command, *arguments],
                cwd=self.folder,
                env=self.environment(),
                stdout=said,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def said(self) -> str:
        return (self.folder / "said.txt").read_text()

    def trainings(self, *states: str) -> list[dict[str, str]]:
        """The training jobs of the queue whose training has begun, so that the queue tells their case and seed."""
        return [job for job in self.slurm.queue(*states) if job["comment"].startswith("train:")]

    def processes(self, case: str) -> list[int]:
        """The processes of this checkout that train the case, whichever pretended node they run on."""
        found = subprocess.run(["pgrep", "-f", f"levelfield train .*cases/{case}.json"], capture_output=True, text=True)
        return [pid for pid in map(int, found.stdout.split()) if Path(f"/proc/{pid}/cwd").resolve() == self.folder.resolve()]


def made(folder: Path, slurm: Slurm, **changes) -> Submitted:
    folder.mkdir()
    Checkout.made(folder)
    checkout = Submitted(folder, slurm)
    checkout.site()
    checkout.study(**STUDY | changes)
    return checkout
