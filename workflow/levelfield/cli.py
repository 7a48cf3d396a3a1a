"""The console command: finds each verb in `commands/<verb>.py` and imports it only when it is called."""

import argparse
import ast
import importlib
import sys
from pathlib import Path

from levelfield.errors import UserError

COMMANDS = Path(__file__).parent / "commands"


def verbs() -> dict[str, str]:
    """Each verb with its one line of help: the docstring of its module, read without importing it."""
    found = {}
    for file in sorted(COMMANDS.glob("[a-z]*.py")):
        found[file.stem.replace("_", "-")] = (ast.get_docstring(ast.parse(file.read_text())) or "").splitlines()[0]
    return found


def main(arguments: list[str] | None = None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    helps = verbs()
    parser = argparse.ArgumentParser(
        prog="levelfield", description="A level field for deep-learning frameworks.", epilog="`levelfield <verb> --help` tells more."
    )
    choices = parser.add_subparsers(dest="verb", required=True, metavar="verb")
    for verb, help_line in helps.items():
        subparser = choices.add_parser(verb, help=help_line, description=help_line)
        if arguments and arguments[0] == verb:
            module = importlib.import_module(f"levelfield.commands.{verb.replace('-', '_')}")
            module.arguments(subparser)
            subparser.set_defaults(run=module.run)
    args = parser.parse_args(arguments)
    try:
        return args.run(args) or 0
    except UserError as error:
        print(f"levelfield {args.verb}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
