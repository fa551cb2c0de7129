"""The docs: links and anchors lead somewhere, the navigation holds every page, the reference every public name."""

import ast
import re
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

import borngap
from borngap.cli import app

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
OF_THE_ROOT = {"index.md": "README.md", "CHANGELOG.md": "CHANGELOG.md", "CONTRIBUTING.md": "CONTRIBUTING.md"}
ALL = [*(ROOT / name for name in OF_THE_ROOT.values()), *PAGES]
COMMAND = get_command(app)
REFERENCE = {page: re.findall(r"^::: (\S+)$", page.read_text("utf-8"), re.MULTILINE) for page in PAGES}


def text_of(page):
    """A page without its code, in which brackets are no links."""
    return re.sub(r"^```.*?^```$|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def links(page):
    """Pairs of a file (empty: the page itself) and an anchor; links and pictures of other sites are left out."""
    found = re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]+))?\)", text_of(page))
    return [(target, anchor) for target, anchor in found if "://" not in target]


def anchors(page):
    """The anchors of a page's headings, as GitHub and the site make them."""
    heads = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", ALL, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for target, anchor in links(page):
        found = page.parent / target if target else page
        assert found.exists(), target
        assert not anchor or anchor in anchors(found), f"{target}#{anchor}"


def test_links_of_the_root_lead_somewhere_on_the_site_too():
    for page in OF_THE_ROOT.values():
        for target, _ in links(ROOT / page):
            assert target.startswith("docs/") or target in OF_THE_ROOT.values(), f"{page}: {target}"


def test_docstrings_name_anchors_that_exist():
    for path in (ROOT / "src").rglob("*.py"):
        for page, anchor in re.findall(r"(docs/\w+\.md)#([a-z-]+)", path.read_text(encoding="utf-8")):
            assert anchor in anchors(ROOT / page), f"{path}: {page}#{anchor}"


def leaves(entry):
    """The pages of a part of the navigation."""
    if isinstance(entry, str):
        return [entry]
    return [page for part in (entry.values() if isinstance(entry, dict) else entry) for page in leaves(part)]


def test_navigation_holds_every_page_once():
    listed = leaves(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"])
    pages = [*PAGES, *(page.with_suffix(".md") for page in (ROOT / "docs").rglob("*.ipynb"))]
    assert sorted(listed) == sorted([*OF_THE_ROOT, *(str(page.relative_to(ROOT / "docs")) for page in pages)])


def test_reference_holds_every_public_name_once():
    names = [name.removeprefix("borngap.") for name in REFERENCE[ROOT / "docs/api/borngap.md"]]
    assert sorted(names) == sorted(borngap.__all__)


@pytest.mark.parametrize("name", [n for p, names in REFERENCE.items() if p.stem != "borngap" for n in names])
def test_reference_names_modules_that_exist(name):
    assert find_spec(name), name


def names_in(module):
    """What a module defines, read without importing it: that would take seconds."""
    if module == "borngap":
        return {*borngap.__all__}
    tree = ast.parse(Path(find_spec(module).origin).read_text(encoding="utf-8"))
    assigned = {t.id for n in tree.body if isinstance(n, ast.Assign) for t in n.targets if isinstance(t, ast.Name)}
    return assigned | {n.name for n in tree.body if isinstance(n, (ast.FunctionDef, ast.ClassDef))}


@pytest.mark.parametrize("page", ALL, ids=lambda page: str(page.relative_to(ROOT)))
def test_python_of_a_page_names_what_exists(page):
    for code in re.findall(r"^```python\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
        nodes = list(ast.walk(ast.parse(code)))
        for node in (n for n in nodes if isinstance(n, ast.ImportFrom) and n.module.startswith("borngap")):
            assert {alias.name for alias in node.names} <= names_in(node.module), node.module
        used = {n.attr for n in nodes if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name)
                and n.value.id == "borngap"}  # fmt: skip
        assert used <= {*borngap.__all__}


def commands(page):
    """The command lines of borngap on a page: of its blocks and within its sentences, with continued lines as one."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    blocks = "".join(re.findall(r"^```\w*\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))
    return re.findall(r"^borngap ([a-z][^#\n]*)", blocks, re.MULTILINE) + re.findall(r"`borngap ([a-z][^`\n]*)`", text)


@pytest.mark.parametrize("page", ALL, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_of_a_page_exist(page):
    for line in commands(page):
        command, parts = COMMAND, re.split(r"[ ,|]+", line.strip())
        while getattr(command, "commands", None) and parts:
            command = command.commands[parts.pop(0)]
        options = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        assert {part for part in parts if re.match("--?[a-z]", part)} <= options | {"--help"}, line


def test_changelog_says_everything_once():
    """Merges of branches that moved its lines put them there twice."""
    begun = [line[:45] for line in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").splitlines() if line[:2] == "- "]
    assert len(begun) == len(set(begun))
