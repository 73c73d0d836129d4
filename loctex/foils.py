"""Does a model tell true captions from false ones that differ in one thing?

    python -m loctex.foils --run RUN --data SNAPSHOT --foils foils.jsonl [--split val]

A line of the file holds dataset_id, image_id, caption, foil and kind (data_tools.scene_foils makes
them for rendered scenes). For each kind: `choice`, how often the true caption wins over the false
one, by the contrastive head's cosine, by the matching head, and by the sum of both heads' logits;
`accuracy`, how often the matching head's answers to both are right (a cosine has no threshold);
`choice_blind`, how often the true caption wins by the matching head where the image is that of
another line: what is above .5 there is read from the words alone. Of a model that was trained with
changed words, `word_found`: how often the word that it doubts most in the false caption is one that
differs; `word_chance`: how often one drawn from those that it can be asked about is. And the share
of words that Inspect would name, doubted above .9: `word_named`, of those that differ;
`word_named_kept`, of the others beside them; `word_named_true`, of all in the true caption.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from loctex import cli, distributed
from loctex.jobs import checkpoint_files
from loctex.loading import tokenization
from loctex.model import build
from loctex.records.files import write_result
from loctex.records.snapshot import Snapshot
from loctex.scoring.false_captions import read, score


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m loctex.foils",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )

    parser.add_argument("--run", type=Path, required=True, help="a run, or a saved model")
    parser.add_argument("--checkpoint", default="best", help="best, last, or a folder [best]")
    parser.add_argument("--data", type=Path, required=True, help="a snapshot")
    parser.add_argument("--split", default="val", help="train, val or test [val]")
    parser.add_argument("--foils", type=Path, required=True, help="a file of false captions")
    parser.add_argument("--to", type=Path, help="where to write the scores as JSON")
    cli.add_device_option(parser)

    arguments = parser.parse_args(argv)

    try:
        device = distributed.choose_device(arguments.device)
        folder = checkpoint_files.find(arguments.run, arguments.checkpoint)
        model, tokenizer = build.load(folder, device=device), tokenization.load(folder)
        split = Snapshot.open(arguments.data).split(arguments.split)
        values = score(model, tokenizer, split, read(arguments.foils))
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f"error: {error}")

    for name, value in sorted(values.items()):
        print(f"{name:32s} {value:8.3f}", flush=True)
    if arguments.to:
        print(write_result(arguments.to, json.dumps(values, indent=1)))


if __name__ == "__main__":
    cli.keep_freed_memory()
    main()
