"""A large CSV of text, from the file to the arrays: ours against reading it with pyarrow and splitting it into words, and no more."""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

MEGABYTES = int(os.environ.get("LEVELFIELD_TEXT_MB", "480"))
WORDS_A_TEXT, DISTINCT = 230, 100_000
"""As IMDB has them."""
REPEATS = 3


def measure() -> dict:
    """Medians of alternating repeats, each in a process of its own: `ratio` (plain over ours, by wall time), `cpu_ratio`, rows a second
    of ours and its `peak_bytes` of resident memory."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "reviews.csv"
        rows = write(file, MEGABYTES * 1_000_000)
        found = {"plain": [], "ours": []}
        for _ in range(REPEATS):
            for name in found:
                done = subprocess.run([sys.executable, __file__, name, str(file)], check=True, capture_output=True, text=True)
                found[name].append(json.loads(done.stdout.splitlines()[-1]))
    middle = {name: {key: float(np.median([one[key] for one in many])) for key in many[0]} for name, many in found.items()}
    plain, ours = middle["plain"], middle["ours"]
    return {
        "ratio": plain["seconds"] / ours["seconds"], "cpu_ratio": plain["cpu_seconds"] / ours["cpu_seconds"],
        "rows_per_second": rows / ours["seconds"], "megabytes_per_second": MEGABYTES / ours["seconds"],
        "peak_bytes": ours["peak_bytes"], "plain_peak_bytes": plain["peak_bytes"],
        "ours_over_plain": ours["seconds"] / plain["seconds"],
    }  # fmt: skip


def write(file: Path, size: int) -> int:
    """A CSV of at least so many bytes; returns its rows. Words by Zipf's law, of 2 to 12 letters, some with punctuation."""
    rng = np.random.default_rng(0)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    words = np.array(["".join(rng.choice(letters, rng.integers(2, 13))) for _ in range(DISTINCT)], object)
    chances = 1 / np.arange(3, DISTINCT + 3)
    rows, written = 0, 0
    with file.open("w", encoding="utf-8") as out:
        out.write("text,label\n")
        while written < size:
            lines, ends = [], np.cumsum(rng.poisson(WORDS_A_TEXT, 500) + 1)
            for drawn in np.split(rng.choice(words, ends[-1], p=chances / chances.sum()), ends[:-1]):
                text = " ".join(drawn) + ", it's so."
                lines.append(f'"{text.capitalize()}",{("bad", "good", "so so")[rows % 3]}\n')
                rows += 1
            written += out.write("".join(lines))
        out.flush()
        os.fsync(out.fileno())  # neither side is to pay for the writing
    return rows


def plain(file: Path) -> None:
    """Reads text and labels with pyarrow, in blocks, and splits the text into words, as its operations stand there for anybody."""
    import pyarrow.csv
    from pyarrow import compute

    from levelfield.data.words import PUNCTUATION

    reader = pyarrow.csv.open_csv(
        file,
        read_options=pyarrow.csv.ReadOptions(block_size=1 << 24),
        parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
    )
    for batch in reader:
        texts = compute.replace_substring_regex(compute.ascii_lower(batch.column(0)), PUNCTUATION, "")
        compute.ascii_split_whitespace(compute.ascii_trim_whitespace(texts))


def ours(file: Path) -> None:
    from levelfield.data.corpus import find_corpus
    from levelfield.data.prepare import Shape, prepare
    from levelfield.study.data import Data

    data, out = Data(source="text", file=file), file.parent / f"out-{os.getpid()}"
    out.mkdir()
    corpus = find_corpus(out / "downloads", data, vocabulary=20_000, work=out)
    prepare(corpus, Shape(20_000, 200, "pre", "pre"), None, None, out)


if __name__ == "__main__":
    import pyarrow  # noqa: F401  neither side is to pay for the imports

    import levelfield.data.corpus
    import levelfield.data.prepare
    import levelfield.data.sources.text  # noqa: F401

    work = {"plain": plain, "ours": ours}[sys.argv[1]]
    began, cpu = time.perf_counter(), time.process_time()
    work(Path(sys.argv[2]))
    print(
        json.dumps(
            {
                "seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - cpu,
                "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            }
        )
    )  # fmt: skip
