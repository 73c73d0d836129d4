"""VOC2007 and COCO as their archives: said before they come, checked, unpacked once."""

import hashlib
import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from data_tools import archives
from data_tools.archives import Archive
from tests.data_tools.test_download import Server


@pytest.fixture
def server():
    import threading

    running = Server()
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield running
    running.shutdown()
    running.server_close()


def tar_of(name: str, content: bytes) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    return file.getvalue()


def zip_of(name: str, content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, content)
    return file.getvalue()


def publish(server, monkeypatch, **contents: bytes) -> None:
    """Serves these archives as the set "voc2007"."""
    rows = []
    for name, content in contents.items():
        file = name.replace("_", ".")
        server.files[f"/{file}"], server.faults[f"/{file}"] = content, []
        digest = hashlib.md5(content).hexdigest()
        rows.append(Archive(f"{server.url}/{file}", len(content), digest, len(content)))
    monkeypatch.setitem(archives.ARCHIVES, "voc2007", tuple(rows))


def test_archives_are_checked_unpacked_and_not_fetched_again(
    server, monkeypatch, tmp_path, capsys
) -> None:
    publish(
        server,
        monkeypatch,
        a_tar=tar_of("VOCdevkit/VOC2007/a.txt", b"one"),
        b_zip=zip_of("train2017/b.txt", b"two"),
    )
    for _ in range(2):
        assert archives.main(["voc2007", f"--to={tmp_path}", "--yes"]) == 0
    assert (tmp_path / "VOCdevkit/VOC2007/a.txt").read_bytes() == b"one"
    assert (tmp_path / "train2017/b.txt").read_bytes() == b"two"
    assert sum(server.num_gets.values()) == 2
    assert not list(tmp_path.glob("*.tar")) and not list(tmp_path.glob("*.zip"))
    said = capsys.readouterr().out
    assert "0.00 GB to fetch" in said and "free in" in said and "research" in said
    assert said.strip().endswith(f"all of it is in {tmp_path} already")


def test_nothing_comes_before_somebody_says_yes(server, monkeypatch, tmp_path) -> None:
    publish(server, monkeypatch, a_tar=tar_of("a.txt", b"one"))
    monkeypatch.setattr("builtins.input", lambda _: "")
    assert archives.main(["voc2007", f"--to={tmp_path}"]) == 1
    assert not server.num_gets and not list(tmp_path.iterdir())
    monkeypatch.setattr("builtins.input", lambda _: "y")
    assert archives.main(["voc2007", f"--to={tmp_path}"]) == 0
    assert (tmp_path / "a.txt").exists()


def test_a_wrong_checksum_and_a_damaged_archive_are_named_and_not_unpacked(
    server, monkeypatch, tmp_path
) -> None:
    publish(server, monkeypatch, a_tar=tar_of("a.txt", b"one"))
    server.files["/a.tar"] = tar_of("a.txt", b"two")
    with pytest.raises(SystemExit, match="not the published .*: it was removed; run the same"):
        archives.main(["voc2007", f"--to={tmp_path}", "--yes"])
    assert not list(tmp_path.iterdir())
    publish(server, monkeypatch, b_zip=zip_of("b.txt", b"one" * 50)[:80])
    with pytest.raises(SystemExit, match="b.zip cannot be unpacked: .* fetch again"):
        archives.main(["voc2007", f"--to={tmp_path}", "--yes"])
    assert not (tmp_path / ".b.zip.unpacked").exists()


def test_an_archive_that_leads_out_of_the_folder_is_refused(server, monkeypatch, tmp_path) -> None:
    publish(server, monkeypatch, a_tar=tar_of("../out.txt", b"one"))
    with pytest.raises(SystemExit, match="cannot be unpacked: .*outside"):
        archives.main(["voc2007", f"--to={tmp_path / 'in'}", "--yes"])
    assert not (tmp_path / "out.txt").exists()


def test_sizes_are_said_and_a_disk_without_room_is_refused_first(monkeypatch, tmp_path) -> None:
    class Usage:
        free = 10 * 10**9

    monkeypatch.setattr(archives.shutil, "disk_usage", lambda _: Usage)
    with pytest.raises(
        SystemExit, match=r"(?s)20.41 GB to fetch; 40.41 GB of disk .* not enough room"
    ):
        archives.main(["coco2017", f"--to={tmp_path}", "--yes"])
    assert "0.91 GB to fetch" in archives.plan(["voc2007"], tmp_path, keep=False)
    with pytest.raises(SystemExit, match="no set 'voc'; there is voc2007, coco2017"):
        archives.main(["voc", f"--to={tmp_path}"])
    part = tmp_path / "VOCtest_06-Nov-2007.tar.part"
    with open(part, "wb") as file:
        file.truncate(451_020_000)
    assert "0.46 GB to fetch" in archives.plan(["voc2007"], tmp_path, keep=False)
    assert Path(part).exists()
