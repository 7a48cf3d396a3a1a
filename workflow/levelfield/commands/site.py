"""Writes one page over all studies of a folder: questions and answers, who is fastest where, every study's records."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from levelfield.commands.keep import refuse_pretended
from levelfield.errors import UserError
from levelfield.tell.site.render import write_site


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "folder", type=Path, nargs="?", default=Path("results"), help="where the studies lie; results/ by default"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="the page; index.html in that folder by default")


def run(args: Namespace) -> None:
    if not args.folder.is_dir():
        raise UserError(f"{args.folder} is no folder: name one that holds studies, such as results/reference")
    out = args.out or args.folder / "index.html"
    number, unread = write_site(args.folder, out, refuse_pretended)
    for place, why in unread.items():
        print(f"not told: {place}: {why}")
    print(f"{out}: {number} {'study' if number == 1 else 'studies'}; open it in a browser")
