"""Write a first config for a file of one's own: labelled text in a table or folder, or token ids."""

import math
import re
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from levelfield.data import split
from levelfield.data.encode import RESERVED
from levelfield.data.formats import columns, holds_lists
from levelfield.data.origin import IMDB_SHA256, checksum
from levelfield.data.rows import Rows, parts
from levelfield.data.sources import encoded
from levelfield.data.words import lengths, words
from levelfield.errors import UserError
from levelfield.records import write_whole
from levelfield.study.config import read_study
from levelfield.study.data import Data

BLOCKS = 4
"""Read to propose a length and a vocabulary of words: some ten thousand rows. Of token ids all: one too large is refused later."""
TEXTS = ("review", "sentence", "comment", "content", "document")
"""Names of a column of text beside `text`, the first one there is: taken where it is known which one is the label."""
IDS = "ids"
LEAST = 4
"""Vocabulary that a protocol may have."""
LONGEST, LARGEST = 400, 20_000
"""Proposed tokens a sequence and vocabulary, at most."""
SHOWN, LONGEST_NAME = 40, 100
"""Characters of a label in a comment and of the name of a study, at most."""
OF_ARCHIVE = " # token ids as they are; of ranks, in the layout of Keras's own imdb.npz: imdb"
EXAMPLE = """# Written by `levelfield new {file}`: {rows:,} rows, {count} labels ({labels})
# What the data is, before anything is trained: levelfield data {config}
# Training, comparing, results/{study}/report.html: snakemake --cores 4 --configfile {config}
study: {named}
data:
  source: {source}{note}
  file: {quoted}
{columns}  # title: what tables and figures call it
  # citation: whom to cite for it
protocol:
  model: {{name: bilstm, outputs: {outputs}}}
  vocabulary: {vocabulary}
  length: {length} # tokens; of ten texts looked at nine are no longer, or it is {longest}
  batch_size: {batch_size}
cases:
  - keras-tensorflow
  - torch
seeds: [0, 1, 2]
"""


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "file", type=Path, help="a .csv, .tsv, .jsonl or .parquet, a folder of labelled text, or an .npz of token ids"
    )
    parser.add_argument("--text", metavar="COLUMN", help="that holds the text")
    parser.add_argument("--label", metavar="COLUMN", help="that holds the label")
    parser.add_argument("--out", type=Path, metavar="YAML", help="the config (default: config/<name of the file>.yaml)")


def run(args: Namespace) -> None:
    path = args.file.expanduser()
    path = path.resolve() if path == Path() else path
    if not (path.is_file() or path.is_dir()):
        raise UserError(f"{_shown(path)}: no such file or folder")
    name = re.sub(r"[^A-Za-z0-9._+=-]+", "-", path.stem)[:LONGEST_NAME].strip("-._+=") or "own"
    out = args.out or Path("config") / f"{name}.yaml"
    if out.exists():
        raise UserError(f"{out} is there already: name another with --out, or delete it")
    text, label, ids = (None, None, True) if path.suffix.lower() == ".npz" else _columns(path, args.text, args.label)
    data = Data(source="encoded" if ids else "text", file=path, text=text, label=label)
    if path.suffix.lower() == ".npz":
        labels, sizes, distinct, rows, in_training = _archive(data, args)
    else:
        divided = split.divide(data, "ids" if ids else "text", ids)
        labels = divided.labels
        sizes, distinct = _ids_of(divided.rows) if ids else _words_of(divided.rows[0])
        rows = sum(map(len, divided.codes))
        in_training = sum(int((~later).sum()) for later in divided.validation)
    # a start stands before words, and none before token ids
    length = min(LONGEST, max(1, math.ceil(np.percentile(sizes, 90)) + (0 if ids else 1)))
    content = EXAMPLE.format(
        file=_shown(path.name),
        rows=rows,
        count=len(labels),
        labels=", ".join(_cut(label) for label in labels[:6]) + (", …" if len(labels) > 6 else ""),
        config=_shown(out),
        study=name,
        named=_quoted(name),
        source=data.kind,
        note=OF_ARCHIVE if path.suffix.lower() == ".npz" else "",
        quoted=_quoted(str(path)),
        columns="".join(f"  {key}: {_quoted(column)}\n" for key, column in (("text", text), ("label", label)) if column),
        outputs=1 if len(labels) == 2 else len(labels),
        vocabulary=max(LEAST, distinct + 1 if ids else min(LARGEST, distinct + RESERVED + 1)),
        length=length,
        longest=LONGEST,
        batch_size=max(1, min(32, in_training // 4)),
    )
    _refuse_another(content, str(out), name, data)
    write_whole(out, content.encode())
    print(f"{out}: {rows:,} rows, {len(labels)} labels; look through it, then: snakemake --cores 4 --configfile {out}")


def _refuse_another(content: str, source: str, name: str, data: Data) -> None:
    """Raises UserError unless what is to be written reads as what is meant."""
    try:
        study = read_study(_read(content), source)
    except UserError as error:
        raise UserError(f"no config can be written for {_shown(data.file)}: {error}") from None
    if (study.study, study.data) != (name, data):
        raise UserError(
            f"{_shown(data.file)}: no config can name this file or these columns: give it a plainer name, or save it under one"
        )


def _read(content: str) -> Any:
    """What YAML reads in it; None of what is no YAML."""
    try:
        content.encode()
        return yaml.safe_load(content)
    except (yaml.YAMLError, ValueError):
        return None


def _shown(what: object) -> str:
    """On one line, whatever it is: a name may hold line ends."""
    return str(what) if str(what).isprintable() else repr(str(what))


def _cut(label: str) -> str:
    return repr(label if len(label) <= SHOWN else f"{label[:SHOWN]}…")


def _quoted(text: str) -> str:
    """A YAML string, quoted where it must be."""
    if re.fullmatch(r"[A-Za-z_./~][\w./~-]*", text) and _read(text) == text:
        return text
    if text.isprintable():
        return "'" + text.replace("'", "''") + "'"
    told: str = yaml.safe_dump(text, default_style='"', width=float("inf"))
    return told.rstrip("\n")


def _columns(path: Path, text: str | None, label: str | None) -> tuple[str | None, str | None, bool]:
    """The columns of text and label, by their names, or where there are two alone; and whether the text is token ids."""
    inside, _ = parts(path, None)
    found = columns(inside)
    if not found and (text or label):
        raise UserError(f"{path}: has no columns: leave out --text and --label")
    if not found:
        return None, None, False
    for option, column in (("--text", text), ("--label", label)):
        if column and column not in found:
            raise UserError(
                f"{path}: no column {column!r}; it has {', '.join(map(repr, found))}: name the right one by {option}"
            )
    rest = [column for column in found if column not in (text, label)]
    label = label or next((column for column in rest if column.lower() == "label"), None)
    text = text or _content(inside, [column for column in rest if column != label], label is not None)
    left = [column for column in found if column not in (text, label)]
    if len(found) == 2 and len(left) == 1 and (text or label):
        text, label = text or left[0], label or left[0]
    if not text or not label:
        raise UserError(
            f"{path}: has the columns {', '.join(map(repr, found))}: name two of them: "
            f"levelfield new {path} --text COLUMN --label COLUMN"
        )
    return text, label, holds_lists(inside, text)


def _content(path: Path, left: Sequence[str], label: bool) -> str | None:
    """The column of the text by its name; of token ids where it holds such, since row numbers are called so, too. label: whether it is
    known which one is the label."""
    names = {column.lower(): column for column in reversed(left)}
    text = next((names[name] for name in ("text", *(TEXTS if label else ())) if name in names), None)
    return text or (names[IDS] if IDS in names and holds_lists(path, names[IDS]) else None)


def _words_of(rows: Rows) -> tuple[np.ndarray, int]:
    """How many words the first texts have, int64 (texts,), and how many of these differ."""
    sizes, known = [], set()
    for block in islice(rows.blocks(), BLOCKS):
        found, counts = words(block.content)
        sizes.append(counts)
        known |= set(found.dictionary.to_pylist())
    return np.concatenate(sizes), len(known)


def _ids_of(parts: Sequence[Rows]) -> tuple[np.ndarray, int]:
    """How many token ids each row of all parts has, padding apart, int64 (rows,), and the largest of them."""
    sizes, largest = [], 0
    for rows in parts:
        for block in rows.blocks():
            found, counts = encoded.unpadded(np.asarray(block.content.flatten()), lengths(block.content))
            sizes.append(counts)
            largest = max(largest, int(np.max(found, initial=0)))
    return np.concatenate(sizes), largest


def _archive(data: Data, args: Namespace) -> tuple[tuple[str, ...], np.ndarray, int, int, int]:
    """Of an .npz of token ids: its labels, its rows' sizes, the largest id, how many rows there are, and how many for training."""
    assert data.file is not None
    if args.text or args.label:
        raise UserError(f"{_shown(data.file)}: has no columns: leave out --text and --label")
    if data.file.is_file() and checksum(data.file) == IMDB_SHA256:
        raise UserError(
            f"{_shown(data.file)}: is Keras's own imdb.npz, which holds ranks and no token ids: write `data: {{source: imdb, file: …}}`, as "
            "config/article.yaml does without a file"
        )
    train, validation, labels, _ = encoded.archive(data)
    sizes = np.concatenate([train.sizes, validation.sizes])
    largest = max(int(np.max(part.ranks)) for part in (train, validation))
    return labels, sizes, largest, len(sizes), len(train)
