"""Taking back all that a person recorded: the database, the voices, and where copies went.

    python -m data_tools.withdrawal NAME [--workspace DIR] [--database URL]           what there is
    python -m data_tools.withdrawal NAME --erase [...]                                erase it

What lies in the trash is theirs too, and is erased with the rest. Snapshots, runs, exports and
backups were made of the narratives before and are not changed: the list says which hold them, so
that a person can delete them or freeze anew.
"""

import argparse
import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from data_tools.restoring.copies import all_copies
from data_tools.speech.voices import FOLDER, Voices
from data_tools.store import Store
from data_tools.store.people import Holdings
from loctex.jobs.run import Run
from loctex.records.files import is_draft, sweep


@dataclass(frozen=True)
class Copies:
    """Where copies of a person's narratives went, as paths."""

    snapshots: list[Path]
    runs: list[Path]  # trained on one of the snapshots: the model has seen them
    exports: list[Path]
    backups: list[Path]  # of the database, from before

    def __iter__(self) -> Iterator[Path]:
        return iter([*self.snapshots, *self.runs, *self.exports, *self.backups])


def copies(root: Path, annotator_id: int) -> Copies:
    """Look into all that was made in the workspace `root`."""
    root = Path(root)
    folders = [path.parent for path in sorted((root / "snapshots").glob("[!.]*/snapshot.json"))]
    holding = [folder for folder in folders if holds(folder, annotator_id)]
    runs = [path for path in sorted((root / "runs").glob("[!.]*")) if _learned(path, holding)]
    files = sorted((root / "exports").glob("*/narratives.jsonl"))
    exports = [file.parent for file in files if _names(file, annotator_id)]
    backups = [*sorted(root.glob("studio.db.before-*")), *sorted((root / "backups").glob("*"))]
    backups += all_copies(root)
    return Copies(holding, runs, exports, backups)


def holds(snapshot: Path, annotator_id: int) -> bool:
    """Does a frozen snapshot hold a narrative of this annotator?"""
    for file in sorted(snapshot.glob("data/*.parquet")):
        with pq.ParquetFile(file) as parquet:
            for batch in parquet.iter_batches(columns=["narratives.list.element.annotator_id"]):
                for narratives in batch.column("narratives").to_pylist():
                    if any(narrative["annotator_id"] == annotator_id for narrative in narratives):
                        return True
    return False


def erase(store: Store, voices: Voices, annotator_id: int) -> Holdings:
    """Delete the narratives, drafts, skips and name of a person, and the files of their voices;
    what they recorded leaves the trash too."""
    held = store.people.erase(annotator_id)
    for name in held.voices:
        voices.drop(name)
    for take_id in held.takes + held.drafts:
        with suppress(ValueError):  # an id that no recorder gives has no voice
            voices.drop_draft(take_id)
    return held


def erase_leftovers(root: Path) -> None:
    """Remove what may hold a person's work and that nobody opens any more: drafts of saves and
    freezes that were killed, and the automatic copies of the database; the next start makes one."""
    for folder, names, _ in os.walk(root, topdown=True):
        sweep(Path(folder), rested=0.0)
        names[:] = [name for name in names if not is_draft(name)]
    for copy in all_copies(root):
        copy.unlink(missing_ok=True)


def summary(held: Holdings, elsewhere: Copies) -> list[str]:
    """What there is, and what remains elsewhere, a line each."""
    lines = [
        f"{len(held.narratives):,} narratives, {len(held.voices):,} voices, "
        f"{len(held.drafts):,} drafts, {held.num_skips:,} skipped images"
    ]
    if held.num_in_trash:
        lines.append(f"in the trash, and erased with the rest: {held.num_in_trash:,} narratives")
    for what, paths in (
        ("snapshot that holds them", elsewhere.snapshots),
        ("run trained on them", elsewhere.runs),
        ("export that holds them", elsewhere.exports),
        ("copy from before", elsewhere.backups),
    ):
        lines += [f"{what}: {path}" for path in paths]
    return lines


def _learned(run: Path, snapshots: Sequence[Path]) -> bool:
    """Was a run trained on one of these? Its settings and its command name the folders."""
    if not run.is_dir():
        return False
    files = [Run(run).settings_file, Run(run).command_file]
    texts = [file.read_text(errors="replace") for file in files if file.exists()]
    for folder in snapshots:  # absolute, or relative to the workspace
        name = re.compile(rf"{re.escape(f'{folder.parent.name}/{folder.name}')}(?![\w.+-])")
        if any(name.search(text) for text in texts):
            return True
    return False


def _names(file: Path, annotator_id: int) -> bool:
    with open(file, encoding="utf-8") as lines:
        return any(json.loads(line).get("annotator_id") == annotator_id for line in lines)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m data_tools.withdrawal", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("name", help="the login name of the person")
    parser.add_argument("--workspace", type=Path, default=Path("workspace"), help="its folder")
    parser.add_argument("--database", help="its database URL, if not its studio.db")
    parser.add_argument("--erase", action="store_true", help="do it; without it, only look")
    options = parser.parse_args(arguments)
    try:
        store = Store.of_workspace(options.workspace, options.database)
        annotator_id = store.people.annotator_id(options.name)
        held = store.people.holdings(annotator_id)
        elsewhere = copies(options.workspace.resolve(), annotator_id)
        if options.erase:
            held = erase(store, Voices(options.workspace / FOLDER), annotator_id)
            erase_leftovers(options.workspace.resolve())
            elsewhere = copies(options.workspace.resolve(), annotator_id)
        store.close()
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print("erased:" if options.erase else "held:", *summary(held, elsewhere), sep="\n  ")
    return 0


if __name__ == "__main__":
    sys.exit(main())
