"""Data of the size of Localized Narratives COCO: made, checked, imported, frozen, grown, opened.

    python -m tests.benchmarks.size --to DIR [--records 134272] [--steps make check ...]

Each step is the command a person would type, in a process of its own; printed are its seconds,
records a second, and the most memory that it and its workers took (each, MB). Takes 12 GB of disk
for 134,272 records of 26 KB; removed at the end.
"""

import argparse
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import cv2
import numpy as np

ROOT = Path(__file__).parents[2]
NARRATIVES, SNAPSHOT = "data_tools.localized_narratives", "data_tools.snapshot"
MORE = 1000  # records of the second freeze
WORDS = 36  # as long as those of COCO
POINTS = 10  # a word: 26 KB a record
VOCABULARY = (
    "in this image i can see a person standing on the grass beside two dogs and trees".split()
)


def record(number: int) -> str:
    """A line of 26 KB: 36 words, 360 points."""
    random = np.random.default_rng(number)
    words = random.choice(VOCABULARY, WORDS)
    ends = np.cumsum(random.uniform(0.2, 0.8, WORDS)).round(3).tolist()
    path = np.clip(0.5 + np.cumsum(random.normal(0, 0.02, (WORDS * POINTS, 2)), axis=0), 0, 1)
    times = np.linspace(0, ends[-1], WORDS * POINTS).round(3).tolist()
    points = [{"x": x, "y": y, "t": t} for (x, y), t in zip(path.tolist(), times, strict=True)]
    told = {
        "dataset_id": "made",
        "image_id": f"{number:08d}",
        "annotator_id": number % 40,
        "caption": " ".join(words) + f" {number}",
        "timed_caption": [
            {"utterance": word, "start_time": start, "end_time": end}
            for word, start, end in zip(words, [0.0, *ends], ends, strict=False)
        ],
        "traces": [points],
    }
    return json.dumps(told) + "\n"


def write_part(to: Path, span: range) -> str:
    """Pictures of these numbers, 320 x 240, each another; and their lines."""
    for number in span:
        coarse = np.random.default_rng(number).integers(0, 256, (6, 8, 3), np.uint8)
        image = cv2.resize(coarse, (320, 240), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(to / f"images/{number:08d}.jpg"), image)
    return "".join(map(record, span))


def make(to: Path, first: int, count: int, file: Path) -> None:
    """Append so many records to the file."""
    (to / "images").mkdir(parents=True, exist_ok=True)
    spans = [range(i, min(i + 500, first + count)) for i in range(first, first + count, 500)]
    with multiprocessing.get_context("spawn").Pool() as pool, open(file, "a") as lines:
        lines.writelines(pool.imap(partial(write_part, to), spans))


def run(title: str, count: int, *arguments: str) -> None:
    """The command in a process of its own, and what it took."""
    program = (
        "import resource, runpy, sys\n"
        "sys.argv = sys.argv[1:]\n"
        "if __name__ == '__main__':\n"
        "    try:\n"
        "        runpy.run_module(sys.argv[0], run_name='__main__')\n"
        "    except SystemExit as end:\n"
        "        assert not end.code, end.code\n"
        "    whose = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)\n"
        "    print(max(resource.getrusage(w).ru_maxrss for w in whose), file=sys.stderr)\n"
    )
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], cwd=ROOT, capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(f"{title}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    seconds, memory = time.monotonic() - began, int(done.stderr.split()[-1]) / 1024
    print(f"{title:28} {seconds:8.1f} s {count / seconds:9,.0f} records/s {memory:6.0f} MB")
    print("   ", "; ".join((done.stdout + done.stderr).splitlines()[:-1]), flush=True)


class Steps:
    """Each is a part of the benchmark; later ones need the files of earlier ones."""

    def __init__(self, to: Path, count: int) -> None:
        self.to, self.count = to, count
        self.file, images = str(to / "narratives.jsonl"), str(to / "images")
        self.files = ["--narratives", self.file, "--images", images]
        self.images = ["--images", images]

    def make(self) -> None:
        began = time.monotonic()
        make(self.to, 0, self.count, Path(self.file))
        size = Path(self.file).stat().st_size
        print(
            f"made {self.count:,} records, {size / 1e9:.2f} GB, {size / self.count / 1e3:.1f} KB "
            f"each, in {time.monotonic() - began:.0f} s"
        )

    def check(self) -> None:
        run("check", self.count, NARRATIVES, "check", self.file)

    def load(self) -> None:
        workspace = ["--workspace", str(self.to / "w"), "--collection", "made"]
        run("import", self.count, NARRATIVES, "import", self.file, *self.images, *workspace)

    def freeze(self) -> None:
        run("freeze", self.count, SNAPSHOT, *self.files, "--to", str(self.to / "1"))

    def grow(self) -> None:
        make(self.to, self.count, MORE, Path(self.file))
        before = ["--previous", str(self.to / "1")]
        more = ["--to", str(self.to / "2"), *before]
        run("freeze with 1,000 more", self.count + MORE, SNAPSHOT, *self.files, *more)
        kept = {path.stat().st_ino for path in (self.to / "1/data").iterdir()}
        new = [p for p in (self.to / "2/data").iterdir() if p.stat().st_ino not in kept]
        megabytes = sum(path.stat().st_size for path in new) / 1e6
        print(f"    {len(new)} new shards, {megabytes:.0f} MB; {len(kept)} were there")

    def open(self) -> None:
        for title in ("open, first time", "open again"):
            run(title, self.count, "tests.benchmarks.size_open", str(self.to / "1"))


STEPS = ("make", "check", "load", "freeze", "open", "grow")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.size", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--records", type=int, default=134_272)
    parser.add_argument("--steps", nargs="+", choices=STEPS, help="only these; the files stay")
    given = parser.parse_args()
    steps = Steps(given.to.resolve(), given.records)
    print(f"{os.cpu_count()} cores")
    for name in given.steps or STEPS:
        getattr(steps, name)()
    if not given.steps:
        shutil.rmtree(steps.to)


if __name__ == "__main__":
    main()
