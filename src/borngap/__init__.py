"""borngap: see, predict and avoid near-synonym failures when fine-tuning language models.

Names are loaded on first use: importing the package loads neither torch nor transformers.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from borngap.context import Context, read_contexts
    from borngap.critical.forecast import forecast
    from borngap.critical.search import critical_rates
    from borngap.errors import UserError
    from borngap.judge.stopping import SaturationRule
    from borngap.judge.trajectory import Trajectory
    from borngap.judge.verdicts import verdict
    from borngap.model.load import load
    from borngap.model.probe import probe
    from borngap.model.readout import geometry_of, readout_of
    from borngap.observables.bulk import Bulk
    from borngap.observables.catalogue import OBSERVABLES
    from borngap.observables.geometry import Geometry
    from borngap.observables.predictions import measure
    from borngap.pilot.pilotfolder import read_forecast
    from borngap.pilot.prepare import forecast_run, forecast_trainer
    from borngap.pilot.settings import Piloting
    from borngap.remedies.ask import remedy_search
    from borngap.remedies.remedyfolder import read_remedy_search
    from borngap.remedies.settings import Remedying
    from borngap.report.charts.pictures import plot
    from borngap.report.report import comparison_of, report_of
    from borngap.rivals.rivalloss import RivalLoss
    from borngap.runfolder import read_run
    from borngap.scanning.scan import scan
    from borngap.scanning.scanfolder import read_scan
    from borngap.scanning.settings import Scanning
    from borngap.sweep.plan import plan_sweep
    from borngap.sweep.run import run_sweep
    from borngap.sweep.sweepfolder import read_sweep
    from borngap.track.callback import BornGapCallback
    from borngap.track.lightning import BornGapLightning
    from borngap.track.tracker import Tracker
    from borngap.train.finetune import finetune
    from borngap.training import Training
    from borngap.usage.asking import Asking
    from borngap.usage.terms import terms
    from borngap.usage.usagefolder import read_usage

_HOME = {
    "Asking": "usage.asking",
    "BornGapCallback": "track.callback",
    "BornGapLightning": "track.lightning",
    "Bulk": "observables.bulk",
    "Context": "context",
    "Geometry": "observables.geometry",
    "OBSERVABLES": "observables.catalogue",
    "Piloting": "pilot.settings",
    "Remedying": "remedies.settings",
    "RivalLoss": "rivals.rivalloss",
    "SaturationRule": "judge.stopping",
    "Scanning": "scanning.settings",
    "Tracker": "track.tracker",
    "Training": "training",
    "Trajectory": "judge.trajectory",
    "UserError": "errors",
    "comparison_of": "report.report",
    "critical_rates": "critical.search",
    "finetune": "train.finetune",
    "forecast": "critical.forecast",
    "forecast_run": "pilot.prepare",
    "forecast_trainer": "pilot.prepare",
    "geometry_of": "model.readout",
    "load": "model.load",
    "measure": "observables.predictions",
    "plan_sweep": "sweep.plan",
    "plot": "report.charts.pictures",
    "probe": "model.probe",
    "read_contexts": "context",
    "read_forecast": "pilot.pilotfolder",
    "read_remedy_search": "remedies.remedyfolder",
    "read_run": "runfolder",
    "read_scan": "scanning.scanfolder",
    "read_sweep": "sweep.sweepfolder",
    "read_usage": "usage.usagefolder",
    "readout_of": "model.readout",
    "remedy_search": "remedies.ask",
    "report_of": "report.report",
    "run_sweep": "sweep.run",
    "scan": "scanning.scan",
    "terms": "usage.terms",
    "verdict": "judge.verdicts",
}

__all__ = [
    "OBSERVABLES",
    "Asking",
    "BornGapCallback",
    "BornGapLightning",
    "Bulk",
    "Context",
    "Geometry",
    "Piloting",
    "Remedying",
    "RivalLoss",
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
    "forecast_run",
    "forecast_trainer",
    "geometry_of",
    "load",
    "measure",
    "plan_sweep",
    "plot",
    "probe",
    "read_contexts",
    "read_forecast",
    "read_remedy_search",
    "read_run",
    "read_scan",
    "read_sweep",
    "read_usage",
    "readout_of",
    "remedy_search",
    "report_of",
    "run_sweep",
    "scan",
    "terms",
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
