"""The commit of the code that runs; standard library alone, since a host that runs containers has no more."""

import os
import subprocess
from pathlib import Path


def shortened(told: str) -> str:
    """A commit as people read it: twelve digits, and `+changes` where its checkout had such."""
    digits, changed, _ = told.partition("+changes")
    return digits[:12] + changed


def commit() -> str | None:
    """The code's git commit, with `+changes` where the checkout was changed since.

    LEVELFIELD_COMMIT, which the rules set for containers, goes first: there is no git in them. None where neither tells.
    """
    told = os.environ.get("LEVELFIELD_COMMIT")
    if told:
        return told
    command = ["git", "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+changes"]
    try:
        answer = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False, encoding="utf-8"
        )
    except FileNotFoundError:
        return None
    return answer.stdout.strip() or None
