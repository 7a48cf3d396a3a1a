"""What tests cannot wait for: many runs through a real Slurm of this machine, and a queue of thousands. Run by hand:

python tests/cluster/by_hand.py runs 1000          a study of 1,000 tiny runs, from the first `sbatch` to the page, a job each
python tests/cluster/by_hand.py runs 1000 --block 10    the same in blocks of ten cases, a job a block; with --single a job a run
python tests/cluster/by_hand.py queue 10000        10,000 jobs planned, then held in the queue: what the controller bears
"""

import argparse
import json
import resource
import sys
import tempfile
import time
from collections import Counter
from datetime import datetime
from pathlib import Path
from statistics import median

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from slurm import Slurm
from submitted import Submitted, made

CASE = "torch"
WATCHED_SECONDS = 20
IN_THE_QUEUE = (100, 1_000, 10_000)


def run_study(slurm: Slurm, folder: Path, runs: int, block: int = 1, single: bool = True) -> dict:
    """A study of so many runs, in blocks of so many cases, through the cluster: its time, and what Snakemake took of it.

    `job_seconds`: what Slurm counted of a job, median. `run_seconds`: of that, the training's process. The rest of a job is
    two Snakemakes (three of a block) and what Slurm needs to start it.
    """
    cases = [{"backend": CASE, "name": f"{CASE}-{number}"} for number in range(block)] if block > 1 else [CASE]
    checkout = made(folder / "checkout", slurm, cases=cases, seeds=list(range(runs // block)))
    checkout.site(config=[f"runs={'single' if single else 'blocks'}"])
    began, controller = time.monotonic(), daemon(slurm)
    snakemake = checkout.begin()
    while snakemake.poll() is None:
        time.sleep(WATCHED_SECONDS)
        print(f"{time.monotonic() - began:.0f} s: {len(slurm.queue())} in the queue, {finished(checkout)} finished", flush=True)
    makespan = time.monotonic() - began
    submitting = resource.getrusage(resource.RUSAGE_CHILDREN)
    records = [json.loads(file.read_text()) for file in checkout.results.glob("runs/*/*/run.json")]
    jobs = [seconds(job) for job in slurm.ended() if job["JobState"] == "COMPLETED"]
    trained = [record["times"]["process_seconds"] for record in records]
    return {
        "exit_code": snakemake.returncode,
        "jobs_by_state": Counter(job["JobState"] for job in slurm.ended()),
        "finished": len(records),
        "makespan_seconds": makespan,
        "job_seconds": median(jobs),
        "run_seconds": median(trained),
        "share_of_the_jobs_beside_their_runs": 1 - sum(trained) / sum(jobs),
        "submitting_cpu_seconds": submitting.ru_utime + submitting.ru_stime,
        "controller": used(controller),
        "squeue_lines": slurm.call("squeue", "-hr", "--states=COMPLETED", "-o", "%i %T %N %k").splitlines()[-3:],
        "said": checkout.said().splitlines()[-3:],
    }


def fill_queue(slurm: Slurm, folder: Path, runs: int) -> dict:
    """A study of so many runs, planned through the profile; then as many jobs like its own, held in the queue.

    At each size of the queue: seconds of one more `sbatch`, and of the plugin's one question for the state of all its jobs.
    """
    checkout = made(folder / "checkout", slurm, cases=[CASE], seeds=list(range(runs)))
    began = time.monotonic()
    planned = checkout.submit("-n", "--quiet", "all", seconds=600)
    found = {"plan_seconds": time.monotonic() - began, "plan_exit_code": planned.returncode, "queue": {}}
    controller = daemon(slurm)
    asked = ["--hold", "--parsable", "--partition=gpu", "--gres=gpu:1", "--mem=1500", "--time=5", "--job-name=levelfield_many"]
    in_queue = 0
    for size in (size for size in IN_THE_QUEUE if size <= runs):
        began = time.monotonic()
        for _ in range(size - in_queue):
            slurm.call("sbatch", *asked, "--output=/dev/null", "--wrap=true")
        submitted, began = time.monotonic() - began, time.monotonic()
        slurm.call("squeue", "--format=%i|%T", "--states=all", "--noheader", "--name=levelfield_many")
        asking = time.monotonic() - began
        found["queue"][size] = {"sbatch_seconds": submitted / (size - in_queue), "squeue_seconds": asking, **used(controller)}
        print(size, found["queue"][size], flush=True)
        in_queue = size
    return found


def daemon(slurm: Slurm) -> psutil.Process:
    return psutil.Process(int((slurm.folder / "slurmctld.pid").read_text()))


def used(process: psutil.Process) -> dict[str, float]:
    times = process.cpu_times()
    return {"cpu_seconds": times.user + times.system, "resident_bytes": process.memory_info().rss}


def finished(checkout: Submitted) -> int:
    return sum(1 for _ in checkout.results.glob("runs/*/*/run.json"))


def seconds(job: dict[str, str]) -> float:
    began, ended = (datetime.fromisoformat(job[name]) for name in ("StartTime", "EndTime"))
    return (ended - began).total_seconds()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("runs", "queue"))
    parser.add_argument("count", type=int)
    parser.add_argument("--block", type=int, default=1, metavar="CASES", help="cases of a block, which is then one job")
    parser.add_argument("--single", action="store_true", help="the same blocks, each run a job")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lf-", ignore_cleanup_errors=True) as folder:
        slurm = Slurm(Path(folder))
        try:
            slurm.start()
            if args.what == "queue":
                found = fill_queue(slurm, Path(folder), args.count)
            else:
                found = run_study(slurm, Path(folder), args.count, args.block, args.single or args.block == 1)
        finally:
            slurm.stop()
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
