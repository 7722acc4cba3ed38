"""What the documents and examples show, runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```python[^\n]*\n(.*?)^```", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\((?!https?:|#|mailto:)([^)#\s]+)")
QUICK_EXAMPLES = ["sequential", "functional", "subclassing", "siamese", "raw_torch"]


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def blocks(path: Path) -> list[tuple[int, str]]:
    """Returns each Python block with the number of the line before it."""
    text = path.read_text(encoding="utf-8")
    return [(text.count("\n", 0, match.start(1)), match.group(1)) for match in BLOCK.finditer(text)]


@pytest.mark.parametrize("path", [path for path in DOCUMENTS if blocks(path)], ids=name)
def test_blocks_run(path, tmp_path, monkeypatch):
    """The blocks of one document run in order, in one namespace; an error names the document's line."""
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": path.stem}
    for line, code in blocks(path):
        exec(compile("\n" * line + code, str(path), "exec"), namespace)


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_links_lead_somewhere(path):
    missing = [link for link in LINK.findall(path.read_text(encoding="utf-8")) if not (path.parent / link).exists()]
    assert not missing


def run_example(title: str, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "error", str(ROOT / "examples" / f"{title}.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("title", QUICK_EXAMPLES)
def test_example_runs(title):
    assert run_example(title)


def test_functional_example_counts_as_the_text_does():
    shown = run_example("functional")
    assert "277,258" in shown
    assert "276,554" in shown
    assert "704" in shown
    assert "1,438,458,368" in shown


@pytest.mark.slow
def test_demo_runs_and_its_styles_agree(tmp_path):
    shown = run_example("train_digits", "--epochs", "1", "--output", str(tmp_path))
    assert re.search(r"functional: held-out accuracy \d+\.\d\d%", shown)
    assert "three styles, same weights, identical outputs: True" in shown
    assert (tmp_path / "digits.png").stat().st_size > 1000
