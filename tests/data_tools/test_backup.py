"""A workspace saved and restored: the same rows and files, also into the other kind of database."""

import json
import tarfile
from pathlib import Path

import pytest

from data_tools import backup, withdrawal
from data_tools.store import Store, StoreError
from tests.data_tools.samples import narrative, picture
from ui.workspace import Workspace


def filled(root: Path, url: str | None) -> Store:
    """A workspace with something of everything."""
    store = Store.of_workspace(root, url, is_new=True)
    collection = store.add_collection("album")
    ann, rob = store.annotator("ann"), store.annotator("rob")
    for k in range(3):
        store.add_image(collection, picture(k), dataset_id="album", image_id=str(k))
        told = store.add(collection, narrative(str(k), annotator_id=ann), take_id=str(k))
        store.reviews.reject(told, rob, f"why {k}")
    store.save_draft("take", ann, store.images(collection)[0].id, '{"caption": "é"}')
    store.delete(told)
    for name in (
        "voices/a.wav",
        "runs/tiny/metrics.jsonl",
        "runs/tiny/train.lock",
        "snapshots/one/.cache/x",
        "snapshots/one/snapshot.json",
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    return store


def contents(store: Store) -> tuple:
    """All that a store tells."""
    collection = store.collection("album")
    ann = store.annotator("ann")
    return (
        store.collections(),
        [image.sha256 for image in store.images(collection)],
        [
            (row, store.narrative(row.id).to_json(), store.reviews.trail(row.id))
            for row in store.narratives(collection)
        ],
        store.drafts(ann),
        store.people.names(),
    )


@pytest.mark.parametrize("to_other", [False, True])
def test_what_is_saved_is_restored_also_to_the_other_kind(url, to_other, tmp_path, request):
    store = filled(tmp_path / "from", url)
    before = contents(store)
    file = tmp_path / "saved.tar"
    assert backup.save(tmp_path / "from", file, url) > 15  # while the store is open
    store.close()
    target = None
    if to_other != url.startswith("postgresql"):
        target = request.getfixturevalue("empty_postgres")
    backup.restore(file, tmp_path / "to", target)
    restored = Store.of_workspace(tmp_path / "to", target)
    assert contents(restored) == before
    assert restored.images(1)[0].path.read_bytes() == picture(0)
    kept = {str(path.relative_to(tmp_path / "to")) for path in (tmp_path / "to").rglob("*")}
    assert {"voices/a.wav", "runs/tiny/metrics.jsonl", "snapshots/one/snapshot.json"} <= kept
    assert not {"runs/tiny/train.lock", "snapshots/one/.cache/x", "tables"} & kept
    new = restored.add(1, narrative("0", annotator_id=restored.annotator("new")))
    assert new > max(row.id for row in before[2][0][:1])  # its numbers go on
    restored.close()


def test_an_older_version_that_was_saved_is_brought_up_to_date(tmp_path):
    filled(tmp_path / "from", None).close()
    backup.save(tmp_path / "from", tmp_path / "new.tar", has_runs=False)
    with tarfile.open(tmp_path / "new.tar") as new, tarfile.open(tmp_path / "old.tar", "w") as old:
        assert not [name for name in new.getnames() if name.startswith("runs")]
        rows = [json.loads(line) for line in new.extractfile("tables/collections.jsonl")]
        first = [{"id": row["id"], "name": row["name"]} for row in rows]  # as of 0001
        backup._add(backup._SavedFile(old), "tables/collections.jsonl", first[:1])
        backup._add(
            backup._SavedFile(old), "tables/alembic_version.jsonl", [{"version_num": "0001"}]
        )
    backup.restore(tmp_path / "old.tar", tmp_path / "to")
    store = Store.of_workspace(tmp_path / "to")
    assert [(one.name, one.overlap) for one in store.collections()] == [("album", 0)]
    store.close()


def test_nothing_is_overwritten_and_what_is_no_backup_is_told(tmp_path):
    filled(tmp_path / "from", None).close()
    file = tmp_path / "saved.tar"
    backup.save(tmp_path / "from", file)
    with pytest.raises(FileExistsError, match="is there already"):
        backup.save(tmp_path / "from", file)
    with pytest.raises(ValueError, match="exists already and is never overwritten"):
        backup.restore(file, tmp_path / "from")
    with pytest.raises(StoreError, match="holds something already"):
        backup.restore(file, tmp_path / "to", f"sqlite:///{tmp_path / 'from' / 'studio.db'}")
    with pytest.raises(StoreError, match="there is no workspace"):
        backup.save(tmp_path / "nowhere", tmp_path / "other.tar")
    (tmp_path / "text.tar").write_text("no archive")
    with pytest.raises(ValueError, match="is no saved workspace"):
        backup.restore(tmp_path / "text.tar", tmp_path / "to")
    with tarfile.open(tmp_path / "newer.tar", "w") as tar:
        backup._add(
            backup._SavedFile(tar), "tables/alembic_version.jsonl", [{"version_num": "9999"}]
        )
    with pytest.raises(StoreError, match="newer version of LocTex Studio"):
        backup.restore(tmp_path / "newer.tar", tmp_path / "to")
    assert not (tmp_path / "to").exists() and not list(tmp_path.glob("*.tmp"))


def test_a_path_that_leads_out_of_the_folder_is_refused(tmp_path):
    with tarfile.open(tmp_path / "evil.tar", "w") as tar:
        backup._add(
            backup._SavedFile(tar), "tables/alembic_version.jsonl", [{"version_num": "0001"}]
        )
        backup._add(backup._SavedFile(tar), "../escaped", [{"x": 1}])
    assert (
        backup.main(
            ["restore", str(tmp_path / "evil.tar"), "--workspace", str(tmp_path / "deep" / "to")]
        )
        == 1
    )
    assert not list(tmp_path.rglob("escaped")) and not (tmp_path / "deep" / "to").exists()


def test_a_workspace_kept_in_postgresql_is_saved_with_its_database_or_not_at_all(
    empty_postgres, tmp_path, capsys
):
    filled(tmp_path / "from", empty_postgres).close()
    workspace, file = tmp_path / "from", tmp_path / "saved.tar"
    with pytest.raises(StoreError, match="holds no studio.db: name its database with --database"):
        backup.save(workspace, file)
    secret = empty_postgres.replace("studio@", "studio:secret@")
    Workspace(workspace, secret).store.close()  # served: from here on it knows where it is kept
    for program in (backup.main, withdrawal.main):
        what = {backup.main: ["save", str(file)], withdrawal.main: ["ann"]}[program]
        assert program([*what, "--workspace", str(workspace)]) == 1
        said = capsys.readouterr().err
        assert f"are in {empty_postgres}: name it with --database" in said and "secret" not in said
    with pytest.raises(StoreError, match="name it with --database"):
        Workspace(workspace)
    assert not file.exists() and not (workspace / "studio.db").exists()
    assert (
        backup.main(
            ["save", str(file), "--workspace", str(workspace), "--database", empty_postgres]
        )
        == 0
    )
    backup.restore(file, tmp_path / "to")  # in a studio.db of its own
    moved = Workspace(tmp_path / "to")
    assert [one.num_narratives for one in moved.store.collections()] == [2]
    moved.store.close()


def test_a_restored_workspace_knows_the_server_it_was_restored_to(empty_postgres, tmp_path):
    filled(tmp_path / "from", None).close()
    backup.save(tmp_path / "from", tmp_path / "saved.tar")
    backup.restore(tmp_path / "saved.tar", tmp_path / "to", empty_postgres)
    with pytest.raises(StoreError, match=f"are in {empty_postgres}"):
        Workspace(tmp_path / "to")
    own = f"sqlite:///{tmp_path / 'to' / 'studio.db'}"
    Workspace(tmp_path / "to", own).store.close()  # named: it is wanted
    with pytest.raises(StoreError, match="holds no images, but the folders beside it are full"):
        Workspace(tmp_path / "to")


def test_a_draft_that_goes_while_it_is_saved_is_left_out(tmp_path, monkeypatch):
    filled(tmp_path / "from", None).close()
    gone, listed = tmp_path / "from" / "voices" / "gone.pcm", backup._files
    monkeypatch.setattr(backup, "_files", lambda *known: iter([gone, *listed(*known)]))
    assert backup.save(tmp_path / "from", tmp_path / "saved.tar") > 10
    with tarfile.open(tmp_path / "saved.tar") as tar:
        assert "voices/a.wav" in tar.getnames() and "voices/gone.pcm" not in tar.getnames()


def test_one_command_each(tmp_path, capsys):
    filled(tmp_path / "from", None).close()
    file = str(tmp_path / "saved.tar")
    assert backup.main(["save", file, "--workspace", str(tmp_path / "from")]) == 0
    assert backup.main(["restore", file, "--workspace", str(tmp_path / "to")]) == 0
    assert "rows restored, and their files" in capsys.readouterr().out
