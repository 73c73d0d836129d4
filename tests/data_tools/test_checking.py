"""Checking files of any size and of any malice: every bad line by name, memory flat."""

import json
import os
import subprocess
import sys
import threading
import zipfile
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_tools.exchange import checking, lines
from data_tools.exchange.checking import check
from data_tools.localized_narratives import main
from tests.data_tools.samples import narrative, picture

ROOT = Path(__file__).parents[2]
GOOD = json.dumps(narrative().to_json())


def measured(path: Path, *options: str) -> tuple[subprocess.CompletedProcess, float]:
    """`check` in a process of its own, and the most memory that it and its workers took, MB."""
    program = (
        "import resource, sys\n"
        "from data_tools.localized_narratives import main\n"
        "if __name__ == '__main__':\n"
        "    code = main(['check', *sys.argv[1:]])\n"
        "    lines = open('/proc/self/status').read().splitlines()\n"
        "    own = next(int(x.split()[1]) for x in lines if x.startswith('VmHWM'))\n"
        "    others = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss\n"
        "    print('peak', max(own, others), file=sys.stderr)\n"
        "    sys.exit(code)\n"
    )
    command = [sys.executable, "-c", program, str(path), *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    *_, last = done.stderr.splitlines()
    return done, int(last.split()[1]) / 1024


@settings(deadline=None)
@given(
    st.lists(st.sampled_from([b"", b"a", b"bb\r", b"c" * 30, b"d" * 9]), max_size=12),
    st.booleans(),
    st.integers(1, 40),
)
def test_parts_of_any_size_read_each_line_once(tmp_path_factory, texts, has_end, size):
    path = tmp_path_factory.mktemp("lines") / "file"
    path.write_bytes(b"\n".join(texts) + (b"\n" if has_end and texts else b""))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "LONGEST", 20)
        found = [line for span in lines.parts(path, size) for line in lines.read(path, *span)]
        whole = list(lines.read(path))
    expected, place = [], 0
    for text in path.read_bytes().splitlines(keepends=True) if texts else []:
        kept = None if len(text.rstrip(b"\n")) > 20 else text.rstrip(b"\r\n")
        expected.append((place, kept))
        place += len(text)
    assert [(line.place, line.text) for line in found] == expected
    assert [(line.place, line.text) for line in whole] == expected
    assert [line.number for line in whole] == list(range(1, len(expected) + 1))


BAD = [
    ('{"a": ' * 100_000, "record: is not JSON"),
    ("[" * 100_000, "record: is not JSON"),
    (GOOD.replace("0.1,", "NaN,"), "traces[0][0].x: must be a finite number, got nan"),
    (GOOD.replace("0.1,", "1e308,"), "traces[0][0].x: is too large, got 1e+308"),
    (GOOD.replace("0.1,", "1e999,"), "traces[0][0].x: must be a finite number, got inf"),
    (GOOD.replace("0.1,", "9" * 5000 + ","), "record: is not JSON"),
    (GOOD.replace('"t": 0.5', '"t": -0.5'), "traces[0][1].t: must be seconds from the start"),
    (GOOD.replace('"t": 0.0', '"t": 0.9'), "traces[0][1].t: 0.5 s lies before the point before"),
    (GOOD.replace('"end_time": 1.5', '"end_time": 0.1'), "timed_caption[1].end_time: 0.1 s lies"),
    (GOOD.replace("a dog", "a \\ud800 dog"), "caption: holds a character that cannot be stored"),
    (GOOD.replace('"annotator_id": 7', '"annotator_id": "7"'), "annotator_id: must be an integer"),
    (GOOD, "record: is that of line 1 again; leave it out"),
    ("\0" * 50, "record: is not JSON"),
]


def test_what_is_wrong_is_named_by_its_line_whatever_surrounds_it(tmp_path, monkeypatch):
    texts = [GOOD.encode(), b"", GOOD.replace("a dog", "caf\xe9").encode("latin-1")]
    texts += [bad.encode() for bad, _ in BAD] + [GOOD.replace("a dog", "no").encode()]
    path = tmp_path / "narratives.jsonl"
    path.write_bytes(b"\n".join(texts))
    expected = {3: "record: is not JSON: 'utf-8' codec"} | {
        number: reason for number, (_, reason) in enumerate(BAD, 4)
    }
    for part in (lines.PART, 700, 64):  # and cut into parts at every place
        monkeypatch.setattr(lines.parts, "__defaults__", (part,))
        found = dict(problem[len(f"{path}:") :].split(": ", 1) for problem in check(path))
        assert {int(line) for line in found} == set(expected)
        for line, reason in expected.items():
            assert found[str(line)].startswith(reason) and len(found[str(line)]) < 300


def test_several_processes_name_what_one_names(tmp_path, monkeypatch):
    path = tmp_path / "narratives.jsonl"
    records = [narrative(str(i)).to_json() for i in range(3000)]
    for i in (5, 1500, 2999):
        records[i]["caption"] = ""
    records[1234] = records[17]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    alone = list(check(path))
    assert [int(problem.split(":")[1]) for problem in alone] == [6, 1501, 3000, 1235]
    assert alone[-1].endswith("record: is that of line 18 again; leave it out")
    monkeypatch.setattr(checking, "SMALL", 0)
    monkeypatch.setattr(checking, "MOST", 100)
    monkeypatch.setattr(lines.parts, "__defaults__", (100_000,))
    seen = [0, 0]

    def progress(num_bytes: int, num_records: int) -> None:
        seen[:] = seen[0] + num_bytes, seen[1] + num_records

    assert list(check(path, workers=2, progress=progress)) == alone
    assert seen == [path.stat().st_size, 3000]


def test_a_line_without_end_is_refused_in_flat_memory(tmp_path):
    path = tmp_path / "narratives.jsonl"
    with open(path, "wb") as file:
        file.write(f"{GOOD}\n".encode())
        file.truncate(2 * 2**30)  # a hole: takes no room on the disk
        file.seek(0, os.SEEK_END)
        file.write(b"\n" + GOOD.replace("a dog", "no").encode())
    done, peak = measured(path)
    assert done.returncode == 1 and peak < 500
    assert done.stdout == (
        f"{path}:2: record: is longer than 8 MiB, which no narrative is; "
        "is this one record a line?\n"
    )
    assert done.stderr.startswith("2 of 3 narratives are right (")


@pytest.mark.slow
def test_a_line_of_10_gb_is_refused_in_flat_memory_from_disk_and_from_a_pipe(tmp_path):
    path = tmp_path / "narratives.jsonl"
    with open(path, "wb") as file:
        file.truncate(10 * 2**30)
    done, peak = measured(path)
    assert done.stdout.startswith(f"{path}:1: record: is longer than 8 MiB")
    assert done.stdout.count("\n") == 1 and peak < 500
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    def write() -> None:
        with open(pipe, "wb") as file:
            for _ in range(10 * 2**10):
                file.write(b"[" * 2**20)
            file.write(f"\n{GOOD}\n".encode())

    writer = threading.Thread(target=write)
    writer.start()
    done, peak = measured(pipe)
    writer.join()
    assert done.stdout.startswith(f"{pipe}:1: record: is longer than") and peak < 500
    assert done.stderr.startswith("1 of 2 narratives are right")


def test_a_hundred_thousand_bad_lines_are_each_named_in_flat_memory(tmp_path):
    path = tmp_path / "narratives.jsonl"
    path.write_bytes(b"[]\n" * 100_000)
    done, peak = measured(path)
    assert done.stdout.count("record: must be a JSON object") == 100_000 and peak < 300


def png_bomb() -> bytes:
    """A PNG of one pixel whose comment unpacks to 200 MB."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return len(body).to_bytes(4) + kind + body + zlib.crc32(kind + body).to_bytes(4)

    size = (1).to_bytes(4) * 2 + bytes([8, 0, 0, 0, 0])
    pixels = chunk(b"IDAT", zlib.compress(bytes(2)))
    text = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"\0" * 200_000_000, 9))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + text + pixels + chunk(b"IEND", b"")


def test_bombs_links_and_ways_out_are_refused_by_name(tmp_path, capsys):
    images = tmp_path / "images"
    images.mkdir()
    (images / "1.jpg").write_bytes(picture(1))
    (images / "2.png").write_bytes(png_bomb())
    (images / "3.jpg").symlink_to("/etc/hostname")
    (tmp_path / "secret.jpg").write_bytes(picture())
    said = [narrative(i).to_json() for i in ("1", "2", "3", "../secret", "/etc/hostname")]
    path = tmp_path / "narratives.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in said))
    done, peak = measured(path, "--images", str(images))
    reasons = [line.split(": ", 1)[1] for line in done.stdout.splitlines()]
    assert len(reasons) == 3 and peak < 300  # of 2.png the pixel is read, the bomb is not unpacked
    for reason, start in zip(
        reasons,
        (
            f"image_id: '3' is a link out of {images}",
            "image_id: '../secret' is no name",
            "image_id: '/etc/hostname' is no name",
        ),
        strict=True,
    ):
        assert reason.startswith(start)
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("../narratives.jsonl", b"\0" * 50_000_000)
    before = sorted(tmp_path.rglob("*"))
    for command in (["check"], ["import", f"--workspace={tmp_path / 'w'}", "--collection=a"]):
        assert main([*command, str(tmp_path / "bomb.zip"), "--images", str(images)]) == 1
        assert "bomb.zip is a zip archive: unpack it first" in capsys.readouterr().err
    made = set(tmp_path.rglob("*")) - set(before)
    assert all(path.is_relative_to(tmp_path / "w") for path in made)
