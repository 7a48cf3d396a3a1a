"""The same sixty labelled texts in every form that people keep them."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from levelfield.data.encode import decode

LABELS = ("bad", "good", "so so")
TEXTS = [f"Film {n % 7}, it's {LABELS[n % 3].upper()}!" for n in range(60)]


def table() -> pa.Table:
    return pa.table({"id": list(range(60)), "review": TEXTS, "stars": [LABELS[n % 3] for n in range(60)]})


def csv(path, delimiter=","):
    pa.csv.write_csv(table(), path, pa.csv.WriteOptions(delimiter=delimiter))
    return path


def tsv(path):
    return csv(path, "\t")


def jsonl(path):
    path.write_text("".join(json.dumps(row) + "\n" for row in table().to_pylist()), encoding="utf-8")
    return path


def parquet(path):
    pa.parquet.write_table(table().set_column(2, "stars", table()["stars"].combine_chunks().dictionary_encode()), path)
    return path


def folder(path):
    for n, text in enumerate(TEXTS):
        file = path / LABELS[n % 3] / f"{n:03}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return path


def saved(path, names=("bad", "good", "so so")):
    """As `datasets` saves: Arrow streams, a state that names them, labels as numbers of a ClassLabel."""
    path.mkdir(parents=True)
    content = pa.table({"review": TEXTS, "stars": pa.array([n % 3 for n in range(60)], pa.int64())})
    for number, part in enumerate((content.slice(0, 40), content.slice(40))):
        with (
            pa.OSFile(str(path / f"data-0000{number}-of-00002.arrow"), "wb") as file,
            pa.ipc.new_stream(file, part.schema) as out,
        ):
            out.write_table(part)
    files = [{"filename": f"data-0000{number}-of-00002.arrow"} for number in (0, 1)]
    (path / "state.json").write_text(json.dumps({"_data_files": files, "_indices_data_files": None}))
    (path / "dataset_info.json").write_text(json.dumps({"features": {"stars": {"names": names, "_type": "ClassLabel"}}}))
    return path


KINDS = {
    "reviews.csv": csv,
    "reviews.tsv": tsv,
    "reviews.jsonl": jsonl,
    "reviews.parquet": parquet,
    "folder": folder,
    "saved": saved,
}


def texts_of(corpus, part) -> list[tuple[str, str]]:
    """Each row's words and label, sorted."""
    told = []
    for start, end, label in zip(part.starts, part.ends, part.labels, strict=True):
        told.append((decode(np.asarray(part.ranks[start:end]) + 3, corpus.words), corpus.labels[label]))
    return sorted(told)
