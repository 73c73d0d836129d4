"""Imports point one way: ui -> data_tools -> loctex; the first half of loctex needs no torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TORCH_FREE = (
    "records.narrative",
    "records.trace",
    "records.words",
    "settings",
    "records.snapshot",
    "records.files",
    "records.checkpoint_files",
    "jobs.run",
    "jobs.queue",
    "jobs.command",
    "jobs.watcher",
    "jobs.provenance",
    "jobs.gpus",
    "jobs.failures",
    "scoring.metrics",
    "train",
)
FORBIDDEN = {
    "loctex": {"ui", "data_tools", "app", "gradio", "plotly", "sqlalchemy"},
    "data_tools": {"ui", "app", "gradio", "plotly"},
    "ui": {"sqlalchemy", "subprocess", "torch", "app"},
}


def imports(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("package", sorted(FORBIDDEN))
def test_a_package_imports_nothing_above_it(package):
    files = [*(ROOT / package).rglob("*.py")]
    assert len(files) > 5
    for path in files:
        assert not imports(path) & FORBIDDEN[package], path


def test_torch_is_imported_by_the_second_half_of_the_core_only():
    for path in (ROOT / "data_tools").rglob("*.py"):
        assert path.parent.name == "speech" or "torch" not in imports(path), path
    modules = ", ".join(f"loctex.{name}" for name in TORCH_FREE)
    code = f"import {modules}, sys; print('torch' in sys.modules or 'transformers' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr


def test_no_file_is_named_for_nothing():
    for path in ROOT.rglob("*.py"):
        if ".venv" not in path.parts:
            assert path.stem not in ("utils", "common", "base", "helpers", "misc"), path
