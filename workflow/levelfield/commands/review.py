"""Prints a training review, decoded, with its label."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from levelfield.data.corpus import find_corpus
from levelfield.data.encode import decode
from levelfield.data.prepare import review
from levelfield.errors import UserError
from levelfield.study.data import Data
from levelfield.study.protocol import Protocol
from levelfield.tell.outcomes import load_study
from levelfield.tell.results import load_data

DEFAULT_STUDY = Path("results/article")


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("number", type=int, help="counted from 0, in the order in which the study's data has them")
    parser.add_argument("--study", type=Path, default=DEFAULT_STUDY, metavar="DIR", help="whose data (default: %(default)s)")
    parser.add_argument("--downloads", type=Path, default=Path("results/.downloads"), metavar="DIR")


def run(args: Namespace) -> None:
    file = args.study / "study.json"
    if not file.exists() and args.study != DEFAULT_STUDY:
        raise UserError(f"{args.study}: no study.json there; name the folder of a study that was run, as results/article")
    study = load_study(args.study) if file.exists() else None
    data, vocabulary = (study.data, study.protocol.vocabulary) if study else (Data(), Protocol().vocabulary)
    corpus = find_corpus(args.downloads, data, vocabulary=vocabulary, words=True)
    described = (args.study / "data" / "data.json").exists()
    if described and (made_from := load_data(args.study)["source_sha256"]) != corpus.source_sha256:
        raise UserError(
            f"{args.study}: made from another file (sha256 {made_from}) than what is found now: {corpus.corpus} "
            f"({corpus.source_sha256}), {corpus.why}; set data.file or LEVELFIELD_IMDB as it was then"
        )
    ids, label = review(corpus, args.number, vocabulary)
    print(f"{corpus.title}: training review {args.number}, label {label} ({corpus.labels[label]}), {len(ids)} tokens")
    print("ids: " + ", ".join(map(str, ids)))
    if corpus.words is None:
        print("text: not to be had, since no word index is at hand (for an own file: imdb_word_index.json beside it)")
    else:
        print(f"text: {decode(ids, corpus.words)}")
