"""Where the model looks for each word of a caption: numpy in, numpy out.

    python -m loctex.predictor --run RUN --image FILE --caption "a red circle" --to OUT.json

`Predictor.set_image` computes an image once; `attend` then answers captions cheaply.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from loctex import cli, distributed
from loctex.records.files import write_whole
from loctex.scoring.predictor import Attention, Predictor


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m loctex.predictor",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--run", required=True, help="a run, or a folder of save_pretrained")
    parser.add_argument("--checkpoint", default="best", help="best, last, or a folder [best]")
    parser.add_argument("--image", type=Path, required=True)
    parser.add_argument("--caption", required=True)
    parser.add_argument("--to", type=Path, required=True, help="OUT.json or OUT.npz")
    cli.add_device_option(parser)
    arguments = parser.parse_args(argv)
    from loctex.records.images import decode_image

    try:
        device = distributed.choose_device(arguments.device)
        predictor = Predictor.load(arguments.run, arguments.checkpoint, device)
        predictor.set_image(decode_image(arguments.image))
        attention = predictor.attend(arguments.caption)
        save(attention, arguments.to)
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f"error: {error}")


def record(attention: Attention) -> dict[str, Any]:
    """The numbers as JSON values."""
    return {
        "caption": attention.caption,
        "score": attention.score,
        "words": [word.text for word in attention.words],
        "times": [(word.start, word.end) for word in attention.words],
        "spans": attention.spans,
        "maps": attention.maps.tolist(),
        "trace": attention.trace.tolist(),
        "boxes": attention.boxes.tolist(),
    }


def save(attention: Attention, path: Path) -> None:
    """Writes the numbers as JSON (lists) or NPZ (arrays), by the file's extension."""
    numbers = record(attention)
    if path.suffix == ".npz":
        arrays = {"maps": attention.maps, "trace": attention.trace, "boxes": attention.boxes}
        np.savez_compressed(path, **numbers | arrays)
    elif path.suffix == ".json":
        write_whole(path, json.dumps(numbers))
    else:
        raise ValueError(f"--to {path}: the extension must be .json or .npz")


if __name__ == "__main__":
    main()
