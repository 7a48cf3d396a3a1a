"""Tell a study's data before training: classes, lengths, padding, unknown words, duplicates. Trains nothing."""

import errno
import json
import shutil
import tempfile
import time
from argparse import ArgumentParser, Namespace
from contextlib import suppress
from pathlib import Path
from typing import Any

from levelfield.data import encodings
from levelfield.data.arrays import refuse_unfit
from levelfield.data.corpus import Corpus, find_corpus
from levelfield.data.origin import Origin, origin_of
from levelfield.data.prepare import Shape, prepare
from levelfield.errors import UserError
from levelfield.records import write_whole
from levelfield.study.config import Study, read_study
from levelfield.study.data import Data

ASIDE = ".told-"
"""Begins the names of folders that are gone when their data has been told."""
Outputs = list[tuple[str, int]]
"""Each model's name and its outputs; one that has different ones stands there as often."""


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("config", type=Path, nargs="?", metavar="config/<study>.yaml", help="the study whose data is told")
    parser.add_argument("--plot", type=Path, metavar="SVG", help="draw it, too: a .svg or .png")
    rule = parser.add_argument_group("what the rule `data` calls, to write the data as plain arrays")
    rule.add_argument("--settings", type=json.loads, default={}, metavar="JSON", help="the config's `data`, as JSON")
    rule.add_argument("--vocabulary", type=int, default=20_000)
    rule.add_argument("--length", type=int, default=200)
    rule.add_argument("--padding", choices=("pre", "post"), default="pre")
    rule.add_argument("--truncation", choices=("pre", "post"), default="pre")
    rule.add_argument(
        "--downloads", type=Path, default=Path("results/.downloads"), metavar="DIR", help="for what is downloaded"
    )
    rule.add_argument("--out", type=Path, metavar="DIR")


def run(args: Namespace) -> None:
    if args.plot is not None and args.plot.suffix not in (".svg", ".png"):
        raise UserError(f"--plot: found {args.plot.name!r}: name a .svg or a .png")
    if (args.config is None) == (args.out is None):
        raise UserError("name a config, as `levelfield data config/quick.yaml`")
    if args.config is not None:
        study = _study(args.config)
        shape = Shape(study.protocol.vocabulary, study.length, study.protocol.padding, study.protocol.truncation)
        data = _made_aside(study.data, shape, study.outputs, args.downloads)
    else:
        settings, shape = dict(args.settings), Shape(args.vocabulary, args.length, args.padding, args.truncation)
        outputs = [(model, count) for model, count in settings.pop("outputs", [])]
        data = _made(Data.model_validate(settings), shape, outputs, args.downloads, args.out)
    print(told(data))
    if args.plot is not None:
        _draw(data, args.plot)


def _study(config: Path) -> Study:
    from levelfield.commands.plan import read_config  # with it comes what plans, which the rule does without

    return read_study(read_config(config), str(config))


def _made_aside(settings: Data, shape: Shape, outputs: Outputs, downloads: Path) -> dict[str, Any]:
    """Makes the data in a folder that is not kept, beside what is downloaded: the system's own for temporary files may lie in memory."""
    downloads.mkdir(parents=True, exist_ok=True)
    for left in downloads.glob(f"{ASIDE}*"):  # by a process that was killed
        with suppress(OSError):  # gone meanwhile
            if time.time() - left.stat().st_mtime > encodings.LEFT_OVER_SECONDS:
                shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=ASIDE, dir=downloads) as folder:
        try:
            return _made(settings, shape, outputs, downloads, Path(folder))
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise UserError(
                f"{folder}: {error.strerror}: all of the data lies there while it is told: make room, or name another folder by --downloads"
            ) from None


def _made(settings: Data, shape: Shape, outputs: Outputs, downloads: Path, out: Path) -> dict[str, Any]:
    """Gets the data that was encoded before, or the corpus; checks that the models fit it, and writes it to `out`."""
    out.mkdir(parents=True, exist_ok=True)
    named = origin_of(settings, downloads)
    name = encodings.name_of(named, shape, settings)
    if name and (before := encodings.described(name, downloads)):
        refuse_unfit(before["title"], before["labels"], outputs)
        if data := encodings.take(name, downloads, out):
            print("encoded before: the same file with the same settings")
            return data
    corpus = find_corpus(downloads, settings, vocabulary=shape.vocabulary, work=out)
    if origin_of(settings, downloads) != named:
        raise UserError(
            f"{named.name}: it, or another file that `data` names, changed while it was read: wait until it is whole, then run the same again"
        )
    refuse_unfit(corpus.title, corpus.labels, outputs)
    data = prepare(corpus, shape, settings.train, settings.validation, out, _origin(corpus, named))
    if name:
        encodings.keep(name, downloads, out)
    return data


def _origin(corpus: Corpus, named: Origin) -> Origin:
    """The source as it turned out: of `imdb` it may be what stands in for it."""
    return Origin(corpus.kind, corpus.source_sha256 or named.sha256, named.name, named.named_by, named.settings)


def told(data: dict[str, Any]) -> str:
    """`data.json` in lines for a person."""
    lines = [
        f"{data['title']}: {data['train_sequences']:,} + {data['validation_sequences']:,} sequences of {data['length']} tokens",
        f"why: {data['why']}",
    ]
    if data["citation"]:
        lines.append(f"source: {data['citation']}")
    labels = data["labels"]
    lines.append(f"{'':12} {'training':>12} {'validation':>12}")
    for label in labels[:20]:
        lines.append(_row(label[:30], *(f"{data[f'{part}_classes'][label]:,}" for part in ("train", "validation"))))
    if len(labels) > 20:
        lines.append(f"… and {len(labels) - 20} labels more")
    for key in ("least", "median", "mean", "p90", "most"):
        lines.append(_row(f"words, {key}", *(f"{data[f'{part}_words'][key]:,.0f}" for part in ("train", "validation"))))
    for key, name in (("padding_share", "padding"), ("truncated_share", "truncated"), ("unknown_share", "unknown")):
        shares = (data[f"{part}_{key}"] for part in ("train", "validation"))
        lines.append(_row(name, *("" if share is None else f"{share:.1%}" for share in shares)))
    lines.append(_row("empty", *(f"{data[f'{part}_empty']:,}" for part in ("train", "validation"))))
    lines.append(
        f"duplicates: {data['train_duplicates']:,} within training, {data['validation_also_in_train']:,} of validation also in training"
    )
    return "\n".join(lines)


def _row(name: str, train: str, validation: str) -> str:
    return f"{name:12} {train:>12} {validation:>12}"


def _draw(data: dict[str, Any], out: Path) -> None:
    """The figure of the data as the study's page has it."""
    from levelfield.tell.figures.data import told as drawn  # with it comes what draws, which the rule does without
    from levelfield.tell.figures.theme import Look, render

    chart = drawn(data, Look())
    assert chart is not None  # this version wrote all that it draws
    svg, png = render(chart)
    write_whole(out, svg.encode() if out.suffix == ".svg" else png)
    print(out)
