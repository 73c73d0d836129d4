"""Writers and readers of each format of weights; `export` writes, reloads and compares.

Every export holds a model card (README.md) written from the run. It is reloaded by the code it is
for, and its features are compared with the run's; it is there whole, or not at all.
"""

import json
import pickle
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torchvision
from safetensors.torch import load_file, save
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from loctex.export import card, onnx_parts, timm_folder
from loctex.export.wheel import write_wheel
from loctex.jobs import checkpoint_files
from loctex.loading import tokenization
from loctex.model import build
from loctex.model.model import LocTexModel
from loctex.records.files import draft_folder, write_whole

TOLERANCE = 1e-5  # of the largest number compared
WEIGHTS = "model.safetensors"


@dataclass(frozen=True)
class Format:
    """write(model, tokenizer, folder) fills the folder; read(model, folder, images, tokens) gives
    the named arrays that the reloaded export computes, to be compared with `expected`."""

    write: Callable[[LocTexModel, PreTrainedTokenizerFast, Path], None]
    read: Callable[[LocTexModel, Path, Tensor, Tensor], Mapping[str, np.ndarray]]


def export(
    run: Path, to: Path, format: str, checkpoint_name: str = "best", license: str = ""
) -> dict[str, float]:
    """Writes and checks one export; output -> largest difference over largest number.

    license: of the weights, as the hub names it, for the head of the card.

    ValueError where the folder is not empty, the model has no such form, or a check fails.
    """
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise ValueError(f"{to} is not empty; name a new folder")

    checkpoint_folder = checkpoint_files.find(run, checkpoint_name)
    model, words = build.load(checkpoint_folder).eval(), tokenization.load(checkpoint_folder)

    with draft_folder(to) as draft:
        FORMATS[format].write(model, words, draft)
        differences = compare(model, draft, FORMATS[format].read)
        text = card.write(run, checkpoint_folder, model.config, format, differences, license)
        write_whole(draft / "README.md", text)
        _open_to_others(draft)
    return differences


def _open_to_others(folder: Path) -> None:
    """Files that other libraries wrote for their owner alone get the mode that the umask says, as
    the card has it."""
    mode = (folder / "README.md").stat().st_mode
    for path in folder.rglob("*"):
        if path.is_file():
            path.chmod(mode)


def compare(model: LocTexModel, folder: Path, read_back: Callable) -> dict[str, float]:
    """Output -> difference of the reloaded export; ValueError where one is above the tolerance."""
    worst: dict[str, float] = {}
    for num_pairs, num_tokens in ((1, model.config.max_tokens), (3, 5)):
        images, tokens = onnx_parts.examples(model, num_pairs, num_tokens)
        expected = onnx_parts.outputs(model, images, tokens)
        expected["pooled_output"] = _pooled_output(model, images)
        for name, value in read_back(model, folder, images, tokens).items():
            if value.shape != expected[name].shape:
                raise ValueError(f"{name} of the export has shape {value.shape}")
            size = max(np.abs(expected[name]).max(), 1e-30)
            difference = float(np.abs(value - expected[name]).max() / size)
            worst[name] = max(worst.get(name, 0.0), difference)

    wrong = {name: value for name, value in worst.items() if not value <= TOLERANCE}
    if wrong:
        raise ValueError(f"the reloaded export differs by more than {TOLERANCE:g}: {wrong}")
    return worst


@torch.no_grad()
def _pooled_output(model: LocTexModel, images: Tensor) -> np.ndarray:
    """(B, C) what a whole model without a classifier answers."""
    return model.encode_image(images).last.mean(dim=(2, 3)).numpy()


def check_keys(
    own_keys: Mapping[str, Tensor], expected_keys: Mapping[str, Tensor], where: str
) -> None:
    """ValueError names parameters that one side lacks, or that have another shape."""
    missing, extra = (
        sorted(set(expected_keys) - set(own_keys)),
        sorted(set(own_keys) - set(expected_keys)),
    )

    shapes = [
        name
        for name in expected_keys
        if name in own_keys and own_keys[name].shape != expected_keys[name].shape
    ]

    for kind, names in (("lacks", missing), ("has unknown", extra), ("has reshaped", shapes)):
        if names:
            some = ", ".join(names[:3])
            raise ValueError(f"the backbone {kind} {len(names)} parameter(s) of {where}: {some}")


def torchvision_twin(model: LocTexModel) -> nn.Module:
    """Torchvision's model of the backbone's name, without its classifier; ValueError if none."""
    name = model.config.backbone
    model_names = torchvision.models.list_models(torchvision.models)
    if name not in model_names:
        raise ValueError(f"torchvision has no {name}; export to timm or huggingface instead")

    twin = torchvision.models.get_model(name, weights=None)
    if not isinstance(twin, torchvision.models.ResNet):
        raise ValueError(
            f"timm's {name} has other parameters than torchvision's; export to timm instead"
        )

    if model.config.backbone_options:
        raise ValueError(
            f"this {name} has layers of its own (model.backbone_options), which torchvision's has "
            "not; export to timm or huggingface instead"
        )

    twin.fc = nn.Identity()
    check_keys(stages(model), twin.state_dict(), f"torchvision's {name}")
    return twin.eval()


def stages(model: LocTexModel) -> dict[str, Tensor]:
    """The backbone's parameters under the names of its own library."""
    return {k: v.detach().contiguous() for k, v in model.backbone.stages.state_dict().items()}


def write_torchvision(model: LocTexModel, words: PreTrainedTokenizerFast, folder: Path) -> None:
    torchvision_twin(model)
    write_whole(folder / WEIGHTS, save(stages(model), {"format": "pt"}))


@torch.no_grad()
def read_torchvision(model: LocTexModel, folder: Path, images: Tensor, tokens: Tensor) -> dict:
    twin = torchvision_twin(model)
    twin.load_state_dict(load_file(folder / WEIGHTS), strict=True)
    return {"image_features": twin(images).numpy()}


def write_timm(model: LocTexModel, words: PreTrainedTokenizerFast, folder: Path) -> None:
    state = stages(model)
    if model.backbone_head is not None:
        state |= {name: value.detach() for name, value in model.backbone_head.state_dict().items()}
    timm_folder.write(model.config, state, folder)


def read_timm(model: LocTexModel, folder: Path, images: Tensor, tokens: Tensor) -> dict:
    expected = timm_folder.expected_weights(model.config)
    check_keys(load_file(folder / WEIGHTS), expected, f"timm's {model.config.backbone}")
    return {name: value.numpy() for name, value in timm_folder.answers(folder, images).items()}


def write_huggingface(model: LocTexModel, words: PreTrainedTokenizerFast, folder: Path) -> None:
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    write_preprocessing(model, folder)
    write_wheel(folder)


def read_huggingface(model: LocTexModel, folder: Path, images: Tensor, tokens: Tensor) -> dict:
    twin = build.load(folder).eval()  # raises for a missing or an extra key
    tokenization.load(folder)
    return onnx_parts.outputs(twin, images, tokens)


def write_onnx(model: LocTexModel, words: PreTrainedTokenizerFast, folder: Path) -> None:
    onnx_parts.write(model, folder)
    words.save_pretrained(folder)
    write_preprocessing(model, folder)


def read_onnx(model: LocTexModel, folder: Path, images: Tensor, tokens: Tensor) -> dict:
    return dict(onnx_parts.answers(folder, images, tokens))


def write_preprocessing(model: LocTexModel, folder: Path) -> None:
    """preprocessor_config.json, which transformers' AutoImageProcessor reads."""
    size = model.config.image_size
    settings = {
        "image_processor_type": "ViTImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"height": size, "width": size},
        "resample": 2,  # bilinear; the whole image is stretched to the square
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(model.config.pixel_mean),
        "image_std": list(model.config.pixel_std),
    }
    write_whole(folder / "preprocessor_config.json", json.dumps(settings, indent=1))


# Torchvision's names -> detectron2's, as its tools/convert-torchvision-to-d2.py has them.
_TO_DETECTRON2 = (
    (r"^(?!layer)", "stem."),
    (r"\blayer(\d)\b", lambda match: f"res{int(match[1]) + 1}"),
    (r"\bbn(\d)\b", r"conv\1.norm"),
    (r"\bdownsample\.0\b", "shortcut"),
    (r"\bdownsample\.1\b", "shortcut.norm"),
)


def detectron2_name(name: str) -> str:
    """layer1.0.bn2.weight -> res2.0.conv2.norm.weight"""
    for pattern, replacement in _TO_DETECTRON2:
        name = re.sub(pattern, replacement, name, count=1)
    return name


def write_detectron2(model: LocTexModel, words: PreTrainedTokenizerFast, folder: Path) -> None:
    torchvision_twin(model)
    weights = {
        detectron2_name(name): value.numpy()
        for name, value in stages(model).items()
        if not name.endswith("num_batches_tracked")  # detectron2's frozen norm has none
    }
    content = {"model": weights, "__author__": "LocTex", "matching_heuristics": True}
    write_whole(folder / "model.pkl", pickle.dumps(content))


@torch.no_grad()
def read_detectron2(model: LocTexModel, folder: Path, images: Tensor, tokens: Tensor) -> dict:
    """Detectron2's own names are put into torchvision's network, whose arithmetic is the same."""
    weights = pickle.loads((folder / "model.pkl").read_bytes())["model"]  # we have just written it
    twin = torchvision_twin(model)
    names = {detectron2_name(name): name for name in twin.state_dict()}
    renamed = {names[name]: torch.from_numpy(value) for name, value in weights.items()}
    untouched = {k: v for k, v in twin.state_dict().items() if k.endswith("num_batches_tracked")}
    twin.load_state_dict(renamed | untouched, strict=True)
    return {"image_features": twin(images).numpy()}


FORMATS: Mapping[str, Format] = {
    "torchvision": Format(write_torchvision, read_torchvision),
    "timm": Format(write_timm, read_timm),
    "huggingface": Format(write_huggingface, read_huggingface),
    "onnx": Format(write_onnx, read_onnx),
    "detectron2": Format(write_detectron2, read_detectron2),
}


def push(folder: Path, repository: str) -> str:
    """Uploads an export to a private repository of the Hugging Face hub; its address."""
    from huggingface_hub import HfApi

    api = HfApi()
    address = api.create_repo(repository, private=True, exist_ok=True)
    api.upload_folder(repo_id=repository, folder_path=folder)
    return str(address)
