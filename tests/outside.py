"""Packages outside Levelfield, as an installation makes them known: by the entry points of their `pyproject.toml`."""

import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from levelfield import registry

PIP = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]


def installed(project: Path, site: Path) -> Path:
    """Installs a project into the folder `site` with pip, without a network; returns the folder."""
    subprocess.run([*PIP, "--target", site, project], check=True)
    return site


def made_known(project: Path, site: Path) -> None:
    """Leaves the project's entry points in the folder `site` as an installation would, which takes seconds; not its modules."""
    told = tomllib.loads((project / "pyproject.toml").read_text())["project"]
    lines = [
        line
        for group, points in told["entry-points"].items()
        for line in (f"[{group}]", *(f"{name} = {value}" for name, value in points.items()))
    ]
    folder = site / f"{told['name'].replace('-', '_')}-{told['version']}.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {told['name']}\nVersion: {told['version']}\n")
    (folder / "entry_points.txt").write_text("\n".join(lines) + "\n")


@contextmanager
def registered(project: Path, site: Path, monkeypatch) -> Iterator[None]:
    """Within the block this process finds the project's modules and entry points; nothing is installed."""
    made_known(project, site)
    known = [found for found in vars(registry).values() if hasattr(found, "cache_clear")]
    for function in known:
        function.cache_clear()
    with monkeypatch.context() as patched:
        patched.syspath_prepend(project)
        patched.syspath_prepend(site)
        yield
    for function in known:
        function.cache_clear()
