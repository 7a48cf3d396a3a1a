"""What the page says of models, settings and published programs comes from the study's cases."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from made_study import EVERY_KIND, TRANSFORMERS, make_study

from levelfield import registry
from levelfield.data.sources.imdb import MAAS
from levelfield.data.sources.snippets import HUTTO
from levelfield.study.config import read_study
from levelfield.study.protocol import Case, Protocol
from levelfield.study.published import PUBLICATIONS, TRANSFORMER
from levelfield.tell.collect import collect
from levelfield.tell.report import provenance
from levelfield.tell.report.differences import differences
from levelfield.tell.report.render import page
from levelfield.tell.results import Results
from levelfield.tell.tables.learning import repeated

CONFIGS = Path(__file__).parents[2] / "config"


def made(folder, *cases, **options) -> Results:
    collect(make_study(folder, cases, **{"steps": 40} | options))
    return Results.read(folder)


def test_why_published_figures_differ_is_told_by_the_programs_departures_and_settings(tmp_path):
    results = made(tmp_path / "s", *TRANSFORMERS, steps=782, protocol={"model": "transformer"})
    example, tutorial = differences(results).programs
    assert (example.case, example.side, example.settings) == ("keras-example", "Keras", {})
    assert {*tutorial.departures} == TRANSFORMER.departures["JAX"]
    assert tutorial.settings == {
        "learning rate": "0.0001 instead of 0.001",
        "batch size": "128 instead of 32",
        "epochs": "10 instead of 2",
    }
    text = page(results)
    assert "Why the published figures differ" in text and "10 instead of 2" in text and "cannot fall below ln(1" in text
    assert "clip-norm" not in text and "extra-tanh" not in text  # departures that nobody makes here


@pytest.mark.parametrize("publication", PUBLICATIONS, ids=lambda publication: publication.model)
def test_the_shipped_configs_repeat_what_is_known_of_the_published_programs(publication):
    for name in publication.studies:
        study = read_study(yaml.safe_load((CONFIGS / f"{name}.yaml").read_text()), name)
        found = {case.name for case in study.expanded if publication.repeats(case)}
        assert found == {program for _, program in publication.sides.values()}, name


def test_a_case_that_only_has_a_programs_name_stands_in_no_column_of_what_was_published(tmp_path):
    example, tutorial, *matched = TRANSFORMERS
    results = made(
        tmp_path / "s", example, tutorial | {"departures": ["own-dropout"]}, *matched, protocol={"model": "transformer"}
    )
    rows = repeated(results).data.set_index("side")
    assert rows.loc["Keras", "reproduced"].notna().any() and rows.loc["JAX", "reproduced"].isna().all()
    assert rows.loc["JAX", "matched"].notna().any()


def test_a_study_that_repeats_nothing_names_the_one_that_does(tmp_path):
    text = page(made(tmp_path / "s", "keras-tensorflow", "torch", steps=782))
    assert "the study <code>reproduction</code> repeats them" in text and "<code>ablation</code> measures" in text


def test_figures_of_another_corpus_or_model_are_not_explained(tmp_path):
    snippets = made(tmp_path / "a", "keras-tensorflow", "torch", corpus="VADER movie-review snippets")
    assert differences(snippets) is None and "The published figures are of other sequences; they do not stand" in page(snippets)
    fewer = made(tmp_path / "c", "keras-tensorflow", "torch")
    assert differences(fewer) is None and "they do not stand beside these, which are 1,256 of IMDB" in page(fewer)
    other = page(made(tmp_path / "b", "torch", "jax", protocol={"model": "cnn"}))
    assert "Why the published figures differ" not in other and "The published figures" not in other


def test_the_model_is_told_in_its_own_words(tmp_path):
    assert "The model: words as 128 numbers each, two bidirectional LSTM" in page(made(tmp_path / "a", "torch"))
    several = made(tmp_path / "b", "torch", vary={"model": ["cnn", "transformer"]})
    told = provenance.models(several)
    assert told.startswith("The models, whose answer is whether the review is positive: cnn, words as 128") and told in page(
        several
    )
    assert "; transformer, words and positions" in told


def test_the_protocol_has_every_value_that_a_case_has(tmp_path):
    told = provenance.protocol(made(tmp_path / "s", *TRANSFORMERS, protocol={"model": "transformer"}))
    assert (told["batch size"], told["epochs"], told["length"]) == ("32; 128", "2; 10", "200")
    assert told["model"].startswith("transformer (embedding 32, heads 2, ")


def test_departures_of_one_name_are_told_for_each_model(tmp_path):
    case = {"backend": "torch", "departures": ["own-dropout"]}
    table = provenance.departures(made(tmp_path / "s", case, vary={"model": ["cnn", "transformer"]}))
    assert table.shown["departure"].tolist() == ["own-dropout"] * 2 and table.shown["what it is"].nunique() == 2


@pytest.mark.parametrize("publication", PUBLICATIONS, ids=lambda publication: publication.model)
def test_its_studies_repeat_both_sides_of_a_publication(publication):
    for name in publication.studies:
        study = read_study(yaml.safe_load((CONFIGS / f"{name}.yaml").read_text()), name)
        cases = {case.name: case for case in study.expanded}
        for backend, repeats in publication.sides.values():
            assert publication.repeats(cases[repeats]) and cases[repeats].backend == backend and cases[backend].matched


def test_every_kind_of_case_has_a_page(tmp_path):
    assert "torch-article" in page(made(tmp_path / "s", *EVERY_KIND, steps=5))


def test_own_data_is_cited_as_its_owner_says():
    own = {"corpus": "own file reviews.csv", "citation": None}
    assert provenance.citations(own) == [] and provenance.citations(own | {"citation": "Me, 2026"}) == ["Me, 2026"]
    assert "Maas" in provenance.citations({"corpus": "IMDB reviews (Keras's imdb.npz)", "citation": "Maas"})[0]
    imdb = {"corpus": "IMDB of mine", "source": {"kind": "imdb"}, "source_sha256": "0" * 64}
    assert provenance.citations(imdb | {"citation": "Me, 2026"}) == ["Me, 2026"]
    assert provenance.citations(imdb | {"citation": None}) == [MAAS]  # a record of before own files were told apart


def test_nobody_is_cited_whose_texts_were_not_used():
    snippets = {"corpus": "VADER movie-review snippets", "citation": HUTTO}
    assert provenance.citations(snippets) == provenance.citations(snippets | {"citation": None}) == [HUTTO]
    assert provenance.citations({"corpus": "synthetic sequences", "citation": None}) == []


def test_what_a_model_answers_is_told_by_the_labels_of_its_data(tmp_path):
    results = made(tmp_path / "a", "torch")
    results.data["labels"] = ["bad", "good", "so so"]
    assert "Its answer: which of the 3 labels a text has." in provenance.models(results)


@pytest.mark.parametrize("publication", PUBLICATIONS, ids=lambda publication: publication.model)
def test_a_publications_figures_stand_beside_its_own_protocol_alone(publication):
    usual = Protocol(model=registry.model(publication.model).sizes())
    for side, (backend, repeats) in publication.sides.items():
        for beside in (usual, replace(usual, epochs=7), replace(usual, data_on="device")):
            assert publication.side_of(Case(backend, backend, protocol=beside)) == side
        for other in (replace(usual, batch_size=256), replace(usual, length=100), replace(usual, learning_rate=0.1)):
            assert publication.side_of(Case(backend, backend, protocol=other)) is None
        departures, own = tuple(publication.departures[side]), replace(usual, **publication.settings[side])
        assert publication.repeats(Case(repeats, backend, departures, own))
        assert publication.repeats(Case(repeats, backend, departures, replace(own, epochs=3)))
        others = (
            Case(repeats, backend, departures[1:], own),
            Case(repeats, "torch-compile", departures, own),
            Case(repeats, backend, departures, replace(own, length=100)),
            Case("another", backend, departures, own),
            Case(backend, backend, departures[:1], usual),
            Case(backend, "torch-compile", (), usual),
        )
        assert [publication.side_of(other) for other in others] == [None] * len(others)
