"""Where a snapshot's images and narratives come from: public files, or a stored collection."""

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from data_tools.exchange import regions as region_lines
from data_tools.exchange.checking import read_parts
from data_tools.exchange.strict_lines import SIDE_FILE, SideFile
from data_tools.pictures import find_picture
from loctex.records.narrative import Narrative

if TYPE_CHECKING:
    from data_tools.store import Store

Key = tuple[str, str]  # dataset_id, image_id
Regions = list[dict[str, Any]]
# the public line of each narrative, and its known regions
NarrativeLines = list[tuple[bytes, Regions]]


@dataclass(frozen=True)
class Entry:
    """One image of a source; tell() fetches what was said of it, without parsing it."""

    dataset_id: str
    image_id: str
    picture: Path
    tell: Callable[[], NarrativeLines]

    def read(self) -> list[tuple[Narrative, Regions]]:
        """The narratives, and the known regions of each."""
        return [(Narrative.from_json(line), regions) for line, regions in self.tell()]


class Source(Protocol):
    """Gives an entry for each image; left_out says what it could not give, and why."""

    @property
    def left_out(self) -> list[str]: ...

    @property
    def license(self) -> str | None:
        """The terms of what the data set's name says nothing about."""

    def __iter__(self) -> Iterator[Entry]: ...


class Files:
    """A file of Localized Narratives, the folder of its pictures, and its regions if known.

    What lines lost by an export comes back from the unknown_keys.jsonl beside the file. Iterating
    checks each line, large files by several processes, and keeps only where it lies. A
    wrong line is a ValueError "FILE:LINE: field: what is wrong", or, if not is_strict, in `wrong`.
    """

    def __init__(
        self,
        narratives: Path,
        images: Path,
        regions: Path | None = None,
        *,
        is_strict: bool = True,
        license: str | None = None,
    ) -> None:
        for path in (narratives, images, regions):
            if path is not None and not path.exists():
                raise FileNotFoundError(f"{path} does not exist")

        self.narratives, self.images, self.is_strict = narratives, images, is_strict
        self.regions = {} if regions is None else region_lines.read_regions(regions)
        self.side_file = SideFile(narratives.with_name(SIDE_FILE))
        self.license = license

        self.wrong: list[str] = []  # lines
        self.refused: list[str] = []  # names that lead elsewhere
        self.missing: list[str] = []  # pictures

    @property
    def left_out(self) -> list[str]:
        return self.wrong + self.refused + self.missing

    def __iter__(self) -> Iterator[Entry]:
        self.wrong, self.refused, self.missing = [], [], []
        for key, starts in self._places().items():
            try:
                picture = find_picture(self.images, *key)
            except ValueError as error:
                self.refused.append(str(error))
                continue
            if picture is None:
                self.missing.append(f"image {key[1]!r} of {key[0]}: no picture in {self.images}")
            else:
                yield Entry(*key, picture, partial(self._tell, key, starts))

    def _places(self) -> dict[Key, list[int]]:
        """Of each image, where its lines begin in the file."""
        places = defaultdict(list)
        for before, report in read_parts(self.narratives):
            for number, problem in report.problems:
                text = f"{self.narratives}:{before + number}: {problem}"
                if self.is_strict:
                    raise ValueError(text)
                self.wrong.append(text)
            for _, key, place, _ in report.records:
                places[key].append(place)
        return places

    def _tell(self, key: Key, starts: Sequence[int]) -> NarrativeLines:
        with open(self.narratives, "rb") as file:
            lines = []
            for start in starts:
                file.seek(start)
                lines.append(file.readline().rstrip(b"\r\n"))
        lines = self.side_file.restore(lines)
        regions = self.regions.get(key)
        if not regions:
            return [(line, []) for line in lines]
        narratives = [Narrative.from_json(line) for line in lines]
        return list(zip(lines, region_lines.assign(regions, narratives), strict=True))


class CollectionSource:
    """The images of a collection that have narratives which may leave it."""

    def __init__(self, store: "Store", name: str) -> None:
        self.store, self.id = store, store.collection(name)
        self.left_out: list[str] = []
        (terms,) = (row.license for row in store.collections() if row.id == self.id)
        self.license: str | None = terms or None

    def __iter__(self) -> Iterator[Entry]:
        for image in self.store.each_image(self.id, status="usable"):
            tell = partial(self.store.lines_of, self.id, image.id)
            yield Entry(image.dataset_id, image.image_id, image.path, tell)


def fingerprint(picture: bytes, line_lists: Sequence[NarrativeLines]) -> bytes:
    """32 bytes that stay the same as long as nothing about an image changes."""
    digest = hashlib.sha256(hashlib.sha256(picture).digest())
    for line, regions in (pair for lines in line_lists for pair in lines):
        digest.update(hashlib.sha256(line).digest())
        digest.update(json.dumps(regions, sort_keys=True).encode())
    return digest.digest()
