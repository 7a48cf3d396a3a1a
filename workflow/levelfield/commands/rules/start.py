"""Draws the start of one seed: initial weights and the batch order of every epoch."""

import json
from argparse import ArgumentParser, Namespace
from pathlib import Path

from levelfield.data.arrays import load_description
from levelfield.level.start import make_start, save_start
from levelfield.study.protocol import Protocol


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--protocol", type=json.loads, required=True, metavar="JSON", help="the protocol's model, vocabulary, length and epochs"
    )
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="data/ of the study")
    parser.add_argument("--out", type=Path, required=True, metavar="NPZ")


def run(args: Namespace) -> None:
    sequences = load_description(args.data)["train_sequences"]
    save_start(args.out, make_start(Protocol.of(args.protocol), args.seed, sequences))
