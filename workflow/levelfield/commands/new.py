"""Write a first config for a file of one's own: labelled text in a table or folder, or token ids."""

import math
import re
from argparse import ArgumentParser, Namespace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from levelfield.data import split
from levelfield.data.encode import RESERVED
from levelfield.data.formats import columns, holds_lists
from levelfield.data.rows import Rows, parts
from levelfield.data.words import lengths, words
from levelfield.errors import UserError
from levelfield.records import write_whole
from levelfield.study.config import read_study
from levelfield.study.data import Data

BLOCKS = 4
"""Read to propose a length and a vocabulary: some ten thousand rows."""
LONGEST, LARGEST = 400, 20_000
"""Proposed tokens a sequence and vocabulary, at most."""
SHOWN, LONGEST_NAME = 40, 100
"""Characters of a label in a comment and of the name of a study, at most."""
EXAMPLE = """# Written by `levelfield new {file}`: {rows:,} rows, {count} labels ({labels})
# What the data is, before anything is trained: levelfield data {config}
# Training, comparing, results/{study}/report.html: snakemake --cores 4 --configfile {config}
study: {named}
data:
  source: {source}
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
    parser.add_argument("file", type=Path, help="a .csv, .tsv, .jsonl or .parquet, or a folder of labelled text")
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
    text, label, ids = _columns(path, args.text, args.label)
    data = Data(source="encoded" if ids else "text", file=path, text=text, label=label)
    divided = split.divide(data, "ids" if ids else "text", ids)
    labels = divided.labels
    sizes, distinct = _looked_at(divided.rows[0])
    length = min(LONGEST, max(1, math.ceil(np.percentile(sizes, 90)) + 1))
    rows = sum(map(len, divided.codes))
    in_training = sum(int((~later).sum()) for later in divided.validation)
    content = EXAMPLE.format(
        file=_shown(path.name),
        rows=rows,
        count=len(labels),
        labels=", ".join(_cut(label) for label in labels[:6]) + (", …" if len(labels) > 6 else ""),
        config=_shown(out),
        study=name,
        named=_quoted(name),
        source=data.kind,
        quoted=_quoted(str(path)),
        columns="".join(f"  {key}: {_quoted(column)}\n" for key, column in (("text", text), ("label", label)) if column),
        outputs=1 if len(labels) == 2 else len(labels),
        vocabulary=distinct + 1 if ids else max(4, min(LARGEST, distinct + RESERVED + 1)),
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
    text = text or next((column for column in rest if column.lower() in ("text", "ids")), None)
    label = label or next((column for column in rest if column.lower() == "label"), None)
    left = [column for column in found if column not in (text, label)]
    if len(found) == 2 and len(left) == 1 and (text or label):
        text, label = text or left[0], label or left[0]
    if not text or not label:
        raise UserError(
            f"{path}: has the columns {', '.join(map(repr, found))}: name two of them: "
            f"levelfield new {path} --text COLUMN --label COLUMN"
        )
    return text, label, holds_lists(inside, text)


def _looked_at(rows: Rows) -> tuple[np.ndarray, int]:
    """How long the first texts are, and how many words they have that differ; of token ids the largest."""
    sizes, known, largest = [], set(), 0
    for block in islice(rows.blocks(), BLOCKS):
        if rows.ids:
            sizes.append(lengths(block.content))
            largest = max(largest, int(np.max(np.asarray(block.content.flatten()), initial=0)))
        else:
            found, counts = words(block.content)
            sizes.append(counts)
            known |= set(found.dictionary_encode().dictionary.to_pylist())
    return np.concatenate(sizes), largest if rows.ids else len(known)
