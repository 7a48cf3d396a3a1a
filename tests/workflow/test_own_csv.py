"""From a CSV of one's own to a page, with the two commands that the README names and nothing else."""

import csv
import random
import subprocess

import pandas as pd
import pytest
from checkout import Checkout

ROWS = 1_000
WORDS = {"dull": ("tedious", "flat", "grey"), "fine": ("decent", "solid", "fair"), "great": ("superb", "moving", "bright")}
FILLING = ["the", "film", "was", "in", "its", "way", "and", "for", "me", "with", "a", "plot", "that", "one", "knows"]


@pytest.mark.long
def test_a_csv_of_a_thousand_rows_becomes_a_page_with_two_commands(tmp_path):
    checkout, drawn = Checkout.made(tmp_path), random.Random(7)
    with open(checkout.folder / "reviews.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["review", "verdict"])
        for _ in range(ROWS):
            verdict = drawn.choice(sorted(WORDS))
            text = [*drawn.choices(FILLING, k=drawn.randint(4, 30)), *drawn.choices(WORDS[verdict], k=2)]
            drawn.shuffle(text)
            writer.writerow([" ".join(text).capitalize() + ", they say.", verdict])

    new = [checkout.python, "-m", "levelfield", "new", "reviews.csv", "--text", "review", "--label", "verdict"]
    environment = checkout.environment() | {"PYTHONPATH": str(checkout.folder / "workflow")}
    done = subprocess.run(new, cwd=checkout.folder, env=environment, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert "snakemake --cores" in done.stdout + (checkout.folder / "config/reviews.yaml").read_text()
    # beside other tests every take is spoilt, and one seed of the three is as good a test
    ran = checkout.snakemake("--config", "retakes=0", "seeds=[0]", config="config/reviews.yaml")
    assert ran.returncode == 0, ran.stdout[-5000:]

    results = checkout.folder / "results/reviews"
    page = (results / "report.html").read_text()
    assert "reviews.csv" in page and "which of the 3 labels a text has" in page and "Maas" not in page
    runs = pd.read_parquet(results / "runs.parquet")
    assert len(runs) == 2 and (runs["status"] == "finished").all()
    assert runs["train_sequences"].add(runs["validation_sequences"]).eq(ROWS).all()
    accuracy = pd.read_parquet(results / "epochs.parquet").groupby("epoch")["validation_accuracy"].mean()
    assert accuracy.iloc[-1] > 0.5, "three labels, of which two words of each text tell"
