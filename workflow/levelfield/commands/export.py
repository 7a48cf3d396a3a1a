"""Writes the trained model of a run as an ONNX file."""

import json
from pathlib import Path

from levelfield.errors import UserError
from levelfield.records import load_arrays, write_whole


def arguments(parser):
    parser.add_argument(
        "--onnx", type=Path, required=True, metavar="RUN", help="a run's folder: results/<study>/runs/<case>/seed-<n>"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="model.onnx in the run's folder where not given")


def run(args):
    try:
        from levelfield.export import to_onnx
    except ModuleNotFoundError as error:
        raise UserError(f"the package {error.name!r} is not installed: `pip install 'levelfield[export]'`") from error
    record = args.onnx / "run.json"
    if not record.exists():
        raise UserError(f"{record} is not there: give the folder of a finished run, such as results/article/runs/torch/seed-0")
    found = json.loads(record.read_text())
    protocol = found["protocol"]
    told = {name: str(found[name]) for name in ("study", "case", "seed", "corpus", "data_sha256", "start_sha256", "departures")}
    told |= {name: str(protocol[name]) for name in ("vocabulary", "length", "padding", "truncation")}
    told["tokens"] = "word rank + 3; 0 padding, 1 start, 2 unknown"
    model = to_onnx(load_arrays(args.onnx / "weights.npz"), protocol["length"], found["departures"], told)
    out = args.out or args.onnx / "model.onnx"
    content = model.SerializeToString()
    write_whole(out, content)
    print(f"{out}: {len(content):,} bytes, tokens int32 (batch, {protocol['length']}) -> probabilities float32 (batch,)")
