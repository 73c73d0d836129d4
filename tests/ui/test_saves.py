"""What saves cost a running studio: neither memory nor disk beyond what is saved, and no doubling.

pytest -m slow -s tests/ui/test_saves.py      10,000 saves by 20 people, about five minutes
"""

import asyncio
import json
import signal
import threading
import time
import uuid
from pathlib import Path

import httpx
import pytest

from data_tools.store import Store
from data_tools.store.database import Database
from tests.benchmarks.saves import PASSWORD, Saves, change, crowd, record, resident, serving
from tests.browser.conftest import Studio


def on_disk(studio: Studio) -> int:
    """Bytes of the files of the workspace, and of what pages uploaded."""
    uploads = studio.root.with_name(studio.root.name + "-uploads")
    folders = (studio.root, uploads)
    return sum(file.stat().st_size for f in folders for file in f.rglob("*") if file.is_file())


def save_and_watch(
    folder: Path, people: int, num_before: int, num: int, pace: float
) -> tuple[Saves, float, int]:
    """The saves after a warm-up, the megabytes and the bytes on disk that they added."""
    with serving(folder, people) as studio:
        asyncio.run(crowd(studio.url, people, num_before, pace))
        memory, size = resident(studio), on_disk(studio)
        saves = asyncio.run(crowd(studio.url, people, num, pace))
        return saves, resident(studio) - memory, on_disk(studio) - size


def test_three_hundred_saves_leave_the_memory_and_the_disk_as_they_are(tmp_path):
    """An event of the page for each cost 60 MB."""
    saves, megabytes, added = save_and_watch(tmp_path, 20, num_before=5, num=15, pace=0.1)
    print(f"300 saves: {megabytes:.1f} MB of memory, {added / 1e6:.2f} MB on disk")
    assert len(saves.seconds) == 300
    assert megabytes < 12
    assert added < saves.num_bytes + 6e6  # and SQLite's log of what it writes, of 4 MB


@pytest.mark.slow
def test_ten_thousand_saves_by_twenty_people_leave_the_memory_flat(tmp_path):
    saves, megabytes, added = save_and_watch(tmp_path, 20, num_before=50, num=500, pace=0.5)
    print(
        f"10,000 saves: {megabytes:.1f} MB of memory, {added / 1e6:.2f} MB on disk, "
        f"95 % within {saves.milliseconds(95):.0f} ms"
    )
    assert len(saves.seconds) == 10_000 and saves.num_submitted == 20 * (500 // 60)
    assert megabytes < 50
    assert added < saves.num_bytes + 6e6
