"""Renders `index.html` over the collected studies of a folder: what was asked and answered, who is fastest where, all records."""

from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

from markupsafe import Markup, escape
from tqdm import tqdm

from levelfield.errors import UserError
from levelfield.records import write_whole
from levelfield.study.asked import THREAD, address
from levelfield.tell.report.render import HTML, framed
from levelfield.tell.report.sections import PAGE, Chart, charted
from levelfield.tell.site.standings import chart, colours_of, left_out, standings
from levelfield.tell.site.studies import Told, apart, collected, machines, records, told, versions

HTML.filters["linked"] = lambda source: Markup(
    THREAD.sub(lambda found: f'<a href="{address(found)}">{found[2]}#{found[3]}</a>', str(escape(source)))
)
HTML.filters["quoted"] = quote


def write_site(folder: Path, out: Path, refuse: Callable[[Path], None]) -> tuple[int, dict[str, str]]:
    """Writes the page over the studies in `folder` to `out`. Returns how many it tells, and those that it cannot or must not tell, with
    the reason. refuse: raises UserError for a study that must not be told, given its folder.

    Raises UserError where there is no study to tell.
    """
    found: list[Told] = []
    unread: dict[str, str] = {}
    for place in tqdm(list(collected(folder)), desc="studies", unit="study", disable=None, leave=False):
        try:
            refuse(place)
            found.append(told(place, out.parent))
        except UserError as error:
            unread[place.as_posix()] = str(error)
    if not found:
        why = "; ".join(unread.values()) or "run one, or name a folder such as `results/reference`"
        raise UserError(f"{folder} holds no study that was collected and can be read: {why}")
    write_whole(out, page(apart(found), unread).encode())
    return len(found), unread


def page(studies: list[Told], unread: dict[str, str]) -> str:
    """The page as text; `unread`: folders of studies that could not be read, with the reason."""
    finished = [one for one in studies if len(one.runs)]
    rows = standings(finished)
    colours = colours_of(rows)
    charts: list[Chart] = []
    for model, mine in rows.groupby("model", sort=False):
        charts += charted(f"standings-{len(charts)}", chart(mine, colours, str(model), PAGE), wide=True)
    return framed(
        "site/site.html.j2",
        charts,
        asked=[one for one in studies if one.results.study.question],
        others=[one for one in studies if not one.results.study.question],
        runs=sum(len(one.runs) for one in studies),
        standings=charts,
        left_out=left_out(finished, rows),
        records=records(finished) if finished else None,
        machines=machines(finished) if finished else None,
        versions=versions(finished) if finished else None,
        unread=unread,
        number=len(studies),
    )
