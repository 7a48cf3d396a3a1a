"""Make the containers' images, their locks, or a base from Debian's packages; try the backends in them."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from argparse import ArgumentParser, Namespace
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from levelfield import registry
from levelfield.errors import UserError
from levelfield.images import images, lockfiles
from levelfield.study.protocol import Protocol

INSIDE = Path(images.__file__).with_name("inside.py")


def arguments(parser: ArgumentParser) -> None:
    choices = parser.add_subparsers(dest="what", required=True, metavar="what")
    build = choices.add_parser("build", help="build images, or take a ready one, into results/.images")
    build.add_argument("--ready", help="take this image instead: a `.sif`, or `docker://…@sha256:…`")
    tried = choices.add_parser(
        "try", help="run the contract's tests of every backend in its image, with the LSTM alone, on the CPU, without a network"
    )
    tried.add_argument("--backend", action="append", help="only this one; default: all that run in the image")
    for command in (build, tried):
        command.add_argument(
            "names", nargs="*", metavar="name", help=f"images: {', '.join(images.names())}; default: all of the kind"
        )
        command.add_argument(
            "--kind", choices=["cuda", "cpu"], default="cuda", help="for an NVIDIA GPU (default), or without one"
        )
        command.add_argument("--base", help="`image@sha256:…`, or the folder of a root file system; default: the template's")
    lock = choices.add_parser("lock", help="resolve the locks anew (downloads no package)")
    lock.add_argument("names", nargs="*", default=images.names(), help="images; default: all")
    base = choices.add_parser("base", help="make a root file system from this machine's Debian mirror")
    base.add_argument("folder", type=Path, help="where to; must not exist")


def run(args: Namespace) -> int | None:
    if args.what == "lock":
        for name in args.names:
            for kind in images.kinds(name):
                text = lockfiles.resolve(name, kind)
                images.lock_file(name, kind).write_text(text, encoding="utf-8")
                say(f"{images.lock_file(name, kind).name}: {len(lockfiles.pins(text))} packages")
    elif args.what == "base":
        make_base(args.folder)
    elif args.what == "build":
        for image in chosen(args):
            make_image(image)
    else:
        return int(any([try_image(image, args.backend) for image in chosen(args)]))
    return None


def chosen(args: Namespace) -> list[images.Image]:
    """The images that the arguments name; all that there are of the kind where they name none."""
    if ready := getattr(args, "ready", None):
        if len(args.names) != 1:
            raise UserError(
                "a ready image needs the name of the one that it stands for: `levelfield images build torch --ready …`"
            )
        return [images.ready(args.names[0], ready)]
    names = args.names or [name for name in images.names() if args.kind in images.kinds(name)]
    return [images.built(name, args.kind, args.base) for name in names]


def try_image(image: images.Image, backends: list[str] | None) -> bool:
    """Runs `levelfield check` of each backend in its image, as a job of a study would be run; returns whether one failed.

    Of the default model alone. The reference's `autograd`, which no image of a framework holds, is lent by this environment.
    """
    file, failed = Path(image.file), False
    if not file.is_file():
        raise UserError(f"{file} is not there: `levelfield images build {image.name} --kind {image.kind}` makes it")
    reference = find_spec("autograd")
    if reference is None or reference.origin is None:
        raise UserError("the contract's tests need the package autograd, which is not installed here: `make setup`")
    source, lent = images.CONTAINERS.parent / "workflow", "/lent"
    bound = f"{source},{Path(reference.origin).parent}:{lent}/autograd"
    inside = [images.runtime(), "exec", "--cleanenv", "--contain", "--net", "--network", "none", "--bind", bound]
    for name, known in registry.backends().items():
        if known.image == image.name and (not backends or name in backends):
            began = time.monotonic()
            command = [*inside, "--env", f"PYTHONPATH={source}:{lent}", str(file), "python", "-m", "levelfield", "check", name]
            code = subprocess.run([*command, "--model", Protocol().model.name], stdout=sys.stderr).returncode
            say(f"{image.stem}: {name} {'FAILED' if code else 'passed'} in {time.monotonic() - began:.0f} s")
            failed |= code != 0
    return failed


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def call(command: list[str | Path], failure: str, folder: Path | None = None) -> None:
    """Runs a program, in `folder`, whose output goes to the person; raises UserError where it fails."""
    # what jobs bind has no place in an image that is being built: the runtime would stop
    environment = {name: value for name, value in os.environ.items() if name not in ("APPTAINER_BIND", "SINGULARITY_BIND")}
    if code := subprocess.run(command, stdout=sys.stderr, env=environment, cwd=folder).returncode:
        why = images.namespaces_forbidden()
        raise UserError(
            f"{failure}: `{Path(command[0]).name}` ended with exit code {code}, see above" + (f"; {why}" if why else "")
        )


def make_image(image: images.Image) -> None:
    """Makes `image.file` and its record; both appear whole or not at all."""
    runtime = images.runtime()
    file = Path(image.file)
    file.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=file.parent, prefix=f".{image.stem}-") as work:
        part, times = Path(work) / file.name, {}
        if image.kind == "ready":
            assert image.source is not None
            take(runtime, image.source, part)
        else:
            times = build(runtime, image, part, Path(work) / "wheels")
        say(f"{image.stem}: asks what is inside")
        asked = subprocess.run(
            [runtime, "exec", "--cleanenv", "--contain", part, "python", "-c", INSIDE.read_text(encoding="utf-8")],
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
        )
        if asked.returncode:
            raise UserError(
                f"{image.stem}: no `python` runs in the image: {images.namespaces_forbidden() or asked.stderr.strip()}"
            )
        record = describe(image, part, json.loads(asked.stdout)) | times
        part.with_suffix(".json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        for made in (part.with_suffix(".json"), part):
            made.replace(file.parent / made.name)
    say(f"{image.stem}: {file}, {record['bytes'] / 1e6:.0f} MB, {record['digest']}")


def build(runtime: str, image: images.Image, part: Path, wheels: Path) -> dict[str, float]:
    """Downloads the lock's packages, then builds the image from the template; returns the seconds of both."""
    if odd := re.search(r"[,:]", str(wheels.resolve())):
        raise UserError(
            f"an image cannot be built in {Path.cwd()}: Apptainer takes a path apart at `{odd[0]}`: move the checkout to one without"
        )
    started = time.monotonic()
    say(f"{image.stem}: downloads {len(pinned(image))} packages")
    lock = images.lock_file(image.name, image.kind)
    lockfiles.download(lock, wheels)
    downloaded = time.monotonic()
    say(f"{image.stem}: builds the image")
    # by its name alone, from the folder that it is in: Apptainer copies by a shell, and of a path it escapes nothing but blanks
    shutil.copyfile(lock, wheels.parent / lock.name)
    values = {"LOCK": lock.name, "NAME": image.name, "DEBIAN": " ".join(images.debian_packages(image.name))}
    values["WITHOUT"] = " ".join(images.without(image.name, image.kind))
    if image.source:
        local = Path(image.source).is_dir()
        values |= {
            "BOOTSTRAP": "localimage" if local else "docker",
            "BASE": str(Path(image.source).resolve()) if local else image.source,
        }
    command = [runtime, "build", "--bind", f"{wheels.resolve()}:/mnt"]
    # lz4: built in a third of gzip's time, and quicker to start, for half as much disk again
    command += ["--mksquashfs-args", "-comp lz4"]
    for name, value in values.items():
        command += ["--build-arg", f"{name}={value}"]
    call([*command, part.resolve(), images.TEMPLATE], f"{image.stem} could not be built", wheels.parent)
    return {"download_seconds": round(downloaded - started, 1), "build_seconds": round(time.monotonic() - downloaded, 1)}


def pinned(image: images.Image) -> dict[str, str]:
    return lockfiles.pins(images.lock_file(image.name, image.kind).read_text(encoding="utf-8"))


def take(runtime: str, source: str, part: Path) -> None:
    """Pulls a ready image, or links it into place (copies it from another disk)."""
    if "://" in source:
        call([runtime, "pull", part, source], f"{source} could not be pulled")
        return
    try:
        os.link(source, part)
    except OSError:
        shutil.copyfile(source, part)


def describe(image: images.Image, file: Path, inside: dict[str, Any]) -> dict[str, Any]:
    """The record of an image: what it is, and which CUDA and cuDNN its packages bring (None: none of them does)."""
    packages = inside["packages"]
    if image.kind != "ready":
        wrong = {name: pin for name, pin in pinned(image).items() if packages.get(name) != pin}
        if wrong:
            raise UserError(f"{image.stem}: its packages are not those of its lock: {wrong}")
    refuse_incomplete(image, inside["cuda_libraries"])

    def version(*names: str) -> str | None:
        return next((packages[name] for name in names if name in packages), None)

    return {
        "name": image.name,
        "kind": image.kind,
        "source": image.source,
        "digest": images.digest(file),
        "stamp": images.stamp(file),
        "bytes": file.stat().st_size,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "cuda": version("nvidia-cuda-runtime", "nvidia-cuda-runtime-cu12"),
        "cudnn": version("nvidia-cudnn-cu13", "nvidia-cudnn-cu12"),
    } | inside


def refuse_incomplete(image: images.Image, libraries: dict[str, Any]) -> None:
    """Raises UserError where a CUDA library that the packages load is not in the image, or where it holds cuDNN twice.

    A build for CPUs may hold the code that would open them (TensorFlow's does) and has none: of it nothing is asked.
    """
    if libraries["missing"] and (image.kind == "cuda" or libraries["found"]):
        lacks = "; ".join(f"{name} (for {', '.join(asking[:3])})" for name, asking in libraries["missing"].items())
        raise UserError(f"{image.stem}: CUDA libraries that its packages load are not in it: {lacks}")
    if len(libraries["cudnn"]) > 1:
        raise UserError(f"{image.stem}: it holds cuDNN more than once: {libraries['cudnn']}")


def make_base(folder: Path) -> None:
    """A root file system with Python, pip and apt from the mirror of the machine's own Debian: about 200 MB."""
    if folder.exists():
        raise UserError(f"{folder} exists already: name a new folder, or remove it")
    if not shutil.which("mmdebstrap"):
        raise UserError("a base is made with mmdebstrap, which is not installed: `apt-get install mmdebstrap` (Debian, Ubuntu)")
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = folder.with_name(f".{folder.name}.part")
    slim = [f"--dpkgopt=path-exclude=/usr/share/{part}/*" for part in ("man", "locale", "doc")]
    try:
        call(
            ["mmdebstrap", "--variant=apt", *slim, "--include=python3,python3-pip", images.SUITE, part],
            f"{folder} could not be made",
        )
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    say(f"{folder}: Debian {images.SUITE}; `images: {{base: {folder}}}` in a config uses it")
