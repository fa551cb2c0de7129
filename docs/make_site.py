"""Build the site that mkdocs.yml describes: pages of docs/ and of the root together, by Zensical. Run ``make docs``.

README.md becomes the first page, and its links into docs/ links beside it; notebooks become pages with the outputs that
are stored in them. Whatever a tool says beside its closing
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
    run(
        "jupyter",
        "nbconvert",
        "--to",
        "markdown",
        "--log-level",
        "WARN",
        *sorted((PAGES / "notebooks").glob("*.ipynb")),
    )
    for page in PAGES.rglob("*.md"):
        page.write_text(page.read_text(encoding="utf-8").replace(".ipynb)", ".md)"), encoding="utf-8")


def run(tool: str, *arguments: str | Path) -> str:
    """Run a tool that lies beside Python; return what it told, and end if it failed."""
    tools = Path(sys.executable).parent  # ruff is there too: it wraps the signatures
    environment = os.environ | {"PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"}
    told = subprocess.run(
        [tools / tool, *arguments], cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True, check=False
    )
    sys.stderr.write(told.stderr)
    if told.returncode:
        sys.exit(told.returncode)
    return told.stderr.strip()


if __name__ == "__main__":
    lay()
    sys.exit(run("zensical", "build", "--strict", "--clean") != SILENT)
