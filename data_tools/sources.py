"""Where a snapshot's images and narratives come from: public files, or a stored collection."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from data_tools import regions as region_lines
from data_tools.pictures import find_picture
from loctex.narrative import Narrative, NarrativeError

if TYPE_CHECKING:
    from data_tools.store import Store

Contents = tuple[list[Narrative], list[list[dict[str, Any]]]]  # narratives, and regions of each


@dataclass(frozen=True)
class Entry:
    """One image of a source; read() fetches what was said of it."""

    dataset_id: str
    image_id: str
    picture: Path
    read: Callable[[], Contents]


class Source(Protocol):
    """Gives an entry for each image; left_out says what it could not give, and why."""

    @property
    def left_out(self) -> list[str]: ...

    def __iter__(self) -> Iterator[Entry]: ...


class Files:
    """A file of Localized Narratives, the folder of its pictures, and its regions if known.

    Iterating checks each line and keeps only where it lies, so that the file may be large. A wrong
    line is a ValueError "FILE:LINE: field: what is wrong", or, if not is_strict, in `wrong`.
    """

    def __init__(
        self,
        narratives: Path,
        images: Path,
        regions: Path | None = None,
        *,
        is_strict: bool = True,
    ) -> None:
        for path in (narratives, images, regions):
            if path is not None and not path.exists():
                raise FileNotFoundError(f"{path} does not exist")
        self.narratives, self.images, self.is_strict = narratives, images, is_strict
        self.regions = {} if regions is None else region_lines.read_regions(regions)
        self.wrong: list[str] = []  # lines and ids
        self.missing: list[str] = []  # pictures

    @property
    def left_out(self) -> list[str]:
        return self.wrong + self.missing

    def __iter__(self) -> Iterator[Entry]:
        self.wrong, self.missing = [], []
        for key, starts in self._places().items():
            try:
                picture = find_picture(self.images, *key)
            except ValueError as error:
                self.wrong.append(str(error))
                continue
            if picture is None:
                self.missing.append(f"image {key[1]!r} of {key[0]}: no picture in {self.images}")
            else:
                yield Entry(*key, picture, partial(self._read, key, starts))

    def _places(self) -> dict[tuple[str, str], list[int]]:
        """Of each image, where its lines begin in the file."""
        places = defaultdict(list)
        for number, place, line in _placed_lines(self.narratives):
            try:
                narrative = Narrative.from_json(line)
            except NarrativeError as error:
                problem = f"{self.narratives}:{number}: {error}"
                if self.is_strict:
                    raise ValueError(problem) from error
                self.wrong.append(problem)
            else:
                places[narrative.dataset_id, narrative.image_id].append(place)
        return places

    def _read(self, key: tuple[str, str], starts: Iterable[int]) -> Contents:
        narratives = []
        with open(self.narratives, "rb") as file:
            for start in starts:
                file.seek(start)
                narratives.append(Narrative.from_json(file.readline()))
        return narratives, region_lines.assign(self.regions.get(key, ()), narratives)


class Collection:
    """The images of a collection that have narratives which may leave it."""

    def __init__(self, store: "Store", name: str) -> None:
        self.store, self.id = store, store.collection(name)
        self.left_out: list[str] = []

    def __iter__(self) -> Iterator[Entry]:
        for image in self.store.each_image(self.id, status="usable"):
            yield Entry(
                image.dataset_id,
                image.image_id,
                image.path,
                lambda image=image: self._read(image.id),
            )

    def _read(self, image_row_id: int) -> Contents:
        both = self.store.narratives_of(self.id, image_row_id)
        return [narrative for narrative, _ in both], [regions for _, regions in both]


def _placed_lines(path: Path) -> Iterator[tuple[int, int, bytes]]:
    """Line number, byte offset and line of all lines that are not blank."""
    place = 0
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield number, place, line
            place += len(line)
