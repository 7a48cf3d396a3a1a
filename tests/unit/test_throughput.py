"""A run's throughput is its sequences over its seconds, not the mean of its epochs' rates."""

import pandas as pd
from made_study import make_study

from levelfield.tell.collect import collect
from levelfield.tell.results import Results
from levelfield.tell.tables.groups import finished


def test_a_fast_and_a_slow_epoch_count_by_their_time(tmp_path):
    folder = make_study(tmp_path / "study", cases=["torch"], seeds=[0], steps=20)
    file = next(folder.glob("runs/*/*/epochs.csv"))
    epochs = pd.read_csv(file)
    sequences = epochs["sequences_per_second"].iloc[0] * epochs["train_seconds"].iloc[0]
    epochs["train_seconds"] = [1.0, 9.0]
    epochs["sequences_per_second"] = sequences / epochs["train_seconds"]
    epochs.to_csv(file, index=False)
    collect(folder)
    results = Results.read(folder)
    assert results.throughput["sequences_per_second"].tolist() == [2 * sequences / 10]
    assert finished(results)["sequences_per_second"].tolist() == [2 * sequences / 10]
