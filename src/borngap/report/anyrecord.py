"""Any summary record: of runs, one or compared; of a scan, a TERMS folder, a forecast, remedies, or of what changed."""

from __future__ import annotations

from borngap.report.foretold.records import ForetoldSummary
from borngap.report.records import ComparisonSummary, ScanSummary, Summary
from borngap.report.tried.records import TriedSummary
from borngap.report.usage.records import ChangeSummary, UsageSummary

Shown = Summary | ComparisonSummary | ScanSummary | UsageSummary | ChangeSummary | ForetoldSummary | TriedSummary
