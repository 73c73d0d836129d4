"""Killed at any moment, and run again: nothing is lost, nothing doubled, nothing half.

pytest -m slow tests/data_tools/test_kills.py      20 kills each; LOCTEX_SEED=N repeats them
"""

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import create_engine

from data_tools import backup
from data_tools.exchange.importing import import_file
from data_tools.store import Store
from data_tools.store.database import migrations
from loctex.records.snapshot import Snapshot
from tests.data_tools.samples import album, items, narrative, picture

ROOT = Path(__file__).parents[2]
NUM = 120  # images, with a narrative each
IMPORT = "from data_tools.localized_narratives import main"
FREEZE = "from data_tools.snapshot import main"
BACKUP = "from data_tools.backup import main"
OPEN = """
from data_tools.store import Store
def main(arguments): return Store.of_workspace(arguments[0]).close()
"""
RUN = """
if __name__ == "__main__":
    import sys
    print("ready", flush=True)
    sys.exit(main(sys.argv[1:]))
"""


def started(code: str, *arguments: object) -> subprocess.Popen[str]:
    """The program, when all is imported and its work begins."""
    words = [sys.executable, "-W", "ignore", "-c", code + RUN, *map(str, arguments)]
    process = subprocess.Popen(
        words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return process


def finish(code: str, *arguments: object) -> float:
    """Run it to its end; seconds of its work."""
    process, began = started(code, *arguments), time.monotonic()
    process.communicate(timeout=120)
    assert process.returncode == 0
    return time.monotonic() - began


def kill_in(seconds: float, code: str, *arguments: object) -> None:
    """Run it so long, at most."""
    process = started(code, *arguments)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
    process.communicate(timeout=60)


@pytest.fixture(params=[1, pytest.param(20, marks=pytest.mark.slow)])
def moments(request: pytest.FixtureRequest) -> Iterator[float]:
    """Shares of the work after which it is killed."""
    seed = int(os.environ.get("LOCTEX_SEED", random.randrange(10**6)))
    print(f"LOCTEX_SEED={seed}")
    chance = random.Random(seed)
    return iter([chance.uniform(0, 1.05) for _ in range(request.param)])


def filled(root: Path) -> Path:
    """A workspace with the album."""
    files = album(root.with_name(root.name + "-album"), NUM)
    store = Store.of_workspace(root, is_new=True)
    import_file(store, files.narratives, files.images, "mine")
    store.close()
    return root


def narrated(root: Path) -> dict[str, list[str]]:
    """image_id -> captions in a workspace; AssertionError where a narrative or picture is half."""
    store, captions = Store.of_workspace(root), dict[str, list[str]]()
    if store.collections():
        for image in store.each_image(store.collection("mine")):
            assert image.path.read_bytes() == picture(int(image.image_id) % 256, (96, 64))
            captions[image.image_id] = []
        for image, one in store.each_narrative(store.collection("mine")):
            assert one.to_json() == narrative(image.image_id).to_json()
            captions[image.image_id].append(one.caption)
    store.close()
    return captions


def is_whole(root: Path) -> bool:
    captions = narrated(root)
    return len(captions) == NUM and {len(each) for each in captions.values()} == {1}


def test_an_import_that_is_killed_is_completed_by_the_next(tmp_path, moments):
    files = album(tmp_path / "album", NUM)

    def words(root: Path) -> list[object]:
        place = ["--images", files.images, "--collection", "mine", "--workspace", root]
        return ["import", files.narratives, *place]

    seconds = finish(IMPORT, *words(tmp_path / "reference"))
    for k, moment in enumerate(moments):
        root = tmp_path / str(k)
        kill_in(moment * seconds, IMPORT, *words(root))
        if root.exists():
            assert max(map(len, narrated(root).values()), default=0) <= 1
        finish(IMPORT, *words(root))
        assert is_whole(root)


def test_a_freeze_that_is_killed_leaves_no_half_snapshot(tmp_path, moments):
    files = album(tmp_path / "album", NUM)
    words = ["--narratives", files.narratives, "--images", files.images, "--workers", "1", "--to"]
    seconds = finish(FREEZE, *words, tmp_path / "reference")
    reference, items_there = Snapshot.open(tmp_path / "reference"), items(tmp_path / "reference")
    for k, moment in enumerate(moments):
        place = tmp_path / str(k)
        kill_in(moment * seconds, FREEZE, *words, place)
        if not place.exists():
            finish(FREEZE, *words, place)
        assert Snapshot.open(place).hash == reference.hash
        assert {name: len(split) for name, split in items(place).items()} == {
            name: len(split) for name, split in items_there.items()
        }


def older(root: Path) -> Path:
    """A workspace whose tables are the first ever, with narratives and drafts."""
    root.mkdir()
    engine = create_engine(f"sqlite:///{root / 'studio.db'}")
    with engine.begin() as connection:
        settings = migrations()
        settings.attributes["connection"] = connection
        command.upgrade(settings, "0001")
        connection.exec_driver_sql("INSERT INTO collections (name) VALUES ('mine')")
        for k in range(NUM):
            connection.exec_driver_sql(
                "INSERT INTO images (collection_id, dataset_id, image_id, sha256, file, name, "
                "width, height) VALUES (1, 'album', ?, ?, 'x.jpg', 'x', 4, 3)",
                (str(k), str(k)),
            )
            connection.exec_driver_sql(
                "INSERT INTO narratives (collection_id, image_row_id, annotator_id, caption, "
                "num_words, num_points, duration, created) VALUES (1, ?, 7, 'a dog', 2, 3, 1.5, 0)",
                (k + 1,),
            )
            connection.exec_driver_sql(
                "INSERT INTO bodies VALUES (last_insert_rowid(), ?, NULL)",
                (json.dumps(narrative(str(k)).to_json()),),
            )
            connection.exec_driver_sql(
                "INSERT INTO drafts (take_id, annotator_id, image_row_id, body, saved) "
                "VALUES (?, 1000001, ?, '{}', 0)",
                (str(k), k + 1),
            )
    engine.dispose()
    return root


def test_a_migration_that_is_killed_is_done_by_the_next_start(tmp_path, moments):
    seconds = finish(OPEN, older(tmp_path / "reference"))
    for k, moment in enumerate(moments):
        root = older(tmp_path / str(k))
        kill_in(moment * seconds, OPEN, root)
        store = Store.of_workspace(root)
        rows = store.narratives(store.collection("mine"), limit=2 * NUM)
        assert [row.caption for row in rows] == ["a dog"] * NUM
        assert [store.narrative(row.id).image_id for row in rows] == list(map(str, range(NUM)))
        assert len(store.drafts(1_000_001)) == NUM
        assert store.save_draft("0", 1_000_001, 1, "{}", "r") is None  # in the newest tables
        store.close()


def test_a_backup_that_is_killed_is_no_file(tmp_path, moments):
    root = filled(tmp_path / "workspace")
    seconds = finish(BACKUP, "save", tmp_path / "reference.tar", "--workspace", root)
    for k, moment in enumerate(moments):
        file, restored = tmp_path / f"{k}.tar", tmp_path / f"restored-{k}"
        kill_in(moment * seconds, BACKUP, "save", file, "--workspace", root)
        if not file.exists():
            backup.save(root, file)
        backup.restore(file, restored)
        assert is_whole(restored) and is_whole(root)


def test_a_restore_that_is_killed_leaves_no_half_workspace(tmp_path, moments):
    file = tmp_path / "saved.tar"
    backup.save(filled(tmp_path / "workspace"), file)
    seconds = finish(BACKUP, "restore", file, "--workspace", tmp_path / "reference")
    for k, moment in enumerate(moments):
        root = tmp_path / f"restored-{k}"
        kill_in(moment * seconds, BACKUP, "restore", file, "--workspace", root)
        if not root.exists():
            finish(BACKUP, "restore", file, "--workspace", root)
        assert is_whole(root)
