"""Tables of proof: how many parameters a case trains and why, and its parity with the float64 reference."""

import pandas as pd

from levelfield.level.parity import Parity
from levelfield.models.base import model_of
from levelfield.models.base import parameters as expected
from levelfield.study.protocol import Case
from levelfield.tell.kept import BrokenRecord
from levelfield.tell.outcomes import read_parity
from levelfield.tell.results import Results
from levelfield.tell.tables.groups import finished
from levelfield.tell.tables.table import Table


def parameters(results: Results) -> Table:
    """Trainable parameters of each case beside the protocol's, and what makes the difference."""
    counts = finished(results).groupby("case", sort=False)["parameters"].first()
    rows = []
    for case in results.study.expanded:
        if case.name in counts.index:
            found, protocol = int(counts[case.name]), expected(case.protocol)
            rows.append([case.name, found, protocol, found - protocol, _explained(case, found - protocol)])
    data = pd.DataFrame(rows, columns=["case", "parameters", "protocol_parameters", "difference", "explanation"])
    shown = pd.DataFrame(
        {
            "case": data["case"],
            "trainable parameters": data["parameters"].map("{:,}".format),
            "difference": data["difference"].map("{:+,}".format),
            "why": data["explanation"],
        }
    )
    return Table("parameters", f"Parameters: {results.context}", data, shown)


def _explained(case: Case, difference: int) -> str:
    departures = frozenset(case.departures)
    if difference == 0:
        return "as the protocol has them"
    if difference != expected(case.protocol, departures) - expected(case.protocol):
        return "unexplained"
    extra = model_of(case.protocol).extra(case.protocol, departures)
    reshaping = [name for name in case.departures if expected(case.protocol, frozenset({name})) != expected(case.protocol)]
    return "; ".join(extra) or f"{', '.join(reshaping)}: other shapes of weights"


def _measured(results: Results) -> list[Parity]:
    """The parity of each case that was measured; an unreadable file has barred its runs already and is told there."""
    found = []
    for case in results.study.expanded:
        try:
            found.append(read_parity(results.folder, case.name))
        except BrokenRecord:
            continue
    return [parity for parity in found if parity]


def parity(results: Results) -> Table | None:
    """Distances from the reference beside their bounds; None where no case was measured."""
    cases = _measured(results)
    if not cases:
        return None
    rows = [
        {
            "case": case.case, "device": case.device, "precision": case.precision, "matched": case.matched,
            "passed": case.passed, "distance": name, "measured": value, "bound": case.bounds.get(name),
            "tensor": case.nearest.get(name), "steps": case.steps,
        }
        for case in cases
        for name, value in case.measured.items()
    ]  # fmt: skip
    data = pd.DataFrame(rows).astype({"measured": float, "bound": float, "passed": object})
    data["passed"] = data["passed"].astype("boolean")
    distances = list(dict.fromkeys(data["distance"]))
    shown = pd.DataFrame(
        [
            {"case": case.case, "on": f"{case.device}, {case.precision}", "parity": _verdict(case)}
            | {name.replace("_", " "): _shown(case, name) for name in distances}
            for case in cases
        ]
    )
    notes = [
        "Distance from a float64 reference on the study's own first batches, of the tensor nearest to its bound, and in brackets "
        "how much of the bound that is. Gradients: largest difference over the tensor's largest entry; moved: norm of the "
        "difference over the norm of what the tensor has moved by; travelled: by what share its way is "
        "longer or shorter; else absolute. A case with departures is another program: "
        "its distances are shown, not judged.",
        "Bounds: what rounding explains, of each tensor, found with the reference (docs: backends/README.md, Parity)."
        if any(case.gradient_bounds for case in cases)
        else "Bounds: fixed numbers of an earlier version, the same for every model and size; not those derived from rounding."
        if any(case.bounds for case in cases)
        else "Measured by a version that knew no bounds for this device and precision: unproven.",
    ]
    return Table("parity", f"Parity: {results.data['title']}, {_devices(cases)}", data, shown, notes)


def gradients(results: Results) -> Table | None:
    """Each parameter's gradient: its distance from the reference, by case; None where no case was measured."""
    cases = [case for case in _measured(results) if case.gradients]
    if not cases:
        return None
    data = pd.DataFrame(
        [
            {"case": c.case, "parameter": name, "distance": value, "bound": c.gradient_bounds.get(name)}
            for c in cases
            for name, value in c.gradients.items()
        ]
    ).astype({"distance": float, "bound": float})
    tensors = dict.fromkeys(data["parameter"])
    shown = pd.DataFrame(
        {"parameter": list(tensors)}
        | {c.case: [_figure(c.gradients[t]) if t in c.gradients else "" for t in tensors] for c in cases}
    )
    notes = ["Largest difference from the float64 reference over the tensor's largest entry, first batch, initial weights."]
    return Table(
        "gradients", f"Gradients against the reference: {results.data['title']}, {_devices(cases)}", data, shown, notes
    )


def _devices(cases: list[Parity]) -> str:
    return " and ".join(sorted({f"{case.device} in {case.precision}" for case in cases}))


def _verdict(case: Parity) -> str:
    if not case.matched:
        return "departs"
    return {True: "passed", False: "missed", None: "unproven"}[case.passed]


def _figure(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.1e}"


def _shown(case: Parity, name: str) -> str:
    if name not in case.measured:
        return ""
    value, bound = case.measured[name], case.bounds.get(name)
    if bound is None:
        return _figure(value)
    if value is None or value > bound:
        return f"{_figure(value)} (missed)" if case.matched else _figure(value)
    return f"{_figure(value)} ({value / bound:.0%})" if bound else "0"
