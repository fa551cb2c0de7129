"""The page of results and the claims that README names come out of the stored studies, byte for byte."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest
from polars.testing import assert_frame_equal

from borngap.experiments.study import read_study

DOCS = Path(__file__).parents[1] / "docs"
STUDIES = sorted(path.parent for path in (DOCS / "results").glob("*/reproduce.json"))


@pytest.fixture(scope="module")
def made():
    """docs/make_results.py, and the columns that it makes from what is stored."""
    spec = importlib.util.spec_from_file_location("make_results", DOCS / "make_results.py")
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(sys.modules, spec.name, module)  # where dataclasses look for it
        spec.loader.exec_module(module)
    return module, module.columns()


def test_the_page_is_that_of_the_stored_studies(made):
    module, columns = made
    text = (DOCS / "results.md").read_text(encoding="utf-8")
    assert STUDIES, "no study is stored"
    assert module.page(text, columns) == text, "make results"
    emptied = module.page(text, columns | {"SmolLM2-135M": module.Column([])})
    assert emptied != text
    assert module.page(emptied, columns) == text


def test_the_claims_are_those_of_the_stored_studies(made):
    module, columns = made
    whole = json.loads((DOCS / "results/claims.json").read_text(encoding="utf-8"))
    made_again = json.loads(module.claims_json(columns))
    assert whole["other_methods"] == made_again["other_methods"] == module.other_methods()
    stored, again = whole["columns"], made_again["columns"]
    assert list(stored) == list(again) == [name for name, column in columns.items() if column.studies]
    for name, column in again.items():
        for rows in ("claims", "brackets", "single_steps"):
            for one, other in zip(stored[name].pop(rows), column.pop(rows), strict=True):
                # the last bits of a sum are the processor's
                known = {key: pytest.approx(v, rel=1e-9) if isinstance(v, float) else v for key, v in other.items()}
                assert one == known
        assert stored[name] == column


@pytest.mark.parametrize("folder", STUDIES, ids=lambda folder: folder.name)
def test_a_copy_that_is_stored_is_one_that_was(made, folder, tmp_path, monkeypatch):
    """What is stored is small, and storing it again changes nothing: no number, no file."""
    module, _ = made
    monkeypatch.setattr(module, "STORED", tmp_path)
    raw = sum(path.stat().st_size for path in folder.rglob("*") if path.suffix in {".json", ".parquet"})
    assert raw < 1_050_000
    module.keep(folder)
    first, again = (read_study(there) for there in (folder, tmp_path / folder.name))
    for name in ("models", "contexts", "critical", "brackets", "runs"):
        assert_frame_equal(getattr(first, name), getattr(again, name))
    assert first.undone == again.undone
    kept = {path.relative_to(tmp_path / folder.name) for path in (tmp_path / folder.name).rglob("*") if path.is_file()}
    there = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
    assert there - kept == {path for path in there if path.parts[0] in {"report.md", "claims.json", "figures"}}
