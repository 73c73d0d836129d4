"""A folder that appears whole or not at all."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from loctex.drafts import draft_folder


@contextmanager
def whole_folder(to: Path) -> Iterator[Path]:
    """A hidden folder beside `to` that becomes `to` when the block ends well, and goes if not.

    ValueError: `to` holds something; it is never overwritten.
    """
    to = Path(to)
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise ValueError(f"{to} exists already and is never overwritten: name another folder")
    with draft_folder(to) as building:
        yield building
