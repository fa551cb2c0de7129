"""Files of terms: each format is read, or there is one clear error with the file and the line."""

from __future__ import annotations

import gzip
import re

import pytest

from borngap.errors import UserError
from borngap.words.term import Term
from borngap.words.termfile import read_terms, terms_of
from borngap.words.termfiles.expansion import expand


def pairs(terms):
    return [(term.use, term.avoid) for term in terms]


def read(tmp_path, name, text, encoding="utf-8", **options):
    (tmp_path / name).write_bytes(text.encode(encoding))
    return read_terms(tmp_path / name, **options)


WANTED = [("client", "customer"), ("boot disk", "boot diskette")]


@pytest.mark.parametrize(("name", "text", "encoding"), [
    ("a.csv", "use,avoid\nclient,customer\nboot disk,boot diskette\n", "utf-8"),
    ("a.csv", "Use;Note;Avoid\r\nclient;x;customer\r\n boot  disk ;;boot diskette\r\n", "utf-16"),
    ("a.csv", "avoid,use\ncustomer,client\n\nboot diskette,boot disk", "utf-8-sig"),
    ("a.tsv", "use\tavoid\nclient\tcustomer\nboot disk\tboot diskette\n", "utf-8"),
    ("a.jsonl", '{"use": "client", "avoid": "customer"}\n{"use": "boot disk", "avoid": "boot diskette"}\n', "utf-8"),
    ("a.json", '[{"use": "client", "avoid": "customer"}, {"use": "boot disk", "avoid": "boot diskette"}]', "utf-8"),
    ("a.yml", "extends: substitution\nignorecase: true\nswap:\n  customer: client\n  boot diskette: boot disk",
     "utf-8"),
    ("a.tbx", '<martif xml:lang="en"><text><body>'
     '<termEntry><langSet xml:lang="en"><tig><term>client</term></tig><tig><term>customer</term>'
     '<termNote type="administrativeStatus">deprecatedTerm-admn-sts</termNote></tig></langSet></termEntry>'
     '<termEntry><langSet xml:lang="en"><ntig><termGrp><term>boot disk</term></termGrp></ntig><ntig><termGrp><term>boot'
     ' diskette</term><termNote type="normativeAuthorization">supersededTerm</termNote></termGrp></ntig></langSet>'
     "</termEntry></body></text></martif>", "utf-8"),
])  # fmt: skip
def test_every_format_gives_the_same_terms(tmp_path, name, text, encoding):
    found = read(tmp_path, name, text, encoding)
    assert pairs(found) == WANTED
    assert all(term.inflected and term.whole and not term.cased and term.pattern is None for term in found)
    assert all(re.search(r"a\.\w+, (line|record) \d+", term.where) for term in found)


def test_a_packed_file_is_read(tmp_path):
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"use,avoid\nclient,customer\n"))
    assert pairs(read_terms(tmp_path / "a.csv.gz")) == WANTED[:1]


def test_terms_in_python():
    assert pairs(terms_of(WANTED)) == pairs(terms_of([dict(zip(("use", "avoid"), p, strict=True)) for p in WANTED]))
    own = Term("client", "customer", cased=True)
    assert terms_of([own]).terms[0].cased
    with pytest.raises(UserError, match=r"malformed term: term 1\n.*\n.*\('client',\)"):
        terms_of([("client",)])


@pytest.mark.parametrize(("pattern", "texts", "complete"), [
    ("(?:give|gave) rise to", ("give rise to", "gave rise to"), True),
    ("cell ?phone", ("cell phone", "cellphone"), True),
    ("bottom(?:-)?left", ("bottom-left", "bottomleft"), True),
    ("chat ?bots?", ("chat bot", "chat bots", "chatbot", "chatbots"), True),
    ("[dD]ay 0", ("day 0", "Day 0"), True),
    (r"\bRed\sHat\b", ("Red Hat",), True),
    (r"vs\.", ("vs.",), True),
    ("a{2,3}", ("aa", "aaa"), True),
    ("(?<!kernel )oops", ("oops",), False),
    ("SSL(?!/TLS)", ("SSL",), False),
    ("^note", ("note",), False),
    ("within the (.*)?directory", ("within the directory",), False),
    ("x+", ("x",), False),
    (r"\d+ kb", (), False),
    (r"(?:[a-i][a-i])", (), False),
    (r"(a)\1", (), False),
])  # fmt: skip
def test_expressions_are_expanded(pattern, texts, complete):
    found = expand(pattern)
    assert (found.texts, found.complete) == (texts, complete)
    if complete:
        assert all(re.fullmatch(pattern, text) for text in texts)


RULE = "extends: substitution\nmessage: \"Use '%s'\"\naction:\n  name: replace\n"


def test_vales_rules(tmp_path):
    text = f"""{RULE}nonword: false
exceptions: [mobile phone]
swap:
  "(?:e-mail|Email)": email
  "(?:kill|abort)": stop|exit
  "(?<!mobile |cell )phone": telephone
  (?i)aka|a\\.k\\.a: also known as
  'chat ?bots?': chatbot(s)
  24/7: every day
  on: 'off'
  commence: "'begin' or 'start off'"
  appendixes: appendices
"""
    found = read(tmp_path, "rule.yml", text)
    assert pairs(found) == [
        ("email", "e-mail"), ("email", "Email"), ("stop", "kill"), ("stop", "abort"), ("exit", "kill"),
        ("exit", "abort"), ("telephone", "phone"), ("also known as", "aka"), ("also known as", "a.k.a"),
        ("chatbot", "chat bot"), ("every day", "24/7"), ("off", "on"), ("begin", "commence"),
        ("start off", "commence"), ("appendices", "appendixes"),
    ]  # fmt: skip
    by = {term.avoid: term for term in found}
    assert by["e-mail"].cased
    assert not by["aka"].cased
    assert (by["phone"].pattern, by["kill"].pattern) == ("(?<!mobile |cell )phone", None)
    assert by["phone"].exceptions == ("mobile phone",)
    assert not by["appendixes"].inflected, "forms of one word"
    assert by["24/7"].where == "rule.yml, line 13"


def test_a_rule_of_vale_that_contradicts_itself_is_read_in_part(tmp_path):
    swap = (
        "swap:\n  desire: want\n  desire|wish: need\n  solicit: ask for\n  beg: solicit\n  'the (.*) file': $1 file\n"
    )
    found = read(tmp_path, "rule.yml", RULE + swap + '  obviously: ""\n')
    assert pairs(found) == [("want", "desire"), ("need", "wish"), ("ask for", "solicit")]
    assert [(e.avoid, e.where, e.reason) for e in found.left_out] == [
        ("desire", "rule.yml, line 7", "rule.yml, line 6, says to use 'want' instead of it"),
        ("beg", "rule.yml, line 9", "rule.yml, line 8, says to avoid 'solicit'"),
        ("the (.*) file", "rule.yml, line 10", "the wanted word is made of parts of the match"),
        ("obviously", "rule.yml, line 11", "it says to leave the word out, and names none to use"),
    ]


TBX3 = """<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE tbx SYSTEM "TBXBasiccoreStructV02.dtd">
<tbx type="TBX-Basic" style="dct" xml:lang="en" xmlns="urn:iso:std:iso:30042:ed-2" xmlns:min="http://x">
<text><body><conceptEntry id="c1">
<langSec xml:lang="en-US"><termSec><term>sign
 in</term><min:administrativeStatus>preferredTerm-admn-sts</min:administrativeStatus></termSec>
<termSec><term>log in</term><min:administrativeStatus>deprecatedTerm-admn-sts</min:administrativeStatus></termSec>
<termSec><term>log on</term><min:administrativeStatus>notRecommended</min:administrativeStatus></termSec>
<termSec><term>access</term><min:administrativeStatus>admittedTerm-admn-sts</min:administrativeStatus></termSec>
</langSec>
<langSec xml:lang="de"><termSec><term>anmelden</term></termSec><termSec><term>einloggen</term>
<termNote type="administrativeStatus">deprecatedTerm-admn-sts</termNote></termSec></langSec>
</conceptEntry><conceptEntry id="c2">
<langSec xml:lang="en-US"><termSec><term>thing</term>
<termNote type="administrativeStatus">deprecatedTerm-admn-sts</termNote></termSec></langSec>
</conceptEntry></body></text></tbx>
"""


def test_tbx_of_several_languages(tmp_path):
    english = read(tmp_path, "t.tbx", TBX3, language="en")
    assert pairs(english) == [("sign in", "log in"), ("sign in", "log on")]
    assert [term.where for term in english] == ["t.tbx, line 7", "t.tbx, line 8"]
    assert [(e.avoid, e.reason) for e in english.left_out] == [
        ("thing", "its concept has no preferred term in this language")
    ]
    assert pairs(read(tmp_path, "t.tbx", TBX3, language="de")) == [("anmelden", "einloggen")]
    assert pairs(read(tmp_path, "t.tbx", TBX3.replace("UTF-8", "UTF-16"), "utf-16", language="de")) == [
        ("anmelden", "einloggen")
    ]


TBX = TBX3[TBX3.index("<tbx") :]
ENTITIES = '<!DOCTYPE tbx [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]>\n'


@pytest.mark.parametrize(("name", "text", "message"), [
    ("a.csv", "", r"no terms in .*a.csv\n.*\n  found: .*a.csv is empty"),
    ("a.csv", "use,avoid\n", "no terms in"),
    ("a.csv", "client,customer\n", r"no terms in .*a.csv"),
    ("a.csv", "client,customer\na,b\n", r"no terms in a.csv, line 2\n  rule: the headings use,avoid"),
    ("a.csv", "use,avoid\nclient\n", r"malformed term in a.csv, line 2\n.*\n  found: 1 fields, but 2 headings"),
    ("a.csv", "use,avoid\nclient,\n", r"malformed term in a.csv, line 2\n  rule: 'avoid' is a word"),
    ("a.csv", "use,avoid,cased\na,b,perhaps\n", r"malformed term in a.csv, line 2\n  rule: 'cased' is true or false"),
    ("a.csv", "use,avoid\na,a\n", r"a wanted word is the avoided one\n.*\n  found: 'a' in a.csv, line 2"),
    ("a.csv", "use,avoid\nb,a\nc,A\n", r"has two words that are wanted(.|\n)*'b' instead of 'a' in a.csv, line 2"),
    ("a.csv", "use,avoid\nb,a\nc,b\n", r"a chain: 'b' instead of 'a' in a.csv, line 2, 'c' instead of 'b'"),
    ("a.csv", "use,avoid\nb,a\na,b\n", r"a circle: 'b' instead of 'a' in a.csv, line 2"),
    ("a.jsonl", '{"use": "a"}\n', r"no terms in a.jsonl, line 1\n(.|\n)*found: the fields use"),
    ("a.jsonl", '{"use": "a", "avoid": 3}\n', r"malformed term in a.jsonl, line 1\n(.|\n)*found: 3"),
    ("a.jsonl", '{"use": "a", "avoid": ["b", "c"]}\n', r"found: \['b', 'c'\]\n  fix: a line for each of the words"),
    ("a.jsonl", "{\n", r"malformed term in a.jsonl, line 1"),
    ("a.yml", "swap: [", r"malformed YAML in a.yml, line 1"),
    ("a.yml", "extends: existence\ntokens: [a]", r"no substitution rule of Vale\n.*\n  found: extends: existence"),
    ("a.yml", "extends: substitution", r"no substitution rule of Vale\n.*\n  found: no field 'swap'"),
    ("a.yml", "- a", r"no substitution rule"),
    ("a.yml", f"{RULE}swap:\n  (a: b\n", r"no regular expression in a.yml, line 6\n.*\n  found: \(a \("),
    ("a.yml", f"{RULE}swap:\n  a?: b\n", r"matches nothing at all in a.yml, line 6\n.*\n  found: 'a\?'"),
    ("a.yml", f"{RULE}swap:\n  a: [b]\n", r"malformed swap in a.yml, line 6"),
    ("a.yml", f"{RULE}ignorecase: 3\nswap:\n  a: b\n", r"malformed ignorecase in a.yml, line 5"),
    ("a.yml", f"{RULE}swap:\n  a: a\n", r"no terms in .*a.yml\n.*\n  found: a.yml, line 6: the wanted word is the avo"),
    ("a.tbx", TBX, r"terms of several languages\n.*\n  found: de, en-US\n  fix: name one with --language"),
    ("a.tbx", TBX[:300], r"malformed XML in a.tbx, line 5"),
    ("a.tbx", "<html/>", r"a.tbx is no TBX"),
    ("a.tbx", ENTITIES + TBX, r"an entity is defined in a.tbx, line 1"),
    ("a.txt", "client,customer", r"unknown kind of terms: a.txt"),
])  # fmt: skip
def test_bad_files_end_with_one_clear_error(tmp_path, name, text, message):
    with pytest.raises(UserError, match=message):
        read(tmp_path, name, text)


@pytest.mark.parametrize(("name", "text", "line"), [
    ("a.tbx", TBX.replace("einloggen", "einlöggen"), 1 + TBX[: TBX.index("einloggen")].count("\n")),
    ("a.yml", f"{RULE}swap:\n  Käufer: Kunde\n", 6),
])  # fmt: skip
def test_bytes_of_another_encoding_are_refused_not_replaced(tmp_path, name, text, line):
    with pytest.raises(UserError, match=rf"no text in {name}, line {line}\n(.|\n)*is not UTF-8"):
        read(tmp_path, name, text, "latin-1", language="de")


@pytest.mark.parametrize("given", [["OK", "no"], {"client": "customer"}, None, 3])
def test_what_is_no_list_of_pairs_is_refused(given):
    with pytest.raises(UserError, match="malformed term"):
        terms_of(given)


def test_what_is_no_file_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"the terms can't be read(.|\n)*\(no such file\)"):
        read_terms(tmp_path / "none.csv")
    with pytest.raises(UserError, match=r"\(a folder\)"):
        read_terms(tmp_path)
    with pytest.raises(UserError, match=r"no terms of the language 'fr'\n  found: de, en-US"):
        read(tmp_path, "a.tbx", TBX, language="fr")


def test_words_that_differ_in_case_or_form_only_count_as_they_are_written():
    case, form, other = terms_of([("vNIC", "vnic"), ("learned", "learnt"), ("client", "customer")])
    assert (case.cased, case.inflected) == (True, True)
    assert (form.cased, form.inflected) == (False, False)
    assert (other.cased, other.inflected) == (False, True)
    assert [pairs(terms_of([("b", "a"), ("b", "a")]))] == [[("b", "a")]], "each once"
