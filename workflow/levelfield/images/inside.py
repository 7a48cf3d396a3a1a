"""Asked of an image from the inside, as `python -c` of this file: its packages, and whether the CUDA libraries they load are there.

Of the standard library and `ldd` alone; prints one JSON object. A package loads a library in two ways: it is linked to it, which
`ldd` follows, or it opens it by a name. That name stands in one of its files, or XLA puts it together (`HANDLES`).
"""

import ctypes
import json
import mmap
import re
import subprocess
import sys
from importlib.metadata import distributions
from importlib.util import find_spec
from pathlib import Path
from typing import Any

DRIVER = ("libcuda.so", "libnvidia-")
"""Beginnings of the names of what the host's driver brings (`--nv`): never in an image."""
KNOWN = (
    "cudart cublas cublasLt cudnn cudnn_[a-z_]+ cufft cufile cupti curand cusolver cusolverMg cusparse cusparseLt nccl nvJitLink "
    "nvrtc nvshmem_host"
)
NAMED = re.compile(rb"lib(?:" + KNOWN.replace(" ", "|").encode() + rb")\.so(?:\.\d+)+(?=\0)")
"""A library's name with its version, at a string's end."""
OWN_PATH = re.compile(rb"\$ORIGIN[^\0]*(?=\0)")
HANDLE = re.compile(rb"Get([A-Z][A-Za-z]+)DsoHandle")
HANDLES = {
    "CudaRuntime": "cudart", "Cublas": "cublas", "CublasLt": "cublasLt", "Cudnn": "cudnn", "Cufft": "cufft", "Cupti": "cupti",
    "Curand": "curand", "Cusolver": "cusolver", "Cusparse": "cusparse", "Nccl": "nccl", "Nvrtc": "nvrtc",
}  # fmt: skip
"""Function in XLA (TensorFlow, JAX) to the library that it opens as `lib<name>.so.<version>`, in `tsl`'s `dso_loader`. Not asked for:
NVSHMEM, which moves data between hosts, and TensorRT."""


def versions() -> dict[str, str]:
    """Version of each package, in the order of sys.path: the first of a name is the one that is imported."""
    found: dict[str, str] = {}
    for package in distributions():
        found.setdefault(package.metadata["Name"], package.version)
    return dict(sorted(found.items()))


def linked(file: Path) -> dict[str, str | None]:
    """Each library that a shared object is linked to, and the file that the loader takes for it; None where it finds none."""
    told = subprocess.run(["ldd", file], capture_output=True, text=True, encoding="utf-8", errors="replace").stdout
    pairs = re.findall(r"^\s*(\S+) => (not found|/\S+)", told, re.MULTILINE)
    return {name: None if where == "not found" else where for name, where in pairs}


def named(file: Path) -> tuple[set[str], set[str], set[Path]]:
    """The CUDA libraries whose names stand in a file, those that it opens by a handle, and the folders of its own search path."""
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as text:
        names = {found.decode() for found in NAMED.findall(text)}
        parts = {HANDLES[found.decode()] for found in HANDLE.findall(text) if found.decode() in HANDLES}
        paths = {part for found in OWN_PATH.findall(text) for part in found.decode(errors="replace").split(":")}
    origin = str(file.parent)
    return names, parts, {Path(path.replace("$ORIGIN", origin).replace("${ORIGIN}", origin)).resolve() for path in paths}


def beside(file: Path, name: str) -> Path | None:
    """The library in the folder of the file that asks for it: a part of a library is loaded by that library, which is loaded by then."""
    return file.with_name(name) if file.with_name(name).exists() else None


def cuda_libraries(packages: Path) -> dict[str, Any]:
    """What is loaded of CUDA by the shared objects under `packages`, NVIDIA's own among them.

    found: file of each library by its name, relative to `packages`. missing: library to the files that ask for it. cudnn: version
    that each libcudnn.so tells, by its folder.
    """
    found: dict[str, str] = {}
    missing: dict[str, list[str]] = {}
    cudnn = {str(file.parent.relative_to(packages)) for file in packages.rglob("libcudnn*.so*")}
    nvidia = {file.parent for file in packages.glob("nvidia/**/*.so*")}

    def told(name: str, where: Path | None, asking: str) -> None:
        if where is None:
            missing.setdefault(name, []).append(asking)
        elif where.is_relative_to(packages):
            found[name] = str(where.relative_to(packages))

    for package in sorted(path for path in packages.iterdir() if path.is_dir()):
        names: dict[str, str] = {}
        parts: dict[str, str] = {}
        folders: set[Path] = set()
        for file in sorted(path for path in package.rglob("*.so*") if path.is_file() and not path.is_symlink()):
            with file.open("rb") as opened:
                if opened.read(4) != b"\x7fELF":
                    continue
            asking = str(file.relative_to(packages))
            for name, where in linked(file).items():
                if re.match(r"lib(cu|nv|nccl)", name) and not name.startswith((*DRIVER, "libcurl")):
                    told(name, Path(where).resolve() if where else beside(file, name), asking)
            if package.name != "nvidia":
                own, opened_by_handle, paths = named(file)
                names |= dict.fromkeys(own, asking)
                parts |= dict.fromkeys(opened_by_handle, asking)
                folders |= paths
        for part, asking in parts.items():
            there = sorted({path.name for folder in folders & nvidia for path in folder.glob(f"lib{part}.so.*")})
            names |= dict.fromkeys(there or [f"lib{part}.so.*"], asking)
        for name, asking in names.items():
            opened_there = next((folder / name for folder in sorted(folders & nvidia) if (folder / name).exists()), None)
            told(name, opened_there or beside(packages / asking, name), asking)
    return {
        "found": dict(sorted(found.items())),
        "missing": dict(sorted(missing.items())),
        "cudnn": {folder: ctypes.CDLL(str(packages / folder / "libcudnn.so.9")).cudnnGetVersion() for folder in sorted(cudnn)},
    }


if __name__ == "__main__":
    where = find_spec("numpy")
    if where is None or where.origin is None:
        sys.exit("its packages are without numpy")
    told = {"python": sys.version.split()[0], "packages": versions()}
    json.dump(told | {"cuda_libraries": cuda_libraries(Path(where.origin).resolve().parents[1])}, sys.stdout)
