"""A key that stands twice in a config: YAML and JSON take the last one in silence, here it is refused."""

import json
import reprlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from levelfield.errors import UserError

MERGE = "tag:yaml.org,2002:merge"
"""Of the key `<<`, which may stand twice: what each of them names is taken in."""
UNREAD = (OSError, ValueError, RecursionError, yaml.YAMLError)
"""What is raised for a file that cannot be read, or is neither JSON nor YAML."""
LEAVE_OUT = "leave one of them out"


class _DoubledError(Exception):
    """The key that stands twice in an object of a JSON text."""


def parsed(file: Path, text: str) -> Any:
    """What a YAML text holds. file: where it comes from. Raises UserError where a key stands twice, and yaml.YAMLError, ValueError
    or RecursionError where it is no YAML."""
    loader = yaml.SafeLoader(text)
    try:
        root = loader.get_single_node()
        _refuse_within(root, file)
        return None if root is None else loader.construct_document(root)
    finally:
        loader.dispose()


def refuse_doubled_keys(file: Path) -> None:
    """Raises UserError where a key stands twice in a JSON or YAML file. One that cannot be read, or is neither, is passed over:
    whoever reads it tells so."""
    with suppress(*UNREAD):
        text = file.read_text(encoding="utf-8")
        try:
            json.loads(text, object_pairs_hook=_once)
        except _DoubledError as doubled:
            with suppress(*UNREAD):  # most JSON is YAML, too, but for its tabs: then the lines are known
                _refuse_within(yaml.compose(text.replace("\t", " "), yaml.SafeLoader), file)
            raise UserError(f"{file}: {_shown(str(doubled))}: stands twice: {LEAVE_OUT}") from None
        except ValueError:  # no JSON
            _refuse_within(yaml.compose(text, yaml.SafeLoader), file)


def _once(pairs: list[tuple[str, Any]]) -> None:
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            raise _DoubledError(key)
        seen.add(key)


def _refuse_within(root: Any, file: Path) -> None:
    """root: the tree that YAML makes of a text, in which an alias is the node that it names; None of an empty text."""
    waiting: list[Any] = [root]
    seen: set[int] = set()
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            waiting += node.value
        elif isinstance(node, yaml.MappingNode):
            lines: dict[tuple[str, str], int] = {}
            for key, value in node.value:
                waiting += [key, value]
                if isinstance(key, yaml.ScalarNode) and key.tag != MERGE:
                    name, line = (key.tag, key.value), key.start_mark.line + 1
                    if name in lines:
                        raise UserError(
                            f"{file}: {_shown(key.value)}: stands twice, in line {lines[name]} and in line {line}: {LEAVE_OUT}"
                        )
                    lines[name] = line


def _shown(key: str) -> str:
    """The key, cut and quoted where it is odd."""
    return key if len(key) <= 60 and key.isprintable() and key.strip() else reprlib.repr(key)
