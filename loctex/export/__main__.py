"""Hands the weights of a run to other people's code.

    python -m loctex.export --run RUN --to DIR --format torchvision

    torchvision   resnet50 state dict in safetensors; loads strict=True once fc is Identity
    timm          the backbone; timm.create_model("local-dir:DIR", pretrained=True)
    huggingface   the whole model, tokenizer and preprocessing, and the wheel of loctex beside them;
                  AutoModel.from_pretrained(DIR), transformers' pipelines
    onnx          image encoder, text encoder and attention
    detectron2    the ResNet under detectron2's names, as MODEL.WEIGHTS

Every export holds a model card (README.md) written from the run. It is reloaded by the code it is
for, and its features are compared with the run's; it is there whole, or not at all.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from loctex.export.formats import FORMATS, export, push


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m loctex.export",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )

    parser.add_argument("--run", type=Path, required=True, help="a run, or a saved model's folder")
    parser.add_argument("--checkpoint", default="best", help="best, last, or a folder [best]")
    parser.add_argument("--to", type=Path, required=True, help="the folder to write; new or empty")
    parser.add_argument("--format", choices=FORMATS, required=True)
    parser.add_argument(
        "--license",
        default="",
        metavar="ID",
        help="of the weights, as the hub names it: cc-by-4.0 [stated as unknown]",
    )
    parser.add_argument(
        "--push", metavar="OWNER/NAME", help="also upload it to this private hub repository"
    )

    arguments = parser.parse_args(argv)

    try:
        differences = export(
            arguments.run,
            arguments.to,
            arguments.format,
            arguments.checkpoint,
            arguments.license,
        )
        for name, value in differences.items():
            print(f"{name:16s} differs by {value:.1e} after reloading")
        print(f"written to {arguments.to}")
        if arguments.push:
            print(f"uploaded to {push(arguments.to, arguments.push)}")
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
