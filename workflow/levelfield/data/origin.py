"""Which source a study's data comes from, known before anything is read or made: by kind, checksum and settings.

What a study resolved to is part of it: `data.json` keeps it as `source`, and another one is refused as long as it is not asked
for by name. Standard library alone, since it is asked while planning.
"""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from levelfield import registry
from levelfield.errors import UserError
from levelfield.study.data import Data

IMDB_SHA256 = "69664113be75683a8fe16e3ed0ab59fda8886cb3cd7ada244f7d9544e4676b9f"
"""Of the file that Keras publishes."""
CHECKSUMS = "checksums.json"
"""Beside the downloads: checksums of files by path, size, times and inode, so that large ones are not read at each planning."""
STATE = "state.json"
"""Names the files of a data set that Hugging Face's `datasets` saved."""
AMOUNTS = {"train", "validation"}
"""How much of a source is used: a change of it makes the data anew, and is no other source."""
UNTRACKED = {"file", "validation_file", "tokenizer", "sha256", "title", "citation"}
"""Where a file lies and what it is called: neither changes what is in it."""
REPLACE = "`--config replace=data`"


@dataclass(frozen=True)
class Origin:
    """The source of a study's data: what `data.json` keeps under `source`."""

    kind: str
    sha256: str | None
    """Of the file or folder that it was read from; None where there is none, or it has yet to be downloaded."""
    name: str | None
    """The file's own name, without the folder, which is this machine's affair."""
    named_by: str | None
    """`data.file`, or the variable that named it."""
    settings: dict[str, Any]
    """What else decides what is read, beside the amounts."""


def own_file(data: Data) -> tuple[Path | None, str | None]:
    """The file that the config or the source's variable names, and which of the two; neither where neither does."""
    if data.file:
        return data.file, "data.file"
    variable = registry.sources()[data.kind].variable
    if variable and os.environ.get(variable):
        return Path(os.path.expanduser(os.environ[variable])), variable  # a `~name` of nobody stays, and is no such file
    return None, None


def checksum(path: Path, algorithm: str = "sha256") -> str:
    """Of a file's bytes; of a folder, that of a line for each file in it: its checksum and its place, sorted by place."""
    if path.is_dir():
        lines = (f"{checksum(file, algorithm)}  {file.relative_to(path).as_posix()}\n" for file in files_of(path))
        return hashlib.new(algorithm, "".join(lines).encode("utf-8", "surrogateescape")).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def files_of(folder: Path) -> list[Path]:
    """Every file in a folder, hidden ones apart, sorted by place; what links lead to is in it. Of a data set that Hugging Face's
    `datasets` saved those that belong to it: beside them may lie what it computed and keeps. UserError for a link that leads to nothing
    or back to a folder that it lies in, and for what is neither file nor folder."""
    found: list[Path] = []
    waiting: list[tuple[Path, tuple[Path, ...]]] = [(folder, (folder.resolve(),))]
    while waiting:
        here, above = waiting.pop()
        with os.scandir(here) as entries:
            inside = [entry for entry in entries if not entry.name.startswith(".")]
        belong = _saved_files(here) if any(entry.name == STATE for entry in inside) else None
        for entry in inside:
            path = here / entry.name
            if entry.is_file():
                if belong is None or entry.name in belong:
                    found.append(path)
            elif not entry.is_dir():
                raise UserError(f"{path}: is neither a file nor a folder, or leads to none: take it away")
            elif (inner := path.resolve()) in above:
                raise UserError(f"{path}: leads back to {inner}, in which it lies: take it away")
            else:
                waiting.append((path, (*above, inner)))
    return sorted(found)


def _saved_files(folder: Path) -> set[str] | None:
    """The names of the files of a saved data set, by its own account; None where it gives none, or is damaged, which reading it tells."""
    try:
        named = {file["filename"] for file in json.loads((folder / STATE).read_text(encoding="utf-8"))["_data_files"]}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return {*named, STATE, "dataset_info.json", "dataset_dict.json"} if named else None


def _states(path: Path) -> list[tuple[str | int, ...]]:
    """What changes as a file's content does: of each file its place, size, times and inode."""
    stats = [(file, file.stat()) for file in (files_of(path) if path.is_dir() else [path])]
    return [(str(file), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino) for file, stat in stats]


def known_checksum(path: Path, downloads: Path) -> str:
    """The checksum, as it was found before where no file has changed since."""
    states = _states(path)
    key = hashlib.sha256(repr((str(path.resolve()), states)).encode("utf-8", "surrogateescape")).hexdigest()
    kept = Path(downloads) / CHECKSUMS
    try:
        read = json.loads(kept.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        read = {}
    known: dict[str, str] = read if isinstance(read, dict) else {}
    if key not in known:
        known[key] = checksum(path)
        if _states(path) != states:
            raise UserError(f"{path}: changed while it was read: wait until it is whole")
        part = kept.with_name(f".{CHECKSUMS}.{os.getpid()}.part")
        try:
            kept.parent.mkdir(parents=True, exist_ok=True)
            part.write_text(json.dumps(known), encoding="utf-8")
            part.replace(kept)
        except OSError:  # it is read again next time
            part.unlink(missing_ok=True)
    return known[key]


def origin_of(data: Data, downloads: Path) -> Origin:
    """What the config and the environment name now. Raises UserError where a named file is not there or not the one expected."""
    file, named_by = own_file(data)
    if data.sha256 and not file and not data.synthetic:
        raise UserError(
            f"data.sha256 is set, but {_namers(data)} names no file that it could be of: set one, or unset data.sha256"
        )
    if data.synthetic or file is None or named_by is None:
        return Origin(data.kind, None, None, None, _settings(data, downloads))
    found = _checksum(file, named_by, data, downloads)
    if data.sha256 and found != data.sha256:
        raise UserError(
            f"{file}: refused: found the sha256 {found}, expected {data.sha256} (data.sha256): take the right file, or correct it"
        )
    return Origin(data.kind, found, file.name, named_by, _settings(data, downloads))


def _namers(data: Data) -> str:
    variable = registry.sources()[data.kind].variable
    return f"neither data.file nor {variable}" if variable else "data.file"


def _checksum(path: Path, named_by: str, data: Data, downloads: Path) -> str:
    try:
        _refuse_unfit(path, named_by, data)
        return known_checksum(path, downloads)
    except OSError as error:
        raise UserError(f"{error.filename or path}: cannot be read: {error.strerror or error}; {named_by} names it") from None


def _refuse_unfit(path: Path, named_by: str, data: Data) -> None:
    """Raises UserError, before a byte of it is read, for what is not there or is no such file as the source reads."""
    what, alone = "what is there", named_by == "data.tokenizer" or data.kind == "imdb"
    if alone:
        what = "an imdb.npz in Keras's layout" if data.kind == "imdb" else "a tokenizer.json"
    if not path.exists():
        raise UserError(f"{path}: no such file; {named_by} names it: give the path of {what}, or unset it")
    if alone and path.is_dir():
        raise UserError(f"{path}: is a folder; {named_by} names it: give the path of {what}")
    if not (path.is_file() or path.is_dir()):
        raise UserError(f"{path}: is neither a file nor a folder; {named_by} names it: give the path of one")
    endings, kind = registry.sources()[data.kind].endings, path.suffix.lower()
    if endings and not alone and path.is_file() and kind not in endings:
        raise UserError(
            f"{path}: unknown kind of file {kind or 'without ending'!r}; allowed: {', '.join(endings)}, or a folder; {named_by} names it"
        )


def _settings(data: Data, downloads: Path) -> dict[str, Any]:
    """All of the config's `data` that decides what is read: paths as checksums, without the amounts and what has no effect."""
    told: dict[str, Any] = json.loads(
        data.model_dump_json(exclude_none=True, exclude=UNTRACKED | AMOUNTS | {"source", "synthetic", "otherwise"})
    )
    for key in ("validation_file", "tokenizer"):
        if path := getattr(data, key):
            told[key] = _checksum(path, f"data.{key}", data, downloads)
    return told


def tracked(data: Data, origin: Origin) -> str:
    """JSON of what the data depends on: as it changes, and only then, the data is made anew."""
    told = json.loads(data.model_dump_json(exclude_none=True, exclude=UNTRACKED))
    if data.kind in ("imdb", "synthetic"):  # said in two ways
        told = {key: value for key, value in told.items() if key != "source"} | {"synthetic": data.kind == "synthetic"}
    told |= origin.settings
    # Keras's own file is the same whether a person names it or it is downloaded
    return json.dumps(told | ({"sha256": origin.sha256} if origin.sha256 not in (None, IMDB_SHA256) else {}), sort_keys=True)


def recorded(folder: Path) -> Origin | None:
    """The source that the study in `folder` was made from, by its `data.json`; None where it has none as yet."""
    file = Path(folder) / "data" / "data.json"
    if not file.exists():
        return None
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
        if "source" in told:
            return Origin(**told["source"])
        return _before_sources(told)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(
            f"{file}: damaged ({error}), so that nobody can tell what the study was made from: put the right one back, give the "
            f"study another name, or make its data anew with {REPLACE}"
        ) from None


NAMED = {"IMDB": "imdb", "VADER": "snippets", "synthetic": "synthetic"}
"""How the corpus of each source of this program's own begins."""


def kind_of(described: dict[str, Any]) -> str | None:
    """The source by a `data.json`; where it was written before it said it, by the name that this program gave the corpus."""
    source = described.get("source")
    if isinstance(source, dict):
        kind: str | None = source.get("kind")
        return kind
    return next((kind for name, kind in NAMED.items() if described["corpus"].startswith(name)), None)


def is_imdb(described: dict[str, Any]) -> bool:
    """Whether the data is IMDB: Keras's own file, or one that was given as IMDB and whose owner calls it so."""
    return kind_of(described) == "imdb" and described["corpus"].startswith("IMDB")


def _before_sources(told: dict[str, Any]) -> Origin:
    """The source by a `data.json` that was written before it said it."""
    corpus, sha256 = told["corpus"], told["source_sha256"]
    if sha256 is None:
        return Origin("synthetic", None, None, None, {})
    if corpus.startswith("VADER"):
        return Origin("snippets", sha256, None, None, {})
    return Origin("imdb", sha256, None, told["why"].partition(" names it")[0] if "names it" in told["why"] else None, {})


def agrees(made: Origin, now: Origin, data: Data) -> bool:
    """Whether what is named now is what the study was made from."""
    if now.sha256:
        return now.sha256 == made.sha256 and now.kind == made.kind and now.settings == made.settings
    if now.kind == "imdb" and made.kind == "snippets":
        return data.otherwise == "snippets"
    return now.kind == made.kind and now.settings == made.settings and (now.kind != "imdb" or made.sha256 == IMDB_SHA256)


def refuse_another(folder: Path, data: Data, downloads: Path) -> None:
    """Raises UserError, before anything is replaced, where a study was made from another source than the one named now."""
    made = recorded(folder)
    if made is None:
        return
    now = origin_of(data, downloads)
    if not agrees(made, now, data):
        raise UserError(
            f"{Path(folder) / 'data'}: made from {_told(made)}; now it would be {_told(now)}. Nothing was replaced. "
            f"Three ways out: {_again(made, now)}; give the study another name; or replace its data, starts and runs with {REPLACE}"
        )


def _told(origin: Origin) -> str:
    """A source in words."""
    name = f"{origin.kind} {origin.name}" if origin.name else origin.kind
    parts = [f"sha256 {origin.sha256[:12]}…"] if origin.sha256 else []
    parts += [f"named by {origin.named_by}"] if origin.named_by else []
    if origin.kind == "imdb" and not origin.sha256:
        parts.append("downloaded, since no file is named")
    parts += [f"{key}: {value}" for key, value in origin.settings.items()]
    return f"{name} ({', '.join(parts)})" if parts else name


def _again(made: Origin, now: Origin) -> str:
    if made.sha256 and made.sha256 != now.sha256 and made.named_by and not made.named_by.startswith("data."):
        return f"set {made.named_by} to that file again"
    if now.named_by and not now.named_by.startswith("data.") and made.named_by != now.named_by:
        return f"unset {now.named_by}"
    return "write `data` in the config as it was"
