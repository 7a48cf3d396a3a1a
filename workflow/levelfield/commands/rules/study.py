"""Writes a study, validated, as the file that tables and page read."""

import json
from argparse import ArgumentParser, Namespace
from pathlib import Path

from levelfield.records import write_json
from levelfield.study.config import read_study


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--json", type=json.loads, required=True, help="the study: the content of its config")
    parser.add_argument("--out", type=Path, required=True, metavar="JSON")


def run(args: Namespace) -> None:
    write_json(args.out, read_study(args.json, str(args.out)).model_dump(mode="json"))
