"""Trains a detector: SGD by a schedule, one process a GPU, from checkpoint to checkpoint."""

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from timm.layers import convert_sync_batchnorm
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset
from torchvision.models.detection import FasterRCNN
from tqdm import tqdm

from loctex import distributed
from loctex.jobs.run import Run
from loctex.records.files import write_whole
from loctex.training.loop import is_turn
from loctex.training.meter import Meter
from loctex.training.stopping import should_stop, stop_on_signal
from loctex.transfer import detector
from loctex.transfer.encoders import Encoder
from loctex.transfer.instances import Instances, pixels

Example = tuple[Tensor, dict[str, Tensor]]  # (3, H, W) in 0..1, and its target


class Examples(Dataset):
    """Images with their targets; an index is (image, whether it is mirrored)."""

    def __init__(self, instances: Instances) -> None:
        self.instances = instances

    def __getitem__(self, index: tuple[int, bool]) -> Example:
        number, is_mirrored = index
        photo = self.instances.photos[number]
        image = torch.from_numpy(pixels(photo)).permute(2, 0, 1).float() / 255
        example = image, self.instances.target(photo)
        return mirror(*example) if is_mirrored else example


def mirror(image: Tensor, target: dict[str, Tensor]) -> Example:
    """Left and right exchanged, of (3, H, W), boxes and masks."""
    x0, y0, x1, y1 = target["boxes"].unbind(1)
    width = image.shape[2]
    mirrored = target | {"boxes": torch.stack((width - x1, y0, width - x0, y1), dim=1)}
    if "masks" in target:
        mirrored["masks"] = target["masks"].flip(2)
    return image.flip(2), mirrored


class Order(Sequence):
    """For each step from `start` on, the indices that this process takes.

    Every epoch is a shuffle of all images, and a coin for each decides whether it is mirrored.
    The shuffles follow one another without a gap, so that every batch is full.
    """

    def __init__(
        self,
        num_images: int,
        batch: int,
        steps: int,
        seed: int,
        *,
        start: int = 0,
        rank: int = 0,
        num_ranks: int = 1,
    ) -> None:
        self.num_images, self.batch, self.seed = num_images, batch // num_ranks, seed
        self.rank, self.num_ranks = rank, num_ranks
        self.start, self.steps = start, steps
        self._epoch = -1

    def __len__(self) -> int:
        return self.steps - self.start

    def __getitem__(  # type: ignore[override]  # a loader asks for one batch at a time
        self, number: int
    ) -> list[tuple[int, bool]]:
        if not 0 <= number < len(self):
            raise IndexError(number)
        start = ((self.start + number) * self.num_ranks + self.rank) * self.batch
        return [self._index(place) for place in range(start, start + self.batch)]

    def _index(self, place: int) -> tuple[int, bool]:
        epoch, k = divmod(place, self.num_images)
        if epoch != self._epoch:
            random = np.random.default_rng((self.seed, epoch))
            self._shuffle = random.permutation(self.num_images)
            self._coins = random.random(self.num_images) < 0.5
            self._epoch = epoch
        return int(self._shuffle[k]), bool(self._coins[k])


def batches(instances: Instances, order: Order, num_workers: int) -> Iterator[list[Example]]:
    """The examples of each step; worker processes decode ahead."""
    loader = DataLoader(
        Examples(instances), batch_sampler=order, num_workers=num_workers, collate_fn=list
    )
    return iter(loader)


USUAL_BATCH = 16  # images a step of the published schedules
USUAL_STEPS = 90_000  # of 1x
USUAL_IMAGES = 117_266  # COCO train2017 that show something
USUAL_RATE = 0.02
USUAL_WARMUP = 1000
DROPS = (2 / 3, 8 / 9)  # of the steps; 60,000 and 80,000 of 1x


@dataclass(frozen=True)
class Schedule:
    """steps of `batch` images; the learning rate after the warm-up is `highest`."""

    steps: int
    batch: int
    highest: float
    warmup: int

    @classmethod
    def scaled(
        cls, name: str, num_images: int, batch: int, highest: float | None = None
    ) -> "Schedule":
        """name: "1x", "2x", ..., or a number of steps.

        Each image is seen as often as in the published schedule (12.3 times in 1x), and the rate
        grows with the batch (Goyal et al. 2017). A short schedule warms up over a tenth of it.
        ValueError where the name is neither.
        """
        try:
            if name.endswith("x"):
                images = float(name[:-1]) * USUAL_STEPS * USUAL_BATCH / USUAL_IMAGES
                steps = max(1, round(images * num_images / batch))
            else:
                steps = int(name)
        except ValueError as error:
            raise ValueError(f"--schedule {name}: name 1x, 2x, or a number of steps") from error
        if steps < 1:
            raise ValueError(f"--schedule {name}: at least one step")

        if highest is None:
            highest = USUAL_RATE * batch / USUAL_BATCH
        return cls(steps, batch, highest, min(USUAL_WARMUP, -(-steps // 10)))

    def rate(self, step: int) -> float:
        """The learning rate of step 1, 2, ..."""
        if step <= self.warmup:
            return self.highest * step / self.warmup
        return self.highest * 0.1 ** sum(step > share * self.steps for share in DROPS)


MOMENTUM, WEIGHT_DECAY = 0.9, 1e-4  # detectron2's; norms and biases do not decay
PRECISE, PASSES = 200, 8  # at the end, batch norms are measured over so many batches, or epochs
STATE = "checkpoint.pt"


@dataclass(frozen=True)
class DetectionSettings:
    """How a detector is trained; the options of loctex.transfer.coco under the same names.

    schedule: "1x", "2x", ..., or a number of steps. batch: images a step, of all processes.
    size: pixels of the short side. rois: regions an image that the second stage learns from.
    learning_rate: the highest; None: of the published schedule, in proportion to the batch.
    """

    schedule: str = "2x"
    batch: int = 16
    learning_rate: float | None = None
    seed: int = 0
    size: int = 800
    rois: int = 512
    precision: str = "auto"  # auto is bf16 on a GPU
    workers: int = 4
    log_every: int = 20
    checkpoint_every: int = 1000

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> "DetectionSettings":
        """Of a command's options, which hold others too. ValueError where they do not fit here."""
        names = [item.name for item in fields(cls)]
        result = cls(**{name: options[name] for name in names})
        ranks = distributed.num_ranks()
        if result.batch % ranks:
            raise ValueError(f"--batch {result.batch} must be a multiple of the {ranks} processes")
        return result

    def scaled_schedule(self, num_images: int) -> Schedule:
        """The schedule for so many images."""
        return Schedule.scaled(self.schedule, num_images, self.batch, self.learning_rate)

    def autocast(self, device: torch.device) -> torch.autocast:
        is_bf16 = self.precision == "bf16" or (self.precision == "auto" and device.type == "cuda")
        return torch.autocast(device.type, torch.bfloat16, enabled=is_bf16)


def train(
    settings: DetectionSettings,
    run: Run,
    encoder: Encoder,
    labeled: Instances,
    device: torch.device,
    *,
    is_resumed: bool = False,
) -> FasterRCNN | None:
    """The trained detector; None where it was stopped before the end."""
    rank, schedule = distributed.rank(), settings.scaled_schedule(len(labeled.photos))

    torch.manual_seed(settings.seed)
    model = detector.build(
        encoder,
        len(labeled.categories),
        has_masks=labeled.has_masks,
        size=settings.size,
        num_rois=settings.rois,
    )
    model = place(model, device)
    sgd = make_optimizer(model)
    step_done = restore(run.path / STATE, model, sgd) if is_resumed else 0
    run.cut_back(step_done)
    trained = parallel(model, device)

    order = order_of(settings, labeled, schedule.steps, start=step_done)
    source = batches(labeled, order, settings.workers)
    meter, received = Meter(device), stop_on_signal()
    progress = tqdm(
        range(step_done + 1, schedule.steps + 1),
        initial=step_done,
        total=schedule.steps,
        unit="step",
        mininterval=1.0,
        disable=rank > 0,
    )
    for number in progress:
        with meter.waiting():
            images, targets = on_device(next(source), device)
        set_rate(sgd, schedule.rate(number))
        sgd.zero_grad(set_to_none=True)
        torch.manual_seed(seed_of(settings.seed, number, rank))
        losses = backward(trained, images, targets, settings, device)
        norm = update(model, sgd)
        meter.add(losses, norm, len(images), number)

        is_last, is_stopped = number == schedule.steps, False
        if is_turn(number, settings.log_every) or is_last or number == 1:
            log(run, meter, number, schedule.rate(number))
            is_stopped = should_stop(run, received, device) and not is_last
        is_due = is_stopped or is_turn(number, settings.checkpoint_every)
        if rank == 0 and is_due and not is_last:
            write_whole(run.path / STATE, state_of(number, model, sgd))
        if is_stopped:
            return None

    measure_norms(settings, model, labeled, device)
    return model


def order_of(
    settings: DetectionSettings, labeled: Instances, steps: int, start: int = 0
) -> "Order":
    """Which images this process sees in which step."""
    return Order(
        len(labeled.photos),
        settings.batch,
        steps,
        settings.seed,
        start=start,
        rank=distributed.rank(),
        num_ranks=distributed.num_ranks(),
    )


def backward(
    model: nn.Module,
    images: list[Tensor],
    targets: list[dict[str, Tensor]],
    settings: DetectionSettings,
    device: torch.device,
) -> dict[str, Tensor]:
    """Adds the gradients of the sum of the detector's losses; their sum, and each by name."""
    with settings.autocast(device):
        losses = model(images, targets)
    total = torch.stack(list(losses.values())).sum()
    total.backward()
    return {"loss": total} | losses


def set_rate(sgd: torch.optim.Optimizer, rate: float) -> None:
    for group in sgd.param_groups:
        group["lr"] = rate


def measure_norms(
    settings: DetectionSettings, model: FasterRCNN, labeled: Instances, device: torch.device
) -> None:
    """Precise batch norm, over the first batches of the training."""
    steps = min(PRECISE, -(-PASSES * len(labeled.photos) // settings.batch))
    source = batches(labeled, order_of(settings, labeled, steps), settings.workers)

    torch.manual_seed(seed_of(settings.seed, 0, distributed.rank()))
    with settings.autocast(device):
        detector.measure_statistics(model, (on_device(batch, device)[0] for batch in source))


def place(model: FasterRCNN, device: torch.device) -> FasterRCNN:
    """On its device, in training mode; batch norms see all GPUs under torchrun."""
    if device.type == "cuda" and distributed.num_ranks() > 1:
        model = convert_sync_batchnorm(model)
    model.backbone.body.to(memory_format=torch.channels_last)
    return model.to(device).train()


def parallel(model: FasterRCNN, device: torch.device) -> nn.Module:
    if distributed.num_ranks() == 1:
        return model
    return DistributedDataParallel(model, [device.index] if device.type == "cuda" else None)


def make_optimizer(model: FasterRCNN) -> torch.optim.Optimizer:
    """SGD; one-dimensional parameters, the norms and biases, do not decay."""
    groups = [
        {
            "params": [p for p in model.parameters() if (p.ndim > 1) == decays],
            "weight_decay": WEIGHT_DECAY if decays else 0.0,
        }
        for decays in (True, False)
    ]
    return torch.optim.SGD(groups, lr=0.1, momentum=MOMENTUM, fused=True)


def update(model: FasterRCNN, sgd: torch.optim.Optimizer) -> Tensor:
    """Applies the gradients, unless their norm is not finite, without waiting for the device;
    returns the norm."""
    norm = nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
    fused: Any = sgd  # its kernels read these two, which no base class declares
    fused.grad_scale = None
    fused.found_inf = (~torch.isfinite(norm)).float()
    sgd.step()
    return norm


def on_device(
    examples: Sequence[Example], device: torch.device
) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    images = [image.to(device, non_blocking=True) for image, _ in examples]
    targets = [
        {k: v.to(device, non_blocking=True) for k, v in target.items()} for _, target in examples
    ]
    return images, targets


def seed_of(seed: int, step: int, rank: int) -> int:
    """One number for all that is drawn in a step: scales, and regions to learn from."""
    return ((seed * 1_000_003 + step) * 4099 + rank) % 2**63


def log(run: Run, meter: Meter, number: int, rate: float) -> None:
    """One line of metrics.jsonl. FloatingPointError where a loss was not finite."""
    values = meter.read()
    values["images_per_second"] = values.pop("pairs_per_second")
    if distributed.rank() == 0:
        run.log(number, **values, learning_rate=rate)
    if (bad := meter.bad_step()) is not None:
        raise FloatingPointError(
            f"the loss or its gradient was not finite at step {bad}; start again with a lower "
            "--learning-rate, or with --precision fp32"
        )


def state_of(step: int, model: nn.Module, sgd: torch.optim.Optimizer) -> bytes:
    content = io.BytesIO()
    state = {"step": step, "model": model.state_dict(), "optimizer": sgd.state_dict()}
    torch.save(state, content)
    return content.getvalue()


def restore(file: Path, model: nn.Module, sgd: torch.optim.Optimizer) -> int:
    """Takes up a checkpoint; its step. 0 where there is none yet; ValueError if damaged."""
    if not file.exists():
        return 0
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
        model.load_state_dict(state["model"])
        sgd.load_state_dict(state["optimizer"])
    except Exception as error:  # torch raises many kinds for a cut file
        raise ValueError(f"{file} is damaged ({error}); remove it to start anew") from error
    return state["step"]
