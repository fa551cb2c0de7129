"""docs/remedies-measured.md: its tables are those of the stored records."""

import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "remedies-measured.md").read_text(encoding="utf-8")
RECORDS = sorted((ROOT / "docs" / "remedies").glob("*.json"))


@pytest.fixture
def remedy_table(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    for name in ("remedy_table", "remedies", "corpora", "remedy_losses"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    import remedy_table

    return remedy_table


def test_the_tables_are_those_of_the_records(remedy_table):
    made = remedy_table.tables(ROOT / "docs" / "remedies")
    several = {record.stem[:-6] for record in RECORDS if record.stem.endswith("-0-1-2")}
    left = {record.stem for record in RECORDS} - set(made)
    assert {name[:-2] for name in left} <= several, "all in it is in the table of three seeds"
    for name, table in made.items():
        assert table in PAGE, name
    heads = [line for line in PAGE.splitlines() if line.startswith("| remedy | success |")]
    assert len(heads) == len(made), "no table without a record"


def test_the_tables_of_pilots_are_those_of_their_records(remedy_table):
    made = remedy_table.pilot_tables(ROOT / "docs" / "remedies" / "pilots")
    assert set(made) == {"smollm2-135m"}
    assert all(table in PAGE for table in made.values())


@pytest.mark.parametrize("file", RECORDS, ids=lambda file: file.stem)
def test_a_record_says_of_how_many_places_and_seeds_it_is(file):
    record = json.loads(file.read_text(encoding="utf-8"))
    assert min(record["places"].values()) > 50
    assert {entry["seeds"] for entry in record["remedies"] if entry["remedy"] != "base"} == {len(record["seeds"])}
    for entry in record["remedies"]:
        for name in ("success", "carried", "over_use", "apart"):
            value, low, high = entry[name]
            assert 0 <= low <= value <= high <= 1
