"""Tell what this machine has, and what of this project it can run."""

import os
from argparse import ArgumentParser, Namespace

from rich.console import Console
from rich.table import Table

from levelfield import host
from levelfield.data.sources.imdb import PUBLISHED, VARIABLE
from levelfield.images import images
from levelfield.measure import gpu, inventory
from levelfield.measure.energy import source


def arguments(parser: ArgumentParser) -> None:
    pass


def gib(size: int | None) -> str:
    return "memory not told" if size is None else f"{size / 2**30:.0f} GiB"


def quota() -> str:
    """What a control group grants, where it is less than the affinity."""
    granted = host.cpu_quota()
    return "" if granted is None else f"; its control group grants {granted:g} CPUs' worth of time"


def containers() -> str:
    """The container runtime, and whether this user may start anything with it."""
    version = inventory.tool("apptainer", "--version") or inventory.tool("singularity", "--version")
    if version is None:
        return "no Apptainer: leave out `--sdm apptainer`"
    forbidden = images.namespaces_forbidden()
    return f"{version}; {forbidden}" if forbidden else version


def run(args: Namespace) -> None:
    console = Console(soft_wrap=True, highlight=False, markup=False)
    cards = gpu.gpus()
    facts = {
        "processor": f"{host.cpu_model()}, {host.cpus_available()} CPUs, {gib(host.memory_bytes())}{quota()}",
        "GPU": "; ".join(map(str, cards)) or gpu.silence() or "none that NVML tells of; one that a framework finds all the same is used, and not watched",
        "GPUs to be used": ", ".join(card.uuid if card.index is None else str(card.index) for card in gpu.visible()) or None,
        "energy": {"nvml": "the GPU's counter", "rapl": "the processor's counter (RAPL)", None: "no counter can be read"}[
            source([found.uuid for found in gpu.visible()[:1]])
        ],
        "containers": containers(),
        "Slurm": inventory.tool("sinfo", "--version") or "none: leave out `--profile workflow/profiles/slurm`",
        "reviews": inventory.reviews(f"{PUBLISHED}/imdb.npz", os.environ.get(VARIABLE)),
    }  # fmt: skip
    for what, found in facts.items():
        if found is not None:
            console.print(f"{what:16} {found}")
    table = Table("backend", "runs on", "versions", box=None, pad_edge=False)
    for name, there in inventory.available_backends().items():
        versions = ", ".join(f"{package} {version}" for package, version in there.versions.items())
        table.add_row(name, there.device or "—", versions or there.missing)
    console.print()
    console.print(table)
