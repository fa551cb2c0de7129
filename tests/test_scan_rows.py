"""Reading data sets: every kind of file, rows that are broken, layouts, and the command's messages."""

from __future__ import annotations

import csv
import json
import weakref

import polars as pl
import pytest
from datasets import Dataset
from tests.test_cli import fails

from borngap.data import jsonfile
from borngap.data import rows as module
from borngap.data.layout import Layout
from borngap.data.recognise import layout_of
from borngap.data.rows import of_objects, open_source
from borngap.data.source import source_of
from borngap.errors import UserError
from borngap.report.scanwording import scan_sentence
from borngap.scanning.pairs import read_pairs

MODEL = "docs-gpt2-s"
TEXTS = [
    "Return the list of all values.",
    'He said "raise an error", \n and\u2028 then left {[,]} ',
    "Der Körper einer Funktion 🙂",
    "If the argument is missing, the method raises an exception.",
]
OBJECTS = [{"text": text, "id": str(index)} for index, text in enumerate(TEXTS)]


def write(path, rows):
    """Write rows in the format that the suffix names."""
    if path.suffix == ".parquet":
        pl.DataFrame(rows).write_parquet(path)
    elif path.suffix == ".csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows, ensure_ascii=False, indent=1), encoding="utf-8")
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize("suffix", [".jsonl", ".ndjson", ".json", ".csv", ".parquet"])
@pytest.mark.parametrize("piece", [1, 7, 1 << 16])
def test_every_kind_of_file_gives_the_same_rows(tmp_path, monkeypatch, suffix, piece):
    monkeypatch.setattr(jsonfile, "PIECE", piece)
    monkeypatch.setattr(module, "_SLICE", min(piece, 3))
    source = open_source(write(tmp_path / f"data{suffix}", OBJECTS))
    rows = list(source.rows())
    assert [row.value for row in rows] == OBJECTS
    assert [(row.number, row.error) for row in rows] == [(i, None) for i in range(4)]
    assert source.count() == 4
    assert [row.value for row in source.rows(1, 3)] == OBJECTS[1:3]
    assert layout_of(source, {}) == Layout("text", (("text", "text"),))


def test_text_is_read_by_lines(tmp_path):
    path = tmp_path / "data.txt"
    path.write_bytes("\ufeffone line\r\n\n  \n two\u2028lines \nlast".encode())
    rows = list(open_source(path).rows())
    assert [row.value for row in rows] == ["one line", " two\u2028lines ", "last"]
    assert [row.where for row in rows] == ["data.txt, line 1", "data.txt, line 4", "data.txt, line 5"]
    assert str(layout_of(open_source(path), {})) == "plain text (the row itself)"


def test_a_json_file_of_lines(tmp_path):
    path = tmp_path / "data.json"
    path.write_text('{"text": "a"}\n{"text": \n{"text": "b"}\n')
    rows = list(open_source(path).rows())
    assert [row.value for row in rows] == [{"text": "a"}, None, {"text": "b"}]
    assert [row.where for row in rows][1] == "data.json, record 2"


@pytest.mark.parametrize(("name", "content", "broken"), [
    ("a.jsonl", b'{"text": "x"}\n{"text": \n\xff\n{"text": "y"}\n' + b"[" * 200_000 + b"\n", [
        ("line 2", "Expecting value"), ("line 3", "Expecting value"), ("line 5", "nested too deeply"),
    ]),
    ("a.csv", b"text,id\nx,1\ny\nz,1,2\n\xff,3\ny,4\n", [
        ("line 3", "1 fields, but 2 headings"), ("line 4", "3 fields, but 2 headings"),
        ("line 5", "byte 0xff is not UTF-8, at character 1"),
    ]),
    ("a.txt", b"x\n\xff\ny\n\0\0\n", [("line 2", "byte 0xff is not UTF-8"), ("line 4", "a NUL character")]),
])  # fmt: skip
def test_broken_rows_are_named_and_the_others_read(tmp_path, name, content, broken):
    path = tmp_path / name
    path.write_bytes(content)
    rows = list(open_source(path).rows())
    assert [row.number for row in rows] == list(range(len(rows)))
    found = [(row.where, row.error) for row in rows if row.error is not None]
    assert [where for where, _ in found] == [f"{name}, {place}" for place, _ in broken]
    for (_, error), (_, reason) in zip(found, broken, strict=True):
        assert reason in error
    texts = [row.value if isinstance(row.value, str) else row.value["text"] for row in rows if row.error is None]
    assert texts == ["x", "y"]


def test_a_folder_is_read_in_order(tmp_path):
    (tmp_path / "inner").mkdir()
    write(tmp_path / "b.jsonl", OBJECTS[2:])
    write(tmp_path / "inner" / "a.csv", OBJECTS[:2])
    (tmp_path / "notes.md").write_text("x")
    (tmp_path / ".hidden.jsonl").write_text("x")
    source = open_source(tmp_path)
    assert [row.value for row in source.rows()] == OBJECTS[2:] + OBJECTS[:2]
    assert [row.number for row in source.rows(3)] == [3]
    assert source.left_out == ("notes.md",)


def test_objects_are_read_as_they_are(tmp_path):
    data = Dataset.from_list(OBJECTS)
    assert [row.value for row in source_of(data).rows()] == OBJECTS
    assert [row.value for row in source_of(data.to_iterable_dataset()).rows(1)] == OBJECTS[1:]
    data.save_to_disk(tmp_path / "saved")
    assert [row.value for row in source_of(tmp_path / "saved").rows()] == OBJECTS
    with pytest.raises(UserError, match="the data can't be read again from the start"):
        of_objects(iter(OBJECTS))


def test_only_the_row_at_hand_is_held():
    class Text(dict):
        """A dictionary that can be watched."""

    made = []

    class Texts:
        def __iter__(self):
            for index in range(100):
                row = Text(text=f"row {index}")
                made.append(weakref.ref(row))
                yield row

    most = max(sum(watch() is not None for watch in made) for _ in of_objects(Texts()).rows())
    assert len(made) == 100
    assert most <= 3


@pytest.mark.parametrize(("value", "fields", "layout"), [
    ("plain", {}, "plain text (the row itself)"),
    ({"text": "x", "label": 1}, {}, "plain text (text)"),
    ({"prompt": "a", "completion": "b", "text": "c"}, {}, "prompt and completion (prompt, completion)"),
    ({"q": "a", "a": "b"}, {"prompt": "q", "completion": "a"}, "prompt and completion (q as prompt, a as completion)"),
    ({"messages": [], "prompt": "x"}, {}, "chat messages (messages)"),
    ({"conversations": []}, {}, "chat messages (conversations as messages)"),
    ({"input_ids": [1], "labels": [1]}, {}, "token ids (input_ids, labels)"),
    ({"input_ids": [1]}, {}, "token ids (input_ids)"),
    ({"body": "x", "text": "y"}, {"text": "body"}, "plain text (body as text)"),
])  # fmt: skip
def test_layouts_are_recognised(value, fields, layout):
    assert str(layout_of(of_objects([value]), fields)) == layout


@pytest.mark.parametrize(("rows", "fields", "message"), [
    ([{"body": "x", "id": 1}], {}, r"unknown layout in data\n  found: the fields body, id in data, record 1\n  fix"),
    ([{f"f{i:02}": 1 for i in range(99)}], {}, r"the fields f00, .*, f19, ... in data, record 1\n"),
    ([3], {}, r"unknown layout in data\n  found: the fields int in data, record 1"),
    ([{"text": "x"}], {"text": "body"}, "unknown layout in data"),
    ([{"text": "x"}], {"prompt": "text"}, r"these fields make no layout\n  rule: a text field, or a prompt and a"),
    ([], {}, r"no rows in data\n  rule: at least one row that can be read\n  found: an empty file"),
])  # fmt: skip
def test_layouts_that_are_not(rows, fields, message):
    with pytest.raises(UserError, match=message):
        layout_of(of_objects(rows), fields)


@pytest.mark.parametrize(("layout", "value", "reason"), [
    (Layout("text", (("text", "text"),)), {"text": 3}, "text: a text was expected, not a int"),
    (Layout("text", (("text", "text"),)), {"id": 3}, "the field 'text' is missing"),
    (Layout("text", (("text", "text"),)), "x", "an object was expected, not a str"),
    (Layout("text"), {"text": "x"}, "a text was expected, not a dict"),
    (Layout("chat", (("messages", "m"),)), {"m": []}, "m: messages are a list of objects like"),
    (Layout("chat", (("messages", "m"),)), {"m": [{"content": "x"}]}, "m: a message without a role, with content"),
    (Layout("completion", (("prompt", "p"), ("completion", "c"))), {"p": "x", "c": [{"role": "a"}]}, "all texts or"),
    (Layout("tokens", (("input_ids", "input_ids"),)), {"input_ids": ["a"]}, "input_ids: a list of integers"),
])  # fmt: skip
def test_rows_that_do_not_fit_their_layout(layout, value, reason):
    with pytest.raises(ValueError, match=reason):
        layout.of(value)


def test_pairs_of_a_file(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text("gold,rival\n shame,guilt\nlist, dictionary\nshame,guilt\n")
    assert read_pairs(path) == (("shame", "guilt"), ("list", "dictionary"))
    path.write_text("gold,rival\nshame,shame\n")
    with pytest.raises(UserError, match=r"malformed pair in pairs.csv, line 2"):
        read_pairs(path)
    path.write_text("")
    with pytest.raises(UserError, match=r"no pairs\n  rule: at least one"):
        read_pairs(path)


@pytest.fixture
def data(tmp_path):
    return write(tmp_path / "data.jsonl", [{"text": text} for text in TEXTS * 3])


def test_command(run, data, tmp_path):
    out = tmp_path / "scan"
    code, shown, err = run("scan", str(data), "-m", MODEL, "--out", str(out), "--export-contexts", "3", "--limit", "11")
    assert (code, err) == (0, "")
    assert "plain text (text); 11 rows" in shown
    assert "(centered rows), the 99.8th percentile of the model's random token pairs" in shown
    assert f"written to {out}; 3 contexts in contexts.jsonl, each pair's next to its median logit gap" in shown
    summary = json.loads((out / "summary.json").read_text())
    assert f"{summary['counts']['targets']} supervised targets" in shown
    assert f"it is in front at {summary['counts']['rival_ahead']}, by the Born gap" in shown
    assert scan_sentence(summary) in shown
    assert [f"note: {note}" in shown for note in summary["notes"]] == [True]
    worst = summary["worst"][0]
    named = f"{worst['gold'].strip()} < {worst['rival'].strip()} ({worst['relation']}): {worst['targets']} target"
    assert named in shown
    code, shown, err = run("scan", str(data), "-m", MODEL, "--limit", "11", "--json")
    assert (code, err) == (0, "")
    again = json.loads(shown)
    assert again["schema"] == 1
    assert {k: again[k] for k in ("counts", "worst", "bulk")} == {k: summary[k] for k in ("counts", "worst", "bulk")}
    share = summary["headline"]["share_ahead"]
    assert share != summary["share_rival_ahead"]
    assert 0 < share < 1
    for limit, expected in ((share + 0.01, 0), (share - 0.01, 1)):
        code, _, err = run("scan", str(data), "-m", MODEL, "--limit", "11", "--fail-over", str(limit))
        assert code == expected
        assert (f"the rival leads in {share:.4f}" in err) == (expected == 1)
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("gold,rival\nerror,exception\nsupercalifragilistic,error\n")
    code, shown, _ = run("scan", str(data), "-m", MODEL, "--pairs", str(pairs))
    assert code == 0
    assert (
        "Looked for 1 given pair, in both directions and whatever their overlap. Left out: 1, as 'supercalif" in shown
    )
    code, shown, _ = run("probe", "-m", MODEL, "-c", str(out / "contexts.jsonl"), "--json")
    assert all(row["logit_gap"] <= 0 for row in json.loads(shown)["observations"])


def test_command_names_bad_input(run, tmp_path, data):
    def bad(name, content=b"", *options):
        path = tmp_path / name
        path.write_bytes(content)
        return run("scan", str(path), "-m", MODEL, *options)

    fails(bad("empty.jsonl"), "no rows in", "an empty file")
    fails(bad("odd.jsonl", b'{"body": "x"}\n'), "unknown layout", "the fields body", "--text-field")
    fails(bad("odd.xml"), "unknown kind of file", ".xml")
    fails(bad("bad.parquet", b"PAR1 this is none"), "unreadable Parquet")
    fails(bad("chat.jsonl", b'{"messages": [{"role": "user", "content": "x"}]}\n'), "has no chat template")
    fails(bad("short.jsonl", b'{"text": "a"}\n'), "no supervised tokens", "none with a target; supervised: all tokens")
    fails(bad("one.jsonl", b'{"text": "a b"}\n[]\n', "--strict"), "malformed row: one.jsonl, line 2", "an object was")
    fails(run("scan", str(tmp_path / "none.jsonl"), "-m", MODEL), "no data at")
    fails(run("scan", str(data), "-m", MODEL, "--export-contexts", "3"), "exported contexts need a folder", "--out")
    fails(run("scan", str(data), "-m", MODEL, "--fail-over", "2"), "fail-over is out of range")
    fails(run("scan", str(data), "-m", MODEL, "--prompt-field", "x"), "these fields make no layout")
    folder = tmp_path / "mixed"
    folder.mkdir()
    (folder / "a.jsonl").write_text('{"text": "x"}\n')
    (folder / "b.jsonl").write_text('{"prompt": "x", "completion": "y"}\n')
    fails(run("scan", str(folder), "-m", MODEL), "files of different layouts", "plain text (text) in a.jsonl")
    (tmp_path / "nothing").mkdir()
    fails(run("scan", str(tmp_path / "nothing"), "-m", MODEL), "no data in", "an empty folder")
    fails(run("scan", str(data), "-m", MODEL, "--out", str(folder)), "holds other files")


def test_command_counts_malformed_rows(run, tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_text('{"text": "Return the list of all values."}\n{"text": 5}\nnot json\n{"text": "Raise an error."}\n')
    code, shown, _ = run("scan", str(path), "-m", MODEL)
    assert code == 0
    assert "2 malformed rows left out: data.jsonl, line 2: text: a text was expected, not a int; data.jsonl" in shown
    assert "4 rows" in shown
