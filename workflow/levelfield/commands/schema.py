"""Writes the config's JSON schema, the page of its keys and that of the questions asked, all from the models and configs."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from levelfield.records import write_whole
from levelfield.study.asked import PAGE, asked_readme
from levelfield.study.schema import CONFIG_README, SCHEMA, config_readme, schema_text


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, default=Path("."), metavar="DIR", help="the checkout that they are written into")


def run(args: Namespace) -> None:
    write_whole(args.out / SCHEMA, schema_text().encode())
    write_whole(args.out / CONFIG_README, config_readme().encode())
    write_whole(args.out / PAGE, asked_readme().encode())
