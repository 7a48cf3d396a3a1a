"""Renders `report.html`: one file that needs no network and no server."""

import gzip
from base64 import b64encode
from functools import cache
from pathlib import Path
from typing import Any

import vl_convert
from jinja2 import Environment, PackageLoader, StrictUndefined

from levelfield.records import write_whole
from levelfield.study import published
from levelfield.study.asked import answer_in
from levelfield.tell.figures.theme import PAGE, config, scale, vega_lite_version
from levelfield.tell.report import provenance
from levelfield.tell.report.differences import differences
from levelfield.tell.report.sections import Chart, picture, sections
from levelfield.tell.report.verdict import measured_on, verdict
from levelfield.tell.results import Results
from levelfield.tell.tables import make_tables

HERE = Path(__file__).parent
HTML = Environment(loader=PackageLoader("levelfield", "tell"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
                   lstrip_blocks=True)  # fmt: skip


def write_report(folder: Path) -> Path:
    """Writes `report.html` of the collected study in `folder`; returns its path."""
    out = Path(folder) / "report.html"
    write_whole(out, page(Results.read(folder)).encode())
    return out


def page(results: Results) -> str:
    """The page as text."""
    tables = make_tables(results)
    shown, first = sections(results, tables), picture(results)
    charts = [*first, *(chart for section in shown for chart in section.charts)]
    colours, dashes = (scale(results, dashed).range for dashed in (False, True))
    return framed(
        "report/page.html.j2",
        charts,
        results=results,
        study=results.study,
        answer=answer_in(results.folder),
        verdict=verdict(results, tables),
        measured_on=measured_on(results),
        picture=first,
        sections=shown,
        cases=list(zip(results.cases, colours, dashes, strict=True)),
        facts=provenance.facts(results),
        software=provenance.software(results),
        runs=provenance.single_runs(results),
        meanings=provenance.departures(results),
        command=provenance.command(results),
        config=provenance.config(results),
        citations=provenance.citations(results.data),
        protocol=provenance.protocol(results),
        models=provenance.models(results),
        published=published.of(results.study.expanded),
        differences=differences(results),
    )


def framed(template: str, charts: list[Chart], **told: Any) -> str:
    """A page as text: what its template makes of `told`, within the frame that draws its charts and sorts its tables."""
    return HTML.get_template(template).render(
        **told,
        charts={chart.id: chart.spec for chart in charts},
        chart_config=config(PAGE),
        style=(HERE / "page.css").read_text(encoding="utf-8"),
        script=(HERE / "page.js").read_text(encoding="utf-8"),
        vega=vega_bundle(),
    )


@cache
def vega_bundle() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script, gzip in base64: 0.9 MB as they are, most of a page."""
    bundle = vl_convert.javascript_bundle(vl_version=vega_lite_version())  # type: ignore[call-arg]  # its stub lacks a default
    return b64encode(gzip.compress(bundle.encode(), mtime=0)).decode()
