"""Twenty annotators at once in a running studio, on SQLite and PostgreSQL.

pytest -m slow tests/data_tools/test_crowd.py -s      three minutes each, and their numbers
"""

import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import insert

from data_tools.store import Store, tables
from tests.browser.conftest import Studio
from tests.data_tools.samples import picture
from tests.ui.client import Client
from ui import users

PASSWORD = "correct horse"
STEP = 1  # seconds between two autosaves, as in ui/static/session.js


def record(seconds: float) -> dict:
    """A take so far: 125 points and two words a second."""
    t = np.arange(0, seconds, 1 / 125)
    points = np.stack((0.5 + 0.4 * np.cos(t), 0.5 + 0.4 * np.sin(1.3 * t), t), axis=1).round(4)
    return {
        "dataset_id": "album",
        "image_id": "1",
        "annotator_id": 0,
        "caption": " ".join(["word"] * int(2 * seconds)),
        "timed_caption": [
            {"utterance": "word", "start_time": k / 2, "end_time": k / 2 + 0.4}
            for k in range(int(2 * seconds))
        ],
        "traces": [[{"x": x, "y": y, "t": s} for x, y, s in points.tolist()]],
    }


def takes(seconds: int) -> list[dict]:
    """A take as it is autosaved, and at last submitted."""
    return [record(part) for part in range(STEP, seconds + 1, STEP)]


class Crowd:
    """What twenty people were given and how long each save took."""

    def __init__(self, studio: Studio, take: list[dict], pace: float) -> None:
        self.studio, self.take, self.pace = studio, take, pace
        self.given: list[tuple[int, str]] = []
        self.seconds: list[float] = []
        self.num_submitted = 0
        self.failed: list[object] = []

    def work(self, client: Client, name: str, start: float, until: float) -> None:
        """Takes one after another, autosaved every `pace` seconds, until the time is over."""
        time.sleep(start)
        try:
            told = client.question("open")
            is_first = True  # on a slow machine the first answer may come after the end
            while told["image"] and (is_first or time.monotonic() < until):
                is_first = False
                self.given.append((told["image"]["id"], name))
                at = {"image": told["image"]["id"], "collection": told["collection"]}
                take_id = f"{name}-{at['image']}"
                for part in self.take:
                    began = time.monotonic()
                    saved = self._timed(client, "save", take_id=take_id, record=part, **at)
                    assert saved.get("saved") is True, saved
                    time.sleep(max(0.0, began + self.pace - time.monotonic()))
                told = self._timed(client, "submit", take_id=take_id, record=self.take[-1], **at)
                assert "collections" in told, told
                self.num_submitted += 1
            if told["image"]:
                self.given.append((told["image"]["id"], name))
        except Exception as error:  # whatever it is, it is a save that failed
            self.failed.append(error)

    def _timed(self, client: Client, action: str, **ask: object) -> dict:
        began = time.perf_counter()
        told = client.question(action, **ask)
        self.seconds.append(time.perf_counter() - began)
        return told


def work_at_once(
    tmp_path: Path, url: str, num_people: int, seconds: float, take: list[dict], pace: float
) -> tuple[Crowd, Store]:
    names = [f"person{k}" for k in range(num_people)]
    hashed = users.argon2.PasswordHasher(1, 8, 1).hash(PASSWORD)
    (tmp_path / "users").write_text("".join(f"{name} annotator {hashed}\n" for name in names))
    store = Store(url, tmp_path / "workspace" / "images")
    collection = store.add_collection("album")
    row = store.add_image(collection, picture(), dataset_id="album", image_id="1")
    with store._database.writing() as connection:
        connection.execute(
            insert(tables.images),
            [
                {
                    "collection_id": collection,
                    "dataset_id": "album",
                    "image_id": str(k),
                    "sha256": row.sha256,
                    "file": row.path.name,
                    "name": "",
                    "width": 40,
                    "height": 30,
                }
                for k in range(2, 2001)
            ],
        )
    options = [f"--users={tmp_path / 'users'}", f"--database={url}"]
    studio = Studio(tmp_path / "workspace", *options)
    crowd = Crowd(studio, take, pace)
    clients = [Client(studio, name, PASSWORD) for name in names]
    assert {client.answer.status_code for client in clients} == {200}
    until = time.monotonic() + seconds
    threads = [
        threading.Thread(target=crowd.work, args=(client, name, pace * k / num_people, until))
        for k, (client, name) in enumerate(zip(clients, names, strict=True))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for client in clients:
        client.session.close()
    studio.stop()
    return crowd, store


def check(crowd: Crowd, store: Store) -> None:
    assert crowd.failed == []
    assert len(set(crowd.given)) == len(crowd.given)  # nobody gets an image twice
    assert max(Counter(image for image, _ in crowd.given).values()) == 1  # and no two the same
    rows = store.narratives(store.collection("album"), limit=10_000)
    assert len(rows) == crowd.num_submitted == len({row.image_row_id for row in rows})
    assert {row.num_points for row in rows} == {len(crowd.take[-1]["traces"][0])}
    for row in rows[:20]:
        assert store.narrative(row.id).to_json()["traces"] == crowd.take[-1]["traces"]
    store.close()


def test_a_crowd_for_a_moment_loses_no_save_and_shares_no_image(url, tmp_path):
    crowd, store = work_at_once(tmp_path, url, 6, seconds=2, take=takes(4), pace=0.1)
    check(crowd, store)
    assert crowd.num_submitted >= 6


@pytest.mark.slow
def test_twenty_people_for_three_minutes(url, tmp_path):
    crowd, store = work_at_once(tmp_path, url, 20, seconds=180, take=takes(20), pace=STEP)
    milliseconds = 1000 * np.percentile(crowd.seconds, (50, 95, 99, 100))
    print(
        f"\n{url.split(':')[0]}: {len(crowd.seconds):,} saves, {crowd.num_submitted} narratives; "
        "50, 95, 99, 100 %: " + ", ".join(f"{value:.0f}" for value in milliseconds) + " ms"
    )
    check(crowd, store)
    assert milliseconds[1] < 300
