"""What comes into a workspace and what goes out: images, narratives, the demo collection."""

from __future__ import annotations

import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from data_tools.store import Collection
from loctex.records.images import simplified
from ui.workspace import Workspace

if TYPE_CHECKING:
    from data_tools.arriving import Arrival
    from data_tools.exchange.importing import ImportReport

DEMO = "Demo scenes"
NUM_PARTS, SCENES_A_PART = 8, 10
Progress = Callable[[int, int], None]  # done, in all
T = TypeVar("T")
OWN = "studio"  # dataset_id of images that came without one; it names no split


@dataclass(frozen=True)
class Outcome:
    """What an action did so far, what it could not do and why, and the share that is done.
    collection: the id of the one whose new images can be described now."""

    text: str
    problems: Sequence[str] = ()
    share: float = 1.0
    collection: int | None = None


def find(workspace: Workspace, collection_id: int | None) -> Collection | None:
    """The chosen collection, or the first; None where there is none."""
    return choose(workspace.store.collections(), collection_id)


def demand(workspace: Workspace, collection_id: int | None) -> Collection:
    """`find`; ValueError where there is none."""
    collection = find(workspace, collection_id)
    if collection is None:
        raise ValueError("There is no collection yet; make one under Data.")
    return collection


def choose(collections: Sequence[Collection], collection_id: int | None) -> Collection | None:
    """The one of this id, or the first."""
    return next(
        (c for c in collections if c.id == collection_id), collections[0] if collections else None
    )


def add_demo_part(workspace: Workspace) -> float:
    """Add the next few rendered scenes, with simulated narratives, to the demo collection.

    Returns the share that is there; what was begun and left is continued.
    """
    from data_tools import scenes
    from data_tools.exchange.importing import import_file

    collection_id = workspace.store.add_collection(DEMO)
    num_parts = num_images(workspace, collection_id) // SCENES_A_PART
    if num_parts < NUM_PARTS:
        with tempfile.TemporaryDirectory(dir=workspace.root) as folder:
            scenes.write(Path(folder), SCENES_A_PART, seed=num_parts)
            narratives, images = Path(folder) / "narratives.jsonl", Path(folder) / "images"
            import_file(workspace.store, narratives, images, DEMO)
    return min(1.0, (num_parts + 1) / NUM_PARTS)


def add_demo(workspace: Workspace) -> Iterator[Outcome]:
    """The whole demo collection, part by part."""
    share = 0.0
    while share < 1:
        share = add_demo_part(workspace)
        yield Outcome(f"{share:.0%} of the demo collection is painted", share=share)


def add_images(
    workspace: Workspace, collection_id: int, files: Sequence[Path]
) -> Iterator[Outcome]:
    """Add picture files one by one; yields the outcome so far after each."""
    problems: list[str] = []
    notes = Counter[str]()
    before = num_images(workspace, collection_id)
    began = time.monotonic()
    for number, path in enumerate(files, 1):
        try:
            data = path.read_bytes()
            workspace.store.add_image(collection_id, data, dataset_id=OWN, name=path.name)
            if note := simplified(data):
                notes[note] += 1
        except (ValueError, OSError) as error:
            problems.append(str(error) if path.name in str(error) else f"{path.name}: {error}")
        added = num_images(workspace, collection_id) - before
        num_duplicates = number - added - len(problems)
        seconds = (time.monotonic() - began) / number * (len(files) - number)
        yield Outcome(
            f"{counted(added, 'image')} added"
            + (f", {num_duplicates} already there" if num_duplicates else "")
            + "".join(f"; {count} TIFF kept with {note}" for note, count in notes.items())
            + (f", {len(files) - number} to go ({seconds:.0f} s)" if number < len(files) else ""),
            problems,
            number / len(files),
            collection_id if added else None,
        )


def files_of(folder: str) -> list[Path]:
    """The files of a folder on this machine, by name. ValueError: there are none."""
    path = Path(folder.strip()).expanduser()
    if not folder.strip() or not path.is_dir():
        raise ValueError(f"There is no folder {folder.strip()!r} on this machine.")
    files = sorted(p for p in path.iterdir() if p.is_file() and not p.name.startswith("."))
    if not files:
        raise ValueError(f"The folder {folder.strip()!r} holds no files.")
    return files


def look(place: str, images: str) -> Iterator[Outcome]:
    """What there is to import, counted, and what an import would make of it; nothing is written.

    ValueError: there is no such place, or nothing in it is known.
    """
    from data_tools import arriving

    path, folder = _place(place), _folder_of_pictures(images)
    yield Outcome(f"Looking at {path.name}", share=0.0)
    with arriving.opened(path) as inside:
        yield previewed(arriving.recognise(inside, folder))


def previewed(arrival: Arrival) -> Outcome:
    """What was recognised, as the page shows it."""
    examples = "".join(f" {line}." for line in arrival.examples)
    text = f"{arrival.sentence}.{examples} Import: {arrival.becomes}."
    return Outcome(text, arrival.problems)


def import_narratives(
    workspace: Workspace, collection: str, place: str, images: str
) -> Iterator[Outcome]:
    """Add narratives, captions or boxes of a file, a folder or an archive, and their pictures, in a
    thread of its own.

    Yields first what it is, and then the outcome so far; closing the iterator stops the import, and
    what is in stays in. ValueError: there is no such place, nothing in it is known, or nothing can
    be told.
    """
    from data_tools import arriving

    path, folder = _place(place), _folder_of_pictures(images)
    yield Outcome(f"Reading {path.name}", share=0.0)  # all of it, before the first picture
    with arriving.opened(path) as inside:
        arrival = arriving.recognise(inside, folder)
        yield Outcome(previewed(arrival).text, share=0.0)
        report = yield from _watched(
            lambda progress: arriving.bring(workspace.store, arrival, collection, progress), "image"
        )
        problems = [*report.problems, *_not_told(arrival, report)]
        yield imported(report, arrival.images, problems)


def _not_told(arrival: Arrival, report: ImportReport) -> Sequence[str]:
    """What its layout could not say; of narratives the import itself has said it."""
    return [text for text in arrival.problems if text not in set(report.problems)]


def _place(place: str) -> Path:
    path = Path(place.strip()).expanduser()
    if not place.strip() or not path.exists():
        raise ValueError(f"There is no file or folder {place.strip()!r} on this machine.")
    return path


def _folder_of_pictures(images: str) -> Path | None:
    """None where the pictures lie beside what is imported."""
    if not images.strip():
        return None
    files_of(images)
    return Path(images.strip()).expanduser()


def _watched(work: Callable[[Progress], T], noun: str) -> Generator[Outcome, None, T]:
    """Work in a thread of its own: yields how far it is, and returns what it returns."""
    latest, has_news, is_stopped = (0, 1), threading.Event(), threading.Event()
    began = time.monotonic()

    def progress(num_done: int, total: int) -> None:
        nonlocal latest
        if is_stopped.is_set():
            raise InterruptedError("stopped")
        latest = num_done, total
        has_news.set()

    with ThreadPoolExecutor(1) as threads:
        future = threads.submit(work, progress)
        try:
            while not future.done():
                if has_news.wait(0.1):
                    has_news.clear()
                    num_done, total = latest
                    seconds = (time.monotonic() - began) / num_done * (total - num_done)
                    text = f"{num_done:,} of {counted(total, noun)} ({seconds:.0f} s to go)"
                    yield Outcome(text, share=num_done / total)
                    wait([future], 0.1)  # the page is told ten times a second at most
        finally:
            is_stopped.set()
    return future.result()


def imported(report: ImportReport, folder: Path, problems: Sequence[str]) -> Outcome:
    text = f"{counted(report.num_imported, 'narrative')} imported"
    if report.num_known:
        text += f", {report.num_known:,} already there"
    if report.num_missing_images:
        text += f", {counted(report.num_missing_images, 'picture')} not found in {folder}"
    return Outcome(text, problems)


def export(
    workspace: Workspace,
    collection: Collection,
    folder: str,
    terms: str = "",
    *,
    has_parquet: bool = False,
) -> Iterator[Outcome]:
    """Write narratives.jsonl and images/ into a new folder, by default one of the workspace.

    terms: under which it may be used; the collection keeps them. Closing the iterator stops it,
    and nothing of the folder stays.
    """
    from data_tools.freezing.exporting import export_collection

    store = workspace.store
    to = Path(folder.strip()).expanduser() if folder.strip() else free_folder(workspace, collection)
    store.set_license(collection.id, terms)
    count = yield from _watched(
        lambda progress: export_collection(
            store, collection.id, to, has_parquet=has_parquet, progress=progress
        ),
        "step",
    )
    yield Outcome(
        f"{counted(count, 'narrative')} and {counted(collection.num_images, 'image')} "
        f"in {to.resolve()}"
    )


def free_folder(workspace: Workspace, collection: Collection) -> Path:
    name = "".join(c if c.isalnum() or c in "-_" else "-" for c in collection.name)
    name += time.strftime("-%Y%m%d-%H%M%S")
    return workspace.root / "exports" / name


def num_images(workspace: Workspace, collection_id: int) -> int:
    return next(c.num_images for c in workspace.store.collections() if c.id == collection_id)


def counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
