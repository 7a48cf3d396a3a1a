"""Damaged, foreign and edited records of a run: it is told as damaged, with the file and the reason, and all others stand."""

import io
import json
import os
import random
import shutil
import zipfile
from argparse import Namespace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_study import make_study

from levelfield.commands import keep, runs, tell
from levelfield.records import load_arrays, save_arrays, sha256_of_run
from levelfield.tell.collect import collect
from levelfield.tell.figures.proof import parity_rows
from levelfield.tell.readme import write_readme
from levelfield.tell.results import Results

CASES = 240
CASE, SEED = "torch", 1
"""The run that is damaged, but for what is said below."""
FILES = ("run.json", "epochs.csv", "steps.npz")
RELATIVE = ["position", "session", "unclean", "first_losses_apart", "incoherent", "block"]
"""What a run's row tells of it among the others."""
NEEDED = ["train_seconds", "validation_seconds", "import_seconds", "build_seconds", "warm_up_seconds"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[Path, pd.DataFrame]:
    """A study with checksums, and its rows."""
    folder = make_study(tmp_path_factory.mktemp("whole") / "s", ["keras-tensorflow", "torch", "jax"], steps=5, hashed=True)
    rows = told(folder)
    assert (rows["status"] == "finished").all() and rows["sha256"].notna().all()
    return folder, rows


def told(folder: Path) -> pd.DataFrame:
    collect(folder)
    return pd.read_parquet(folder / "runs.parquet").set_index(["case", "seed"])


def record(run: Path) -> dict:
    return json.loads((run / "run.json").read_text())


def rewrite(run: Path, values: dict, hashed: bool = True) -> None:
    """Writes a record; hashed: with a checksum that fits, as who knows how would."""
    if hashed:
        values["sha256"] = sha256_of_run(values)
    (run / "run.json").write_text(json.dumps(values))


def half(run, rng):
    file = run / rng.choice(FILES)
    content = file.read_bytes()
    file.write_bytes(content[: rng.randrange(len(content) - 2)])


def flipped(run, rng):
    file = run / rng.choice(FILES)
    content = bytearray(file.read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    file.write_bytes(content)


def overwritten(run, rng):
    file = run / rng.choice(FILES)
    content = bytearray(file.read_bytes())
    first = rng.randrange(len(content) - 40)
    content[first : first + 40] = rng.randbytes(40)
    file.write_bytes(content)


def missing(run, rng):
    for name in rng.sample(FILES, rng.choice([1, 1, 2])):
        (run / name).unlink()


def leaves(values, path=()):
    """Where the numbers of a record are."""
    for key, value in values.items() if isinstance(values, dict) else enumerate(values):
        if isinstance(value, (dict, list)):
            yield from leaves(value, (*path, key))
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            yield (*path, key)


def put(values: dict, path: tuple, value) -> None:
    for key in path[:-1]:
        values = values[key]
    values[path[-1]] = value


def edited_record(run, rng):
    """A number, a check or a text, by hand."""
    values = record(run)
    kind = rng.randrange(3)
    if kind == 0:
        path = rng.choice(list(leaves(values)))
        put(values, path, 7.25)
    elif kind == 1:
        values["checks"][rng.choice(sorted(values["checks"]))] ^= True
    else:
        values["machine"]["cpu"] = "Another Processor"
    rewrite(run, values, hashed=False)


def edited_epochs(run, rng):
    file = run / "epochs.csv"
    table = pd.read_csv(file)
    table.loc[rng.randrange(len(table)), rng.choice([name for name in table if name not in ("epoch", "energy_joules")])] *= 0.9
    table.to_csv(file, index=False)


def edited_steps(run, rng):
    arrays = load_arrays(run / "steps.npz")
    arrays[rng.choice(["loss", "accuracy"])][rng.randrange(10)] += 0.01
    save_arrays(run / "steps.npz", arrays)


def without_its_checksum(run, rng):
    values = record(run)
    put(values, rng.choice(list(leaves(values))), 7.25)
    values[rng.choice(["sha256"])] = rng.choice([None, 0, "", "f" * 64])
    rewrite(run, values, hashed=False)


def not_a_number(run, rng):
    values = record(run)
    path = rng.choice(list(leaves(values)))
    put(values, path, "HERE")
    word = rng.choice(["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "1" * 400, "1" * 5000])
    (run / "run.json").write_text(json.dumps(values).replace('"HERE"', word))


def another_version(run, rng):
    values = record(run)
    names = [name for name in values if name not in ("latency", "kernels", "checks", "measurements", "ended", "take")]
    names = [name for name in names if not name.endswith("sha256") or name.startswith(("protocol", "data", "start"))]
    kind = rng.randrange(3)
    if kind == 0:
        del values[rng.choice(names)]
    elif kind == 1:
        values["schema"] = 2
    else:
        name = rng.choice(names)
        values[f"{name}_of_2030"] = values.pop(name)
    rewrite(run, values)


def wrong_types(run, rng):
    values = record(run)
    part, name = rng.choice([("times", name) for name in NEEDED] + [("memory", "host_peak_bytes"), ("machine", "threads")])
    values[part][name] = rng.choice(["fast", "1.5", [], {}, None, [1.5], {"value": 1}, True])
    if rng.randrange(2):  # or a measurement, which may be text or a number by its name alone
        values = record(run)
        name, found = rng.choice(
            [
                ("noise_warning", 1.5),
                ("gpu_warning", 0.0),
                ("share_of_limit", "fast"),
                ("steal_share", ""),
                ("stalled_seconds", "1.5"),
            ]
        )
        values["measurements"][name] = found
    rewrite(run, values)


def wrong_parts(run, rng):
    values = record(run)
    name = rng.choice(["times", "machine", "protocol", "memory", "checks", "measurements", "departures", "kernels", "started"])
    values[name] = (
        rng.choice([3, 1.5, "text", True, None]) if name != "started" else rng.choice([3, "yesterday", "", "2026", None])
    )
    rewrite(run, values)


def huge(run, rng):
    values = record(run)
    kind = rng.randrange(7)
    if kind == 5:
        values["take"] = rng.choice([10**12, 0, -1, 2**62])
    elif kind == 6:
        values["ended"] = rng.choice(["2190-01-01T00:00:00+00:00", "2001-01-01T00:00:00+00:00"])
    elif kind == 0:
        values["times"][rng.choice(NEEDED)] = rng.choice([1e300, -1.0, 1e12])
    elif kind == 1:
        values["memory"]["host_peak_bytes"] = rng.choice([10**30, -1, 2**63])
    elif kind == 2:
        values["train_sequences"] = rng.choice([10**18, 0, -5, 10**9])
    elif kind == 3:
        values["started"] = rng.choice(["9999-12-31T23:59:59+00:00", "0001-01-01T00:00:00+00:00", "2026-01-05T10:00:00"])
    else:
        values["seed"] = rng.choice([2**31, -1, 10**25])
    rewrite(run, values)


def wrong_encoding(run, rng):
    text = (run / "run.json").read_text()
    content = rng.choice([
        text.encode("utf-16"), text.encode("utf-32"), text.encode("utf-8-sig"), text.encode("cp037"),
        text.replace("Made Processor", "Prozessor für alles").encode("latin-1"), text.encode().replace(b"node-1", b"node\x00"),
        text.replace("node-1", "\\ud800").encode(), b"\x1f\x8b" + text.encode(),
    ])  # fmt: skip
    (run / "run.json").write_bytes(content)


def a_folder(run, rng):
    file = run / rng.choice(FILES)
    file.unlink()
    file.mkdir()
    if rng.random() < 0.5:
        (file / "run.json").write_text("{}")


def a_link(run, rng):
    file = run / rng.choice(FILES)
    file.unlink()
    other = run.parent / "seed-0" / file.name
    target = rng.choice(["nowhere", file.name, "/dev/zero", "/etc/passwd", "..", str(other), "/proc/self/mem"])
    file.symlink_to(target)


def no_folder(run, rng):
    shutil.rmtree(run)
    if rng.random() < 0.5:
        run.symlink_to(rng.choice(["nowhere", run.name]))
    else:
        run.write_text("run.json")


def odd_files(run, rng):
    file = run / rng.choice(FILES)
    file.unlink()
    kind = rng.randrange(6)
    if kind == 0:
        os.mkfifo(file)
    elif kind == 1:
        with file.open("wb") as out:
            out.truncate(3 * 2**30)
    elif kind == 2:
        file.write_bytes(b"")
    elif kind == 3:
        file.write_bytes(b"[" * 100_000)
    elif kind == 4:
        file.write_text(rng.choice(["[]", "3", '"text"', "null", "{}", '{"case": "torch"}', "a,b\n1,2\n", "\x00" * 200_000]))
    else:
        file.write_bytes(rng.randbytes(3000))


def odd_archives(run, rng):
    """Steps that are a zip of something else, their checksum put right."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        kind = rng.randrange(5)
        if kind == 0:
            archive.writestr("epoch.npy", b"\x00" * 2**24)
        elif kind == 1:
            head = io.BytesIO()
            np.lib.format.write_array_header_1_0(head, {"descr": "<f8", "fortran_order": False, "shape": (10**15,)})
            archive.writestr("loss.npy", head.getvalue())
        elif kind == 2:
            archive.writestr("../../../escaped.npy", b"x")
        elif kind == 3:
            for name in ("epoch", "loss", "accuracy", "sequences"):
                archive.writestr(name, b"no array")
    if kind == 4:
        kinds = rng.choice([object, complex, "U3"])
        content = io.BytesIO()
        np.savez(content, **{name: np.ones(10).astype(kinds) for name in ("epoch", "loss", "accuracy", "sequences")})
    (run / "steps.npz").write_bytes(content.getvalue())
    values = record(run)
    values["steps_sha256"] = None
    rewrite(run, values)


def impossible_steps(run, rng):
    """Arrays of the right names that no training gives, their checksum put right."""
    arrays = load_arrays(run / "steps.npz")
    name = rng.choice(list(arrays))
    kind = rng.randrange(4)
    if kind == 0:
        arrays[name] = arrays[name][: rng.randrange(10)]
    elif kind == 1:
        arrays[name] = arrays[name].reshape(2, 5)
    elif kind == 2:
        arrays["sequences"] = arrays["sequences"] * 1000
    else:
        arrays["epoch"] = arrays["epoch"][::-1]
    save_arrays(run / "steps.npz", arrays)
    values = record(run)
    values["steps_sha256"] = None
    rewrite(run, values)


def impossible_epochs(run, rng):
    file = run / "epochs.csv"
    rows = file.read_text().splitlines()
    cells = rows[1].split(",")
    place = rng.choice([1, 2, 4, 6, 7, 8])
    cells[place] = rng.choice(["", "nan", "inf", "-3", "fast", "1e400", '"'])
    choices = [[rows[0], ",".join(cells), rows[2]], [rows[0], rows[1]], [rows[0], rows[2], rows[1]], [*rows, rows[2]], rows[1:]]
    file.write_text("\n".join(rng.choice(choices[:1] * 3 + choices)) + "\n")
    values = record(run)
    values["epochs_sha256"] = None
    rewrite(run, values)


def the_same_twice(run, rng):
    """Another run's records in this one's place: as they are, or with the names put right. Returns who else is in doubt then."""
    kind = rng.randrange(4)
    other = run.parent / "seed-0" if kind < 3 else run.parents[1] / "jax" / run.name
    shutil.rmtree(run)
    shutil.copytree(other, run)
    if kind == 0:
        return set()
    values = record(run) | {"case": CASE, "seed": SEED, "backend": CASE}
    rewrite(run, values, hashed=kind != 1)
    return {("jax", SEED)} if kind == 3 else set()  # of one start, nobody knows whose it is


def a_foreign_run(run, rng):
    """A run of another study: another name, protocol, data or departure."""
    kind = rng.randrange(4)
    folder = run.parents[2].parent / "foreign" / ("other" if kind == 0 else "s")
    options = [{}, {"protocol": {"batch_size": 16}}, {"corpus": "VADER movie-review snippets"}, {"steps": 6}][kind]
    other = make_study(folder, ["torch"], **({"steps": 5, "hashed": True} | options))
    shutil.rmtree(run)
    shutil.copytree(other / "runs" / CASE / run.name, run)
    shutil.rmtree(folder)


KINDS = [half, flipped, overwritten, missing, edited_record, edited_epochs, edited_steps, without_its_checksum, not_a_number,
         another_version, wrong_types, wrong_parts, huge, wrong_encoding, a_folder, a_link, no_folder, odd_files, odd_archives,
         impossible_steps, impossible_epochs, the_same_twice, a_foreign_run]  # fmt: skip
HARMLESS = (flipped,)
"""Of which a case may be without effect: `1e-07` and `1E-07` are one number."""


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_damaged_run_is_told_and_all_others_stand(whole, tmp_path, kind):
    source, right = whole
    for seed in range(-(-CASES // len(KINDS))):
        rng = random.Random(f"{kind.__name__} {seed}")
        folder = tmp_path / str(seed) / "s"
        shutil.copytree(source, folder)
        doubted = kind(folder / "runs" / CASE / f"seed-{SEED}", rng) or set()
        rows, what = told(folder), f"{kind.__name__} {seed}"
        status, error = rows.loc[(CASE, SEED), ["status", "error"]]
        if status == "finished" and kind in HARMLESS:
            pd.testing.assert_frame_equal(rows, right)
            continue
        assert status == "failed" and error.startswith("damaged: runs/torch/seed-1"), f"{what}: {status}: {error}"
        assert len(error.splitlines()) == 1 and len(error) < 500 and "Traceback" not in error, f"{what}: {error}"
        others = [key for key in rows.index if key != (CASE, SEED) and key not in doubted]
        assert (rows.loc[others, "status"] == "finished").all(), f"{what}: {rows['error'].dropna().tolist()}"
        pd.testing.assert_frame_equal(
            rows.loc[others].drop(columns=RELATIVE),
            right.loc[others].drop(columns=RELATIVE),
            check_like=True,
            check_dtype=False,
        )
        shutil.rmtree(folder.parent)
    assert not list(tmp_path.parent.rglob("escaped.npy"))


def damaged_all_over(folder: Path) -> Path:
    """A study with a run of every kind of damage, and as many whole ones."""
    study = make_study(folder / "s", ["torch", "jax"], seeds=range(len(KINDS)), steps=5, hashed=True)
    for seed, kind in enumerate(KINDS):
        if kind not in (the_same_twice, a_foreign_run):  # they know the names of the study above
            kind(study / "runs" / CASE / f"seed-{seed}", random.Random(f"{kind.__name__} all"))
    return study


def test_a_study_with_every_kind_of_damage_is_told_to_the_end(tmp_path, capsys):
    study = damaged_all_over(tmp_path)
    tell.run(Namespace(folder=study))
    listed = pd.read_csv(study / "tables/unfinished.csv")
    assert len(listed) >= len(KINDS) - 3 and listed["case"].unique().tolist() == [CASE]
    assert "damaged: " in (study / "report.html").read_text() and "damaged: " in (study / "README.md").read_text()
    runs.run(Namespace(folder=study, case=None, seed=None, status="failed"))
    assert "damaged:" in capsys.readouterr().out


def test_what_is_damaged_is_damaged_for_the_same_reason_when_it_is_kept(tmp_path):
    study = make_study(tmp_path / "s", ["torch", "jax"], seeds=range(8), steps=5, hashed=True)
    kinds = [half, edited_record, edited_epochs, edited_steps, not_a_number, another_version, wrong_types, wrong_encoding]
    for seed, kind in enumerate(kinds):
        kind(study / "runs" / CASE / f"seed-{seed}", random.Random(f"{kind.__name__} kept"))
    before = told(study)
    assert (before.loc[CASE, "status"] == "failed").all() and (before.loc["jax", "status"] == "finished").all()
    keep.run(Namespace(source=study, folder=tmp_path / "kept" / "s"))
    pd.testing.assert_frame_equal(told(tmp_path / "kept" / "s"), before)


@pytest.mark.parametrize("name", ["failure.json", "parity.json", "sha256"])
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"error": 3}', b"\xff\xfe", b'{"error": NaN}', b"[" * 100_000])
def test_damage_beside_the_runs_is_told_too(tmp_path, name, content):
    folder = make_study(tmp_path / "s", ["torch", "jax"], seeds=[0, 1], steps=5, hashed=True, failures={("torch", 1): "failed"})
    start = folder / "start/bilstm/seed-0.npz.sha256"
    start.parent.mkdir(parents=True)
    places = {
        "failure.json": folder / "runs/torch/seed-1/failure.json",
        "parity.json": folder / "parity/torch.json",
        "sha256": start,
    }
    places[name].write_bytes(content)
    collect(folder)
    write_readme(folder)
    parity_rows(Results.read(folder))  # of the one figure that reads what lies beside the runs
    rows = pd.read_parquet(folder / "runs.parquet").set_index(["case", "seed"])
    if name == "failure.json":
        assert rows.loc[("torch", 1), "error"].startswith("damaged: runs/torch/seed-1/failure.json")
    elif name == "parity.json":
        assert (rows.loc["torch", "status"] == "failed-parity").all()
        assert rows.loc[("torch", 0), "error"].startswith("damaged: parity/torch.json")
    assert (rows.loc["jax", "status"] == "finished").sum() >= (1 if name == "sha256" else 2)
