"""Configs that went wrong: shipped ones changed at random places (types, ranges, unknown keys), YAML's tricks, odd names and bytes."""

import copy
import random
from collections.abc import Iterator
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = sorted(file for file in (ROOT / "config").glob("*.yaml") if file.name != "config.yaml")
NAMES = [
    "../outside", "/tmp/outside", "..", ".", "", " ", "a/b", "a b", "a'b", 'a"b', "$(touch hit)", "`touch hit`", "; touch hit",
    "a\nb", "a\tb", "a\0b", "~", "-rf", "--config", "*", "?", "{x}", "{{x}}", "%s", "a|b", "a>b", "a&b", "!x", "é", "日本", "\u202e",
    "\ud800", "x" * 300, "x" * 100_000, "con", "null", "true", "1e5", "results", "torch\u200b", "name:", "#", "\\", "a,b", "[a]",
]  # fmt: skip
NUMBERS = [
    0, -1, 1, 2, 3.7, -0.0, 10**9, 2**31, 2**63, 2**64, 10**30, 10**400, 1e308, -1e308, float("inf"), float("-inf"), float("nan"),
    0.5, 1e-320, True, False,
]  # fmt: skip
THINGS = [
    None, [], {}, [[]], [{}], {"": ""}, {1: 2}, {None: None}, {"a": {"b": {"c": []}}}, [None], ["torch"] * 3, "torch", "cnn", b"raw",
    [1, "a", None], {"name": "torch"}, {"backend": "torch", "name": "../x"}, {"backend": []}, list(range(2000)), ["x"] * 2000,
]  # fmt: skip
TRICKS = {
    "empty": b"",
    "a comment": b"# nothing\n",
    "a list": b"- study\n- cases\n",
    "a word": b"study\n",
    "a number": b"42\n",
    "two documents": b"study: a\ncases: [torch]\n---\nstudy: b\ncases: [torch]\n",
    "a key twice": b"study: a\nstudy: b\ncases: [torch]\n",
    "a key twice within": b"study: a\ncases: [torch]\nprotocol: {epochs: 1, 'epochs': 2}\n",
    "a key twice in a case": b"study: a\ncases:\n  - torch\n  - backend: jax\n    name: b\n    backend: flax\n",
    "a key twice in JSON": b'{"study": "a",\n "cases": ["torch"],\n "study": "b"}\n',
    "a tab": b"study: a\n\tcases: [torch]\n",
    "unclosed": b"study: {a: [1, 2\n",
    "half a string": b'study: "a\n',
    "no text": bytes(range(256)),
    "NUL": b"study: a\0\ncases: [torch]\n",
    "latin-1": "study: größe\ncases: [torch]\n".encode("latin-1"),
    "utf-16": "study: a\ncases: [torch]\n".encode("utf-16"),
    "byte order mark": "\ufeffstudy: a\ncases: [torch]\n".encode(),
    "carriage returns": b"study: a\r\ncases: [torch]\r\n",
    "an object of Python": b"study: !!python/object/apply:os.system ['touch hit']\ncases: [torch]\n",
    "a name of Python": b"study: !!python/name:os.system\ncases: [torch]\n",
    "an unknown tag": b"study: !secret a\ncases: [torch]\n",
    "itself": b"study: a\ncases: &a [*a]\n",
    "itself as a key's value": b"&a\nstudy: a\ncases: [torch]\ndata: *a\n",
    "an alias of nothing": b"study: *a\ncases: [torch]\n",
    "a merge": b"x: &x {study: a}\n<<: *x\ncases: [torch]\n",
    "two merges": b"x: &x {study: a}\ny: &y {cases: [torch]}\n<<: *x\n<<: *y\nstudy: b\n",
    "a merge of a list": b"<<: [1, 2]\nstudy: a\ncases: [torch]\n",
    "a billion laughs": b"a0: &a0 [ha, ha]\n"
    + b"".join(b"a%d: &a%d [%s]\n" % (n, n, b", ".join([b"*a%d" % (n - 1)] * 9)) for n in range(1, 10))
    + b"study: a\ncases: *a9\n",
    "deep": b"study: " + b"[" * 1000 + b"]" * 1000 + b"\ncases: [torch]\n",
    "deep keys": b"study: a\ncases: [torch]\ndata: " + b"{a: " * 300 + b"1" + b"}" * 300 + b"\n",
    "a date": b"study: 2026-01-01\ncases: [torch]\n",
    "sexagesimal": b"study: a\ncases: [torch]\nseeds: [1:30, 0x10, 0o7, 1_000]\n",
    "yes and no": b"study: no\ncases: [yes]\nparity: on\n",
    "binary": b"study: !!binary aGk=\ncases: [torch]\n",
    "a set": b"study: a\ncases: !!set {torch, jax}\n",
    "a digit too many": b"study: a\ncases: [torch]\nseeds: [" + b"9" * 5000 + b"]\n",
    "a megabyte": b"study: a\ncases: [torch]\n# " + b"x" * 1_000_000 + b"\n",
}
TWICE = {
    "a key twice": "study: stands twice, in line 1 and in line 2: leave one of them out",
    "a key twice within": "epochs: stands twice, in line 3 and in line 3: leave one of them out",
    "a key twice in a case": "backend: stands twice, in line 4 and in line 6: leave one of them out",
    "a key twice in JSON": "study: stands twice, in line 1 and in line 3: leave one of them out",
}
"""The tricks of which YAML's loaders and JSON's would take the last key in silence, and what is told of each."""


def places(value, path: tuple = ()) -> Iterator[tuple]:
    """The path of every key and item of a config."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, below in inner:
        yield (*path, key)
        yield from places(below, (*path, key))


def mutant(seed: int) -> tuple[str, dict]:
    """A shipped config with one to three changes that follow from the seed, and what they were."""
    rng = random.Random(seed)
    file = rng.choice(SHIPPED)
    config, told = yaml.safe_load(file.read_text(encoding="utf-8")), [file.name]
    for _ in range(rng.choice([1, 1, 2, 3])):
        path = rng.choice(list(places(config)) or [("study",)])
        holder = config
        for key in path[:-1]:
            holder = holder[key]
        kind = rng.choice(["name", "number", "thing", "gone", "another key", "unknown key", "doubled", "key"])
        value = copy.deepcopy(rng.choice({"number": NUMBERS, "thing": THINGS}.get(kind, NAMES)))
        told.append(f"{'.'.join(map(str, path))}: {kind} {str(value)[:40]!r}")
        if kind in ("name", "number", "thing"):
            holder[path[-1]] = value
        elif kind == "gone":
            holder.pop(path[-1])
        elif kind == "another key" and isinstance(holder, dict):
            holder[str(path[-1]) + rng.choice(["x", "_", " ", "."])] = holder.pop(path[-1])
        elif kind == "unknown key" and isinstance(holder, dict):
            holder[value] = rng.choice(NUMBERS + NAMES)
        elif kind == "key" and isinstance(holder, dict):
            holder[rng.choice(["study", "data", "protocol", "cases", "vary", "seeds", "images", "device"])] = value
        elif kind == "doubled":
            holder[path[-1]] = [holder[path[-1]]] * 2
    return "; ".join(told), config
