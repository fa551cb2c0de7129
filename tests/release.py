"""What a release must hold. ``make release-check`` runs it, ``make test`` does not: it builds and installs."""

import os
import re
import subprocess
import sys
import tarfile
import time
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
VERSION = PYPROJECT["project"]["version"]
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
# nothing of this checkout, nothing from the hub, and the versions of constraints.txt wherever pip installs
CLEAN = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}}
CLEAN |= {"HF_HUB_OFFLINE": "1", "PIP_CONSTRAINT": str(ROOT / "constraints.txt")}
EVERY_NAME = """
import borngap
for name in borngap.__all__:
    try:
        getattr(borngap, name)
    except ImportError as error:
        print(name, error.name)
"""


def run(*command, cwd, environment=CLEAN):
    """Run a command; return what it printed, or fail with all that it told."""
    told = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert told.returncode == 0, f"{told.stdout}\n{told.stderr}"
    return told.stdout


def tracked(folder):
    """The files of a folder that git knows."""
    return set(run("git", "ls-files", folder, cwd=ROOT).splitlines())


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """The sdist, and the wheel that is built from it."""
    out = tmp_path_factory.mktemp("built")
    run(sys.executable, "-m", "build", "--outdir", out, cwd=ROOT)
    (sdist,), (wheel,) = out.glob("*.tar.gz"), out.glob("*.whl")
    return sdist, wheel


@pytest.fixture(scope="session")
def empty(built, tmp_path_factory):
    """The folder of commands of an environment that holds the wheel, its base dependencies and no more."""
    folder = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", folder, cwd=folder)
    run(folder / "bin" / "pip", "install", "--quiet", built[1], cwd=folder)
    return folder / "bin"


def test_versions_are_one():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    heads = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert citation["version"] == VERSION
    assert heads[:2] == ["Unreleased", f"{VERSION} - {citation['date-released']}"]


def test_citation_is_of_the_schema():
    """What Citation File Format 1.2.0 requires, and the paper."""
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["cff-version"] == "1.2.0"
    assert citation["type"] == "software"
    assert citation["license"] == PYPROJECT["project"]["license"]
    assert {"message", "title", "authors", "abstract", "keywords", "references"} <= set(citation)
    for work in (citation, *citation["references"]):
        assert work["authors"]
        assert all({"name"} == set(a) or {"family-names", "given-names"} == set(a) for a in work["authors"])
    assert [i["value"] for i in citation["references"][0]["identifiers"]] == ["arXiv:2606.07559"]


def test_wheel_holds_the_package_and_nothing_else(built):
    names = set(zipfile.ZipFile(built[1]).namelist())
    notes = {name for name in names if ".dist-info/" in name}
    assert {name.removeprefix("src/") for name in tracked("src/borngap")} == names - notes
    assert {Path(name).name for name in notes} >= {"METADATA", "LICENSE", "entry_points.txt"}


def test_wheel_holds_its_data(built):
    """Named one by one: what git does not know would be missed on both sides of the test above."""
    names = zipfile.ZipFile(built[1]).namelist()
    models = [name for name in names if re.fullmatch(r"borngap/zoo/models/[^/]+/model\.safetensors", name)]
    cards = [name for name in names if re.fullmatch(r"borngap/zoo/models/[^/]+/(README\.md|card\.json)", name)]
    assert (len(models), len(cards)) == (7, 14)
    contexts = {
        f"borngap/contexts/{name}.jsonl"
        for name in ("docs10", "docs40", "paper10", "paper120", "natural100", "candidates")
    }
    others = {"borngap/py.typed", "borngap/critical/calibration.json", "borngap/zoo/packages.json"}
    assert contexts | others <= set(names)
    assert any(name.startswith("borngap/report/page/") and not name.endswith(".py") for name in names)


def test_sdist_holds_what_the_tests_need(built):
    with tarfile.open(built[0]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    needed = {"CITATION.cff", "LICENSE", "Makefile", "README.md", "constraints.txt", "mkdocs.yml", "pyproject.toml"}
    assert needed | tracked("src") | tracked("tests") | tracked("docs") <= names


def canonical(requirement):
    """The name of a package as pip compares it."""
    return re.sub(r"[-_.]+", "-", re.split(r"[\[<>=;]", requirement)[0]).lower()


def test_environment_holds_no_extra(empty):
    extras = PYPROJECT["project"]["optional-dependencies"].values()
    groups = PYPROJECT["dependency-groups"].values()
    own = {"borngap", *map(canonical, PYPROJECT["project"]["dependencies"])}  # an extra may ask more of one of these
    extra = {canonical(line) for part in (*extras, *groups) for line in part} - own
    there = {canonical(line) for line in run(empty / "pip", "list", "--format=freeze", cwd=empty).splitlines()}
    assert {"borngap", "torch"} <= there
    assert not extra & there


def test_every_public_name_is_there_without_extras(empty):
    assert run(empty / "python", "-c", EVERY_NAME, cwd=empty).splitlines() in ([], ["BornGapLightning lightning"])


def test_demo_runs_in_an_empty_folder(empty, tmp_path):
    assert "Usage" in run(empty / "borngap", "--help", cwd=tmp_path)
    told = run(empty / "borngap", "demo", cwd=tmp_path)
    assert "Open the page in a browser" in told
    made = {"data", "before", "after-lora", "after-full", "model-lora", "model-full", "page.html"}
    assert {path.name for path in (tmp_path / "borngap-demo").iterdir()} == made


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs_in_two_minutes(notebook, tmp_path):
    """In the environment of development, with the code of this checkout."""
    begun = time.monotonic()
    jupyter = Path(sys.executable).parent / "jupyter"
    ways = ("nbconvert", "--to", "notebook", "--execute", "--output-dir", tmp_path)
    run(jupyter, *ways, notebook, cwd=tmp_path, environment=os.environ | {"HF_HUB_OFFLINE": "1"})
    assert time.monotonic() - begun < 120


def test_site_is_built_in_a_minute():
    begun = time.monotonic()
    run(sys.executable, "docs/make_site.py", cwd=ROOT)
    assert time.monotonic() - begun < 60
