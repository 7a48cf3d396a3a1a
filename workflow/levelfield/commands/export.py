"""Writes finished runs for other tools: the model as ONNX, curves for TensorBoard, MLPerf's log lines."""

from argparse import ArgumentParser, Namespace
from importlib import import_module
from pathlib import Path

from levelfield.commands.keep import refuse_pretended
from levelfield.errors import UserError
from levelfield.export.runs import runs_in

FORMATS = {
    "onnx": "the trained model, model.onnx",
    "tensorboard": "loss and accuracy by step and epoch as an event file: `tensorboard --logdir` reads it",
    "mllog": "lines `:::MLLOG` for MLPerf's tools, mllog.txt",
}
"""Each one's file in `export/` and what it writes."""


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "folder", type=Path, help="results/<study>/runs/<case>/seed-<n>, or results/<study> for all of its finished runs"
    )
    for name, what in FORMATS.items():
        parser.add_argument(f"--{name}", action="store_true", help=what)
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="where to write, in <case>/seed-<n>; else in the run's folder"
    )


def run(args: Namespace) -> None:
    chosen = [name for name in FORMATS if getattr(args, name)]
    if not chosen:
        raise UserError(f"what is to be written? Give one or more of {', '.join(f'--{name}' for name in FORMATS)}")
    try:
        writers = [import_module(f"levelfield.export.{name}").write for name in chosen]
    except ModuleNotFoundError as error:
        raise UserError(f"the package {error.name!r} is not installed: `pip install 'levelfield[export]'`") from error
    folders = runs_in(args.folder)
    for study in dict.fromkeys(folder.resolve().parents[2] for folder in folders):
        refuse_pretended(study)
    for folder in folders:
        out = args.out / Path(*folder.resolve().parts[-2:]) if args.out else folder
        for write in writers:
            print(write(folder, out))
