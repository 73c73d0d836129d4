"""Fixtures of all tests."""

import os
from pathlib import Path

import pytest

BROWSER = Path(__file__).parent / "browser"


@pytest.hookimpl(tryfirst=True)  # before `-m` chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A loaded machine misses deadlines that a quiet one keeps: two more tries for these."""
    for item in items:
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
