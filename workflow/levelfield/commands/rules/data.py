"""Gets the reviews, checks them, and writes them encoded and padded as plain arrays."""

import json
from pathlib import Path

from levelfield.data.prepare import Shape, prepare
from levelfield.data.sources.find import find_corpus


def arguments(parser):
    parser.add_argument("--settings", type=json.loads, default={}, metavar="JSON", help="the config's `data`, as JSON")
    parser.add_argument("--vocabulary", type=int, default=20_000)
    parser.add_argument("--length", type=int, default=200)
    parser.add_argument("--padding", choices=("pre", "post"), default="pre")
    parser.add_argument("--truncation", choices=("pre", "post"), default="pre")
    parser.add_argument("--downloads", type=Path, required=True, metavar="DIR", help="where downloaded files are kept")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")


def run(args):
    settings = args.settings
    corpus = find_corpus(args.downloads, vocabulary=args.vocabulary, **settings)
    shape = Shape(args.vocabulary, args.length, args.padding, args.truncation)
    data = prepare(corpus, shape, settings.get("train"), settings.get("validation"), args.out)
    print(
        f"{data['corpus']}: {data['train_sequences']:,} + {data['validation_sequences']:,} sequences of {data['length']} tokens"
    )
    print(f"why: {data['why']}")
    if data["citation"]:
        print(f"source: {data['citation']}")
