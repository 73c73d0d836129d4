"""The public archives that transfer is measured on: VOC2007 and COCO 2017.

    python -m data_tools.archives voc2007 coco2017 --to DIR [--yes] [--keep]

Says first what will be fetched from where, under which terms, and how much disk it takes; without
--yes it asks. An archive is fetched in resumable parts, compared with its published MD5, unpacked,
and removed unless --keep is given; the same command again goes on where it stopped. Writes
DIR/VOCdevkit/VOC2007 and DIR/train2017, DIR/val2017, DIR/annotations.
"""

import argparse
import hashlib
import shutil
import sys
import tarfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from data_tools.exchange.download import RESERVE, USUAL, Download, Patience
from data_tools.exchange.public_files import download

VOC = "http://host.robots.ox.ac.uk/pascal/VOC/voc2007"
COCO = "http://images.cocodataset.org"
TERMS = {
    "voc2007": "images from Flickr under its terms; research (http://host.robots.ox.ac.uk/pascal/VOC/)",
    "coco2017": "annotations CC BY 4.0, images from Flickr under its terms "
    "(https://cocodataset.org/#termsofuse)",
}


@dataclass(frozen=True)
class Archive:
    """A published file: its size and MD5, and bytes on disk when unpacked (about)."""

    url: str
    size: int
    md5: str
    unpacked: int

    @property
    def name(self) -> str:
        return self.url.rsplit("/", 1)[1]


ARCHIVES: dict[str, tuple[Archive, ...]] = {  # sizes and sums as torchvision and others check them
    "voc2007": (
        Archive(
            f"{VOC}/VOCtrainval_06-Nov-2007.tar",
            460_032_000,
            "c52e279531787c972589f7e41ab4ae64",
            460_000_000,
        ),
        Archive(
            f"{VOC}/VOCtest_06-Nov-2007.tar",
            451_020_800,
            "b6e924de25625d8de591ea690078ad9f",
            451_000_000,
        ),
    ),
    "coco2017": (
        Archive(
            f"{COCO}/annotations/annotations_trainval2017.zip",
            252_907_541,
            "f4bbac642086de4f52a3fdda2de5fa2c",
            850_000_000,
        ),
        Archive(
            f"{COCO}/zips/val2017.zip", 815_585_330, "442b8da7639aecaf257c1dceb8ba8c80", 820_000_000
        ),
        Archive(
            f"{COCO}/zips/train2017.zip",
            19_336_861_798,
            "cced6f7f71b7629ddf16f17bbcfab6b2",
            19_400_000_000,
        ),
    ),
}


def mark(archive: Archive, to: Path) -> Path:
    """The file that says that an archive was unpacked whole."""
    return to / f".{archive.name}.unpacked"


def missing(names: Sequence[str], to: Path) -> list[Archive]:
    """The archives of these sets that are not unpacked yet. ValueError: there is no such set."""
    for name in names:
        if name not in ARCHIVES:
            raise ValueError(f"no set {name!r}; there is {', '.join(ARCHIVES)}")
    archives = [archive for name in dict.fromkeys(names) for archive in ARCHIVES[name]]
    return [archive for archive in archives if not mark(archive, to).exists()]


def plan(names: Sequence[str], to: Path, keep: bool) -> str:
    """What will be fetched, and what disk it takes. ValueError where the disk has no room."""
    archives = missing(names, to)
    lines = [f"{a.name:34} {a.size / 1e9:7.2f} GB from {a.url}" for a in archives]
    to_come = sum(a.size for a in archives) - _come(archives, to)
    # all but the archive at hand are unpacked and gone, unless they are kept
    held = sum(a.size for a in archives) if keep else max((a.size for a in archives), default=0)
    needed = sum(a.unpacked for a in archives) + held - _come(archives, to)
    free = shutil.disk_usage(to).free - RESERVE
    lines += [f"terms of {name}: {TERMS[name]}" for name in dict.fromkeys(names)]
    lines.append(
        f"{to_come / 1e9:.2f} GB to fetch; {needed / 1e9:.2f} GB of disk needed at most, "
        f"{free / 1e9:.2f} GB free in {to}"
    )
    text = "\n".join(lines)
    if needed > free:
        raise ValueError(f"{text}\nthe disk has not enough room; name another folder with --to")
    return text if archives else f"all of it is in {to} already"


def _come(archives: Sequence[Archive], to: Path) -> int:
    """Bytes of these archives that are here."""
    files = [to / (a.name + end) for a in archives for end in ("", ".part")]
    return sum(file.stat().st_size for file in files if file.exists())


def obtain(
    archive: Archive,
    to: Path,
    *,
    source: str | None = None,
    keep: bool = False,
    patience: Patience = USUAL,
    is_quiet: bool = False,
) -> None:
    """Fetch, check and unpack one archive. ValueError says what failed and what to do."""
    url = f"{source}/{archive.name}" if source else archive.url
    file = to / archive.name
    failed = download([Download(url, file)], to, patience=patience, is_quiet=is_quiet)
    if failed:
        raise ValueError(f"{failed[0]}; run the same command again: it goes on where it stopped")

    with open(file, "rb") as content:
        checksum = hashlib.file_digest(content, "md5").hexdigest()
    if checksum != archive.md5:
        file.unlink()
        raise ValueError(
            f"{file} has the checksum {checksum}, not the published {archive.md5}: it was removed; "
            "run the same command again, or name another server with --source"
        )

    unpack(file, to, is_quiet)
    mark(archive, to).touch()
    if not keep:
        file.unlink()


def unpack(file: Path, to: Path, is_quiet: bool = False) -> None:
    """The files of a tar or zip below a folder. ValueError: it is damaged, or leads elsewhere."""

    try:
        if file.suffix == ".zip":
            with zipfile.ZipFile(file) as archive:
                for member in tqdm(
                    archive.infolist(), unit="file", desc=file.name, disable=is_quiet
                ):
                    archive.extract(member, to)  # drops what would lead out of the folder
        else:
            with tarfile.open(file) as archive:
                for member in tqdm(archive, unit="file", desc=file.name, disable=is_quiet):
                    archive.extract(member, to, filter="data")
    except (zipfile.BadZipFile, tarfile.TarError, EOFError) as error:
        raise ValueError(
            f"{file} cannot be unpacked: {error}; remove it and fetch again"
        ) from error


MOST_TIMES = 100  # that an archive of pictures and labels grows: text shrinks to a tenth
SOME_BYTES = 256 << 20  # that any archive may unpack to
MOST_MEMBERS = 3_000_000


def unpack_of_a_stranger(file: Path, to: Path) -> None:
    """As `unpack`, of an archive that anybody may have made: refused before it fills the disk.

    ValueError: it grows more than pictures and labels do, holds too many files, or more than the
    disk has room for; or as `unpack`.
    """
    allowed = max(SOME_BYTES, MOST_TIMES * file.stat().st_size)
    room = shutil.disk_usage(to).free - RESERVE
    num_bytes = 0
    for num_members, size in enumerate(_sizes(file), 1):
        num_bytes += size
        if num_bytes > allowed or num_members > MOST_MEMBERS:
            raise ValueError(
                f"{file} unpacks to more than {num_bytes / 1e9:.1f} GB in {num_members:,} files, "
                f"from {file.stat().st_size / 1e6:.1f} MB: no pictures and labels do; unpack it "
                "yourself if you trust it, and name the folder"
            )
        if num_bytes > room:
            raise ValueError(
                f"{file} unpacks to more than the {max(room, 0) / 1e9:.1f} GB that are free at "
                f"{to}; unpack it elsewhere, and name the folder"
            )
    unpack(file, to, is_quiet=True)


def _sizes(file: Path) -> Iterator[int]:
    """Bytes of each member, as the archive says; what it writes is never more."""
    try:
        if file.suffix.lower() == ".zip":
            with zipfile.ZipFile(file) as archive:
                yield from (member.file_size for member in archive.infolist())
        else:
            with tarfile.open(file) as archive:
                for member in archive:
                    yield member.size
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, OSError) as error:
        raise ValueError(f"{file} is no archive that can be read: {error}") from error


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m data_tools.archives",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )

    parser.add_argument("names", nargs="+", metavar="SET", help=", ".join(ARCHIVES))
    parser.add_argument("--to", type=Path, required=True, help="the folder to write")
    parser.add_argument("--yes", action="store_true", help="do not ask before fetching")
    parser.add_argument("--keep", action="store_true", help="keep the archives when unpacked")
    parser.add_argument("--source", help="another server that has the files, by name, at its URL")

    options = parser.parse_args(arguments)

    try:
        options.to.mkdir(parents=True, exist_ok=True)
        print(plan(options.names, options.to, options.keep))
        archives = missing(options.names, options.to)
        if archives and not options.yes and input("Fetch it? [y/N] ").strip().lower() != "y":
            print("nothing was fetched")
            return 1
        for archive in archives:
            obtain(archive, options.to, source=options.source, keep=options.keep)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")

    return 0


if __name__ == "__main__":
    sys.exit(main())
