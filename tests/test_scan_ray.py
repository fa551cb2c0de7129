"""The engine ``ray``: a local cluster finds what one process finds."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("ray")

from borngap.errors import UserError
from borngap.model.load import load
from borngap.scanning.ray import RayEngine
from borngap.scanning.scan import scan

MODEL = "docs-gpt2-s"
TEXTS = [
    "If the argument is missing, the method raises an exception.",
    "Return the list of all values in the dictionary.",
]


def test_a_local_cluster_finds_what_one_process_finds(tmp_path):
    data = tmp_path / "data.jsonl"
    rows = [json.dumps({"text": f"{text} {index}"}) for index, text in enumerate(TEXTS * 5)]
    data.write_text("\n".join([*rows, "broken"]) + "\n")
    groups = tmp_path / "groups.txt"
    groups.write_text("error, exception, list\n", encoding="utf-8")
    relations = ("synonym", "function word", "not in the thesaurus")
    loaded, options = load(MODEL), {"chunk": 3, "limit": 11, "bulk_pairs": 50_000}
    options |= {"relations": relations, "thesaurus": str(groups)}
    seen = []
    engine = RayEngine(MODEL, str(data), workers=1)
    found = scan(
        loaded.model, loaded.tokenizer, data, out=tmp_path / "scan", engine=engine, on_progress=seen.append, **options
    )
    alone = scan(loaded.model, loaded.tokenizer, data, **options)
    assert found.positions.equals(alone.positions)
    assert found.summary["counts"] == alone.summary["counts"]
    assert found.summary["malformed"] == alone.summary["malformed"]
    assert found.summary["malformed"][0]["where"] == "data.jsonl, line 11"
    assert max(progress.rows for progress in seen) == 11
    assert len(found.positions) > 5
    assert set(found.positions["relation"]) <= set(relations)


def test_a_stream_of_unknown_length_needs_a_limit(tokenizer):
    class Stream:
        def __iter__(self):
            yield {"text": "He felt shame"}

    loaded = load(MODEL)
    with pytest.raises(UserError, match=r"the number of rows is unknown\n  rule: --engine ray needs it"):
        scan(loaded.model, loaded.tokenizer, Stream(), engine=RayEngine(MODEL, "x"), bulk_pairs=1000)
