"""Files as people have them: long fields, compression, encodings, delimiters; a reader that loses its place stops."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import time

import pandas as pd
import pytest
from backports import zstd
from tests.test_cli import fails

from borngap.data import jsonfile
from borngap.data.recognise import layout_of
from borngap.data.rows import open_source
from borngap.errors import UserError

ROWS = [
    {"text": "Der Körper, einer; Funktion 🙂", "id": "0"},
    {"text": 'a "b"\nc', "id": "1"},
    {"text": "x", "id": "2"},
]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()
PACK = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": zstd.compress}


def read(path, content, split="train"):
    path.write_bytes(content)
    return [row.value for row in open_source(path, split).rows()]


def table(delimiter=",", **options):
    """ROWS as pandas writes them."""
    return pd.DataFrame(ROWS).to_csv(index=False, sep=delimiter, **options)


@pytest.mark.parametrize("length", [131_073, 5_000_000])
def test_a_csv_field_of_any_length(tmp_path, length):
    before = csv.field_size_limit()
    long = "word, " * (length // 6 + 1)
    content = f'text,id\n"{long}",1\nb,2\nc,3\n'.encode()
    assert read(tmp_path / "a.csv", content) == [
        {"text": long, "id": "1"},
        {"text": "b", "id": "2"},
        {"text": "c", "id": "3"},
    ]
    assert csv.field_size_limit() == before


def test_long_rows_of_json_are_read_in_linear_time(tmp_path):
    small = 200_000
    content = json.dumps([{"text": "x" * 4_000_000}] + [{"text": "y"}] * small).encode()
    start = time.process_time()
    rows = read(tmp_path / "a.json", content)
    assert len(rows) == small + 1
    assert time.process_time() - start < 10  # 1 s; copying the rest at each row takes minutes


@pytest.mark.parametrize("suffix", PACK)
@pytest.mark.parametrize(("kind", "content"), [
    (".jsonl", LINES), (".json", json.dumps(ROWS).encode()), (".csv", table().encode()), (".tsv", table("\t").encode()),
])  # fmt: skip
def test_compressed_files(tmp_path, suffix, kind, content):
    name = f"data{kind}{suffix}"
    assert read(tmp_path / name, PACK[suffix](content)) == ROWS
    assert open_source(tmp_path).parts[0].name == name
    half = len(content) // 2
    assert read(tmp_path / name, PACK[suffix](content[:half]) + PACK[suffix](content[half:])) == ROWS  # two members
    with pytest.raises(UserError, match=rf"can't unpack all of .*{name}\n  rule: a whole {suffix} file\n  found: "):
        read(tmp_path / name, PACK[suffix](content)[:-9])
    with pytest.raises(UserError, match="can't unpack all of"):
        read(tmp_path / name, b"no archive at all")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("kind", [".jsonl", ".json", ".csv", ".txt"])
def test_encodings(tmp_path, kind, encoding):
    text = {".jsonl": LINES.decode(), ".json": json.dumps(ROWS, ensure_ascii=False), ".csv": table()}.get(
        kind, "a\nü\n🙂"
    )
    assert read(tmp_path / f"a{kind}", text.encode(encoding)) == (["a", "ü", "🙂"] if kind == ".txt" else ROWS)
    if encoding == "utf-16":
        with pytest.raises(
            UserError,
            match=r"is not text\n  rule: UTF-8, UTF-16 or UTF-32\n  found: .* (truncated|unexpected end of) data",
        ):
            read(tmp_path / "b.txt", text.encode(encoding)[:-1])


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_delimiters_and_line_ends(tmp_path, delimiter, end):
    content = (end + table(delimiter, lineterminator=end)).encode()
    assert read(tmp_path / "a.csv", content) == ROWS
    rows = list(open_source(tmp_path / "a.csv").rows())
    assert [row.where for row in rows] == ["a.csv, line 3", "a.csv, line 4", "a.csv, line 6"]
    plain = end.join(["one, 1", "", "two; 2", ""]).encode()
    assert read(tmp_path / "a.txt", plain) == ["one, 1", "two; 2"]
    assert read(tmp_path / "a.jsonl", LINES.replace(b"\n", end.encode())) == ROWS


def test_tsv_is_split_by_tabs_alone(tmp_path):
    content = b"text, of one row; long, long\tid\na, b\t1\n"
    assert read(tmp_path / "a.tsv", content) == [{"text, of one row; long, long": "a, b", "id": "1"}]


def test_a_heading_of_any_length(tmp_path):
    long = "word " * 40_000
    assert read(tmp_path / "a.csv", f"{long};id\nx;1\n".encode()) == [{long: "x", "id": "1"}]


def test_one_column_needs_no_delimiter(tmp_path):
    content = b'text\n"a, b; c"\nd; e\n'
    assert read(tmp_path / "a.csv", content) == [{"text": "a, b; c"}, {"text": "d; e"}]


@pytest.mark.parametrize(("name", "content", "message"), [
    ("a.csv", b'text,id\nx,1\n"y,2\nz,3\n', r"from line 3 on\n.*CSV\n  found: unexpected end of data"),
    ("a.csv", b'text,id\n"x,1\n"y",2\nz,3\n', r"from line 2 on\n.*CSV\n  found: ',' expected after"),
    ("a.csv", b'text,id\n"a \\"b\\" c",1\n', r"from line 2 on\n.*CSV\n  found: ',' expected after"),
    ("a.csv", b"text,id\nx,1\n\0\0\0,2\n", r"from line 3 on\n  .*text\n  found: a NUL character"),
    ("a.csv", b"text,text\nx,1\n", r"a.csv has two columns of one name\n  rule: .*\n  found: text"),
    ("a.json", b'[{"text": "x"}, {"text": "y"}, {"text": ', r"a.json can't be read from record 3 on\n  rule: JSON, or"),
    ("a.json", b'[{"text": "x"}, {"text": "y"}', r"from record 3 on\n  rule: .*\n  found: the array ends early"),
    ("a.json", b'[{"text": "x"} {"text": "y"}]', r"from record 2 on\n.*\n  found: ',' or '\]' was expected, not '{'"),
    ("a.json", b'[{"text": "x"}, {"te\nxt": "y"}]', r"from record 2 on\n.*\n  found: Invalid control character"),
    ("a.json", b'[{"text": "x"}] and more', r"from record 2 on\n.*\n  found: Expecting value"),
    ("a.json", b'{\n"text": "x"}\n{"text": \n"y"', r"from record 2 on\n.*\n  found: Expecting ',' delimiter"),
    ("a.json", b"[" * 200_000, r"from record 1 on\n  rule: .*\n  found: nested too deeply"),
    ("a.json", b'{"train": [{"text": "x"}], "test": [{"text": "y"}]}', r"several lists .*\n.*\n  found: train, test"),
])  # fmt: skip
@pytest.mark.parametrize("piece", [1, 1 << 16])
def test_a_reader_that_loses_its_place_stops(tmp_path, monkeypatch, name, content, message, piece):
    monkeypatch.setattr(jsonfile, "PIECE", piece)
    with pytest.raises(UserError, match=message):
        read(tmp_path / name, content, "validation")


def test_a_broken_array_is_not_read_to_its_end(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('[{"text": "x"}, {"text" "y"}' + " " * 1_000_000 + "]")
    with path.open() as stream:
        reader = jsonfile._Reader(stream)
        reader.peek()
        with pytest.raises(ValueError, match="Expecting ':' delimiter"):
            list(reader.elements())
        assert stream.tell() < 200_000


@pytest.mark.parametrize(("content", "expected"), [
    ('{"version": 1, "data": ROWS}', ROWS),
    ('{"version": 1,\n "data": ROWS}', ROWS),
    ('{"test": [{"text": "no"}], "train": ROWS}', ROWS),
    ("ROWS\nROWS", ROWS + ROWS),
    ("".join(json.dumps(row) for row in ROWS), ROWS),
    ("".join(json.dumps(row, indent=2) + "\n" for row in ROWS), ROWS),
    ('{"text": "a", "spans": [{"from": 1}]}', [{"text": "a", "spans": [{"from": 1}]}]),
    ('{"messages": [{"role": "user", "content": "x"}]}', [{"messages": [{"role": "user", "content": "x"}]}]),
    ('[{"body": "x", "notes": [{"a": 1}]}]', [{"body": "x", "notes": [{"a": 1}]}]),
    ('"a"\n"b"\n', ["a", "b"]),
    ("[]", []),
    (" \n", []),
])  # fmt: skip
@pytest.mark.parametrize("piece", [1, 1 << 16])
def test_shapes_of_json(tmp_path, monkeypatch, content, expected, piece):
    monkeypatch.setattr(jsonfile, "PIECE", piece)
    assert read(tmp_path / "a.json", content.replace("ROWS", json.dumps(ROWS)).encode()) == expected


def test_the_split_names_a_list(tmp_path):
    content = b'{"train": [{"text": "x"}], "test": [{"text": "y"}]}'
    assert read(tmp_path / "a.json", content, "test") == [{"text": "y"}]


def test_half_of_a_pair_in_a_text_is_named(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "ab\\ud83d"}\n{"text": "fine \\ud83d\\ude42"}\n')
    source = open_source(path)
    layout = layout_of(source, {})
    bad, good = source.rows()
    with pytest.raises(ValueError, match="text: half of a surrogate pair, at character 3"):
        layout.of(bad.value)
    assert layout.of(good.value) == {"text": "fine 🙂"}


def test_the_first_row_that_tells_a_layout_counts(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": null}\n{"text": "hi there"}\n')
    layout = layout_of(open_source(path), {})
    assert str(layout) == "plain text (text)"
    with pytest.raises(ValueError, match="the field 'text' is missing"):
        layout.of({"text": None})


def test_a_number_of_too_many_digits_is_a_row_with_an_error(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"n": ' + "1" * 5000 + '}\n{"text": "x"}\n')
    bad, good = open_source(path).rows()
    assert bad.error.startswith("Exceeds the limit (4300 digits)")
    assert good.value == {"text": "x"}


def test_lines_of_white_space_are_no_records(tmp_path):
    (tmp_path / "a.csv").write_text("  \nprompt,completion\na,b\n \nc\n")
    good, bad = open_source(tmp_path / "a.csv").rows()
    assert (good.value, good.where) == ({"prompt": "a", "completion": "b"}, "a.csv, line 3")
    assert (bad.error, bad.where) == ("1 fields, but 2 headings", "a.csv, line 5")


def test_a_gate_does_not_pass_on_rows_that_were_not_read(run, tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_text('{"text": "Return the list of all values."}\nnot json\n')
    code, _, _ = run("scan", str(path), "-m", "docs-gpt2-s")
    assert code == 0
    fails(
        run("scan", str(path), "-m", "docs-gpt2-s", "--fail-over", "1"),
        "1 of 2 rows were not read",
        "data.jsonl, line 2",
    )
    long = io.StringIO()
    writer = csv.writer(long)
    writer.writerows([["text"], ["word " * 40_000], *[["Raise an error."]] * 3])
    (tmp_path / "a.csv").write_text(long.getvalue().replace('word "', "word ", 1))
    code, shown, _ = run("scan", str(tmp_path / "a.csv"), "-m", "docs-gpt2-s", "--max-length", "8", "--fail-over", "1")
    assert code == 0
    assert "4 rows" in shown
