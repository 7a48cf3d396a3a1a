"""The console command: finds each verb's file and imports it only when it is called. What people type stands first."""

import argparse
import ast
import errno
import importlib
import sys
from pathlib import Path

from levelfield.errors import UserError

HERE = Path(__file__).parent
GROUPS = {"what people type": "levelfield.commands", "what the rules call": "levelfield.commands.rules"}
"""Heading of the help to the package that holds the verbs."""
PLACES = {
    errno.ENOSPC: "the disk is full: make room, or put `results/` on another one (a link will do)",
    errno.EDQUOT: "your quota is used up: make room, or put `results/` on another disk (a link will do)",
    errno.EFBIG: "no file may be that large here: raise the limit (`ulimit -f`)",
    errno.EROFS: "what it lies on can only be read: work in a copy elsewhere",
    errno.EACCES: "you have no right to: ask its owner, or work in a copy of your own",
    errno.EPERM: "you have no right to: ask its owner, or work in a copy of your own",
    errno.EIO: "the disk failed: look into the system's log",
    errno.ESTALE: "the network's disk has lost it",
}
"""What is wrong and what to do where the place of a file is at fault, and not the program."""


def verbs(package: str) -> dict[str, str]:
    """Each verb of a package with its one line of help: the docstring of its module, read without importing it."""
    folder, found = HERE.parent.joinpath(*package.split(".")[1:]), {}
    for file in sorted(folder.glob("[a-z]*.py")):
        if file.name != Path(__file__).name:
            help_line = (ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or "").splitlines()[0]
            found[file.stem.replace("_", "-")] = help_line
    return found


def write_what_can_be_written() -> None:
    """A terminal or log of another encoding shows what it cannot write as `\\u2026`; nothing stops for that."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def main(arguments: list[str] | None = None) -> int:
    write_what_can_be_written()
    arguments = sys.argv[1:] if arguments is None else arguments
    groups = {title: verbs(package) for title, package in GROUPS.items()}
    lines = [
        f"{title}:\n" + "\n".join(f"  {verb:16} {told}" for verb, told in found.items()) for title, found in groups.items()
    ]
    parser = argparse.ArgumentParser(
        prog="levelfield",
        usage="levelfield <verb> …",
        description="A level field for deep-learning frameworks.\n\n" + "\n\n".join(lines),
        epilog="`levelfield <verb> --help` tells more.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    choices = parser.add_subparsers(dest="verb", required=True, metavar="verb", help=argparse.SUPPRESS)
    for package, found in zip(GROUPS.values(), groups.values(), strict=True):
        for verb, help_line in found.items():
            subparser = choices.add_parser(verb, description=help_line)
            if arguments and arguments[0] == verb:
                module = importlib.import_module(f"{package}.{verb.replace('-', '_')}")
                module.arguments(subparser)
                subparser.set_defaults(run=module.run)
    args = parser.parse_args(arguments)
    try:
        return args.run(args) or 0
    except UserError as error:
        print(f"levelfield {args.verb}: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if error.errno not in PLACES:
            raise
        file = error.filename2 or error.filename  # of two, what was copied to
        what = f"{file}: {error.strerror}" if file else error.strerror
        print(f"levelfield {args.verb}: {what}: {PLACES[error.errno]}; then run the same again", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
