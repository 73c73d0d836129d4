"""Instance segmentation: how well does Mask R-CNN learn when it starts from these features?

    python -m loctex.transfer.coco --init RUN --train TRAIN.json --images TRAIN_IMAGES \\
        --val VAL.json --val-images VAL_IMAGES --to DIR [--share 0.1] [--schedule 2x]
    python -m loctex.transfer.coco --to DIR --resume
    torchrun --nproc-per-node 8 -m -- loctex.transfer.coco --init RUN ...

Trains torchvision's Mask R-CNN (Faster R-CNN where the labels are boxes alone) with all layers and
real batch norms, synchronized over GPUs, by detectron2's 1x or 2x schedule scaled to the images and
the batch; then measures its batch norms anew, scores it with pycocotools and writes
DIR/result.json. One call gives one row of a table: call it again with --init random:RUN,
--init CONTRASTIVE_ONLY_RUN, --init timm:resnet50.

DIR/subset.json names the images of --share; of one seed, the 10 % lie inside the 20 %. SIGTERM or
the file DIR/stop ends it with a checkpoint; --resume goes on, on the CPU to the same bits.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import save
from torchvision.models.detection import FasterRCNN
from tqdm import tqdm

from loctex import cli, distributed
from loctex.jobs.run import Run
from loctex.records.files import write_whole
from loctex.transfer import encoders, instances, precision
from loctex.transfer.detection_training import DetectionSettings, train
from loctex.transfer.instances import Instances
from loctex.transfer.labels import listing

PLAN, WEIGHTS, SUBSET = "plan.json", "model.safetensors", "subset.json"


def read(arguments: argparse.Namespace) -> tuple[Instances, Instances]:
    """What to train on, cut to its share, and what to score. ValueError where they do not fit."""
    skip = arguments.skip_damaged
    labeled = instances.read(arguments.train, arguments.images, skip_damaged=skip).with_things()
    val = instances.read(arguments.val, arguments.val_images or arguments.images, skip_damaged=skip)
    val.with_things()  # refused now, not after the training: nothing could be scored
    if dict(labeled.categories) != dict(val.categories):
        raise ValueError(
            f"{arguments.val} has other categories than {arguments.train}; give both the same"
        )
    if not 0 < arguments.share <= 1:
        raise ValueError(f"--share {arguments.share}: must lie above 0, up to 1")
    return labeled.share(arguments.share, arguments.seed), val


@torch.inference_mode()
def evaluate(
    model: FasterRCNN, settings: DetectionSettings, val: Instances, device: torch.device
) -> dict[str, float]:
    """box_ap, mask_ap, ... on all images of `val`, shared among the processes."""
    model.eval()

    mine = val.photos[distributed.rank() :: distributed.num_ranks()]
    detections = []
    for photo in tqdm(mine, unit="image", desc="scoring", disable=distributed.rank() > 0):
        image = torch.from_numpy(instances.pixels(photo)).to(device).permute(2, 0, 1).float() / 255
        with settings.autocast(device):
            answer = model([image])[0]
        detections += precision.detections(val, photo, answer)

    if dist.is_initialized():
        gathered: list = [None] * distributed.num_ranks()
        dist.all_gather_object(gathered, detections)
        detections = [row for rows in gathered for row in rows]

    return precision.score(val, detections)


def table(result: dict) -> str:
    """The row as people read it, in percent."""
    row = result["rows"][0]

    lines = [
        f"{row['name']}: {result['num_train']} images to train on ({result['share']:.0%}), "
        f"{result['num_test']} to test on, {result['steps']} steps of {result['batch']}",
        f"{'':5}"
        + "".join(f"{name:>8}" for name in ("AP", "AP50", "AP75", "small", "medium", "large")),
    ]

    for kind in ("box", "mask"):
        values = [row.get(f"{kind}_{name}") for name in precision.NAMES]
        if None not in values:
            cells = ("       -" if value < 0 else f"{100 * value:8.2f}" for value in values)
            lines.append(f"{kind:5}" + "".join(cells))

    left_out = [f"{what}: {why}" for what, why in result["left_out"].items()]
    return "\n".join([*lines, *([f"left out: {listing(left_out)}"] if left_out else [])])


def work(arguments: argparse.Namespace, run: Run) -> dict | None:
    """Trains and scores; the result, None where it was stopped or is another process's to write."""
    device = distributed.start(arguments.device)
    encoder = encoders.from_name(arguments.init, arguments.seed)
    train_part, val = read(arguments)
    left_out = dict(train_part.left_out) | dict(val.left_out)

    is_first = distributed.rank() == 0
    if is_first:
        ids = [photo.id for photo in train_part.photos]
        subset = {
            "file": arguments.train.name,
            "share": arguments.share,
            "seed": arguments.seed,
            "images": ids,
        }
        write_whole(run.path / SUBSET, json.dumps(subset))
        if left_out:
            reasons = [f"{what}: {why}" for what, why in left_out.items()]
            print(f"left out: {listing(reasons)}", file=sys.stderr)

    settings = DetectionSettings.from_options(vars(arguments))
    model = train(settings, run, encoder, train_part, device, is_resumed=arguments.resume)
    if model and is_first:  # before scoring, which may fail where the training did not
        weights = {name: value.contiguous().cpu() for name, value in model.state_dict().items()}
        write_whole(run.path / WEIGHTS, save(weights))

    values = evaluate(model, settings, val, device) if model else {}
    distributed.stop()
    if not values or not is_first:
        return None

    return {
        "protocol": "coco",
        "rows": [{"name": encoder.name, "weights": encoder.key} | values],
        "share": arguments.share,
        "seed": arguments.seed,
        "schedule": arguments.schedule,
        "steps": settings.scaled_schedule(len(train_part.photos)).steps,
        "batch": arguments.batch,
        "categories": train_part.categories,
        "num_train": len(train_part.photos),
        "num_test": len(val.photos),
        "left_out": left_out,
    }


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m loctex.transfer.coco",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )

    add = parser.add_argument
    add("--to", type=Path, required=True, help="the folder to work in; new, or one to resume")
    add("--resume", action="store_true", help="go on from DIR's checkpoint, with its settings")
    add("--init", help="a run, random:RUN, random:MODEL, timm:MODEL, timm:MODEL=FILE")
    add("--train", type=Path, help="the COCO file to train on")
    add("--images", type=Path, help="the folder of its images")
    add("--val", type=Path, help="the COCO file to score")
    add("--val-images", type=Path, help="the folder of its images [--images]")

    add("--share", type=float, default=1.0, help="of the training images [1]")
    add("--seed", type=int, default=0, help="of the subset and of all that is drawn [0]")
    add("--schedule", default="2x", help="1x, 2x, or a number of steps [2x]")
    add("--batch", type=int, default=16, help="images a step, of all processes [16]")
    add("--learning-rate", type=float, help="the highest [.02 for a batch of 16, in proportion]")
    add("--size", type=int, default=800, help="pixels of the short side [800]")
    add("--rois", type=int, default=512, help="regions an image that are learned from [512]")

    add(
        "--precision",
        choices=("auto", "fp32", "bf16"),
        default="auto",
        help="auto is bf16 on a GPU",
    )
    add("--workers", type=int, default=4, help="processes that decode, for each GPU [4]")
    add(
        "--skip-damaged",
        action="store_true",
        help="leave unreadable images out, named, instead of refusing",
    )

    add("--log-every", type=int, default=20, help="steps [20]")
    add("--checkpoint-every", type=int, default=1000, help="steps [1000]")
    cli.add_device_option(parser)
    return parser


def settle(arguments: argparse.Namespace) -> argparse.Namespace:
    """The settings of a new folder, or of the one to resume; ValueError where one is missing."""
    file = arguments.to / PLAN
    if arguments.resume:
        if not file.exists():
            raise ValueError(f"{arguments.to} holds nothing to resume")
        plan = json.loads(file.read_bytes()) | {"to": str(arguments.to), "resume": True}
        words = [word for key, value in plan.items() for word in _words(key, value)]
        return parser().parse_args(words)

    for name in ("init", "train", "images", "val"):
        if getattr(arguments, name) is None:
            raise ValueError(f"--{name} is missing")
    if file.exists() and int(os.environ.get("RANK", 0)) == 0:
        raise ValueError(f"{arguments.to} is in use; name another folder, or add --resume")

    return arguments


def _words(key: str, value: object) -> list[str]:
    name = f"--{key.replace('_', '-')}"
    if value is None or value is False:
        return []
    return [name] if value is True else [f"{name}={value}"]


def main(argv: Sequence[str] | None = None) -> None:
    arguments = parser().parse_args(argv)
    run, is_first = Run(arguments.to), int(os.environ.get("RANK", 0)) == 0

    try:
        distributed.choose_device(arguments.device)
        with run.hold() if is_first else nullcontext():
            arguments = settle(arguments)
            if is_first and not arguments.resume:
                write_whole(run.path / PLAN, json.dumps(vars(arguments), indent=1, default=str))
            result = work(arguments, run)
    except (ValueError, FileNotFoundError, FloatingPointError) as error:
        sys.exit(f"error: {error}")

    if result:
        run.finish(result)
        print(table(result))
        print(f"written to {run.result_file}")


if __name__ == "__main__":
    cli.keep_freed_memory()
    main()
    distributed.leave()
