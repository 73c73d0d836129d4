"""A folder that appears whole or not at all."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_folder(to: Path) -> Iterator[Path]:
    """A hidden folder beside `to` that becomes `to` when the block ends well, and goes if not.

    ValueError: `to` holds something; it is never overwritten.
    """
    to = Path(to)
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise ValueError(f"{to} exists already and is never overwritten: name another folder")
    to.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=f".{to.name}.", suffix=".tmp", dir=to.parent))
    try:
        yield building
        building.chmod(0o755)  # mkdtemp made it private
        os.replace(building, to)
    except BaseException:
        shutil.rmtree(building)
        raise
