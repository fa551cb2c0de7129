"""Contexts: their files, every way to get one wrong, and the rules by which they become token ids."""

from __future__ import annotations

import io
import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from borngap.context import FIELDS, Context, read_contexts, tokenize, write_contexts
from borngap.errors import UserError

SHAME = Context("He felt", " shame", " guilt")
LINE = json.dumps({"prompt": "He felt", "gold": " shame", "rival": " guilt"})
words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip)


def file(tmp_path, text, name="contexts.jsonl"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_json_lines(tmp_path):
    lines = ("", LINE, "", '{"gold": "b", "prompt": "a"}', '{"gold": "b", "prompt": "a", "rival": null}')
    path = file(tmp_path, "\n".join(lines))
    assert read_contexts(path) == [SHAME, Context("a", "b"), Context("a", "b")]
    assert read_contexts(str(path)) == read_contexts(path)


def test_csv(tmp_path):
    text = 'prompt,gold,rival\nHe felt, shame, guilt\n"a, ""b""\nc",d,\n'
    assert read_contexts(file(tmp_path, text)) == [SHAME, Context('a, "b"\nc', "d")]


def test_csv_of_long_prompts_by_semicolons(tmp_path):
    long = "He felt " * 20_000
    found = read_contexts(file(tmp_path, f'prompt;gold\n"{long}"; shame\n'))
    assert found == [Context(long, " shame")]


def test_csv_without_a_rival(tmp_path):
    assert read_contexts(file(tmp_path, "gold,prompt\n shame,He felt\n")) == [Context("He felt", " shame")]


@pytest.mark.parametrize("text", [LINE, "prompt,gold,rival\nHe felt, shame, guilt\n"])
def test_a_byte_order_mark_and_windows_line_ends(tmp_path, text):
    assert read_contexts(file(tmp_path, b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())) == [SHAME]


def test_standard_input(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO(LINE))
    assert read_contexts("-") == [SHAME]


def test_a_bundled_set_is_read_by_its_name():
    contexts = read_contexts("paper10")
    assert len(contexts) == 10
    assert all(c.rival for c in contexts)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.builds(Context, words, words, st.none() | words), min_size=1, max_size=4))
def test_contexts_survive_being_written_and_read(tmp_path_factory, contexts):
    distinct = [c for c in contexts if c.gold != c.rival] or [SHAME]
    path = file(tmp_path_factory.mktemp("contexts"), write_contexts(distinct))
    assert read_contexts(path) == distinct


def test_line_separators_within_a_prompt_survive(tmp_path):
    contexts = [Context("one\u2028two\x85three\x0bfour\r\nfive\x1c", "b")]
    assert read_contexts(file(tmp_path, write_contexts(contexts))) == contexts


def test_an_absent_rival_is_not_written():
    assert json.loads(write_contexts([Context("a", "b")])) == {"prompt": "a", "gold": "b"}
    assert list(json.loads(LINE)) == list(FIELDS[:3])


def row(**changes):
    fields = {**json.loads(LINE), **changes}
    return json.dumps({key: value for key, value in fields.items() if value is not ...})


FORMAT = 'fix: {"prompt": "...", "gold": " shame", "rival": " guilt"}'
HEAD = "prompt,gold,rival\n"
MALFORMED = "malformed context in FILE, line "
NEITHER = "FILE is neither JSON Lines nor CSV\n  found: line 1 reads "
FIELDS_RULE = "\n  rule: as many fields as headings\n  found: {} fields, but 3 headings"
BAD = {
    "empty": ("", "no contexts\n  rule: at least one\n  found: FILE is empty\n  fix: one a line: {"),
    "blank": (" \n\t\n", "no contexts\n  rule: at least one\n  found: FILE is empty"),
    "headings only": (HEAD, "no contexts\n  rule: at least one\n  found: FILE is empty"),
    "json": (LINE + '\n{"prompt": 1,,}', MALFORMED + "2\n  rule: one JSON object a line\n  found: "),
    "json line": (LINE + "\n\n{]", MALFORMED + "3\n  rule: one JSON object a line\n  found: Expecting property"),
    "digits": ('{"prompt": ' + "1" * 5000 + "}", MALFORMED + "1\n  rule: one JSON object a line\n  found: Exceeds"),
    "deep": ('{"prompt": ' + "[" * 200_000, MALFORMED + "1\n  rule: one JSON object a line\n  found: nested too"),
    "no object": (LINE + "\n[1]", MALFORMED + f"2\n  rule: a JSON object\n  found: [1]\n  {FORMAT}"),
    "unknown": (
        row(goal=1, x=2),
        "unknown field in FILE, line 1\n  rule: the fields are prompt, gold, rival, prompt_ids, gold_id, "
        "rival_id, note\n"
        "  found: goal, x\n  fix: remove or rename it",
    ),
    "missing": (row(gold=...), MALFORMED + "1\n  rule: 'gold' is a text\n  found: missing\n"),
    "null": (row(prompt=None), MALFORMED + "1\n  rule: 'prompt' is a text\n  found: None\n"),
    "number": (LINE + "\n" + row(rival=3), MALFORMED + "2\n  rule: 'rival' is a text\n  found: 3\n"),
    "empty prompt": (row(prompt=""), "empty prompt in FILE, line 1\n  rule: not empty\n  found: ''"),
    "blank gold": (LINE + "\n" + row(gold=" "), "empty gold in FILE, line 2\n  rule: not empty\n  found: ' '"),
    "blank rival": (row(rival=" "), "empty rival in FILE, line 1\n  rule: not empty\n  found: ' '"),
    "same": (
        "\n" + row(rival=" shame"),
        "gold and rival are the same word in FILE, line 2\n  rule: two words\n  found: ' shame'",
    ),
    "csv headings": ("a,b\n1,2", NEITHER + "'a,b'\n  fix: a first line prompt,gold,rival; or JSON"),
    "json list": ("[" + LINE + "]", NEITHER + "'[{"),
    "csv few": (HEAD + "a,b,c\na,b", MALFORMED + "3" + FIELDS_RULE.format(2)),
    "csv many": (HEAD + "a,b,c,d", MALFORMED + "2" + FIELDS_RULE.format(4)),
    "csv unknown": ("prompt,gold,competitor\na,b,c", "unknown field in FILE, line 2\n  rule: the fields are"),
    "csv quote": (HEAD + 'a,b,c\n"a"x,b,c', "FILE can't be read from line 3 on\n  rule: CSV\n  found: "),
    "csv open quote": (HEAD + 'a,b,c\n"a,b,c\n', "FILE can't be read from line 3 on\n  rule: CSV\n  found: "),
    "csv empty": (HEAD + ",b,c", "empty prompt in FILE, line 2"),
    "bytes": (b'{"prompt": "\xff"}', "contexts file is not text\n  rule: UTF-8, JSON Lines or CSV\n  found: FILE"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_named_with_its_line(tmp_path, name):
    text, message = BAD[name]
    path = file(tmp_path, text)
    with pytest.raises(UserError, match="^.*" + re.escape(message.replace("FILE", str(path)))):
        read_contexts(path)


@pytest.mark.parametrize(("name", "reason"), [("", "Is a directory"), ("missing.csv", "No such file or directory")])
def test_a_file_that_cannot_be_read(tmp_path, name, reason):
    message = rf"contexts file can't be read\n  found: .*{name} \({reason}\)\n  fix: .*docs10, docs40, paper10"
    with pytest.raises(UserError, match=message):
        read_contexts(tmp_path / name)


def test_bad_standard_input_is_named(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("{"))
    with pytest.raises(UserError, match="malformed context in standard input, line 1"):
        read_contexts("-")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\xff"), encoding="utf-8"))
    with pytest.raises(UserError, match=r"contexts file is not text\n.*\n  found: standard input"):
        read_contexts("-")


def ids(tokenizer, text):
    return tokenizer(text)["input_ids"]


def text(tokenizer, *tokens):
    return [tokenizer.decode([t]) for t in tokens]


def test_words_of_one_token(tokenizer):
    target = tokenize(SHAME, tokenizer)
    assert target.ids == tuple(ids(tokenizer, "He felt"))
    assert text(tokenizer, target.gold_id, target.rival_id) == [" shame", " guilt"]
    assert target.notes == {}
    assert not target.fragment
    assert target.context == SHAME


def test_without_a_rival_the_first_token_of_gold_counts(tokenizer):
    target = tokenize(Context("He felt", " shameless"), tokenizer)
    pieces = ids(tokenizer, " shameless")
    assert len(pieces) > 1
    assert target.ids == tuple(ids(tokenizer, "He felt"))
    assert target.gold_id == pieces[0]
    assert target.rival_id is None
    assert target.fragment
    shown = repr(tokenizer.decode(pieces[:1]))
    assert target.notes == {"gold": f"' shameless' is {len(pieces)} tokens; measured is the fragment {shown}"}


def test_shared_tokens_move_into_the_prompt(tokenizer):
    gold, rival = (ids(tokenizer, word) for word in (" Xab", " Xcd"))
    shared = next(i for i, (a, b) in enumerate(zip(gold, rival, strict=False)) if a != b)
    assert shared > 0
    target = tokenize(Context("He felt", " Xab", " Xcd"), tokenizer)
    assert target.ids == (*ids(tokenizer, "He felt"), *gold[:shared])
    assert (target.gold_id, target.rival_id) == (gold[shared], rival[shared])
    assert target.fragment
    moved = " ".join(map(repr, text(tokenizer, *gold[:shared])))
    assert target.notes["prompt"] == f"the tokens that both words share were moved into the prompt: {moved}"
    assert target.notes["gold"].startswith(f"' Xab' is {len(gold)} tokens; measured is the fragment ")
    assert set(target.notes) == {"prompt", "gold", "rival"}


def test_words_of_several_tokens_that_differ_at_once(tokenizer):
    gold = ids(tokenizer, " shameless")
    target = tokenize(Context("He felt", " shameless", " guilt"), tokenizer)
    assert target.ids == tuple(ids(tokenizer, "He felt"))
    assert (target.gold_id, target.rival_id) == (gold[0], *ids(tokenizer, " guilt"))
    assert target.fragment
    assert list(target.notes) == ["gold"]


@pytest.mark.parametrize(("gold", "rival"), [(" shame", " shameless"), (" shameless", " shame"), (" Xab", " Xab")])
def test_words_that_no_token_tells_apart(tokenizer, gold, rival):
    message = (
        r"gold and rival can't be told apart by one token\n  rule: they differ at a token that both have\n"
        r"  found: ' .*' and ' .*'\n  fix: choose words of which neither is the beginning of the other"
    )
    with pytest.raises(UserError, match=message):
        tokenize(Context("He felt", gold, rival), tokenizer)


@pytest.mark.parametrize("prompt", ["He felt sha", "A", "The old man felt shame and sha"])
def test_a_word_that_changes_the_prompts_tokens_is_shown_with_both(tokenizer, prompt):
    rest = "me" if prompt.endswith("sha") else " shame"
    if prompt == "A":
        prompt, rest = "sha", "me"
    whole, part = ids(tokenizer, prompt + rest), ids(tokenizer, prompt)
    assert whole[: len(part)] != part
    first = max(0, len(part) - 4)
    shown = [" ".join(map(repr, text(tokenizer, *side[first:]))) for side in (part, whole)]
    message = (
        f"the word {rest!r} changes how the end of its prompt is cut into tokens\n"
        "  rule: the tokens of the prompt are the beginning of those of prompt + word\n"
        f"  found: {shown[0]} against {shown[1]}\n"
        "  fix: give the word its leading space and end the prompt without one"
    )
    with pytest.raises(UserError, match=f"^{re.escape(message)}(: ' me' is one token here)?$"):
        tokenize(Context(prompt, rest), tokenizer)


def test_a_prompt_without_tokens(tokenizer):
    with pytest.raises(UserError, match=r"the prompt has no tokens\n  rule: at least one token\n  found: ''"):
        tokenize(Context("", " shame"), tokenizer)


class Around:
    """A tokenizer that puts a start token before and an end token behind, and knows no word twice."""

    eos_token_id, eos_token = 1, "</s>"

    def __init__(self, start=(7,), end=(1,)):
        self.start, self.end = list(start), list(end)

    def __call__(self, text, add_special_tokens=True):
        letters = [1 if piece == "</s>" else ord(piece) for piece in re.findall(r"</s>|[^\u200b]", text)]
        return {"input_ids": [*self.start, *letters, *self.end] if add_special_tokens else letters}

    def decode(self, ids):
        return "".join(chr(i) for i in ids)


def test_the_start_token_stays_and_a_trailing_end_token_goes():
    target = tokenize(Context("ab", "c", "d"), Around())
    assert (target.ids, target.gold_id, target.rival_id) == ((7, 97, 98), 99, 100)
    assert tokenize(Context("ab", "c", "d"), Around(end=())).ids == (7, 97, 98)


def test_an_end_token_that_the_text_itself_ends_with_stays():
    target = tokenize(Context("ab", "</s>", "d"), Around(end=()))
    assert (target.ids, target.gold_id, target.rival_id) == ((7, 97, 98), 1, 100)
    assert tokenize(Context("ab</s>", "c", "d"), Around(end=())).ids == (7, 97, 98, 1)


def test_a_word_without_tokens():
    with pytest.raises(UserError, match=r"a word has no tokens\n  rule: at least one token\n  found: '\\u200b'"):
        tokenize(Context("ab", "\u200b"), Around())
