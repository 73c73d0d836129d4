"""Reads a VOCdevkit: which images a split holds (ImageSets) and what they show (Annotations)."""

import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path

from loctex.records.text import read_text
from loctex.transfer.labels import Labels, listing, table


def find(devkit: Path) -> Path:
    """The folder that holds ImageSets: the one named, its VOC2007, or its only such folder.

    ValueError where there is none, or more than one.
    """
    for folder in (devkit, devkit / "VOC2007"):
        if (folder / "ImageSets" / "Main").is_dir():
            return folder
    years = sorted(path.parent.parent for path in devkit.glob("*/ImageSets/Main"))
    if len(years) == 1:
        return years[0]
    years_clause = f"; name one of {', '.join(path.name for path in years)}" if years else ""
    raise ValueError(f"{devkit} is no VOCdevkit: it has no VOC2007/ImageSets/Main{years_clause}")


def splits(folder: Path) -> tuple[str, str]:
    """The names of the sets to train on and to test on: trainval (else train), test (else val)."""
    has = {path.stem for path in (folder / "ImageSets" / "Main").glob("*.txt")}
    train = next((name for name in ("trainval", "train") if name in has), None)
    test = next((name for name in ("test", "val") if name in has), None)
    if train is None or test is None or (train, test) == ("trainval", "val"):
        raise ValueError(
            f"{folder}/ImageSets/Main has no pair of sets trainval and test (or train and test, "
            "or train and val); name them with --train and --test"
        )
    return train, test


def read(folder: Path, train: str, test: str) -> tuple[Labels, Labels]:
    """The label tables of two sets, over all classes that occur in either.

    A class is shown where an object of it is not marked difficult; where all are difficult the
    image takes no part for that class (METHOD section 4). ValueError names what is missing.
    """
    sets = [_read_set(folder, name) for name in (train, test)]
    classes = sorted({name for rows in sets for row in rows.values() for name in row})
    paths = {image: folder / "JPEGImages" / f"{image}.jpg" for rows in sets for image in rows}
    return table(sets[0], paths, classes), table(sets[1], paths, classes)


def _read_set(folder: Path, name: str) -> dict[str, dict[str, int]]:
    """Image -> class -> 1 or 0; a class not named is not shown."""
    file = folder / "ImageSets" / "Main" / f"{name}.txt"
    try:
        lines = read_text(file).splitlines()
    except FileNotFoundError as error:
        raise ValueError(f"{file} is missing; the sets are the files beside it") from error

    images = [line.split()[0] for line in lines if line.strip()]
    if not images:
        raise ValueError(f"{file} names no image")

    twice = [image for image, count in Counter(images).items() if count > 1]
    if twice:
        raise ValueError(f"{file} names images twice: {listing(twice)}")

    objects_of, problems = {}, []
    for image in images:
        try:
            objects_of[image] = _objects(folder / "Annotations" / f"{image}.xml")
        except (OSError, ValueError, ElementTree.ParseError) as error:
            problems.append(f"{image}.xml ({error})")

    if problems:
        raise ValueError(f"{len(problems)} annotation(s) of {name} unusable: {listing(problems)}")
    return objects_of


def _objects(file: Path) -> dict[str, int]:
    """Class -> 1, or 0 where every object of it is marked difficult."""
    state_of: dict[str, int] = {}
    for item in ElementTree.parse(file).getroot().findall("object"):
        name = (item.findtext("name") or "").strip()
        if not name:
            raise ValueError("an object has no name")
        is_easy = (item.findtext("difficult") or "0").strip() == "0"
        state_of[name] = max(state_of.get(name, 0), int(is_easy))
    return state_of
