"""borngap: see, predict and avoid near-synonym failures when fine-tuning language models.

Names are loaded on first use: importing the package loads neither torch nor transformers.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from borngap.context import Context, read_contexts
    from borngap.errors import UserError
    from borngap.geometry import Bulk, Geometry
    from borngap.hf.load import load
    from borngap.hf.probe import probe
    from borngap.hf.readout import geometry_of, readout_of
    from borngap.observables import OBSERVABLES, measure

_HOME = {
    "Bulk": "geometry",
    "Context": "context",
    "Geometry": "geometry",
    "OBSERVABLES": "observables",
    "UserError": "errors",
    "geometry_of": "hf.readout",
    "load": "hf.load",
    "measure": "observables",
    "probe": "hf.probe",
    "read_contexts": "context",
    "readout_of": "hf.readout",
}

__all__ = [
    "OBSERVABLES",
    "Bulk",
    "Context",
    "Geometry",
    "UserError",
    "geometry_of",
    "load",
    "measure",
    "probe",
    "read_contexts",
    "readout_of",
]


def __getattr__(name: str) -> Any:
    """Load a public name from its module on first use (PEP 562).

    Args:
        name: attribute.

    Returns:
        The object.

    Raises:
        AttributeError: there is no such name.
    """
    if name == "__version__":
        from importlib.metadata import version

        return version("borngap")
    if name not in _HOME:
        raise AttributeError(f"module 'borngap' has no attribute {name!r}")
    value = getattr(import_module(f"borngap.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names."""
    return sorted({*globals(), *__all__})
