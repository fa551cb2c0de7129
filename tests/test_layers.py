"""The layout: arrows point down only, nothing goes in a circle, hosts stay in their folders, the low layers are light.

``python tests/test_layers.py`` writes the table of CONTRIBUTING.md anew.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import borngap

SOURCE = Path(borngap.__file__).parent
CONTRIBUTING = Path(__file__).parents[1] / "CONTRIBUTING.md"
# from the lowest to the highest: a folder, or a file that lies in none, imports from those before it
ORDER = (
    "errors", "cuts", "resample", "shown", "tokens", "kinds", "choices", "methods", "optimisers", "rates", "schedule",
    "data", "words", "observables", "context", "judge", "losses", "training", "files", "folder", "ray", "runfolder",
    "results", "model", "train", "critical", "scanning", "usage", "changes", "rivals", "pilot", "remedies",
    "live", "track", "sweep", "zoo", "experiments", "report", "cli",
)  # fmt: skip
FREE = {"", "zoo.__init__"}  # the package itself is lazy; the zoo's list of names is a list of paths
HOSTS = {"transformers", "peft", "accelerate", "datasets", "trl", "lightning"}
HOSTED = {"data", "model", "train", "track", "zoo"}
LIGHT = (
    "errors", "cuts", "resample", "shown", "tokens", "kinds", "choices", "methods", "optimisers", "rates", "schedule",
    "words", "observables", "context",
)  # fmt: skip
# a command is named as what it runs, and the parts of the paper have one interface
SAME_NAMES = ("cli.commands.", "experiments.parts.")
HEAVY = HOSTS | {"polars", "rich", "typer", "altair", "jinja2", "pydantic", "sklearn", "pandas"}


def place(module):
    """Return where a module, named without the package, stands in ORDER: itself, or its folder."""
    return module if module in ORDER else module.split(".")[0]


def layer(module):
    """Return a module's place in the order; -1 for what anybody may import."""
    return -1 if module in FREE else ORDER.index(place(module))


def modules(source):
    """Name -> path of every module, without the package's name; a folder's own module ends in __init__."""
    paths = {path.relative_to(source).with_suffix(""): path for path in source.rglob("*.py")}
    return {".".join(name.parts): path for name, path in paths.items() if name.parts != ("__init__",)}


def imports(path):
    """Return every absolute name that a file imports, wherever it does so."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute, so that this test sees them"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def arrows(source, package="borngap"):
    """Yield every import of one file of a tree by another, as (importer, imported)."""
    known = modules(source)
    for module, path in known.items():
        for name in imports(path):
            parts = name.split(".")
            if parts[0] != package:
                continue
            targets = (".".join(parts[1:end]) for end in range(len(parts), 0, -1))
            target = next(t for t in targets if t in known or f"{t}.__init__" in known or not t)
            yield module, f"{target}.__init__" if f"{target}.__init__" in known else target


def upward(source):
    """Return the imports of a tree that point up, as 'importer -> imported'."""
    return [
        f"{module} -> {target}"
        for module, target in arrows(source)
        if module not in FREE and layer(target) > layer(module)
    ]


def circle(pairs):
    """Return a circle of imports, its first member again at its end; None where there is none."""
    graph = {}
    for importer, imported in pairs:
        if importer != imported:
            graph.setdefault(importer, set()).add(imported)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1][::-1]
    return None


def folders(source):
    """Yield the imports of a tree from folder to folder."""
    return ((place(importer), place(imported)) for importer, imported in arrows(source))


def loaded_after(*names, path=()):
    """Import modules one after the other in a fresh interpreter; return what is loaded after each."""
    program = (
        "import importlib, json, sys\nresult = {}\nfor name in sys.argv[1:]:\n    importlib.import_module(name)\n"
        "    result[name] = [m for m in sys.modules if '.' not in m or m.startswith('borngap.')]\n"
        "print(json.dumps(result))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (*path, SOURCE.parent)))}
    command = [sys.executable, "-c", program, *names]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment, timeout=120)
    return {name: set(loaded) for name, loaded in json.loads(done.stdout).items()}


def defined(path):
    """Yield the public names that a module defines at its top, each with whether it is a function."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names = [node.name]
        else:
            targets = getattr(node, "targets", [getattr(node, "target", None)])
            names = [target.id for target in targets if isinstance(target, ast.Name)]
        yield from ((name, isinstance(node, ast.FunctionDef)) for name in names if not name.startswith("_"))


def twice(source):
    """Return the public names that several modules of a tree define, and which."""
    homes = {}
    for module, path in sorted(modules(source).items()):
        if not module.startswith(SAME_NAMES):
            for name in sorted({name for name, _ in defined(path)}):
                homes.setdefault(name, []).append(module)
    return {name: found for name, found in homes.items() if len(found) > 1}


def named_as_their_function(source):
    """Return the modules of a tree whose one public function has the module's name."""
    functions = {
        module: [name for name, is_function in defined(path) if is_function]
        for module, path in modules(source).items()
        if not module.startswith(SAME_NAMES)
    }
    return sorted(module for module, names in functions.items() if names == [module.split(".")[-1]])


def table():
    """Return CONTRIBUTING's table of the layout, each folder and file in its own words."""
    rows = []
    for name in ORDER:
        path = SOURCE / name
        module = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        said = ast.get_docstring(ast.parse(module.read_text(encoding="utf-8"))).splitlines()[0]
        rows.append(f"| `{name}{'/' if path.is_dir() else '.py'}` | {said} |\n")
    return "".join(("| from low to high | what it is |\n| --- | --- |\n", *rows))


def test_every_module_has_a_place():
    lost = [name for name in modules(SOURCE) if name not in FREE and place(name) not in ORDER]
    assert lost == [], "give it one in ORDER"
    assert all((SOURCE / name).is_dir() or (SOURCE / f"{name}.py").is_file() for name in ORDER)


def test_contributing_has_the_table():
    assert table() in CONTRIBUTING.read_text(encoding="utf-8"), "python tests/test_layers.py writes it anew"


def test_no_folder_is_a_heap_and_no_file_a_book():
    folders = {path.parent for path in modules(SOURCE).values()} - {SOURCE}
    assert {str(f): n for f in folders if (n := sum(x.is_file() for x in f.iterdir())) > 16} == {}
    files = [*modules(SOURCE).values(), *Path(__file__).parent.glob("*.py")]
    lines = {path.name: len(path.read_text(encoding="utf-8").splitlines()) for path in files}
    assert {name: count for name, count in lines.items() if count > 400} == {}


def test_arrows_point_down():
    assert len(modules(SOURCE)) > 10
    assert upward(SOURCE) == []


@pytest.mark.parametrize(("importer", "line", "arrow"), [
    ("observables/gap", "from borngap import runfolder", "observables.gap -> runfolder"),
    ("context", "def f():\n    import borngap.model.load", "context -> model.load"),
    ("observables/gap", "from borngap.model import load", "observables.gap -> model.load"),
    ("judge/watch", "from borngap.cli import main", "judge.watch -> cli.__init__"),
])  # fmt: skip
def test_an_arrow_that_points_up_is_found(tmp_path, importer, line, arrow):
    for name in ("__init__", "runfolder", "model/load", "cli/__init__", importer):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.py").write_text("")
    (tmp_path / f"{importer}.py").write_text(f"import torch\nfrom borngap import __version__\n{line}\n")
    assert upward(tmp_path) == [arrow]


def test_no_file_and_no_folder_imports_in_a_circle():
    """Not even within a function, or for types: what is one concept is one file."""
    assert len(list(arrows(SOURCE))) > 100
    assert circle(arrows(SOURCE)) is None
    between = [(a, b) for a, b in arrows(SOURCE) if not {a, b} & FREE]
    assert circle((place(a), place(b)) for a, b in between) is None


@pytest.mark.parametrize(("files", "of_files", "of_folders"), [
    ({"judge/a": "import borngap.judge.b", "judge/b": "from borngap import errors", "errors": "import os"}, None, None),
    ({"judge/a": "import borngap.judge.b", "judge/b": "from borngap.judge.a import x"}, ["judge.a", "judge.b"], None),
    ({"judge/a": "def f():\n    from borngap import errors", "errors": "import borngap.judge.a"},
     ["judge.a", "errors"], ["judge", "errors"]),
    ({"judge/a": "if 1:\n    import borngap.runfolder", "runfolder": "import borngap.judge.b", "judge/b": ""},
     None, ["judge", "runfolder"]),
])  # fmt: skip
def test_a_circle_is_found(tmp_path, files, of_files, of_folders):
    (tmp_path / "__init__.py").write_text("")
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.py").write_text(text + "\n")
    between = [(place(a), place(b)) for a, b in arrows(tmp_path)]
    for found, wanted in ((circle(arrows(tmp_path)), of_files), (circle(between), of_folders)):
        assert found is None if wanted is None else set(found) == set(wanted)


def test_experiments_stand_apart():
    """Removing their folder breaks its own command alone; a report reads what they have stored (test_apart.py)."""
    users = {importer for importer, imported in arrows(SOURCE) if place(imported) == "experiments"}
    assert {user for user in users if place(user) != "experiments"} == {"cli.commands.reproduce"}


def test_hosts_are_imported_in_their_own_folders_only():
    users = {place(m) for m, path in modules(SOURCE).items() for name in imports(path) if name.split(".")[0] in HOSTS}
    assert users == HOSTED


def test_the_low_layers_load_nothing_heavy():
    low = sorted((n for n in modules(SOURCE) if place(n) in LIGHT), key=layer)
    assert {"observables.gap", "observables.predictions", "context"} <= set(low)
    after = loaded_after(*(f"borngap.{name}".removesuffix(".__init__") for name in low))
    for name in low:
        assert after[f"borngap.{name}".removesuffix(".__init__")] & HEAVY == set(), name
    assert "torch" in after["borngap.observables.density"]


def test_no_public_name_is_defined_twice():
    assert twice(SOURCE) == {}


def test_no_module_is_named_as_its_only_function():
    assert named_as_their_function(SOURCE) == []


def test_names_that_are_shared_are_found(tmp_path):
    for name, text in {
        "a": "Stop = int\ndef f():\n    pass",
        "b/c": "class Stop:\n    def f(self):\n        pass\nFEW: int = 3",
        "f": "def f():\n    pass\ndef _g():\n    pass\nX = 1",
        "cli/commands/f": "FEW = 3\ndef f():\n    pass\ndef g():\n    pass",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / f"{name}.py").write_text(text)
    assert twice(tmp_path) == {"Stop": ["a", "b.c"], "f": ["a", "f"]}
    assert named_as_their_function(tmp_path) == ["f"]


def test_the_package_alone_loads_nothing():
    loaded = loaded_after("borngap")["borngap"]
    assert loaded & (HEAVY | {"torch", "numpy", "scipy"}) == set()
    assert not any(name.startswith("borngap.") for name in loaded)


def test_a_heavy_import_is_noticed(tmp_path):
    (tmp_path / "innocent.py").write_text("import json\n")
    (tmp_path / "culprit.py").write_text("def f():\n    pass\n\nimport polars\n")
    after = loaded_after("innocent", "culprit", path=[tmp_path])
    assert after["innocent"] & HEAVY == set()
    assert after["culprit"] & HEAVY == {"polars"}


def test_every_public_name_is_there():
    for name in borngap.__all__:
        assert getattr(borngap, name) is not None
        assert name in dir(borngap)
    assert set(borngap.__all__) == set(borngap._HOME)


def test_an_unknown_name_is_refused():
    with pytest.raises(AttributeError, match="module 'borngap' has no attribute 'nonsense'"):
        borngap.nonsense  # noqa: B018


if __name__ == "__main__":
    text = CONTRIBUTING.read_text(encoding="utf-8")
    start = text.index("| from low to high")
    end = text.index("\n\n", start) + 1
    CONTRIBUTING.write_text(text[:start] + table() + text[end:], encoding="utf-8")
