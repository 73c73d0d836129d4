"""The Data tab among 200,000 narratives on SQLite: each event in the server, as the tab runs it.

    python -m tests.benchmarks.data_tab [--rows 200000]

Milliseconds of wall time, median of five, with the pictures of the page made anew each time and
with those at hand. Last line: `slowest X`, at most 150.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import cv2
import gradio as gr
import numpy as np

from data_tools.store.search import EVERYTHING
from tests.data_tools.test_search import fill
from ui.data import listing
from ui.data import tab as data
from ui.workspace import Workspace

IMAGES = 48  # 640 x 480: four pages


def filled(workspace: Workspace, rows: int) -> int:
    """The id of a collection of so many narratives."""
    collection, random = workspace.store.add_collection("many"), np.random.default_rng(0)
    for number in range(IMAGES):
        pixels = cv2.resize(random.integers(0, 256, (60, 80, 3), np.uint8), (640, 480))
        encoded = cv2.imencode(".jpg", pixels)[1].tobytes()
        workspace.store.add_image(collection, encoded, dataset_id="album", image_id=str(number))
    fill(workspace.store, collection, rows)
    return collection


def events(tab: data.DataTab, collection: int, rows: int) -> dict[str, Callable[[], object]]:
    """What a person does in the tab, by name."""
    first = tab.workspace.store.narratives(collection, limit=1)[0].id
    after = first + rows * 3 // 4
    at, far = (collection, [0], None, EVERYTHING), (collection, [0, after], None, EVERYTHING)

    def filters(words: str = "", *others: str) -> Callable[[], object]:
        chosen = dict(zip(others[::2], others[1::2], strict=True))
        rest = [chosen.get(name, "") for name in ("who", "status", "trace", "flag")]
        return lambda: tab._filter(*at, words, *rest)

    return {
        "the tab is opened": lambda: tab._show(*at),
        "a collection is chosen": lambda: tab._pick_collection(*at, SimpleNamespace(id=collection)),
        "a page far back": lambda: tab._turn(*far),
        "a narrative far back": lambda: tab._pick_narrative(*far, SimpleNamespace(id=after + 3)),
        "one person": filters("", "who", "7"),
        "a status that none has": filters("", "status", "rejected"),
        "without trace": filters("", "trace", "no"),
        "flagged": filters("", "flag", "any"),
        "a flag that none has": filters("", "flag", "pace"),
        "a rare word": filters(f"number {rows - 5}"),
        "a word of all": filters("dog"),
        "words of one person": filters("dog grass", "who", "7", "status", "unreviewed"),
        "a word that nobody says": filters("nowhere"),
    }


def milliseconds(event: Callable[[], object], prepare: Callable[[], object]) -> float:
    taken = []
    for _ in range(5):
        prepare()
        began = time.perf_counter()
        event()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken) * 1000


def main() -> None:
    name = "python -m tests.benchmarks.data_tab"
    parser = argparse.ArgumentParser(prog=name, description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--rows", type=int, default=200_000)
    given = parser.parse_args()
    slowest = 0.0
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(Path(folder))
        collection = filled(workspace, given.rows)
        with gr.Blocks(), gr.Tab("Data"):
            tab = data.DataTab(workspace)
        for name, event in events(tab, collection, given.rows).items():
            anew = milliseconds(event, listing._thumbnail.cache_clear)
            again = milliseconds(event, lambda: None)
            slowest = max(slowest, anew)
            print(f"{name:26} {anew:6.1f} ms {again:6.1f} with its pictures at hand", flush=True)
        workspace.store.close()
    print(f"slowest {slowest:.0f}")


if __name__ == "__main__":
    main()
