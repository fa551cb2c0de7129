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
    from borngap.hf.callback import BornGapCallback
    from borngap.hf.critical import critical_rates
    from borngap.hf.finetune import finetune
    from borngap.hf.forecast import forecast
    from borngap.hf.lightning import BornGapLightning
    from borngap.hf.load import load
    from borngap.hf.probe import probe
    from borngap.hf.readout import geometry_of, readout_of
    from borngap.hf.scan import scan
    from borngap.hf.tracker import Tracker
    from borngap.observables import OBSERVABLES, measure
    from borngap.report.pictures import plot
    from borngap.report.report import comparison_of, report_of
    from borngap.scanfolder import read_scan
    from borngap.scanning import Scanning
    from borngap.stopping import SaturationRule
    from borngap.store import read_run
    from borngap.sweep.plan import plan_sweep
    from borngap.sweep.run import run_sweep
    from borngap.sweepstore import read_sweep
    from borngap.training import Training
    from borngap.trajectory import Trajectory
    from borngap.verdicts import verdict

_HOME = {
    "BornGapCallback": "hf.callback",
    "BornGapLightning": "hf.lightning",
    "Bulk": "geometry",
    "Context": "context",
    "Geometry": "geometry",
    "OBSERVABLES": "observables",
    "SaturationRule": "stopping",
    "Scanning": "scanning",
    "Tracker": "hf.tracker",
    "Training": "training",
    "Trajectory": "trajectory",
    "UserError": "errors",
    "comparison_of": "report.report",
    "critical_rates": "hf.critical",
    "finetune": "hf.finetune",
    "forecast": "hf.forecast",
    "geometry_of": "hf.readout",
    "load": "hf.load",
    "measure": "observables",
    "plan_sweep": "sweep.plan",
    "plot": "report.pictures",
    "probe": "hf.probe",
    "read_contexts": "context",
    "read_run": "store",
    "read_scan": "scanfolder",
    "read_sweep": "sweepstore",
    "readout_of": "hf.readout",
    "report_of": "report.report",
    "run_sweep": "sweep.run",
    "scan": "hf.scan",
    "verdict": "verdicts",
}

__all__ = [
    "OBSERVABLES",
    "BornGapCallback",
    "BornGapLightning",
    "Bulk",
    "Context",
    "Geometry",
    "SaturationRule",
    "Scanning",
    "Tracker",
    "Training",
    "Trajectory",
    "UserError",
    "comparison_of",
    "critical_rates",
    "finetune",
    "forecast",
    "geometry_of",
    "load",
    "measure",
    "plan_sweep",
    "plot",
    "probe",
    "read_contexts",
    "read_run",
    "read_scan",
    "read_sweep",
    "readout_of",
    "report_of",
    "run_sweep",
    "scan",
    "verdict",
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
