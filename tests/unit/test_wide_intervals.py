"""Few pairs of much spread have intervals that are hundreds of times as long as the bars: the chart stays one of bars."""

import pandas as pd
from made_study import make_study

from levelfield.records import read_epochs, write_epochs
from levelfield.tell.collect import collect
from levelfield.tell.figures.comparisons import ranking, within_sight
from levelfield.tell.figures.theme import Look
from levelfield.tell.results import Results


def test_an_interval_is_drawn_to_three_times_the_largest_value_and_told_whole(tmp_path):
    folder = make_study(tmp_path / "s", cases=["torch", "jax", "keras-tensorflow"], steps=5)
    for seed, factor in enumerate((1, 4, 40)):
        file = folder / f"runs/jax/seed-{seed}/epochs.csv"
        epochs = read_epochs(file)
        for epoch in epochs:
            epoch.train_seconds *= factor
        write_epochs(file, epochs)
    collect(folder)
    chart = ranking(Results.read(folder), Look()).to_dict()
    (rows,) = (rows for rows in chart["datasets"].values() if "interval" in rows[0])
    wide = next(row for row in rows if row["case"] == "jax")
    assert wide["high"] <= 3 * max(row["value"] for row in rows) < float(wide["interval"].split(" to ")[1])


def test_what_is_not_known_stays_so():
    rows = pd.DataFrame({"value": [1.0, 2.0], "low": [None, 1.5], "high": [None, 2.5]}, dtype=float)
    assert within_sight(rows).equals(rows)
