"""The store keeps what it confirmed, through kill -9, full disks, crowds and upgrades."""

import json
import signal
import sqlite3
import struct
import subprocess
import sys
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, event, insert

from data_tools.store import FIRST_ANNOTATOR, Store, StoreError, tables
from data_tools.store.database import Database, SharedCommits, migrations
from data_tools.store.drafts import DraftChange, add_changes
from data_tools.store.tables import metadata
from loctex.records.narrative import read_jsonl
from tests.data_tools.samples import narrative, picture

ROOT = Path(__file__).parents[2]


def with_images(store: Store, count: int) -> tuple[int, list[int]]:
    """A collection with images "1", "2", ... of dataset "album"; its id and the rows' ids."""
    collection = store.add_collection("mine")
    rows = [
        store.add_image(collection, picture(i), dataset_id="album", image_id=str(i + 1)).id
        for i in range(count)
    ]
    return collection, rows


def test_a_narrative_comes_back_as_the_same_line(store):
    collection, (row,) = with_images(store, 1)
    said = narrative(mood=["calm", None], note="é\u0000")
    added = store.add(collection, said)
    assert store.narrative(added).to_json() == said.to_json()
    (listed,) = store.narratives(collection)
    assert (listed.id, listed.image_row_id, listed.annotator_id) == (added, row, 7)
    assert (listed.caption, listed.num_words, listed.num_points) == ("a dog", 2, 3)
    assert listed.duration == 1.5 and abs(listed.created.timestamp() - time.time()) < 60
    [(image, again)] = store.each_narrative(collection)
    assert image.id == row and again.to_json() == said.to_json()


def test_every_vidln_record_comes_back_equal(store, shared_data):
    collection = store.add_collection("vidln")
    folder = shared_data / "vidln"
    said = list(read_jsonl(folder / "vidln_as_ln.jsonl"))
    for one in said:
        data = (folder / "images" / f"{one.image_id}.jpg").read_bytes()
        store.add_image(collection, data, dataset_id=one.dataset_id, image_id=one.image_id)
        store.add(collection, one)
    again = [one.to_json() for _, one in store.each_narrative(collection)]
    lines = (folder / "vidln_as_ln.jsonl").read_text().splitlines()
    assert again == [json.loads(line) for line in lines] and len(again) == 46
    assert len(list(store.images_folder.iterdir())) == 32


def test_collections_are_counted(store):
    collection, _ = with_images(store, 3)
    store.add(collection, narrative("1"))
    store.add(collection, narrative("2", traces=[]))
    store.add_collection("empty")
    counts = {
        c.name: (c.num_images, c.num_narratives, c.num_with_trace) for c in store.collections()
    }
    assert counts == {"empty": (0, 0, 0), "mine": (3, 2, 1)}
    assert store.add_collection(" mine ") == collection == store.collection("mine")
    with pytest.raises(StoreError, match="no collection 'other'; there is empty, mine"):
        store.collection("other")


def test_an_image_is_kept_once_for_each_content(store):
    first, second = store.add_collection("first"), store.add_collection("second")
    data = picture(9, (60, 20), ".png")
    row = store.add_image(first, data, dataset_id="studio", name="a.jpg")
    assert store.add_image(first, data, dataset_id="studio", name="b.jpg") == row
    other = store.add_image(second, data, dataset_id="album", image_id="5")
    assert (row.image_id, row.width, row.height) == (row.sha256, 60, 20)
    assert other.id != row.id and other.path == row.path and row.path.suffix == ".png"
    assert row.path.read_bytes() == data and len(list(store.images_folder.iterdir())) == 1
    with pytest.raises(StoreError, match="image '5' of album is another picture"):
        store.add_image(second, picture(8), dataset_id="album", image_id="5")
    for bad in ("../5", "a/b", "..", ""):
        with pytest.raises(StoreError, match="image_id"):
            store.add_image(second, data, dataset_id="album", image_id=bad)


def huge_png() -> bytes:
    """The header of a 20,000 x 20,000 image and the start of its data."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(9)))


@pytest.mark.parametrize(
    "data, message",
    [
        (b"no picture\n", "dog.jpg: is not an image; the studio reads JPEG, PNG"),
        (b"", "dog.jpg: is not an image"),
        (picture(3, (400, 300))[:900], "dog.jpg: is a damaged or incomplete JPEG"),
        (huge_png(), "dog.jpg: is larger than 100 megapixels"),
    ],
)
def test_what_is_no_image_is_refused_and_leaves_nothing(store, data, message):
    collection = store.add_collection("mine")
    with pytest.raises(StoreError, match=message):
        store.add_image(collection, data, dataset_id="studio", name="dog.jpg")
    assert store.images(collection) == [] and list(store.images_folder.iterdir()) == []


def test_a_narrative_of_an_unknown_image_is_refused(store):
    collection, _ = with_images(store, 1)
    with pytest.raises(StoreError, match="no image '9' of album: add the image first"):
        store.add(collection, narrative("9"))


def test_the_same_take_twice_is_one_narrative_and_drops_its_draft(store):
    collection, (row,) = with_images(store, 1)
    me = store.annotator("ann")
    store.save_draft("take", me, row, "{}")
    store.save_draft("other", me, row, "old")
    store.save_draft("other", me, row, "new")
    assert not store.has_take("take")
    added = [store.add(collection, narrative(), take_id="take") for _ in range(2)]
    assert added[0] == added[1] and len(store.narratives(collection)) == 1
    assert store.has_take("take")
    store.save_draft("take", me, row, "an autosave that came late")
    assert [(draft.take_id, draft.body) for draft in store.drafts(me)] == [("other", "new")]
    with pytest.raises(StoreError, match="belongs to another annotator"):
        store.save_draft("other", store.annotator("bob"), row, "mine")
    store.drop_draft("other")
    assert store.drafts(me) == []


def test_the_queue_passes_what_an_annotator_narrated_or_skipped(store):
    collection, rows = with_images(store, 4)
    store.set_rules(collection, overlap=0, needs_review=False)  # everybody describes every image
    ann, bob = store.annotator("ann"), store.annotator("bob")
    assert store.annotator("ann") == ann != bob and min(ann, bob) > FIRST_ANNOTATOR
    store.add(collection, narrative("1", annotator_id=ann))
    store.skip(rows[1], ann, "blurred")
    store.skip(rows[1], ann, "too dark")
    assert store.next_image(collection, ann).id == rows[2]
    assert store.next_image(collection, ann, after=rows[2]).id == rows[3]
    assert store.next_image(collection, ann, after=rows[3]) is None
    assert store.next_image(collection, bob).id == rows[0]
    assert store.previous_image(collection, ann, before=rows[3]).id == rows[1]
    assert store.previous_image(collection, ann, before=rows[0]) is None
    assert [store.num_left(collection, who) for who in (ann, bob)] == [2, 4]
    by_status = {
        status: [row.id for row in store.images(collection, status=status)]
        for status in ("narrated", "skipped", "open", None)
    }
    assert by_status == {"narrated": rows[:1], "skipped": rows[1:2], "open": rows[2:], None: rows}


def test_pages_join_without_gap_or_overlap_and_ids_are_never_used_again(store):
    collection, rows = with_images(store, 5)
    added = [store.add(collection, narrative(str(i % 5 + 1))) for i in range(7)]
    first = store.narratives(collection, limit=4)
    rest = store.narratives(collection, after=first[-1].id, limit=4)
    assert [row.id for row in first + rest] == added
    assert [row.id for row in store.images(collection, after=rows[1], limit=2)] == rows[2:4]
    assert len(store.narratives(collection, image_row_id=rows[0])) == 2
    store.delete(added[-1])
    with pytest.raises(StoreError, match=f"no narrative {added[-1]}"):
        store.narrative(added[-1])
    assert store.add(collection, narrative()) > added[-1]


def test_regions_travel_with_their_narrative(store):
    collection, (row,) = with_images(store, 1)
    region = {"dataset_id": "album", "image_id": "1", "start": 2, "end": 5, "box": [0, 0, 1, 0.5]}
    store.add(collection, narrative(), regions=[region])
    store.add(collection, narrative())
    assert [regions for _, regions in store.lines_of(collection, row)] == [[region], []]
    assert list(store.each_region(collection)) == [region]


def test_the_migrations_make_exactly_the_tables(store):
    with store._database.reading() as connection:
        ours = {"include_name": lambda name, *_: "narratives_search" not in (name or "")}
        migrated = MigrationContext.configure(connection, opts=ours)  # Alembic knows no such index
        assert compare_metadata(migrated, metadata) == []


def test_a_newer_workspace_is_refused_untouched(url, tmp_path):
    store = Store(url, tmp_path / "images")
    with store._database.writing() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    store.close()
    with pytest.raises(StoreError, match="newer version of LocTex Studio .*update the studio"):
        Store(url, tmp_path / "images")
    with pytest.raises(StoreError, match="9999"):  # still
        Store(url, tmp_path / "images")


def test_many_writers_at_once_all_succeed(url, tmp_path):
    store = Store(url, tmp_path / "images")
    collection, _ = with_images(store, 1)
    store.close()

    def write(worker: int) -> list[int]:
        own = Store(url, tmp_path / "images")
        ids = [own.add(collection, narrative(), take_id=f"{worker}-{k % 12}") for k in range(15)]
        own.annotator("ann")
        own.close()
        return ids

    with ThreadPoolExecutor(6) as pool:
        written = list(pool.map(write, range(6)))
    store = Store(url, tmp_path / "images")
    assert len({i for ids in written for i in ids}) == 72 == store.collections()[0].num_narratives
    store.close()


def test_writes_that_come_together_share_a_commit_and_not_a_failure(store):
    commits, is_free = [], threading.Event()
    event.listen(store._database._engine, "commit", lambda _: commits.append(1))

    def add(connection, numbers):
        if 3 in numbers:
            raise StoreError("this one fails")
        rows = [{"name": f"{number:02}"} for number in numbers]
        connection.execute(insert(tables.collections), rows)
        return numbers

    shared = SharedCommits(store._database, add)

    def hold():
        with shared._turn:
            is_free.wait(30)

    for numbers, most in ((range(10, 30), 2), (range(10), 11)):
        commits.clear()
        is_free.clear()
        with ThreadPoolExecutor(24) as pool:
            holder = pool.submit(hold)
            results = {number: pool.submit(shared.write, number) for number in numbers}
            while len(shared._waiting) < len(numbers):
                time.sleep(0.01)
            is_free.set()
            holder.result()
            for number, result in results.items():
                if number == 3:
                    with pytest.raises(StoreError, match="this one fails"):
                        result.result(30)
                else:
                    assert result.result(30) == number
        assert 1 <= len(commits) <= most
    names = [collection.name for collection in store.collections()]
    assert names == [f"{k:02}" for k in range(30) if k != 3]


def test_changes_that_come_together_build_on_one_another(store):
    """Two saves of a take in one transaction, and one of a page that is behind."""
    _, (row,) = with_images(store, 1)
    store.save_draft("take", store.annotator("ann"), row, '{"caption": "a"}', "1")
    bodies = [json.dumps({"caption": [0, 0, letter]}) for letter in "bcd"]
    changes = [
        DraftChange("take", "ann", row, base, revision, body)
        for base, revision, body in zip("112", "234", bodies, strict=True)
    ]
    with store._database.writing() as connection:
        assert add_changes(connection, changes) == [True, False, True]
    (draft,) = store.drafts(store.annotator("ann"))
    assert json.loads(draft.body)["caption"] == "dba"


def test_opening_an_empty_database_at_once_migrates_it_once(url, tmp_path):
    with ThreadPoolExecutor(4) as pool:
        stores = list(pool.map(lambda _: Store(url, tmp_path / "images"), range(4)))
    assert [store.collections() for store in stores] == [[]] * 4
    for store in stores:
        store.close()


# --- SQLite only


def test_the_write_ahead_log_is_turned_on_by_many_at_once(tmp_path):
    """SQLite answers the second of two at once with "locked", whatever its timeout."""

    def open_and_ask(turn: int) -> str:
        database = Database(f"sqlite:///{tmp_path / str(turn // 8)}.db")
        with database.reading() as connection:
            mode = connection.exec_driver_sql("PRAGMA journal_mode").scalar()
        database.close()
        return mode

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(open_and_ask, range(160))) == {"wal"}


@pytest.fixture
def place(tmp_path):
    return f"sqlite:///{tmp_path / 'studio.db'}", tmp_path / "images"


def test_an_older_workspace_is_copied_then_brought_up_to_date(place):
    file = Path(place[0].removeprefix("sqlite:///"))
    with sqlite3.connect(file) as database:
        database.execute("PRAGMA journal_mode=WAL")
    with create_engine(place[0]).begin() as connection:
        settings = migrations()
        settings.attributes["connection"] = connection
        command.upgrade(settings, "0001")
        connection.exec_driver_sql("INSERT INTO collections (name) VALUES ('old')")
        values = "(1, 'album', '1', 'x', 'x.jpg', 'x', 4, 3)"
        columns = "(collection_id, dataset_id, image_id, sha256, file, name, width, height)"
        connection.exec_driver_sql(f"INSERT INTO images {columns} VALUES {values}")
        columns = "(collection_id, image_row_id, annotator_id, caption, num_words, num_points, "
        for odd in (narrative(), narrative(traces=[])):
            connection.exec_driver_sql(
                f"INSERT INTO narratives {columns} duration, created) "
                "VALUES (1, 1, 7, 'a dog', 2, 3, 1.5, 0)"
            )
            connection.exec_driver_sql(
                "INSERT INTO bodies VALUES (last_insert_rowid(), ?, NULL)",
                (json.dumps(odd.to_json()),),
            )
    database.close()
    store = Store(*place)
    assert [(one.name, one.overlap) for one in store.collections()] == [("old", 0)]  # as before
    told = store.narratives(store.collection("old"))
    assert [(row.caption, row.flags) for row in told] == [("a dog", ()), ("a dog", ("no trace",))]
    store.close()
    (copy,) = file.parent.glob("studio.db.before-*")
    with sqlite3.connect(copy) as kept:
        assert kept.execute("SELECT version_num FROM alembic_version").fetchall() == [("0001",)]
        assert kept.execute("SELECT name FROM collections").fetchall() == [("old",)]
    kept.close()
    written = copy.stat().st_mtime_ns
    Store(*place).close()
    assert copy.stat().st_mtime_ns == written  # a second start copies nothing


def test_sqlite_is_set_to_lose_nothing(place):
    store = Store(*place)
    with store._database.writing() as connection:
        found = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    assert found == {
        "journal_mode": "wal",
        "synchronous": 2,
        "foreign_keys": 1,
        "busy_timeout": 60_000,
    }
    store.close()


KILLED = """
import sys
from data_tools.store import Store
from tests.data_tools.samples import narrative, picture
store = Store(sys.argv[1], sys.argv[2])
collection = store.add_collection("mine")
for i in range(1000):
    row = store.add_image(collection, picture(i % 250), dataset_id="album", image_id=str(i))
    store.save_draft(f"draft {i}", store.annotator("ann"), row.id, str(i))
    print(store.add(collection, narrative(str(i)), take_id=str(i)), i, flush=True)
"""


@pytest.mark.parametrize("kill_after", [1, 7])
def test_what_was_confirmed_survives_kill_9(place, kill_after):
    command = [sys.executable, "-c", KILLED, place[0], str(place[1])]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as writer:
        confirmed = [writer.stdout.readline().split() for _ in range(kill_after)]
        writer.kill()
        confirmed += [line.split() for line in writer.stdout.read().splitlines()]
    assert writer.returncode == -signal.SIGKILL and kill_after <= len(confirmed) < 1000
    store = Store(*place)
    drafts = {draft.body for draft in store.drafts(store.annotator("ann"))}
    for narrative_id, image_id in confirmed:
        assert store.narrative(int(narrative_id)).to_json() == narrative(image_id).to_json()
        assert image_id in drafts
    for image in store.each_image(store.collection("mine")):
        assert image.path.read_bytes() == picture(int(image.image_id) % 250)
    store.close()


def test_a_full_disk_is_told_and_the_draft_stays(place):
    store = Store(*place)
    collection, (row,) = with_images(store, 1)
    me = store.annotator("ann")
    long = narrative(traces=[[{"x": 0.5, "y": 0.5, "t": i / 125} for i in range(7500)]])
    store.save_draft("take", me, row, json.dumps(long.to_json()))
    engine = store._database._engine
    engine.dispose()

    @event.listens_for(engine, "connect")
    def fill(connection, _):
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")

    with pytest.raises(StoreError, match="not saved: database or disk is full"):
        store.add(collection, long, take_id="take")
    assert store.narratives(collection) == [] and not store.has_take("take")
    assert json.loads(store.drafts(me)[0].body) == long.to_json()
    event.remove(engine, "connect", fill)
    engine.dispose()
    store.add(collection, long, take_id="take")
    assert store.narratives(collection)[0].num_points == 7500 and store.drafts(me) == []
    store.close()


@pytest.mark.timed
def test_a_minute_of_pointing_is_stored_within_300_ms(place):
    store = Store(*place)
    collection, _ = with_images(store, 1)
    long = narrative(traces=[[{"x": 0.5, "y": 0.5, "t": i / 125} for i in range(7500)]])
    seconds = []
    for take in range(5):
        began = time.perf_counter()
        store.add(collection, long, take_id=str(take))
        seconds.append(time.perf_counter() - began)
    assert sorted(seconds)[2] < 0.3
    store.close()


def test_a_file_that_is_no_database_is_told(tmp_path):
    (tmp_path / "studio.db").write_text("not a database, but long enough to be looked at" * 40)
    with pytest.raises(StoreError, match=r"cannot open sqlite.*studio\.db: file is not a database"):
        Store(f"sqlite:///{tmp_path / 'studio.db'}", tmp_path / "images")


@pytest.mark.parametrize("url", ["mysql://a@b/c", "studio.db", "postgresql://a@127.0.0.1:1/c"])
def test_a_database_that_cannot_be_had_is_told(url, tmp_path):
    with pytest.raises(StoreError, match="is not supported|is no database URL|cannot open"):
        Store(url, tmp_path / "images")


def test_an_older_reader_sees_a_plain_sqlite_file(place):
    store = Store(*place)
    collection, _ = with_images(store, 1)
    store.add(collection, narrative())
    store.close()
    connection = sqlite3.connect(place[0].removeprefix("sqlite:///"))
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    [(record,)] = connection.execute("SELECT record FROM bodies").fetchall()
    connection.close()
    assert json.loads(record) == narrative().to_json()
