"""Every word of a split, scored once and kept: what the studio's Atlas opens.

    python -m loctex.atlas --run RUN --data SNAPSHOT [--split val] [--checkpoint best]

The scores are those of loctex.evaluate, narrative by narrative and word by word, with the
embeddings of images and captions. They lie in RUN/atlas/<key>, the key a hash of the weights, the
snapshot and the split: a file for each 64 images while it is made, so that a stopped one goes on
where it was, then one table. Torch is imported only where something is scored.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from loctex import cli
from loctex.jobs import checkpoint_files
from loctex.records.files import BusyError
from loctex.scoring.atlas_job import AtlasJob


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m loctex.atlas",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--run", type=Path, required=True, help="a run, or a save_pretrained folder"
    )

    parser.add_argument("--data", type=Path, required=True, help="a snapshot")
    parser.add_argument("--split", default="val", help="train, val or test [val]")
    parser.add_argument("--checkpoint", default="best", help="best, last, or a folder [best]")
    cli.add_device_option(parser)

    arguments = parser.parse_args(argv)

    folder = Path(arguments.checkpoint)
    try:
        if not (folder / "config.json").is_file():  # else the lock is taken before torch is there
            folder = checkpoint_files.find(arguments.run, arguments.checkpoint)
        making = AtlasJob(folder, arguments.data, arguments.split)
        is_done = making.make(arguments.device)
    except BusyError as error:
        sys.exit(f"another process makes it ({error})")
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f"error: {error}")

    print(f"{'written to' if is_done else 'stopped; it goes on in'} {making.path}")


if __name__ == "__main__":
    main()
