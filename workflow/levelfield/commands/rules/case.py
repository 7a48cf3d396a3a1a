"""Writes a case as the file that parity and training read."""

import json
from argparse import ArgumentParser, Namespace
from pathlib import Path

from levelfield.errors import UserError
from levelfield.records import write_json


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--json", type=json.loads, required=True, help="the case, with its whole protocol")
    parser.add_argument("--data", type=Path, required=True, metavar="JSON", help="data/data.json of the study")
    parser.add_argument("--out", type=Path, required=True, metavar="JSON")


def run(args: Namespace) -> None:
    batch_size = args.json["protocol"]["batch_size"]
    sequences = json.loads(args.data.read_text(encoding="utf-8"))["train_sequences"]
    if batch_size > sequences:
        raise UserError(
            f"case {args.json['name']}: batch_size {batch_size} is larger than the training data ({sequences:,} sequences)"
        )
    write_json(args.out, args.json)
