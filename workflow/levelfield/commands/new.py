"""Write a first config for a file of one's own: labelled text in a table or folder, or token ids."""

import math
import re
from argparse import ArgumentParser, Namespace
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa

from levelfield.data import split
from levelfield.data.encode import RESERVED
from levelfield.data.rows import Rows, columns, parts
from levelfield.data.words import lengths, words
from levelfield.errors import UserError
from levelfield.records import write_whole

BLOCKS = 4
"""Read to propose a length and a vocabulary: some ten thousand rows."""
LONGEST, LARGEST = 400, 20_000
"""Proposed tokens a sequence and vocabulary, at most."""
EXAMPLE = """# Written by `levelfield new {file}`: {rows:,} rows, {count} labels ({labels})
# What the data is, before anything is trained: levelfield data {config}
# Training, comparing, results/{study}/report.html: snakemake --cores 4 --configfile {config}
study: {study}
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


WORDS_OF_YAML = {"yes", "no", "on", "off", "true", "false", "null", "y", "n", "~"}


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("file", type=Path, help="a .csv, .tsv, .jsonl or .parquet, or a folder of labelled text")
    parser.add_argument("--text", metavar="COLUMN", help="that holds the text")
    parser.add_argument("--label", metavar="COLUMN", help="that holds the label")
    parser.add_argument("--out", type=Path, metavar="YAML", help="the config (default: config/<name of the file>.yaml)")


def run(args: Namespace) -> None:
    path = args.file.expanduser()
    if not path.exists():
        raise UserError(f"{path}: no such file or folder")
    name = re.sub(r"[^A-Za-z0-9._+=-]+", "-", path.stem).strip("-._+=") or "own"
    out = args.out or Path("config") / f"{name}.yaml"
    if out.exists():
        raise UserError(f"{out} is there already: name another with --out, or delete it")
    text, label, ids = _columns(path, args.text, args.label)
    training, own = parts(path, text or "text", label or "label", None, ids)
    labels, codes = split.classes(training, own, None)
    sizes, distinct = _looked_at(training)
    length = min(LONGEST, max(1, math.ceil(np.percentile(sizes, 90)) + 1))
    rows = sum(map(len, codes))
    in_training = rows if own else rows - round(rows * split.SHARE)
    write_whole(
        out,
        EXAMPLE.format(
            file=path.name,
            rows=rows,
            count=len(labels),
            labels=", ".join(labels[:6]) + (", …" if len(labels) > 6 else ""),
            config=out,
            study=name,
            source="encoded" if ids else "text",
            quoted=_quoted(str(path)),
            columns="".join(f"  {key}: {_quoted(column)}\n" for key, column in (("text", text), ("label", label)) if column),
            outputs=1 if len(labels) == 2 else len(labels),
            vocabulary=distinct + 1 if ids else max(4, min(LARGEST, distinct + RESERVED + 1)),
            length=length,
            longest=LONGEST,
            batch_size=max(1, min(32, in_training // 4)),
        ).encode(),
    )
    print(f"{out}: {rows:,} rows, {len(labels)} labels; look through it, then: snakemake --cores 4 --configfile {out}")


def _quoted(text: str) -> str:
    """A YAML string, quoted where it must be."""
    return (
        text
        if re.fullmatch(r"[A-Za-z_./~][\w./~-]*", text) and text.lower() not in WORDS_OF_YAML
        else "'" + text.replace("'", "''") + "'"
    )


def _columns(path: Path, text: str | None, label: str | None) -> tuple[str | None, str | None, bool]:
    """The columns of text and label, by their names, or where there are two alone; and whether the text is token ids."""
    inside = path / "train" if (path / "train").is_dir() else path
    found = columns(inside)
    if not found:
        return None, None, False
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
    content = next(Rows(inside, text, label).read(False), None)
    return text, label, content is not None and pa.types.is_nested(content[0].type)


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
