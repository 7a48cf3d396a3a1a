"""Records of earlier versions, read as today's: what they called otherwise gets today's name, nothing else changes."""

from typing import Any

SIZES = ("embedding", "units")
"""Of the LSTM, the one model until 0.1: they stood in the protocol itself."""
NO_KERNEL = "not fused"
"""What was said of every model whose profile named no kernel that was looked for."""
MEASUREMENTS = {"lstm_kernel": "kernel", "share_of_cudnn": "share_of_bare_kernel"}


def protocol(values: dict[str, Any]) -> dict[str, Any]:
    if "model" in values:
        return values
    own = {name: values[name] for name in SIZES if name in values}
    return {"model": {"name": "bilstm", **own, "outputs": 1}} | {
        name: value for name, value in values.items() if name not in SIZES
    }


def study(values: dict[str, Any]) -> dict[str, Any]:
    """The content of a `study.json`."""
    return values | {"protocol": protocol(values["protocol"])} if isinstance(values.get("protocol"), dict) else values


def run(values: dict[str, Any]) -> dict[str, Any]:
    """The content of a `run.json`."""
    if isinstance(values.get("protocol"), dict):
        values = values | {"protocol": {"data_on": _data_on(values)} | protocol(values["protocol"])}
    if isinstance(values.get("measurements"), dict):
        told = {MEASUREMENTS.get(name, name): value for name, value in values["measurements"].items()}
        values = values | {"measurements": told}
    return values


def _data_on(values: dict[str, Any]) -> str:
    """Where an epoch's data lay before the protocol said so: PyTorch copied it all to its GPU, everyone else batch by batch."""
    machine = values.get("machine")
    on_a_gpu = isinstance(machine, dict) and machine.get("device") == "cuda"
    return "device" if on_a_gpu and str(values.get("backend")).startswith("torch") else "host"
