"""Build the site that mkdocs.yml describes: pages of docs/ and of the root together, by Zensical. Run ``make docs``.

README.md becomes the first page, and its links into docs/ links beside it. Whatever a tool says beside its closing
line is an error: broken links, names that the API reference does not find, docstrings that do not fit their functions.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "site" / "pages"
OF_THE_ROOT = {"README.md": "index.md", "CHANGELOG.md": "CHANGELOG.md", "CONTRIBUTING.md": "CONTRIBUTING.md"}
SILENT = "No issues found"


def lay() -> None:
    """Lay all pages anew."""
    shutil.rmtree(PAGES, ignore_errors=True)
    shutil.copytree(ROOT / "docs", PAGES, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    for name, page in OF_THE_ROOT.items():
        text = (ROOT / name).read_text(encoding="utf-8")
        (PAGES / page).write_text(text.replace("](docs/", "]("), encoding="utf-8")


def build() -> int:
    """Make them into a site; the exit code is 1 where anything was to be said of them."""
    tools = Path(sys.executable).parent  # ruff is there too: it wraps the signatures
    environment = os.environ | {"PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"}
    command = [tools / "zensical", "build", "--strict", "--clean"]
    told = subprocess.run(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True, check=False)
    sys.stderr.write(told.stderr)
    return int(told.returncode != 0 or told.stderr.strip() != SILENT)


if __name__ == "__main__":
    lay()
    sys.exit(build())
