"""The config's JSON schema and `config/README.md`, made from the classes in config.py, so that neither can drift from them."""

import json
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from levelfield import registry
from levelfield.study.config import Study
from levelfield.study.departures import Departure

SCHEMA = "workflow/schemas/config.schema.json"
CONFIG_README = "config/README.md"

INTRODUCTION = """# Studies

One file here is one study; `snakemake` runs the one that `config.yaml` names, `snakemake --configfile config/quick.yaml`
another. A study of one's own is one more file: its name, its cases, its seeds; whatever is left out has the default below.

| file | study |
|---|---|
| `article.yaml` | the reference experiment, both frameworks running the same program; the default |
| `quick.yaml` | the same pipeline on 768 of the reviews, in minutes |
| `frameworks.yaml` | seven backends |
| `models.yaml` | three models, seven backends |
| `reproduction.yaml` | the article's two programs bug for bug, and corrected, on all reviews |
| `ablation.yaml` | what each departure of the published comparison is worth |
| `reproduction-transformer.yaml` | a second published comparison, of the Transformer in Keras and in JAX, bug for bug and corrected |
| `ablation-transformer.yaml` | what each difference of that comparison is worth |
| `huge-pages.yaml` | PyTorch on a CPU, its memory in pages of 4 KiB and of 2 MiB |
| `kept-memory.yaml` | PyTorch and TensorFlow on a CPU, their memory kept from step to step |
| `options.yaml` | each way of using a framework against that framework's default, on a CPU |
| `scaling.yaml`, `scaling-cpu.yaml` | batch sizes and lengths, on made-up sequences: for timing alone, on a GPU and on a CPU |
| [`asked/`](asked/README.md) | questions that people asked in public, one a file, with their answers |

What is run again after a change: what depends on it. Another seed or case adds its runs; tables, figures and page are made anew as the
code that makes them changes. What would make finished runs anew (a setting of the protocol, other containers or none, another rule) is
refused with its reason, unless it is asked for by name: `--config replace=runs`; other data with `replace=data`. A run records the
commit that it ran with. Threads, memory, partitions and GPUs are no part of a study: they stand on
the command line or in a profile.

Runs go in blocks: all cases of one seed, and of one size where a size varies, in an order drawn from the seed (of seeds 0 and 1, 2 and 3, … one has the other's reversed), so that no case is
always the first or always meets the machine at its worst. A run that the machine's noise or its own checks spoilt is taken again, at
most `retakes` times, whatever it learnt; what was spoilt stays in `takes/` of the run's folder. On a machine that is never quiet set
`retakes: 0`: then the runs are told, and nothing is claimed from them. `twin: true` runs the first case twice, under two names: how
far these two come apart is what no claim can be smaller than.

How many seeds is decided before the results are seen (`levelfield plan` tells what they could show): a study that goes on until something
is shown shows something too often. More seeds later, on another day or another machine, are new blocks of the same study; each run says on which host and in which session
it was made. `sessions: 2` asks for that from the start: the first half of the seeds is run, and what is told says what the second half
waits for: the same command, typed after a break of an hour, after a restart, or on another host. With seeds added later the halves are
drawn anew, and what has been run stays.

`vary: {devices: [1, 2, 4]}` trains each case on one, two and four devices, the batch shared between them:
[what each framework does there](../workflow/levelfield/backends/README.md#several-devices-in-one-run).

Where an epoch's sequences lie is a part of the protocol: `data_on: host`, each batch goes to the framework within its step; `data_on:
device`, all are put on the device at the start of the epoch, within its time. Both compute the same to the bit on a CPU. Keras on TensorFlow
and on JAX takes what it is given back to the host, and cannot have them on the device; an epoch in one call (`jax-scan`, `flax-scan`)
can have them nowhere else. What cannot be is refused when the config is read.

A case is a backend's name, or a mapping: `{backend: torch, departures: [second-bias], settings: {batch_size: 64}, name: mine}`.
"""

OWN_DATA = """
## Own data

`levelfield new reviews.csv --text review --label stars` writes a first config from a file (from an `.npz` of token ids, too), `levelfield data config/reviews.yaml`
tells classes, lengths, padding, unknown words and duplicates before anything is trained, with `--plot reviews.svg` in a figure, too,
`snakemake --configfile config/reviews.yaml` runs it. What was encoded is kept by its content, in `results/.downloads/encoded` (8 GB at
most), so that the same file with the same settings is read once, however many studies use it. As much by hand:

```yaml
study: reviews
data: {source: text, file: reviews.csv, text: review, label: stars, title: Reviews of my own, citation: whom to cite}
protocol: {model: {name: bilstm, outputs: 3}} # as many as there are labels; 1 for two
cases: [keras-tensorflow, torch]
vary: {model: [bilstm, cnn, transformer]} # if it is to be several models: each has as many outputs
```

| `data.file` of `source: text` | text and label |
|---|---|
| `.csv`, `.tsv`, `.jsonl`, `.parquet` | the columns that `data.text` and `data.label` name, else `text` and `label` |
| a folder of folders | a folder for each label, a `.txt` for each text, in folders of its own where there are such |
| a folder that Hugging Face's `datasets` saved by `save_to_disk` | columns, as of a table; names of a ClassLabel are the labels |

A folder with `train` beside `validation`, `val`, `dev`, `eval` or `test` has a validation part of its own; a part of another name is
named in `data.validation_file`. Else a share of each label's rows is drawn by a seed. Labels are text, numbered in sorted order; where
`data.labels` names those used, rows of others, and rows without one, are left out, whatever their text is. Labels that look alike and
differ in Unicode's normal form alone are refused. A `.tsv` has no quoting unless its heading is
quoted: a quotation mark is a sign like any other. Words are those of Keras's
`TextVectorization`: lower case, punctuation off, split on white space, all three of ASCII; the vocabulary is that of the training part
alone, most frequent first, and what it does not have is id 2. `source: encoded` takes token ids as they are, from an `.npz` with
`x_train`, `y_train`, `x_test`, `y_test`, as `load_data` gives them, or from lists in the column `ids` of a `.parquet`; id 0 is padding.
Ids not below the vocabulary are refused; of `load_data` they become 2, as it makes them itself, and are counted.

A file may be larger than memory: that holds the distinct words and some numbers a row, and the disk, in the study's folder, the words as
numbers and the sequences twice while they are put into their order. 5.0 GB (2.65 million rows) became arrays within a control group of 1.5 GB, page
cache included, in 69 s on two cores of an AMD EPYC, and in 63 to 66 s without that limit; reading the file and splitting it into words with pyarrow alone
took 32 to 36 s.

A study stays with its source: `results/<study>/data/data.json` keeps its kind, checksum and settings. Where the file or the variable
names another, nothing is run and the ways out are told; `--config replace=data` replaces it, with starts and runs. Where a file lies
and what `title` says is no part of that.
"""

MODELS = """
## Models

`protocol: {model: transformer}` takes a model with its published sizes, `protocol: {model: {name: bilstm, units: 32}}` others.
"""


def schema_text() -> str:
    """The JSON schema of a config."""
    return json.dumps(Study.model_json_schema(), indent=2, ensure_ascii=False) + "\n"


def config_readme() -> str:
    """The page of every key, of every model's sizes, and of every departure."""
    schema = Study.model_json_schema()
    lines = [INTRODUCTION, "## Keys\n", "| key | type | default | meaning |", "|---|---|---|---|"]
    lines += [f"| `{key}` | {kind} | {default} | {text} |" for key, kind, default, text in _keys(schema, schema)]
    lines += [OWN_DATA, MODELS.lstrip("\n"), "| model | size | default | meaning |", "|---|---|---|---|"]
    for name, model in registry.models().items():
        for size in fields(model.sizes):
            if size.name != "name":
                lines.append(f"| `{name}` | `{size.name}` | `{size.default}` | {size.metadata['description']} |")
    lines += ["\n## Departures\n", "| name | meaning | from | backends |", "|---|---|---|---|"]
    for name, meanings in registry.departures().items():
        for departure in meanings:
            lines.append(f"| `{name}` | {departure.meaning} | {departure.reference} | {_makers(name, departure)} |")
    return "\n".join(lines) + "\n"


def _makers(name: str, departure: Departure) -> str:
    """The backends that can make a departure, and with which models where it is not all."""
    able = {
        backend: [
            model
            for model in registry.models()
            if registry.supports(backend, model) and registry.possible(backend, model).get(name) == departure
        ]
        for backend in registry.backends()
    }
    able = {backend: models for backend, models in able.items() if models}
    models = list(dict.fromkeys(model for mine in able.values() for model in mine))
    told = "all" if len(able) == len(registry.backends()) else ", ".join(able)
    return told if len(models) == len(registry.models()) else f"{told}; {' and '.join(models)}"


def _keys(model: dict[str, Any], schema: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str, str, str]]:
    """(key, type, default, meaning) of each key, those of nested classes after their own; a model's sizes have their own table."""
    for name, value in model["properties"].items():
        nested = _nested(value, schema)
        default = (
            "" if name in model.get("required", []) else f"`{json.dumps(value.get('default'))}`" if not nested else "as below"
        )
        if value.get("default", 0) is None:
            default = "empty"
        if _is_model(value):
            default = "empty" if "anyOf" in value else "`bilstm`"
        yield f"{prefix}{name}", _type(value, schema), default, value.get("description", "")
        if nested:
            yield from _keys(nested, schema, f"{prefix}{name}[]." if value.get("type") == "array" else f"{prefix}{name}.")


def _is_model(value: dict[str, Any]) -> bool:
    return any("discriminator" in one for one in (value, *value.get("anyOf", ())))


def _nested(value: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any] | None:
    reference = value.get("$ref") or value.get("items", {}).get("$ref")
    return schema["$defs"][reference.rpartition("/")[2]] if reference else None


def _type(value: dict[str, Any], schema: dict[str, Any]) -> str:
    if _is_model(value):
        return f"a model: {' / '.join(f'`{name}`' for name in registry.models())}, or a mapping with its `name` and sizes"
    if "anyOf" in value:
        return " or ".join(_type(one, schema) for one in value["anyOf"] if one.get("type") != "null")
    if "enum" in value:
        return " / ".join(f"`{one}`" for one in value["enum"])
    if value.get("type") == "array":
        return "list" if "$ref" in value.get("items", {}) else f"list of {_type(value.get('items', {}), schema)}"
    return "mapping" if "$ref" in value or value.get("type") == "object" else value.get("type", "any")
