"""What a run needs before its first step: data, model, optimizer, from settings or a checkpoint."""

import json
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from timm.layers import convert_sync_batchnorm
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm
from transformers import PreTrainedTokenizerFast

from loctex import distributed
from loctex.jobs import checkpoint_files
from loctex.jobs.run import Run
from loctex.loading import tokenization
from loctex.loading.changed_words import WordSwaps
from loctex.loading.frozen_features import BLOCK, Extraction, FeatureMaps, key_of
from loctex.loading.mixture import Mixture
from loctex.model import build
from loctex.model.backbones import folded, maps_in_parts
from loctex.model.config import LocTexConfig
from loctex.model.model import LocTexModel
from loctex.records.files import is_writable, write_whole
from loctex.records.items import Split
from loctex.records.snapshot import Snapshot
from loctex.scoring.predictor import normalise
from loctex.settings import Settings, TrainSettings, with_values

log = logging.getLogger("loctex")


def open_snapshots(names: Sequence[str]) -> tuple[list[Snapshot], list[float]]:
    """FOLDER or FOLDER=weight each -> the snapshots and their weights."""
    if not names:
        raise ValueError(
            "name at least one snapshot with --data FOLDER (data_tools.snapshot makes one)"
        )

    snapshots, weights = [], []
    for name in names:
        folder, equals, weight = name.rpartition("=")
        try:
            weights.append(float(weight) if equals else 1.0)
        except ValueError as error:
            raise ValueError(f"--data {name}: the weight {weight!r} is not a number") from error

        if not 0 < weights[-1] < 1e6:
            raise ValueError(f"--data {name}: the weight must be above 0")

        snapshots.append(Snapshot.open(folder if equals else name))
        if "train" not in snapshots[-1].splits:
            raise ValueError(f"{name} has no train split, only {', '.join(snapshots[-1].splits)}")

    return snapshots, weights


def check_sizes(batch_size: int, num_images: int) -> int:
    """The batch size, cut to the data and divisible by the processes; ValueError if too small."""
    ranks = distributed.num_ranks()
    size = min(batch_size, num_images) // ranks * ranks

    if size < 2:
        raise ValueError(
            f"{num_images} training image(s) for {ranks} process(es): matching images with "
            "captions needs at least two in a batch; record more, or raise train.batch_size"
        )

    if size < min(batch_size, num_images):
        log.warning(
            "batch size %d is cut to %d, a multiple of %d processes", batch_size, size, ranks
        )
    elif size < batch_size:
        log.warning("batch size %d is cut to the %d training images there are", batch_size, size)

    return size


def start_model(
    settings: Settings, mixture: Mixture, resumed: Path | None
) -> tuple[LocTexModel, PreTrainedTokenizerFast]:
    """The model and tokenizer a run starts from: a checkpoint to resume, or `model.init`."""
    init = settings.model.init
    if resumed is None and init in ("random", "timm"):
        captions = (caption for split in mixture.splits for caption in split.captions())
        words = tokenization.train(captions, settings.model.vocabulary, settings.data.max_tokens)
        return build.build(settings, len(words), words.pad_token_id), words

    folder = resumed or checkpoint_files.find(init)
    model = build.load(folder, build.overrides(settings))

    if settings.data.max_tokens > model.config.max_tokens:
        raise ValueError(
            f"data.max_tokens is {settings.data.max_tokens}, but {folder} was made for captions of "
            f"{model.config.max_tokens}; set --data.max_tokens {model.config.max_tokens} or less"
        )

    return build.with_fusion(model, settings), tokenization.load(folder)


def take_shape(settings: Settings, typed: set[str]) -> Settings:
    """The settings with the shape of the model that `model.init` names: a preset's values give
    way, a fusion encoder may be added.

    typed: what a person named, "section.name". Raises ValueError where one of them differs.
    """
    folder = checkpoint_files.find(settings.model.init)
    config = LocTexConfig.from_pretrained(folder)
    shape = {}

    for name in SHAPE:
        value, asked_for = getattr(config, name), getattr(settings.model, name)
        if value != asked_for and f"model.{name}" in typed:
            raise ValueError(
                f"model.{name} is {asked_for}, but the model in {settings.model.init} has {value}, "
                "and a run that starts from it takes its shape: leave the setting out, or start "
                "anew with --model.init random or timm"
            )
        shape[name] = value
    return with_values(settings, {"model": shape})


SHAPE = (  # settings of a model that its weights fix, under the same names in config.json
    "backbone",
    "backbone_options",
    "backbone_head",
    "attention_scales",
    "text_layers",
    "text_width",
    "text_heads",
    "embedding",
    "attention",
)


def exchange(settings: Settings, mixture: Mixture) -> WordSwaps | None:
    """The words that may stand in for others, where captions are matched against changed ones."""
    if not (settings.loss.changed_captions and settings.loss.matching_weight > 0):
        return None
    captions = (caption for split in mixture.splits for caption in split.captions())
    word_exchange = WordSwaps(captions, settings.data.exclusive_words)
    if not word_exchange.can_change:
        raise ValueError(
            "loss.changed_captions: no word of the captions can give way to another. Each set of "
            "data.exclusive_words needs two words that the captions say between the same neighbors "
            "('a red car', 'a blue car'); sets stand apart by ';'. Or leave it empty"
        )
    return word_exchange


def place(model: LocTexModel, options: TrainSettings, device: torch.device) -> LocTexModel:
    """The model on its device, in training mode, laid out and made lean by setting."""
    if options.sync_batch_norm and device.type == "cuda" and distributed.num_ranks() > 1:
        model = cast(LocTexModel, convert_sync_batchnorm(model))
    model = build.on_device(model, device).train()
    if device.type == "cpu":  # the fused kernel's backward pass is 2 to 3 times slower there
        model.text_encoder.set_attn_implementation("eager")
        if model.fusion is not None:
            model.fusion.config._attn_implementation = "eager"
    if options.channels_last:
        model.backbone.to(memory_format=torch.channels_last)
    if options.checkpoint_activations:
        recompute_activations(model)
    return model


def frozen_features(
    model: LocTexModel,
    snapshots: Sequence[Snapshot],
    run: Run,
    validation: Split | None,
    has_progress: bool,
) -> tuple[list[FeatureMaps], FeatureMaps | None]:
    """What the frozen backbone says of all images: of each snapshot's train split, and of
    `validation`. Computed once, beside the snapshot; in the run's folder where that is not ours to
    write, or far away."""
    features: list[FeatureMaps] = []
    of_validation = None
    for snapshot in snapshots:
        folder = snapshot.path / ".cache"
        if not is_writable(folder):
            folder = run.path / "features" / snapshot.hash[:16]

        train = snapshot.split("train")
        features.append(extract(model, train, folder, snapshot.hash, run, has_progress))
        if validation is not None and "val" in snapshot.splits and of_validation is None:
            of_validation = extract(model, validation, folder, snapshot.hash, run, has_progress)

    run.features_file.unlink(missing_ok=True)
    return features, of_validation


def extract(
    model: LocTexModel, split: Split, folder: Path, content: str, run: Run, has_progress: bool
) -> FeatureMaps:
    """What the frozen backbone says of a split's images; computed where `folder` lacks it.

    content: the snapshot's hash. The run's page shows how far it is, where has_progress.
    """
    config, device = model.config, model.device
    channels, grids = model.backbone.channels, model.grids()

    backbone = model.backbone
    if device.type == "cpu":
        backbone = folded(model.backbone, config.image_size)

    @torch.inference_mode()
    def encode(images: Tensor) -> list[Tensor]:
        return maps_in_parts(backbone, normalise(images.to(device), config))

    extraction = Extraction(
        split=split,
        folder=folder,
        key=key_of(
            model.backbone.state_dict(),
            content,
            config.image_size,
            config.pixel_mean,
            config.pixel_std,
            config.attention_scales,
        ),
        image_size=config.image_size,
        shapes=tuple((count, *grid) for count, grid in zip(channels, grids, strict=True)),
        encode=encode,
    )
    num_missing = len(extraction.missing()) * BLOCK
    if num_missing:
        size = extraction.num_bytes / 1e6
        log.info("features of %s images, once: %.0f MB in %s", len(split), size, extraction.path)
    began = time.time()
    progress = tqdm(
        total=len(split),
        desc=f"features of {split.name}",
        unit="image",
        disable=not (has_progress and num_missing),
    )

    def report(count: int, total: int) -> None:
        progress.update(count - progress.n)
        if has_progress:
            facts = {"count": count, "total": total, "missing": num_missing, "began": began}
            write_whole(run.features_file, json.dumps(facts))

    with progress:
        return extraction.run(report)


def by_key(
    features: Sequence[FeatureMaps], mixture: Mixture
) -> Callable[[Sequence[int]], list[Tensor]]:
    """A function from examples' keys, which count through all splits, to their maps."""
    offsets = np.array(mixture.offsets())

    def maps(keys: Sequence[int]) -> list[Tensor]:
        places = np.asarray(keys)
        numbers = np.searchsorted(offsets, places, side="right") - 1
        joined: list[Tensor] = []
        for number in np.unique(numbers):
            rows = np.flatnonzero(numbers == number)
            scales = features[number].maps((places[rows] - offsets[number]).tolist())
            if not joined:
                joined = [scale.new_empty(len(keys), *scale.shape[1:]) for scale in scales]
            for whole_batch, scale in zip(joined, scales, strict=True):
                whole_batch[torch.from_numpy(rows)] = scale
        return joined

    return maps


def recompute_activations(model: LocTexModel) -> None:
    """Less memory: the backward pass computes again what the forward pass would have kept."""
    stages: Any = model.backbone.stages
    stages.set_grad_checkpointing(True)
    text = model.text_encoder  # transformers 5.23 gave the method its new name
    name = "activation_checkpointing_enable"
    getattr(text, name if hasattr(text, name) else "gradient_checkpointing_enable")(
        {"use_reentrant": False}
    )


def wrap(model: LocTexModel, device: torch.device) -> nn.Module:
    """The model as it is trained: parallel under torchrun."""
    if distributed.num_ranks() == 1:
        return model
    devices = [device.index] if device.type == "cuda" else None
    return DistributedDataParallel(model, device_ids=devices)


def average(model: LocTexModel, decay: float) -> AveragedModel:
    """The moving average of the weights; running statistics are copied, not averaged."""
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay))
    averaged.n_averaged.fill_(1)  # it starts as the model, and is averaged from the first step
    return averaged.eval()
