"""Tell what this machine has, and what of this project it can run."""

import os

from rich.console import Console
from rich.table import Table

from levelfield import host
from levelfield.data.sources.imdb import PUBLISHED, VARIABLE
from levelfield.measure import gpu, inventory
from levelfield.measure.energy import source


def arguments(parser):
    pass


def run(args):
    console = Console(soft_wrap=True, highlight=False)
    cards = gpu.gpus()
    facts = {
        "processor": f"{host.cpu_model()}, {host.cpus_available()} CPUs, {host.memory_bytes() / 2**30:.0f} GiB",
        "GPU": "; ".join(f"{card.name}, {card.memory_bytes / 2**30:.0f} GiB, driver {card.driver}" for card in cards)
        or "none that NVML tells of: `device: auto` runs on the CPU",
        "GPUs to be used": ", ".join(str(card.index) for card in gpu.visible()) if cards else None,
        "energy": {"nvml": "the GPU's counter", "rapl": "the processor's counter (RAPL)", None: "no counter can be read"}[
            source(gpu.visible()[0].uuid if gpu.visible() else None)
        ],
        "containers": inventory.tool("apptainer", "--version") or inventory.tool("singularity", "--version")
        or "no Apptainer: leave out `--sdm apptainer`",
        "Slurm": inventory.tool("sinfo", "--version") or "none: leave out `--profile workflow/profiles/slurm`",
        "reviews": inventory.reviews(f"{PUBLISHED}/imdb.npz", os.environ.get(VARIABLE)),
    }  # fmt: skip
    for what, found in facts.items():
        if found is not None:
            console.print(f"{what:16} {found}")
    table = Table("backend", "runs on", "versions", box=None, pad_edge=False)
    for name, found in inventory.available_backends().items():
        versions = ", ".join(f"{package} {version}" for package, version in found.versions.items())
        table.add_row(name, found.device or "—", versions or found.missing)
    console.print()
    console.print(table)
