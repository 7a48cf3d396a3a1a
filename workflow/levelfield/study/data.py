"""The part of a config that says where the sequences come from: read by the sources, which need no more of a study."""

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from levelfield import registry

SEEDS = 2**31
"""Every seed is below it."""


class Strict(BaseModel):
    """Refuses keys that it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Data(Strict):
    """Where the sequences come from, how text becomes words, what is kept for validation, and how many are used."""

    source: str | None = Field(
        None,
        description="The kind: `imdb`, `snippets`, `synthetic`, `text` (a table or folder of labelled text), `encoded` (token ids "
        "already made), or one that an installed package registers; `imdb` where empty.",
    )
    file: Path | None = Field(
        None,
        description="The file, or folder, that the source reads: of `imdb` an own `imdb.npz` in Keras's layout (`LEVELFIELD_IMDB` "
        "names one, too); of `text` a `.csv`, `.tsv`, `.jsonl` or `.parquet`, a folder with a folder of `.txt` for each label, or "
        "one that Hugging Face's `datasets` saved; of `encoded` an `.npz` or a `.parquet`.",
    )
    sha256: str | None = Field(None, pattern="^[0-9a-f]{64}$", description="Checksum that the own file must have.")
    otherwise: Literal["snippets", "none"] = Field(
        "snippets",
        description="What to do where IMDB cannot be had: take the VADER study's movie-review snippets, or stop with an error.",
    )
    synthetic: bool = Field(False, description="The same as `source: synthetic`: made from a seed, for timing alone.")
    train: int | None = Field(None, ge=1, description="Training sequences used, the first so many; all where empty.")
    validation: int | None = Field(None, ge=1, description="Validation sequences used; all where empty.")
    text: str | None = Field(None, description="Column of a table that holds the text; of encoded tables the token ids.")
    label: str | None = Field(None, description="Column of a table that holds the label.")
    labels: tuple[str, ...] | None = Field(
        None, min_length=2, max_length=1000, description="The labels used; rows of others are left out. All where empty."
    )
    validation_file: Path | None = Field(None, description="The validation part, of the same kind as `file`.")
    validation_share: float | None = Field(
        None, gt=0, lt=1, description="Share of each label's rows kept for validation, where there is no part of its own: 0.2."
    )
    split_seed: int | None = Field(None, ge=0, lt=SEEDS, description="Which rows that share is: 0.")
    tokenizer: Path | None = Field(
        None,
        description="A `tokenizer.json` of Hugging Face's `tokenizers`; where empty, words: lower case, punctuation off, split on "
        "white space, as Keras's `TextVectorization`.",
    )
    title: str | None = Field(None, min_length=1, max_length=80, description="What own data is called in tables and figures.")
    citation: str | None = Field(None, min_length=1, description="Whom to cite for own data.")
    options: dict[str, bool | int | float | str] | None = Field(
        None, description="What a source that an installed package registers takes beside these."
    )

    @property
    def kind(self) -> str:
        """The name of the source."""
        return self.source or ("synthetic" if self.synthetic else "imdb")

    @field_validator("file", "validation_file", "tokenizer")
    @classmethod
    def at_home(cls, value: Path | None) -> Path | None:
        """`~` is the home folder, as a shell would have it; an empty name is the working folder, which nobody means."""
        if value == Path():
            raise ValueError("that is the working folder: name a file, or a folder of its own")
        try:
            return value and value.expanduser()
        except RuntimeError:
            raise ValueError("there is no such home folder: write the whole path") from None

    @field_validator("source")
    @classmethod
    def known_source(cls, value: str | None) -> str | None:
        if value is not None and value not in registry.sources():
            raise ValueError(f"unknown source; allowed: {', '.join(sorted(registry.sources()))}")
        return value

    @model_validator(mode="before")
    @classmethod
    def synthetic_by_either_name(cls, value: Any) -> Any:
        return value | {"synthetic": True} if isinstance(value, dict) and value.get("source") == "synthetic" else value

    @model_validator(mode="after")
    def what_the_source_takes(self) -> Self:
        """A key that the source does not take would be passed over in silence."""
        if self.synthetic and self.kind != "synthetic":
            raise ValueError(f"`synthetic: true` and `source: {self.source}` exclude each other: leave one out")
        # old configs name a file or `otherwise` beside `synthetic: true`, and it was passed over
        everyone = {"source", "synthetic", "train", "validation", "otherwise", *(("file", "sha256") if self.synthetic else ())}
        takes = registry.sources()[self.kind].takes
        for key in type(self).model_fields:
            if key not in everyone and key not in takes and getattr(self, key) is not None:
                hint = "; write `source: text` or `source: encoded`" if self.source is None and key not in ("options",) else ""
                raise ValueError(
                    f"{key}: the source {self.kind} does not take it; it takes {', '.join(takes) or 'no such keys'}{hint}"
                )
        for key in registry.sources()[self.kind].needs:
            if getattr(self, key) is None:
                raise ValueError(f"{key}: the source {self.kind} needs it")
        for key in ("validation_share", "split_seed"):
            if self.validation_file and getattr(self, key) is not None:
                raise ValueError(f"validation_file and {key} exclude each other: leave one out")
        return self
