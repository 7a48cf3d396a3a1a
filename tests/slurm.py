"""A Slurm of this machine alone: munge, a controller and several nodes on loopback, with pretended GPUs and no accounting database.

Needs root and Debian's slurm-wlm and munge; no systemd. A pretended GPU is a copy of /dev/null: Slurm hands out numbers, and
sets CUDA_VISIBLE_DEVICES, for devices that it can see.
"""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

NODES, GPUS, CPUS, MEMORY_MB, PORT = 2, 2, 4, 8000, 16800
CONFIG = """
ClusterName=lab
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
ReturnToService=1
SchedulerParameters=batch_sched_delay=0,bf_interval=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
GresTypes=gpu
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc={folder}/jobs.txt
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
# memory is watched, in place of cgroups
JobAcctGatherParams=OverMemoryKill
# ended jobs stay in squeue, which stands in for the database
MinJobAge=3600
KillWait=3
JobRequeue=0
MailProg=/bin/true
MaxArraySize=2000
MaxJobCount=20000
NodeName=n[1-{nodes}] NodeHostname=localhost NodeAddr=127.0.0.1 Port=[{first}-{last}] CPUs={cpus} RealMemory={memory} Gres=gpu:a100:{gpus} State=UNKNOWN
PartitionName=gpu Nodes=ALL Default=YES MaxTime=60 DefMemPerCPU=200 State=UP
"""


def missing() -> str | None:
    """Why no Slurm can be started here, with what to type; None if it can."""
    if os.getuid() != 0:
        return "needs root"
    programs = [name for name in ("munged", "slurmctld", "slurmd", "sbatch") if not shutil.which(name)]
    return f"{', '.join(programs)} not installed: .ci/install, or apt-get install slurm-wlm munge" if programs else None


class Slurm:
    """A running cluster. Its daemons' files and logs lie in `folder`, whose path must be short: it holds a socket."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.jobs_file = folder / "jobs.txt"
        # the step plugin takes SLURM_CONF from its inner `srun`: this one, found first, gives it back
        binaries = folder / "bin"
        binaries.mkdir()
        srun = binaries / "srun"
        srun.write_text(f'#!/bin/sh\nSLURM_CONF={folder}/slurm.conf exec {shutil.which("srun")} "$@"\n')
        srun.chmod(0o755)
        self.environment = os.environ | {"SLURM_CONF": f"{folder}/slurm.conf", "PATH": f"{binaries}:{os.environ['PATH']}"}

    def start(self) -> None:
        folder, nodes = self.folder, range(1, NODES + 1)
        for name in ("state", *(f"n{node}" for node in nodes)):
            (folder / name).mkdir()
        for gpu in range(GPUS):
            os.mknod(folder / f"nvidia{gpu}", 0o20666, os.stat("/dev/null").st_rdev)
        sizes = {"nodes": NODES, "gpus": GPUS, "cpus": CPUS, "memory": MEMORY_MB}
        ports = {"port": PORT, "first": PORT + 1, "last": PORT + NODES}
        (folder / "slurm.conf").write_text(CONFIG.format(folder=folder, **sizes, **ports))
        (folder / "gres.conf").write_text(f"NodeName=n[1-{NODES}] Name=gpu Type=a100 File={folder}/nvidia[0-{GPUS - 1}]\n")
        key = folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        files = {
            "key-file": key,
            "socket": "munge.sock",
            "pid-file": "munged.pid",
            "log-file": "munged.log",
            "seed-file": "munged.seed",
        }
        self.call("munged", "--force", *(f"--{option}={folder / name}" for option, name in files.items()))
        self.call("slurmctld", "-c")
        for node in nodes:
            self.call("slurmd", "-N", f"n{node}")
        self.wait_until(
            lambda: self.call("sinfo", "-hN", "-t", "idle", "-o", "%N").count("n") == NODES, "all nodes are idle", 30
        )

    def call(self, *command: str) -> str:
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, f"{' '.join(map(str, command))}: {done.stderr}"
        return done.stdout

    def queue(self, *states: str) -> list[dict[str, str]]:
        """Jobs in these states, all that wait or run if none is named: number, state, node, comment."""
        columns = {"number": "%i", "state": "%T", "node": "%N", "comment": "%k"}
        shown = self.call(
            "squeue", "-hr", "-o", "|".join(columns.values()), *([f"--states={','.join(states)}"] if states else [])
        )
        return [dict(zip(columns, line.split("|"), strict=True)) for line in shown.splitlines()]

    def ended(self) -> list[dict[str, str]]:
        """What Slurm kept of each job that ended: JobId, JobState, StartTime, EndTime, NodeList, …"""
        lines = self.jobs_file.read_text().splitlines() if self.jobs_file.exists() else []
        return [dict(part.split("=", 1) for part in line.split() if "=" in part) for line in lines]

    def wait_until(self, true, what: str, seconds: float):
        """Waits until `true()` is, and returns what it gave; fails with the daemons' last words."""
        deadline = time.monotonic() + seconds
        while not (found := true()):
            logs = "".join(f"\n{log.name}: {log.read_text()[-800:]}" for log in self.folder.glob("slurm*.log"))
            assert time.monotonic() < deadline, f"not in {seconds} s: {what}{logs}"
            time.sleep(0.2)
        return found

    def clear(self) -> None:
        """Cancels what is left, and takes all nodes back into service."""
        self.call("scancel", "--user=root")
        self.wait_until(lambda: not self.queue(), "the queue is empty", 60)
        for node in range(1, NODES + 1):
            if "DOWN" in self.call("scontrol", "show", "node", f"n{node}").upper():
                self.call("scontrol", "update", f"nodename=n{node}", "state=resume")

    def stop(self) -> None:
        for file in sorted(self.folder.glob("*.pid"), key=lambda file: "munged" in file.name):
            process = int(file.read_text())
            for sign in (signal.SIGTERM, signal.SIGKILL):
                _end(process, sign)


def _end(process: int, sign: signal.Signals) -> None:
    """Sends the signal and waits until the process is gone, 5 s at most."""
    try:
        os.kill(process, sign)
        for _ in range(50):
            os.kill(process, 0)
            time.sleep(0.1)
    except ProcessLookupError:
        pass
