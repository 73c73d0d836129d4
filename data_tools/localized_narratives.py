"""The public Localized Narratives files: check, import, export, download.

python -m data_tools.localized_narratives check FILE [--images DIR]
python -m data_tools.localized_narratives import FILE --images DIR --collection NAME
python -m data_tools.localized_narratives export --collection NAME --to DIR
python -m data_tools.localized_narratives download coco_val --to DIR
python -m data_tools.localized_narratives pictures FILE --to DIR
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from data_tools.exchange.checking import check
from data_tools.exchange.importing import import_file
from data_tools.exchange.public_files import NAMES, download, narrative_items, picture_items
from data_tools.freezing.exporting import export_collection
from data_tools.processes import stop_tidily
from data_tools.store import Store

# --- the command line


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        return options.command(options)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1


def _check(options: argparse.Namespace) -> int:
    began, num_records, num_wrong = time.monotonic(), 0, 0
    size = options.file.stat().st_size if options.file.is_file() else None
    with tqdm(total=size, unit="B", unit_scale=True, leave=False, disable=None) as bar:

        def show(num_bytes: int, count: int) -> None:
            nonlocal num_records
            num_records += count
            bar.update(num_bytes)
            bar.set_postfix_str(f"{num_records / (time.monotonic() - began):,.0f} records/s")

        for problem in check(options.file, options.images, workers=options.workers, progress=show):
            bar.write(problem)
            num_wrong += 1
    seconds = time.monotonic() - began
    print(
        f"{num_records - num_wrong:,} of {num_records:,} narratives are right "
        f"({num_records / seconds:,.0f} a second)",
        file=sys.stderr,
    )
    return int(num_wrong > 0)


def _import(options: argparse.Namespace) -> int:
    store = Store.of_workspace(options.workspace, options.database, is_new=True)
    began = time.monotonic()
    with tqdm(unit="image", leave=False, disable=None) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        report = import_file(store, options.file, options.images, options.collection, show)
    store.close()
    for problem in report.problems:
        print(problem, file=sys.stderr)
    speed = report.num_imported / (time.monotonic() - began)
    print(f"{report.num_imported:,} narratives imported into {options.collection!r}", end="")
    print(f" ({speed:,.0f} a second)" if report.num_imported else "")
    if report.num_known:
        print(f"{report.num_known:,} were there already")
    for reason, count in report.reasons.items():
        print(f"left out, {reason}: {count:,}")
    return int(bool(report.problems) or not report.num_imported + report.num_known)


def _export(options: argparse.Namespace) -> int:
    store = Store.of_workspace(options.workspace, options.database)
    collection_id = store.collection(options.collection)
    if options.license is not None:
        store.set_license(collection_id, options.license)
    with tqdm(unit="step", leave=False, disable=None) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        count = export_collection(
            store,
            collection_id,
            options.to,
            has_parquet=options.parquet,
            has_all_keys=options.all_keys,
            progress=show,
        )
    store.close()
    print(f"{count:,} narratives in {options.to}")
    return 0


def _download(options: argparse.Namespace) -> int:
    downloads = narrative_items(options.names, options.to, options.source)
    return _report_failed(
        download(downloads, options.to, workers=options.workers), len(downloads), options.to
    )


def _pictures(options: argparse.Namespace) -> int:
    downloads, refused = picture_items(options.files, options.to, options.source)
    failed = refused + download(downloads, options.to, workers=options.workers)
    return _report_failed(failed, len(downloads) + len(refused), options.to)


def _report_failed(failed: Sequence[str], num_wanted: int, to: Path) -> int:
    for problem in failed:
        print(problem, file=sys.stderr)
    print(f"{num_wanted - len(failed):,} of {num_wanted:,} files are in {to}")
    if failed:
        print("run the same command again: it goes on where it stopped", file=sys.stderr)
    return int(bool(failed))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m data_tools.localized_narratives",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )

    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    checking = commands.add_parser("check", help="say what is wrong in a file; exit 1 if anything")
    checking.add_argument("file", type=Path)
    checking.add_argument("--images", type=Path, help="the folder of pictures: look at them too")
    checking.add_argument("--workers", type=int, help="processes (one for each core)")
    checking.set_defaults(command=_check)

    importing = commands.add_parser("import", help="add a file to a collection of a workspace")
    importing.add_argument("file", type=Path)
    importing.add_argument("--images", type=Path, required=True, help="the folder of its pictures")
    importing.set_defaults(command=_import)

    exporting = commands.add_parser("export", help="write a collection as a public file")
    exporting.add_argument("--to", type=Path, required=True, help="the folder to write")
    exporting.add_argument(
        "--parquet", action="store_true", help="also as parquet, for datasets.load_dataset"
    )
    exporting.add_argument(
        "--all-keys",
        action="store_true",
        help="lines with keys that the public format does not know, which Google's loader refuses",
    )
    exporting.add_argument("--license", help="its terms of use, kept with the collection")
    exporting.set_defaults(command=_export)

    for command in (importing, exporting):
        command.add_argument("--collection", required=True, help="its name")
        command.add_argument(
            "--workspace", type=Path, default=Path("workspace"), help="the app's folder (workspace)"
        )
        command.add_argument("--database", help="its database URL, if not its studio.db")

    downloading = commands.add_parser("download", help="fetch parts of the public files")
    downloading.add_argument(
        "names", nargs="+", metavar="NAME", help=f"all, {', '.join(sorted(NAMES))}"
    )
    downloading.set_defaults(command=_download)

    showing = commands.add_parser("pictures", help="fetch the pictures that files speak of")
    showing.add_argument(
        "files", type=Path, nargs="+", metavar="FILE", help="narratives, or a COCO file (.json)"
    )
    showing.set_defaults(command=_pictures)

    for command in (downloading, showing):
        command.add_argument("--to", type=Path, required=True, help="the folder to write")
        command.add_argument("--source", help="another server that has the same files, its URL")
        command.add_argument("--workers", type=int, default=8, help="files at a time (8)")
    return parser


if __name__ == "__main__":
    stop_tidily()
    sys.exit(main())
