"""The wheel of this very loctex, to lie beside an export: PyPI has no package of the name."""

import base64
import hashlib
import importlib.metadata
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import loctex

CHECKOUT = Path(loctex.__file__).parents[1]
_NEEDED = ("pyproject.toml", "README.md", "LICENSE")
_BUILD = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
_OF_THE_MACHINE = {"RECORD", "INSTALLER", "REQUESTED", "direct_url.json"}  # pip wrote them here


def wheel_name() -> str:
    return f"loctex-{loctex.__version__}-py3-none-any.whl"


def write_wheel(folder: Path) -> Path:
    """Of the checkout, built by setuptools without a network, or of what pip installed; its path.

    ValueError: setuptools is missing or refuses.
    """
    if all((CHECKOUT / name).is_file() for name in _NEEDED):
        return _built(folder)
    return _repacked(folder)


def _built(folder: Path) -> Path:
    with tempfile.TemporaryDirectory() as place:
        source = Path(place) / "source"  # setuptools leaves its build folder beside the sources
        shutil.copytree(CHECKOUT / "loctex", source / "loctex", ignore=_no_caches)
        for name in _NEEDED:
            shutil.copyfile(CHECKOUT / name, source / name)

        command = [sys.executable, "-c", _BUILD, place]
        done = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
        built = Path(place) / wheel_name()
        if not built.is_file():
            last = (done.stderr.strip() or "it wrote nothing").splitlines()[-1]
            raise ValueError(
                f"the wheel of loctex cannot be built ({last}); pip install 'setuptools>=77'"
            )
        return Path(shutil.copyfile(built, folder / built.name))


def _no_caches(folder: str, names: list[str]) -> set[str]:
    return {name for name in names if name == "__pycache__" or name.endswith(".pyc")}


def _repacked(folder: Path) -> Path:
    """The files that pip installed, as a wheel again."""
    try:
        distribution = importlib.metadata.distribution("loctex")
    except importlib.metadata.PackageNotFoundError as error:
        raise ValueError(
            f"{CHECKOUT} is neither a checkout of the studio nor an installed package, so there is "
            "no wheel of loctex to put beside the export; run it from the checkout"
        ) from error

    to, records = folder / wheel_name(), []
    with zipfile.ZipFile(to, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in distribution.files or ():
            if "__pycache__" in file.parts or file.name in _OF_THE_MACHINE:
                continue
            content = Path(str(distribution.locate_file(file))).read_bytes()
            archive.writestr(file.as_posix(), content)
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=")
            records.append(f"{file.as_posix()},sha256={digest.decode()},{len(content)}\n")
        record = f"loctex-{loctex.__version__}.dist-info/RECORD"
        archive.writestr(record, "".join(records) + f"{record},,\n")
    return to
