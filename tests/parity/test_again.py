"""The same seed again: bit for bit the same on a CPU with as many threads; with another number the difference is measured.

Again: in a process of its own, another day (Python's clock is a hundred days on, its hashes are drawn anew), after other runs, from
another folder.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from chosen import ALL
from jobs import LSTM, Tiny

from levelfield import host, registry
from levelfield.records import load_arrays

OWN = [name for name, backend in registry.backends().items() if not backend.like]
THREADS = min(2, host.cpus_available())
APART = 1e-4
"""Loss, after 20 steps: hundreds of times what was seen, a hundredth of what another program shows."""
TAKE = "import sys\nif 'take' in sys.orig_argv:\n    from levelfield.training import train\n    train.add_extras = lambda *_: None\n"
ANOTHER_DAY = "    import time\n    now = time.time\n    time.time = lambda: now() + 100 * 86_400\n"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Tiny:
    sizes = LSTM | {"embedding": 32, "units": 16}
    made = Tiny.made(tmp_path_factory.mktemp("again"), sizes, vocabulary=5_000, length=40, batch_size=32)
    assert made.data(made.folder / "data", train=312).returncode == 0 and made.start(made.folder / "start.npz").returncode == 0
    return made


def trained(tiny: Tiny, backend: str, folder: Path, threads: int, day: str = "", **variables: str) -> dict[str, np.ndarray]:
    """What a run left: its steps and its weights. No time is spent on extras."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(TAKE + day)
    environment = {"PYTHONPATH": f"{folder}:{tiny.environment['PYTHONPATH']}", **variables}
    done = tiny.train(backend, folder / "run", threads=threads, environment=environment, cwd=folder)
    assert done.returncode == 0, done.stdout[-3000:]
    assert json.loads((folder / "run/run.json").read_text())["machine"]["threads"] == threads
    return load_arrays(folder / "run/steps.npz") | load_arrays(folder / "run/weights.npz")


@pytest.mark.long
@pytest.mark.parametrize("backend", [name for name in OWN if ALL or name in ("torch", "jax")])
def test_the_same_seed_gives_the_same_bits_and_other_threads_a_difference_that_is_told(
    tiny, tmp_path, backend, record_property
):
    first = trained(tiny, backend, tmp_path / "first", THREADS)
    again = trained(tiny, backend, tmp_path / "again", THREADS, ANOTHER_DAY, PYTHONHASHSEED="7", TZ="Asia/Kolkata")
    assert len(first["loss"]) == 20 and first.keys() == again.keys()
    for name, values in first.items():
        assert np.array_equal(values, again[name]), f"{name} of {backend} is another one"
    if THREADS == 1:
        pytest.skip("one CPU: no other number of threads")
    alone = trained(tiny, backend, tmp_path / "alone", 1)
    apart = float(np.abs(first["loss"] - alone["loss"]).max())
    moved = max(
        float(np.abs(values - alone[name]).max()) for name, values in first.items() if name not in ("epoch", "sequences")
    )
    record_property("threads_1_and_2_loss_apart", apart)
    print(f"{backend}: losses of 20 steps with 1 and with {THREADS} threads at most {apart:.1e} apart, weights {moved:.1e}")
    assert apart < APART
