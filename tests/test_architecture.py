"""Imports point one way, between packages and between rooms; half of loctex needs no torch."""

import ast
import os
import shutil
import subprocess
import sys
import zipfile
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
    "jobs.checkpoint_files",
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


# Each room of loctex, and what it may import beside itself: those before it, and the ground floor.
FLOORS = (
    ("records", "cli", "distributed"),
    ("settings",),
    ("jobs",),
    ("loading",),
    ("model",),
    ("scoring", "export"),
    ("training",),
    ("transfer",),
    ("train", "evaluate", "predictor", "atlas", "foils"),
)


def rooms_of(path: Path) -> tuple[str, set[str]]:
    """The room of a file of loctex, and those that it imports."""
    room = path.relative_to(ROOT / "loctex").parts[0].removesuffix(".py")
    imported = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("loctex."):
            imported.add(node.module.split(".")[1])
        elif isinstance(node, ast.ImportFrom) and node.module == "loctex":
            imported |= {alias.name for alias in node.names}
    return room, imported - {room}


def test_the_rooms_of_loctex_import_only_what_lies_below_them():
    floor_of = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
    files = [path for path in (ROOT / "loctex").rglob("*.py") if path.parent.name != "loctex"]
    doors = [path for path in (ROOT / "loctex").glob("*.py") if path.name != "__init__.py"]
    assert len(files) > 60 and len(doors) >= 7
    for path in files + doors:
        room, imported = rooms_of(path)
        for other in imported:
            assert floor_of[other] < floor_of[room], f"{path.relative_to(ROOT)} imports {other}"


def test_a_folder_holds_at_most_fourteen_files_and_a_class_name_means_one_thing():
    homes: dict[str, Path] = {}
    for package in FORBIDDEN:
        files = sorted((ROOT / package).rglob("*.py"))
        for folder in {path.parent for path in files if path.parent.name != "versions"}:
            assert len(list(folder.glob("*.py"))) <= 14, folder
        for path in files:
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ClassDef):
                    assert homes.setdefault(node.name, path) == path, f"{node.name}: {path}"


def test_what_is_public_is_imported_when_it_is_asked_for():
    code = (
        "import sys, loctex; loctex.Narrative, loctex.Snapshot, loctex.Settings; "
        "print('torch' in sys.modules); loctex.LocTexModel, loctex.Predictor; "
        "from loctex.model import LocTexConfig, LocTexModel; print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.split() == ["False", "True"], done.stderr


def test_the_wheel_holds_loctex_alone_and_is_imported_elsewhere(tmp_path):
    """Built without a network from what lies here, unpacked as pip would, and imported there."""
    source = tmp_path / "source"  # setuptools leaves its build folder beside what it builds
    shutil.copytree(ROOT / "loctex", source / "loctex", ignore=shutil.ignore_patterns("*.pyc"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run([*build, f"--wheel-dir={tmp_path}", str(source)], check=True, timeout=120)
    (wheel,) = tmp_path.glob("loctex-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        archive.extractall(tmp_path / "site")
    assert {name.split("/")[0].split("-")[0] for name in names} == {"loctex"}
    assert "loctex/export/card.py" in names and "loctex/py.typed" in names
    code = "import loctex; print(loctex.__file__, loctex.LocTexModel.__name__)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
    )
    assert done.stdout.startswith(str(tmp_path / "site")), done.stderr
    assert done.stdout.split()[1] == "LocTexModel"
