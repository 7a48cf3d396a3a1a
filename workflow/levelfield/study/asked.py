"""Questions that were asked elsewhere: the studies of `config/asked/`, and the page that says what each one answered."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

import yaml

from levelfield.errors import UserError
from levelfield.study.config import Study, read_study

ROOT = Path(__file__).resolve().parents[3]
ASKED = Path("config/asked")
PAGE = ASKED / "README.md"
KEPT = Path("results/reference")
ANSWER = "answer.md"
"""In a study's folder: what it answered, in a sentence that a person wrote who had read its verdict."""
THREAD = re.compile(r"([\w.-]+/([\w.-]+))#(\d+)")

INTRODUCTION = """# Asked elsewhere, answered here

Each file here is a study that puts one question: people asked it in public, all but one, which our own data raised. Most are sized for
minutes on two cores of a CPU. The verdict is in `results/<study>/README.md`.

An answer is kept with the runs that bear it. Write it in a sentence into `results/<study>/answer.md`, type
`levelfield keep results/<study> results/reference/cpu/<study>`, and `levelfield schema`, which writes this page.
"""


@dataclass(frozen=True)
class Answer:
    """What the kept results of a study say."""

    device: str
    """`cpu` or `cuda`: what its runs used."""
    measured: str
    """On which machine, how many sequences, seeds and sessions."""
    folder: Path
    """From the checkout's root."""
    words: str


def questions(root: Path = ROOT) -> dict[str, Study]:
    """The studies of `config/asked/` by the path of their config, in the order of their names."""
    files = sorted((root / ASKED).glob("*.yaml"))
    return {
        file.relative_to(root).as_posix(): read_study(yaml.safe_load(file.read_text(encoding="utf-8")), str(file))
        for file in files
    }


def config_of(study: str) -> str:
    """The path of a study's config in this checkout."""
    file = ASKED / f"{study}.yaml"
    return file.as_posix() if (ROOT / file).is_file() else f"config/{study}.yaml"


def answers(study: str, root: Path = ROOT) -> list[Answer]:
    """What was kept of a study, one a machine; `words` is empty where nobody has written it as yet."""
    import pandas as pd

    found = []
    for folder in sorted(file.parent for file in (root / KEPT).glob(f"*/{study}/runs.parquet")):
        columns = ["status", "device", "gpu", "cpu", "threads", "seed", "session"]
        runs = pd.read_parquet(folder / "runs.parquet", columns=columns)
        runs = runs[runs["status"] == "finished"]
        if len(runs):
            kinds = {
                row.gpu if row.device == "cuda" else f"{row.cpu}, {row.threads:.0f} threads": None for row in runs.itertuples()
            }
            data = json.loads((folder / "data/data.json").read_text(encoding="utf-8"))
            counts = {"seed": runs["seed"].nunique(), "session": runs["session"].nunique()}
            numbers = [f"{count} {what}{'' if count == 1 else 's'}" for what, count in counts.items() if count]
            measured = ", ".join([" and ".join(map(str, kinds)), f"{data['train_sequences']:,} training sequences", *numbers])
            found.append(Answer(runs["device"].iloc[0], measured, folder.relative_to(root), answer_in(folder) or ""))
    return found


def answer_in(folder: Path) -> str | None:
    """The sentence of a study's folder in one line; None where there is none."""
    file = Path(folder) / ANSWER
    return " ".join(file.read_text(encoding="utf-8").split()) or None if file.is_file() else None


def linked(source: str) -> str:
    """Markdown of a source: each thread, `owner/repository#number`, as a link."""
    return THREAD.sub(lambda found: f"[{found[2]}#{found[3]}]({address(found)})", source)


def address(thread: re.Match[str]) -> str:
    """Where a thread that `THREAD` found is read."""
    return f"https://github.com/{thread[1]}/issues/{thread[3]}"


def asked_readme(root: Path = ROOT) -> str:
    """The page: each question with its source, its command and its answers."""
    parts = [INTRODUCTION]
    for path, study in questions(root).items():
        if study.question is None or study.source is None:
            raise UserError(f"{path}: needs both `question` and `source`: what is asked, and who asks")
        lines = [
            f"## {study.question}\n",
            f"Asked: {linked(study.source)}. Study: [`{study.study}`]({Path(path).name}).\n",
            f"```\nsnakemake --cores 2 --configfile {path}\n```\n",
            *_told(study, answers(study.study, root)),
        ]
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def _told(study: Study, found: list[Answer]) -> list[str]:
    """A line for each answer, and one for each kind of device that has yet to give one."""
    up = "../" * len(ASKED.parts)
    lines = [
        f"- {one.measured}: {one.words or 'run, and not yet put into words.'} [The runs]({up}{one.folder.as_posix()}/README.md)"
        for one in found
    ]
    for device, where in (("cpu", "On a CPU"), ("cuda", "On a GPU")):
        if study.device in ("auto", device) and not any(one.device == device for one in found):
            lines.append(f"- {where}: not yet run.")
    return lines
