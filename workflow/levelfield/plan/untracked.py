"""Params of rules that Snakemake does not compare with those of the last time."""


class Untracked:
    """Where things lie, not what they are."""

    def __init__(self, text: str):
        self.text = text

    def __str__(self) -> str:
        return self.text
