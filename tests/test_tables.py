"""Tables on narrow terminals: no word is cut, and nothing is lost."""

from __future__ import annotations

import random
import sys

import pytest
from rich.cells import cell_len
from rich.console import Console
from tests.runs import make_run

from borngap.cli import main
from borngap.cli.tables import Fitted
from borngap.context import Context, write_contexts

CONTEXTS = [
    Context("Use this helper to", " build", " create"),
    Context("The function raises an", " error", " exception"),
]
COMMANDS = {
    "probe": ["probe", "-m", "docs-gpt2-s"],
    "forecast": ["forecast", "-m", "docs-neox-s", "--steps", "2", "--by", "class-mean"],
    "critical": ["critical", "-m", "docs-gpt2-s", "--steps", "2"],
    "finetune": ["finetune", "-m", "docs-gpt2-s", "--steps", "3", "--out", "RUN"],
    "sweep": ["sweep", "-m", "docs-gpt2-s", "--steps", "3", "--lrs", "1e-5:1e-2:9", "--out", "SWEEP"],
    "geometry": ["geometry", "-m", "docs-gpt2-s-untied", "--pairs", "100"],
    "neighbours": ["neighbours", "-m", "docs-gpt2-s", "argument", "method"],
    "zoo list": ["zoo", "list"],
}
TAKES_CONTEXTS = {"probe", "forecast", "critical", "finetune", "sweep"}


def printed(table, width):
    console = Console(width=width, record=True, file=None, force_terminal=False)
    with console.capture() as captured:
        console.print(table)
    return captured.get().splitlines()


def words(cells):
    return {word for cell in cells for word in str(cell).split()}


@pytest.fixture
def shown(monkeypatch, capsys, tmp_path):
    """Run a command at a width; return what it printed, and the tables that it printed it from."""

    def run(arguments, width):
        tables = []

        def kept(self, title, headings, rows, *rest, **more):
            tables.append([*headings, *(cell for row in rows for cell in row)])
            known(self, title, headings, rows, *rest, **more)

        known = Fitted.__init__
        monkeypatch.setattr(Fitted, "__init__", kept)
        monkeypatch.setenv("COLUMNS", str(width))
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["borngap", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code
        return capsys.readouterr().out, tables

    return run


@pytest.mark.parametrize("name", COMMANDS)
def test_no_word_of_a_table_is_cut_at_80_columns(shown, tmp_path, name):
    (tmp_path / "c.jsonl").write_text(write_contexts(CONTEXTS), encoding="utf-8")
    contexts = ["-c", "c.jsonl"] if name in TAKES_CONTEXTS else []
    out, tables = shown([*COMMANDS[name], *contexts], 80)
    assert tables
    assert words(cell for cells in tables for cell in cells) <= set(out.split())
    assert max(map(cell_len, out.splitlines())) <= 80


def test_sentences_of_a_scan_are_broken_between_words(shown, tmp_path):
    (tmp_path / "d.jsonl").write_text(
        '{"text": "This function returns a list of the names of all the arguments."}\n' * 3
    )
    scan = ["scan", "d.jsonl", "-m", "docs-gpt2-s"]
    narrow, wide = (shown(scan, width)[0] for width in (50, 500))
    assert narrow.split() == wide.split()
    assert max(map(len, narrow.splitlines())) <= 50
    assert max(map(len, wide.splitlines())) > 80


def test_runs_side_by_side_at_80_columns(shown, tmp_path):
    runs = [make_run(tmp_path / name, ["resolved", "pre-resolved"]) for name in ("one", "two", "three", "four")]
    out, tables = shown(["compare", *runs], 80)
    assert words(tables[0]) <= set(out.split())
    assert max(map(cell_len, out.splitlines())) <= 80


@pytest.mark.parametrize("width", [100, 80, 60, 40, 20])
@pytest.mark.parametrize("seed", range(8))
def test_whatever_the_cells_no_word_is_cut(width, seed):
    chance = random.Random(seed)
    texts = ["pre-resolved", "−1.2e−05", "日本語", "a", "two words", "", "1.23 [1.2, 1.3]", "x" * 15]
    columns, rows = chance.randint(1, 12), chance.randint(0, 5)
    headings = [chance.choice(texts) for _ in range(columns)]
    cells = [[chance.choice(texts) for _ in range(columns)] for _ in range(rows)]
    lines = printed(Fitted("", headings, cells, 2, chance.randint(1, 2)), width)
    found = " ".join(lines).split()
    assert words([*headings, *(cell for row in cells for cell in row)]) == set(found)
    assert all(cell_len(line) <= width for line in lines)
    for text in ("a", "日本語"):  # cells without blanks are all there
        assert found.count(text) >= sum(row.count(text) for row in [headings, *cells])


def test_columns_without_room_stand_below_with_the_first_ones_repeated():
    lines = printed(
        Fitted("title", ["", "gold", "first", "second"], [["1", "build", "pre-resolved", "beyond"]], 2, 2), 24
    )
    assert [line.split() for line in lines] == [
        ["title"], ["gold", "first"], ["1", "build", "pre-resolved"], [], ["gold", "second"], ["1", "build", "beyond"],
    ]  # fmt: skip


def test_a_word_wider_than_the_terminal_is_all_there():
    lines = printed(Fitted("", ["word", "number"], [["x" * 30, "7"]], 1, 1), 20)
    assert sum(line.count("x") for line in lines) >= 30
    assert max(map(len, lines)) <= 20
    assert "7" in "".join(lines)
