"""A study disturbed on purpose: busy loops beside some of its takes, and what its verdict says then. By hand, on a machine at rest:

    python tests/performance/disturbed.py FOLDER

Runs one study three times: undisturbed; with each take disturbed or not as a coin falls; and with every take of PyTorch disturbed in
half of the blocks, which would make PyTorch look slow. Prints for each the verdict, and how many runs were disturbed, retaken, clean.
A study that is there already is not run again.
"""

import json
import multiprocessing
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from random import Random

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from checkout import Checkout

SEEDS = list(range(6))
STUDY = {
    "data": {"synthetic": True, "train": 1024, "validation": 128},
    "protocol": {"epochs": 1},
    "cases": ["keras-tensorflow", "torch"],
    "seeds": SEEDS,
    "retakes": 2,
    "parity": False,
}
DISTURBED = {
    "undisturbed": lambda case, seed, take: False,
    "any-take": lambda case, seed, take: Random(f"{case} {seed} {take}").random() < 0.5,
    "torch-in-half-the-blocks": lambda case, seed, take: case == "torch" and seed % 2 == 0,
}


def busy() -> None:
    while True:
        pass


def takes() -> set[tuple[str, int, int]]:
    """Case, seed and take of what is training now."""
    found = set()
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
        except psutil.Error:
            continue
        if "take" in words and "--take" in words:
            value = {name: words[words.index(name) + 1] for name in ("--case", "--seed", "--take")}
            found.add((Path(value["--case"]).stem, int(value["--seed"]), int(value["--take"])))
    return found


@contextmanager
def beside(chosen):
    """Keeps every CPU busy while a chosen take runs; yields the set of those that were disturbed."""
    over, disturbed, loops = threading.Event(), set(), []

    def watch() -> None:
        while not over.wait(0.1):
            now = {take for take in takes() if chosen(*take)}
            disturbed.update(now)
            if now and not loops:
                loops.extend(multiprocessing.Process(target=busy, daemon=True) for _ in range(psutil.cpu_count()))
                for loop in loops:
                    loop.start()
            elif not now and loops:
                for loop in loops:
                    loop.kill()
                loops.clear()

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield disturbed
    finally:
        over.set()
        watching.join()
        for loop in loops:
            loop.kill()


def disturb(folder: Path) -> None:
    for name, chosen in DISTURBED.items():
        place = folder / name
        if not place.exists():
            place.mkdir(parents=True)
            checkout = Checkout.made(place)
            checkout.study(**STUDY)
            began = time.monotonic()
            with beside(chosen) as disturbed:
                done = checkout.snakemake()
            if done.returncode:
                raise RuntimeError(done.stdout[-3000:])
            told = {"disturbed": sorted(disturbed), "minutes": (time.monotonic() - began) / 60}
            (place / "disturbed.json").write_text(json.dumps(told))
        tell(name, place)


def tell(name: str, place: Path) -> None:
    from levelfield.tell.report.verdict import verdict
    from levelfield.tell.results import Results
    from levelfield.tell.tables import make_tables

    results, told = Results.read(place / "results/small"), json.loads((place / "disturbed.json").read_text())
    runs = results.finished
    print(
        f"{name}: {len(told['disturbed'])} takes disturbed, {int((runs['take'] > 1).sum())} of {len(runs)} runs taken again, "
        f"{int(runs['unclean'].isna().sum())} clean, {told['minutes']:.1f} min"
    )
    print(" ", " ".join(verdict(results, make_tables(results))))


if __name__ == "__main__":
    disturb(Path(sys.argv[1]).absolute())
