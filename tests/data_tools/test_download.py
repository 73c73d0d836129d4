"""Downloads from a server that does everything wrong: whole and right, or named as failed."""

import base64
import hashlib
import json
import os
import random
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from data_tools import localized_narratives
from data_tools.exchange import download, public_files
from data_tools.exchange.download import Download, Patience, check_room, fetch
from tests.data_tools.samples import narrative, picture

HASTY = Patience(tries=4, wait=0.01, longest=0.05, stall=1.5, slowest=2000)
ROOT = Path(__file__).parents[2]


class Server(ThreadingHTTPServer):
    """files: content of each path. faults: of each path, one for each GET, the last for ever."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.faults: dict[str, list[str]] = {}
        self.num_gets, self.num_bytes = Counter(), Counter()
        self.lock = threading.Lock()
        self.resumed: set[str] = set()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    def item(self, name, folder, content=None, faults=(), **options):
        if content is not None:
            self.files[f"/{name}"] = content
        self.faults[f"/{name}"] = list(faults)
        return Download(f"{self.url}/{name}", folder / name, **options)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.send_response(200 if self.path in self.server.files else 404)
        self.send_header("Content-Length", str(len(self.server.files.get(self.path, b""))))
        self.end_headers()

    def do_GET(self):
        server, self.close_connection = self.server, True
        with server.lock:
            server.num_gets[self.path] += 1
            faults = server.faults.get(self.path) or [""]
            fault = faults.pop(0) if len(faults) > 1 else faults[0]
        body = server.files.get(self.path)
        if body is None or fault.isdigit():
            self.send_response(int(fault or 404))
            self.send_header("Content-Length", "0")
            self.send_header("Retry-After", "0")
            return self.end_headers()
        if fault == "page":
            body = b"<html>come back later</html>"
        tag = '"' + hashlib.sha1(body).hexdigest() + '"'
        place = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(place[1]) if place and self.headers.get("If-Range") == tag else 0
        if start and fault != "no range":
            server.resumed.add(self.path)
            self.send_response(206)
            shift = 3 if fault == "shifted" else 0
            self.send_header("Content-Range", f"bytes {start + shift}-9/{len(body)}")
        else:
            start = 0
            self.send_response(200)
        if fault not in ("no tag", "longer"):
            self.send_header("ETag", tag)
        if fault == "hash":
            digest = hashlib.md5(server.files[self.path]).digest()
            self.send_header("x-goog-hash", "crc32c=AAAAAA==")
            self.send_header("x-goog-hash", "md5=" + base64.b64encode(digest).decode())
            body = body[::-1] if server.num_gets[self.path] < 3 else body
        rest = body[start:]
        lie = {"longer": 50, "shorter": -50}.get(fault, 0)
        self.send_header("Content-Length", str(len(rest) + lie))
        self.end_headers()
        if fault in ("drop", "no range", "stall", "shifted"):
            rest = rest[: max(1, len(rest) // 2)]
        try:
            self.send(rest, fault)
        except ConnectionError:
            pass  # the client had enough

    def send(self, rest, fault):
        step = 10 if fault == "crawl" else 4096
        for i in range(0, len(rest), step):
            self.wfile.write(rest[i : i + step])
            self.server.num_bytes[self.path] += len(rest[i : i + step])
            if fault in ("crawl", "steady"):
                time.sleep(0.02)
        if fault == "stall":
            time.sleep(3)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def some(size, seed=0):
    return random.Random(seed).randbytes(size)


def lines(count):
    """A file of narratives."""
    records = (json.dumps(narrative(str(i)).to_json()) for i in range(count))
    return "".join(record + "\n" for record in records).encode()


def test_many_files_arrive_whole_whatever_the_server_does(server, tmp_path):
    draw = random.Random(5)
    faults = ("", "drop", "500", "503", "429", "408", "no range", "no tag", "shifted", "longer")
    items = [
        server.item(
            f"{i}.bin",
            tmp_path,
            some(draw.randint(1, 40_000), i),
            [*draw.choices(faults, k=3), ""],  # three are less than HASTY.tries
        )
        for i in range(60)
    ]
    got = Counter()
    assert fetch(items, patience=HASTY, progress=lambda size: got.update(bytes=size)) == []
    for item in items:
        assert item.path.read_bytes() == server.files[f"/{item.path.name}"]
    assert len(list(tmp_path.iterdir())) == 60  # no .part, no .tag
    assert len(server.resumed) > 10
    assert got["bytes"] >= sum(map(len, server.files.values()))
    count = server.num_gets.total()
    assert fetch(items, patience=HASTY) == [] and server.num_gets.total() == count


@pytest.mark.parametrize(
    "fault, num_gets, reason",
    [
        ("404", 1, "404 Not Found"),
        ("403", 1, "403 Forbidden"),
        ("429", 4, "429 Too Many Requests"),
        ("500", 4, "500 Internal Server Error"),
        ("longer", 5, "bytes came"),  # 50 less than were promised; the first time is no failure
        ("shorter", 4, "its last line is no narrative: record: is not JSON"),
        ("page", 4, "its last line is no narrative: record: is not JSON"),
        ("crawl", 4, "bytes a second"),
    ],
)
def test_what_never_comes_whole_is_named_and_has_no_name_on_the_disk(
    server, tmp_path, fault, num_gets, reason
):
    content = lines(120)
    bad = server.item("bad", tmp_path, content, [fault], check=public_files.check_narratives)
    good = server.item("good", tmp_path, some(9000))
    (failed,) = fetch([bad, good], patience=HASTY)
    assert failed.startswith(f"{bad.url}: ") and reason in failed
    assert server.num_gets["/bad"] == num_gets
    assert good.path.read_bytes() == server.files["/good"]
    assert not bad.path.exists()
    kept = {path.name for path in tmp_path.iterdir()} - {"good"}
    assert kept == ({"bad.part", "bad.part.tag"} if fault in ("longer", "crawl") else set())
    server.faults["/bad"] = [""]
    assert fetch([bad], patience=HASTY) == [] and bad.path.read_bytes() == content


def test_a_stalled_connection_is_dropped_and_taken_up_where_it_was(server, tmp_path):
    item = server.item("a", tmp_path, some(60_000), ["stall", "drop", ""])
    told = []
    assert fetch([item], patience=HASTY, tell=told.append) == []
    assert item.path.read_bytes() == server.files["/a"]
    assert server.num_bytes["/a"] == 60_000  # not a byte twice
    assert [re.sub(r"\(.*\)|; again.*", "", message) for message in told] == [
        f"{item.url}: broke off ",
        f"{item.url}: 45,000 of 60,000 bytes came",
    ]


def test_a_checksum_that_differs_is_not_believed(server, tmp_path):
    item = server.item("a", tmp_path, some(5000), ["hash"] * 3)
    assert fetch([item], patience=HASTY) == []  # reversed at first, then right
    assert item.path.read_bytes() == server.files["/a"] and server.num_gets["/a"] == 3


def test_a_file_that_changed_meanwhile_is_fetched_anew(server, tmp_path):
    item = server.item("a", tmp_path, some(30_000, 1), ["drop", "404"])
    assert fetch([item], patience=HASTY)[0].endswith("404 Not Found")
    assert (tmp_path / "a.part").stat().st_size == 15_000
    server.item("a", tmp_path, some(30_000, 2))
    assert fetch([item], patience=HASTY) == []
    assert item.path.read_bytes() == some(30_000, 2) and not server.resumed


def test_a_killed_download_goes_on_where_it_was(server, tmp_path):
    size = 2_000_000
    server.item("coco_val_localized_narratives.jsonl", tmp_path, some(0), ["steady"])
    content = lines(8000)
    content = content[:size].rsplit(b"\n", 1)[0] + b"\n"
    name = "coco_val_localized_narratives.jsonl"
    server.files[f"/{name}"] = content
    command = [sys.executable, "-m", "data_tools.localized_narratives", "download", "coco_val"]
    command += ["--to", str(tmp_path), "--source", server.url]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    part = tmp_path / f"{name}.part"
    deadline = time.monotonic() + 60
    while not part.exists() or part.stat().st_size < 100_000:
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert [path.name for path in tmp_path.glob("*.jsonl")] == []
    had = part.stat().st_size
    server.faults[f"/{name}"] = [""]
    server.num_bytes.clear()
    assert subprocess.run(command, cwd=ROOT, capture_output=True).returncode == 0
    assert (tmp_path / name).read_bytes() == content
    chunk = 64 * 1024  # what the first connection may still have counted as sent after the kill
    assert len(content) - had <= server.num_bytes[f"/{name}"] < len(content) - had + chunk
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_file_that_another_process_fetches_is_left_alone(server, tmp_path):
    item = server.item("a", tmp_path, some(100))
    with open(tmp_path / "a.part", "ab") as held:
        download.fcntl.flock(held, download.fcntl.LOCK_EX)
        assert fetch([item], patience=HASTY) == [f"{item.url}: another process is fetching it"]
    assert fetch([item], patience=HASTY) == []


def test_the_disk_is_asked_first_and_a_full_one_ends_all(server, tmp_path, monkeypatch):
    items = [server.item(str(i), tmp_path, some(1000)) for i in range(200)]
    usage = download.shutil.disk_usage(tmp_path)
    assert check_room(items, tmp_path) == 200_000
    (tmp_path / "0.part").write_bytes(bytes(400))
    assert check_room(items, tmp_path) == 199_600
    small = usage._replace(free=download.RESERVE + 100_000)
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: small)
    with pytest.raises(ValueError, match="0.00 GB are still to come, and the disk has room for"):
        check_room(items, tmp_path)
    assert server.num_gets.total() == 0
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (700, limits[1]))  # no file grows beyond
    try:
        with pytest.raises(OSError, match="File too large"):
            fetch(items, workers=1, patience=HASTY)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert server.num_gets.total() < 20  # the others were not begun
    assert not any(item.path.exists() for item in items)


def test_parts_have_the_names_that_the_public_site_gives_them(tmp_path):
    everything = public_files.narrative_items(["all"], tmp_path)
    assert len(everything) == 4 + 1 + 3 + 2 + 10 + 2
    urls = [item.url for item in public_files.narrative_items(["coco_train"], tmp_path)]
    assert urls[3] == (
        "https://storage.googleapis.com/localized-narratives/annotations/"
        "coco_train_localized_narratives-00003-of-00004.jsonl"
    )
    with pytest.raises(ValueError, match="no part 'coco'; there is all, ade20k_train, ade20k_val"):
        public_files.narrative_items(["coco"], tmp_path)


@pytest.mark.parametrize(
    "dataset_id, number, url",
    [
        ("mscoco_val2017", "139", "http://images.cocodataset.org/val2017/000000000139.jpg"),
        ("coco_train_simulated", "9", "http://images.cocodataset.org/train2017/000000000009.jpg"),
        (
            "open_images_validation",
            "00a1b2",
            "https://open-images-dataset.s3.amazonaws.com/validation/00a1b2.jpg",
        ),
        ("Flickr30k_train", "12", None),
        ("ADE20k_train", "12", None),
        ("mscoco", "12", None),
        ("mscoco_val2017", "../../etc/passwd", None),
        ("open_images_test", "../x", None),
    ],
)
def test_pictures_lie_where_their_data_set_keeps_them(dataset_id, number, url):
    assert public_files.picture_url(dataset_id, number) == url


def test_commands_fetch_narratives_and_pictures_and_name_what_is_missing(
    server, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(public_files, "USUAL", HASTY)
    monkeypatch.setattr(
        public_files.download,
        "__kwdefaults__",
        public_files.download.__kwdefaults__ | {"patience": HASTY},
    )
    said = [narrative(str(i), dataset_id="mscoco_val2017") for i in (1, 2, 2, 3)]
    said += [narrative("7", dataset_id="Flickr30k_val")]
    text = "".join(json.dumps(one.to_json()) + "\n" for one in said)
    name = "coco_val_localized_narratives.jsonl"
    server.item(name, tmp_path, text.encode(), ["429", "drop", ""])
    to = ["--to", str(tmp_path / "to"), "--source", server.url]
    assert localized_narratives.main(["download", "coco_val", *to]) == 0
    assert "1 of 1 files are in" in capsys.readouterr().out
    for i in (1, 2):
        server.item(f"val2017/{i:012d}.jpg", tmp_path, picture(i), ["500", ""])
    server.item("val2017/000000000003.jpg", tmp_path, picture(3)[:-40])  # damaged
    to[1] = str(tmp_path / "images")
    assert localized_narratives.main(["pictures", str(tmp_path / "to" / name), *to]) == 1
    printed = capsys.readouterr()
    assert "2 of 4 files are in" in printed.out
    assert "Flickr30k_val 7: no public picture" in printed.err
    assert f"{server.url}/val2017/000000000003.jpg: " in printed.err
    images = sorted(path.name for path in (tmp_path / "images").iterdir())
    assert images == ["000000000001.jpg", "000000000002.jpg"]
    coco = tmp_path / "instances_val2017.json"
    images = [{"id": i, "file_name": f"{i:012d}.jpg"} for i in (1, 2)]
    coco.write_text(json.dumps({"images": images}))
    assert localized_narratives.main(["pictures", str(coco), *to]) == 0
    assert "2 of 2 files are in" in capsys.readouterr().out
    assert localized_narratives.main(["download", "nothing", *to]) == 1
    assert "no part 'nothing'" in capsys.readouterr().err


def test_nothing_is_listening(tmp_path):
    item = Download("http://127.0.0.1:9/a", tmp_path / "a")
    (failed,) = fetch([item], patience=HASTY)
    assert "is this machine online?" in failed
    assert check_room([item], tmp_path) == 0
    assert os.listdir(tmp_path) == []
