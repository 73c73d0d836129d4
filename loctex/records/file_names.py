"""Files by names that another system wrote: its separators, its Unicode form, its case.

A name in a list was written where `a\\b.JPG` is a path, where é is two characters (macOS) or one,
or where case is nothing (Windows); the files lie here under the same name written otherwise.
"""

import os
import time
import unicodedata
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path, PurePosixPath

HAS_HEIF = find_spec("pillow_heif") is not None  # Pillow's plugin, which reads phones' photographs
EXTENSIONS = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp"),
    *(".tif", ".tiff", ".avif"),
    *((".heic", ".heif") if HAS_HEIF else ()),
)  # of images, in the order in which they are looked for
_SETTLED = 2e9  # nanoseconds: a folder written to just now may change within one tick of its clock


def folded(name: str) -> str:
    """What two spellings of one name have in common."""
    return unicodedata.normalize("NFC", name).casefold()


def is_hidden(name: str) -> bool:
    """What systems leave beside our files: .DS_Store, ._x.jpg, .ipynb_checkpoints, __MACOSX."""
    return name.startswith(".") or name == "__MACOSX"


def plain_path(name: str) -> PurePosixPath:
    """A name of any system as a relative path with slashes, without query, drive and root."""
    if "://" in name:
        name = name.partition("://")[2].partition("?")[0].partition("#")[0]
    pieces = name.replace("\\", "/").split("/")
    if pieces[0][1:] == ":":
        pieces = pieces[1:]
    return PurePosixPath(*(piece for piece in pieces if piece not in ("", ".")))


def find_file(folder: Path, name: str) -> Path | None:
    """The file that `name` means in `folder`: as it stands, else as another system writes it.

    None where there is none. ValueError where it may mean two.
    """
    if os.path.isfile(folder / name):  # no error of a name that no file can have
        return folder / name
    pieces = plain_path(name).parts
    if not pieces or ".." in pieces:
        return None
    place = folder
    for piece in pieces:
        spelled = _spelled(place, piece)
        if spelled is None:
            return None
        place = place / spelled
    return place if os.path.isfile(place) else None


def find_stem(folder: Path, stem: str) -> list[str]:
    """The images in the folder whose name without its extension is `stem`, in any spelling.

    Those spelled so exactly, if there are any. Hidden ones are not there.
    """
    names = [
        name for name in _listing(folder).stems.get(folded(stem), ()) if _is_file(folder, name)
    ]
    exact = [name for name in names if os.path.splitext(name)[0] == stem]
    return exact or names


def _spelled(folder: Path, piece: str) -> str | None:
    if os.path.exists(folder / piece):
        return piece
    names = [
        name
        for name in _listing(folder).names.get(folded(piece), ())
        if os.path.exists(folder / name)
    ]
    if len(names) > 1:
        raise ValueError(f"{piece!r} may be {' or '.join(names)} in {folder}: rename one of them")
    return names[0] if names else None


def _is_file(folder: Path, name: str) -> bool:
    return (folder / name).is_file()


class _Listing:
    """The names in a folder by what their spellings have in common."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names: Mapping[str, list[str]] = defaultdict(list)
        self.stems: Mapping[str, list[str]] = defaultdict(list)
        for name in names:
            self.names[folded(name)].append(name)
            stem, extension = os.path.splitext(name)
            if extension.lower() in EXTENSIONS and not is_hidden(name):
                self.stems[folded(stem)].append(name)


def _listing(folder: Path) -> _Listing:
    try:
        changed = folder.stat().st_mtime_ns
        if time.time_ns() - changed < _SETTLED:
            return _Listing(sorted(os.listdir(folder)))
    except OSError:  # no folder, or none that we may read
        return _Listing(())
    return _settled_listing(os.fspath(folder), changed)


@lru_cache(maxsize=32)
def _settled_listing(folder: str, changed: int) -> _Listing:
    return _Listing(sorted(os.listdir(folder)))
