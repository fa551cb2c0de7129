"""Any summary record: of runs, of runs compared, of a scan, of a TERMS folder, of a forecast, or of what changed."""

from __future__ import annotations

from borngap.report.foretold.records import ForetoldSummary
from borngap.report.records import ComparisonSummary, ScanSummary, Summary
from borngap.report.usage.records import ChangeSummary, UsageSummary

Shown = Summary | ComparisonSummary | ScanSummary | UsageSummary | ChangeSummary | ForetoldSummary
