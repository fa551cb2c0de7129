"""The architecture's arrows point down only, and the lower layers load nothing heavy."""

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
LAYERS = {
    "errors": 0, "kinds": 0, "shown": 0, "tokens": 0, "largest": 0, "density": 0, "gap": 0, "pool": 0, "geometry": 0,
    "pairtable": 0,
    "adamw": 1, "schedule": 1, "observables": 1, "rival": 1, "context": 1, "trajectory": 1, "standing": 1,
    "verdicts": 2, "stopping": 2, "threshold": 2, "training": 2, "watch": 2, "boundary": 2, "phase": 2,
    "hf": 3, "store": 3, "sweepstore": 3,
    "cluster": 2, "ranking": 0, "rivals": 1, "rows": 2, "layout": 2, "scanning": 2, "pairs": 3, "scanfolder": 3,
    "textfile": 1, "delimited": 1, "messages": 1, "tokenised": 0, "jsonfile": 2, "recognise": 2,
    "files": 2, "folder": 2, "sweep": 4, "experiments": 4, "zoo": 4,
    "report": 5,
    "cli": 6,
}  # fmt: skip
LAYERS |= {"": 0, "zoo.__init__": 0}  # the package itself is lazy; the zoo's list of names is a list of paths
HOSTS = {"transformers", "peft", "accelerate", "datasets"}
TABLES = {"trajectory"}  # read from a table of records: polars may be loaded there, and nowhere else so low
HEAVY = HOSTS | {"polars", "rich", "typer", "altair", "jinja2", "pydantic", "sklearn", "pandas"}


def layer(module):
    """Return the layer of a module, named without the package: of its own entry, or else of its folder's."""
    return LAYERS[module] if module in LAYERS else LAYERS[module.split(".")[0]]


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
    """Return the imports of a tree that point to a higher layer, as 'importer -> imported'."""
    return [f"{module} -> {target}" for module, target in arrows(source) if layer(target) > layer(module)]


def place(module):
    """Return a file's folder, or the file itself if it has none or a layer of its own."""
    return module if module in LAYERS else module.split(".")[0]


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


def test_every_module_has_a_layer():
    missing = [name for name in modules(SOURCE) if name not in LAYERS and name.split(".")[0] not in LAYERS]
    assert missing == [], "give it a layer in LAYERS, after docs on the architecture"


def test_arrows_point_down():
    assert len(modules(SOURCE)) > 10
    assert upward(SOURCE) == []


@pytest.mark.parametrize(("importer", "line", "arrow"), [
    ("density", "from borngap.observables.measure import measure", "density -> observables"),
    ("gap", "from borngap import store", "gap -> store"),
    ("context", "def f():\n    import borngap.model.load", "context -> hf.load"),
    ("pool", "from borngap.hf import load", "pool -> hf.load"),
    ("observables", "from borngap.cli import main", "observables -> cli.__init__"),
])  # fmt: skip
def test_an_arrow_that_points_up_is_found(tmp_path, importer, line, arrow):
    (tmp_path / "hf").mkdir()
    (tmp_path / "cli").mkdir()
    for name in ("__init__", "observables", "store", "hf/load", "cli/__init__"):
        (tmp_path / f"{name}.py").write_text("")
    (tmp_path / f"{importer}.py").write_text(f"import torch\nfrom borngap import __version__\n{line}\n")
    assert upward(tmp_path) == [arrow]


def test_no_file_and_no_folder_imports_in_a_circle():
    """Not even within a function, or for types: what is one concept is one file."""
    assert len(list(arrows(SOURCE))) > 100
    assert circle(arrows(SOURCE)) is None
    assert circle(folders(SOURCE)) is None


@pytest.mark.parametrize(("files", "of_files", "of_folders"), [
    ({"gap": "import borngap.observables.pool", "pool": "from borngap import density", "density": "import torch"}, None, None),
    ({"gap": "import borngap.observables.pool", "pool": "from borngap.observables.gap import x"}, ["gap", "pool"], ["gap", "pool"]),
    ({"hf/load": "from borngap.hf import words", "hf/words": "def f():\n    from borngap.model.load import load"},
     ["hf.load", "hf.words"], None),
    ({"hf/load": "if 1:\n    import borngap.run", "store": "import borngap.model.words", "hf/words": ""},
     None, ["hf", "store"]),
    ({"hf/load": "import borngap.zoo", "zoo/__init__": "", "zoo/card": "import borngap.model.load"}, None, None),
    ({"hf/load": "import borngap.zoo.card", "zoo/__init__": "", "zoo/card": "import borngap.model.words", "hf/words": ""},
     None, ["hf", "zoo"]),
])  # fmt: skip
def test_a_circle_is_found(tmp_path, files, of_files, of_folders):
    (tmp_path / "__init__.py").write_text("")
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.py").write_text(text + "\n")
    for found, wanted in ((circle(arrows(tmp_path)), of_files), (circle(folders(tmp_path)), of_folders)):
        assert found is None if wanted is None else set(found) == set(wanted)


def test_hosts_are_imported_in_their_own_folder_only():
    users = {
        module.split(".")[0]
        for module, path in modules(SOURCE).items()
        for name in imports(path)
        if name.split(".")[0] in HOSTS
    }
    assert users == {"hf", "zoo"}  # the zoo makes models and tokenizers in the host's own format


def test_the_lower_layers_load_nothing_heavy():
    low = sorted((n for n in modules(SOURCE) if layer(n) <= 1 and "." not in n), key=lambda n: (n in TABLES, layer(n)))
    assert {"density", "gap", "pool", "geometry", "errors", "observables", "rival", "context"} <= set(low)
    after = loaded_after(*(f"borngap.{name}" for name in low))
    for name in low:
        loaded = after[f"borngap.{name}"]
        assert loaded & HEAVY <= ({"polars"} if name in TABLES else set()), name
        assert "scipy" not in loaded or layer(name) > 0, name
        above = {m for m in loaded if m.startswith("borngap.") and layer(m.removeprefix("borngap.")) > layer(name)}
        assert above == set(), name
    assert "torch" in after["borngap.observables.density"]


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
