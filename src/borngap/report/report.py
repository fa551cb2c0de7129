"""A report to hold: from RUN or scan folders to a page, Markdown, JSON, pictures, or a notebook's cell."""

from __future__ import annotations

import html as escape
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from borngap.changes.ofscans import compared_scans
from borngap.changes.ofterms import compared_terms
from borngap.errors import UserError
from borngap.files import write_whole
from borngap.kinds import kind_of
from borngap.pilot.pilotfolder import FORECASTS
from borngap.remedies.remedyfolder import REMEDIES
from borngap.report.anyrecord import Shown
from borngap.report.charts.pictures import save_pictures
from borngap.report.compare import comparison, refuse_number
from borngap.report.facts.bulk import geometries
from borngap.report.facts.entries import parsed_plan
from borngap.report.facts.forecasts import read_forecasts
from borngap.report.facts.phases import phase_record
from borngap.report.facts.runfacts import RunFacts, read_facts
from borngap.report.facts.scanfacts import is_scan, read_scan_facts
from borngap.report.foretold.told import foretold_summary
from borngap.report.markdown import markdown
from borngap.report.page.html import page
from borngap.report.scan import scan_summary
from borngap.report.summary import summary
from borngap.report.text import without_text
from borngap.report.tried.told import tried_summary
from borngap.report.usage.changed import change_summary
from borngap.report.usage.told import usage_summary
from borngap.scanning.scanfolder import SCAN
from borngap.sweep.sweepfolder import SWEEP_FILE, Sweep, read_sweep
from borngap.usage.usagefolder import TERMS

FORMATS = ("html", "md", "json")
_ALONE = (TERMS.name, FORECASTS.name, REMEDIES.name)
_COMPARED = "RUN folders, as `borngap finetune` or a callback writes them, or only scan folders, or only TERMS folders"


@dataclass(frozen=True)
class Report:
    """A report.

    Attributes:
        summary: every number and word of it, JSON-ready.
    """

    summary: Shown

    @property
    def verdicts(self) -> list[str]:
        """What it says in a sentence: one a run, or one of a comparison or a scan."""
        told = self.summary
        return [run["verdict"] for run in told["runs"]] if told["kind"] == "report" else [told["verdict"]]

    def without_text(self) -> Report:
        """Return the report without the data's text: no prompts, and nothing of what stands around words."""
        return Report(without_text(self.summary))

    @cached_property
    def html(self) -> str:
        """The page: one file that loads nothing."""
        return page(self.summary)

    @property
    def markdown(self) -> str:
        """The same as Markdown."""
        return markdown(self.summary)

    @property
    def json(self) -> str:
        """The same as JSON."""
        return json.dumps(self.summary, ensure_ascii=False, indent=1, allow_nan=False) + "\n"

    def text(self, format: str) -> str:  # noqa: A002
        """Return the report in a format.

        Args:
            format: ``html``, ``md`` or ``json``.

        Returns:
            The text of a whole file.

        Raises:
            UserError: another format.
        """
        ways = {"html": lambda: self.html, "md": lambda: self.markdown, "json": lambda: self.json}
        if format not in ways:
            raise UserError("unknown format", rule=f"one of {', '.join(FORMATS)}", found=format)
        return ways[format]()

    def save(self, path: str | Path, format: str | None = None) -> Path:  # noqa: A002
        """Write the report.

        Args:
            path: the file.
            format: ``html``, ``md`` or ``json``; by the file's ending unless given.

        Returns:
            The path.

        Raises:
            UserError: the format is unknown, or the file can't be written.
        """
        target = Path(path)
        return write_whole(target, self.text(format or target.suffix.removeprefix(".")).encode())

    def save_charts(self, folder: str | Path) -> list[Path]:
        """Write every chart as SVG and PNG; return the files."""
        return save_pictures(self.summary, folder)

    def show(self) -> object:
        """Show the page in a notebook's cell, offline.

        Returns:
            What a notebook displays.
        """
        try:
            from IPython.display import HTML
        except ImportError:
            return self
        return HTML(self._repr_html_())

    def _repr_html_(self) -> str:
        frame = 'style="width:100%;height:820px;border:1px solid #888;border-radius:6px" title="borngap report"'
        # a frame of its own: neither its styles nor its scripts meet the notebook's
        return f'<iframe {frame} sandbox="allow-scripts" srcdoc="{escape.escape(self.html)}"></iframe>'


def report_of(*inputs: str | Path, with_geometry: bool = True) -> Report:
    """Return the report of RUN and SWEEP folders, with forecasts beside what happened; or that of a scan or of terms.

    Args:
        *inputs: RUN folders, SWEEP folders, and JSON files that ``borngap forecast`` or ``borngap critical`` printed;
            or one scan folder, finished or not; or one TERMS, FORECAST or REMEDIES folder.
        with_geometry: whether the bulk geometry of the runs' models is measured, where a model is at hand.

    Returns:
        The report.

    Raises:
        UserError: an input is none of these.
    """
    alone = [path for path in map(Path, inputs) if is_scan(path) or kind_of(path) in _ALONE]
    if alone:
        return _alone(alone[0], inputs)
    files = [path for path in map(Path, inputs) if path.is_file()]
    folders = [path for path in map(Path, inputs) if path not in files]
    sweeps = [path for path in folders if (path / SWEEP_FILE).is_file()]
    sources = [read_facts(path) for path in folders if path not in sweeps]
    forecasts = [entry for path in files for entry in read_forecasts(path)]
    found: list[Sweep] = [read_sweep(path) for path in sweeps]
    phases = [phase_record(sweep) for sweep in found]
    plans = [*(source.plan for source in sources), *(parsed_plan(sweep.plan) for sweep in found)]
    bulks = geometries(plans) if with_geometry else []
    return Report(summary(sources, bulks, forecasts, phases, found))


def _alone(folder: Path, inputs: Sequence[str | Path]) -> Report:
    """The report of a folder that has one of its own."""
    kind = SCAN.name if is_scan(folder) else str(kind_of(folder))
    if len(inputs) > 1:
        rule, found = f"one {kind} folder and nothing else", ", ".join(map(str, inputs))
        fix = None if kind in {FORECASTS.name, REMEDIES.name} else f"borngap compare puts {kind} folders side by side"
        raise UserError(f"a {kind} has a report of its own", rule=rule, found=found, fix=fix)
    if kind == SCAN.name:
        return Report(scan_summary(read_scan_facts(folder)))
    if kind == TERMS.name:
        return Report(usage_summary(folder))
    return Report(foretold_summary(folder) if kind == FORECASTS.name else tried_summary(folder))


def comparison_of(*folders: str | Path) -> Report:
    """Compare results of one kind: RUN folders, scan folders or TERMS folders.

    Of RUNs it has outcome, flip and needed rate of each context, trajectories overlaid. Of scans and of TERMS, of two
    models or of several checkpoints in order, it has what was gained and lost at the same places of the same data.

    Args:
        *folders: two to six.

    Returns:
        The comparison; a report like any other.

    Raises:
        UserError: a folder is of no such kind, they are of different ones or not of the same data and settings, or
            there are too few or too many.
    """
    paths = [Path(folder) for folder in folders]
    kinds = {path: _kind(path) for path in paths}
    if len(set(kinds.values())) > 1:
        _refuse_nothing(paths)
        found = "; ".join(f"{path}: {kind}" for path, kind in kinds.items())
        raise UserError("results of different kinds can't be compared", rule=_COMPARED, found=found)
    if not set(kinds.values()) & set(_CHANGES):
        return Report(comparison([_compared(path) for path in paths]))
    kind = kinds[paths[0]]
    refuse_number(len(paths), kind)
    return Report(change_summary(_CHANGES[kind](paths)))


def _kind(path: Path) -> str:
    return SCAN.name if is_scan(path) else kind_of(path) or "RUN"


def _refuse_nothing(paths: list[Path]) -> None:
    """Refuse what holds no result beside one that does: its kind is not another one, there is none."""
    for path in paths:
        if not is_scan(path) and kind_of(path) is None:
            found = "a folder without a result" if path.is_dir() else "no such folder"
            raise UserError(f"no result at {path}", rule=_COMPARED, found=found, fix="check the name")


def _compared(path: Path) -> RunFacts:
    if (path / SWEEP_FILE).is_file():
        fix = "see it with borngap report"
        raise UserError("a sweep can't be compared", rule=_COMPARED, found=str(path), fix=fix)
    return read_facts(path, f"give {_COMPARED}")


_CHANGES = {SCAN.name: compared_scans, TERMS.name: compared_terms}
