"""Fixtures of all tests."""

import importlib.util
import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parent
BROWSER = ROOT / "browser"
LOOPBACK = ROOT / "loopback"
# Files that take more than six seconds; all others are `quick`, which scripts/check runs.
THOROUGH = {
    "data_tools/test_checking.py",
    "data_tools/test_copies.py",
    "data_tools/test_crowd.py",
    "data_tools/test_download.py",
    "data_tools/test_everywhere.py",
    "data_tools/test_exports.py",
    "data_tools/test_kills.py",
    "data_tools/test_processes.py",
    "data_tools/test_store.py",
    "data_tools/test_team.py",
    "loctex/test_atlas.py",
    "loctex/test_compiling.py",
    "loctex/test_foreign.py",
    "loctex/test_estimate.py",
    "loctex/test_export.py",
    "loctex/test_matching.py",
    "loctex/test_metrics.py",
    "loctex/test_moved.py",
    "loctex/test_places.py",
    "loctex/test_pretrained.py",
    "loctex/test_queue.py",
    "loctex/test_resume_auto.py",
    "loctex/test_step.py",
    "loctex/test_streamed.py",
    "loctex/test_trackers.py",
    "loctex/test_train.py",
    "loctex/test_whole.py",
    "loctex/transfer/test_coco.py",
    "loctex/transfer/test_efficiency.py",
    "loctex/transfer/test_instances.py",
    "loctex/transfer/test_made_up.py",
    "loctex/transfer/test_voc07.py",
    "test_journey.py",
    "ui/test_access.py",
    "ui/test_annotate.py",
    "ui/test_broken_runs.py",
    "ui/test_data.py",
    "ui/test_events.py",
    "ui/test_figure.py",
    "ui/test_forecast.py",
    "ui/test_form.py",
    "ui/test_hostile.py",
    "ui/test_inspect.py",
    "ui/test_logins.py",
    "ui/test_look_ups.py",
    "ui/test_rules.py",
    "ui/test_saves.py",
    "ui/test_sessions.py",
    "ui/test_train.py",
    "ui/test_uploads.py",
    "ui/test_workspace.py",
}


def pytest_configure() -> None:
    """Nothing leaves the machine: not from here, and not from the programs that tests start."""
    paths = [str(LOOPBACK), *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ["PYTHONPATH"] = os.pathsep.join(paths)
    specification = importlib.util.spec_from_file_location(
        "loopback_only", LOOPBACK / "sitecustomize.py"
    )
    assert specification is not None and specification.loader is not None
    specification.loader.exec_module(importlib.util.module_from_spec(specification))


@pytest.hookimpl(tryfirst=True)  # before `-m` chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A loaded machine misses deadlines that a quiet one keeps: two more tries for these."""
    for item in items:
        marks = {mark.name for mark in item.iter_markers()}
        is_thorough = str(item.path.relative_to(ROOT)) in THOROUGH
        if not (marks & {"slow", "gpu", "timed"} or is_thorough or BROWSER in item.path.parents):
            item.add_marker(pytest.mark.quick)
        if item.path.is_relative_to(BROWSER):
            item.add_marker(pytest.mark.timed)
        if item.get_closest_marker("timed"):
            item.add_marker(pytest.mark.flaky(reruns=2))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data beside the project; tests that need it skip where it is missing."""
    root = Path(__file__).parents[1]
    named = os.environ.get("LOCTEX_SHARED_DATA")
    for folder in [Path(named)] if named else [root / "shared/data", root.parent / "shared/data"]:
        if (folder / "vidln").is_dir():
            return folder
    pytest.skip("no shared/data beside the project; set LOCTEX_SHARED_DATA to its folder")


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """narratives.jsonl, regions.jsonl and images/ of 40 rendered scenes."""
    from data_tools import scenes

    folder = tmp_path_factory.mktemp("scenes")
    scenes.write(folder, 40)
    return folder


@pytest.fixture(scope="session")
def snapshot(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, frozen: 32 / 4 / 4 images."""
    from data_tools.snapshot import main

    folder = tmp_path_factory.mktemp("snapshots") / "scenes"
    main(
        [
            f"--narratives={scenes / 'narratives.jsonl'}",
            f"--regions={scenes / 'regions.jsonl'}",
            f"--images={scenes / 'images'}",
            f"--to={folder}",
        ]
    )
    return folder
