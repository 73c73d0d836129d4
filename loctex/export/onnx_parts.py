"""The model as three ONNX graphs: an image is encoded once, and captions are then answered cheaply.

    image.onnx      images (B, 3, S, S) -> image_embedding (B, D), image_features (B, C),
                    cell_vectors (B, N, A)
    text.onnx       tokens (B, T) int64 -> text_embedding (B, D), token_vectors (B, T, A)
    attention.onnx  cell_vectors, token_vectors -> attention_maps (B, T, h, w), each of mass 1

B and T are free. The maps are those that `Predictor` shows, by `LocTexModel.locate`.
Needs onnx, onnxscript and onnxruntime.
"""

import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.export import Dim

from loctex.model.losses import ATTENTION
from loctex.model.model import LocTexModel

ONE_FILE = 1_500_000_000  # bytes of weights; ONNX files end at 2 GB, larger ones get a .data file


class ImagePart(nn.Module):
    def __init__(self, model: LocTexModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        image = self.model.encode_image(images)
        contrastive = self.model.image_projection(image.last.flatten(2).transpose(1, 2))
        contrastive = F.normalize(contrastive, dim=-1)
        if not self.model.config.localized:
            return image.embedding, image.pooled, contrastive
        if not self.model.config.contrastive_share:
            return image.embedding, image.pooled, image.cells[-1]
        return image.embedding, image.pooled, torch.cat((image.cells[-1], contrastive), dim=-1)


class TextPart(nn.Module):
    def __init__(self, model: LocTexModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        model, config = self.model, self.model.config
        text = model.encode_text(tokens)
        contrastive = F.normalize(model.text_projection(text.hidden), dim=-1)
        if not config.localized:
            return text.embedding, contrastive
        if not config.contrastive_share:
            return text.embedding, text.tokens[-1]

        # A product of softmaxes is the softmax of the sum of their logits: the scales go in here.
        attention = model.attention_heads()[-1].scale * text.tokens[-1]
        share = config.contrastive_share * model.scale
        return text.embedding, torch.cat((attention, share * contrastive), dim=-1)


class AttentionPart(nn.Module):
    """Products of tokens and cells as a map; holds the one number it needs, the scale."""

    def __init__(self, model: LocTexModel) -> None:
        super().__init__()
        is_localized = model.config.localized
        scale = model.attention_heads()[-1].scale if is_localized else model.scale
        if is_localized and model.config.contrastive_share:
            scale = torch.ones(())  # the token vectors carry both scales
        self.scale: Tensor
        self.register_buffer("scale", scale.detach().clone())
        self.form = ATTENTION[model.config.localization if is_localized else "ce"]
        self.grid = model.grids()[-1]

    def forward(self, cell_vectors: Tensor, token_vectors: Tensor) -> Tensor:
        cosine = token_vectors @ cell_vectors.transpose(1, 2)  # (B, T, N)
        return self.form(cosine, self.scale).unflatten(-1, self.grid)


# Names of inputs and outputs. They must not be names that torch gives to nodes, as "embedding" is.
NAMES = {
    "image": (["images"], ["image_embedding", "image_features", "cell_vectors"]),
    "text": (["tokens"], ["text_embedding", "token_vectors"]),
    "attention": (["cell_vectors", "token_vectors"], ["attention_maps"]),
}


def examples(model: LocTexModel, num_pairs: int, num_tokens: int) -> tuple[Tensor, Tensor]:
    """Pixels (B, 3, S, S), and tokens (B, T) of which the first caption is padded at its end."""
    config = model.config
    random = torch.Generator().manual_seed(num_pairs)
    images = torch.randn(num_pairs, 3, config.image_size, config.image_size, generator=random)
    tokens = torch.randint(config.vocab_size, (num_pairs, num_tokens), generator=random)
    tokens[tokens == config.pad_token_id] = config.vocab_size - 1
    tokens[0, (num_tokens + 1) // 2 :] = config.pad_token_id
    return images, tokens


@torch.no_grad()
def outputs(model: LocTexModel, images: Tensor, tokens: Tensor) -> dict[str, np.ndarray]:
    """What the three graphs answer, computed by the model's own parts."""
    image, text = ImagePart(model)(images), TextPart(model)(tokens)
    maps = AttentionPart(model)(image[-1], text[-1])
    names = [name for _, names_of_part in NAMES.values() for name in names_of_part]
    return dict(
        zip(names, [names_of_part.numpy() for names_of_part in (*image, *text, maps)], strict=True)
    )


def write(model: LocTexModel, folder: Path) -> None:
    """image.onnx, text.onnx and attention.onnx; ValueError where a package is missing."""
    _require()

    images, tokens = examples(model, 2, min(8, model.config.max_tokens))
    with torch.no_grad():
        vectors = ImagePart(model)(images)[-1], TextPart(model)(tokens)[-1]

    batch, length = Dim("batch"), Dim("length", max=model.config.max_tokens)
    modules = {
        "image": (ImagePart(model), (images,), ({0: batch},)),
        "text": (TextPart(model), (tokens,), ({0: batch, 1: length},)),
        "attention": (AttentionPart(model), vectors, ({0: batch}, {0: Dim.DYNAMIC, 1: length})),
    }

    num_bytes = sum(value.numel() * value.element_size() for value in model.parameters())
    for name, (module, inputs, shapes) in modules.items():
        torch.onnx.export(
            module.eval(),
            inputs,
            folder / f"{name}.onnx",
            input_names=NAMES[name][0],
            output_names=NAMES[name][1],
            dynamic_shapes=shapes,
            external_data=num_bytes > ONE_FILE,
            verbose=False,
        )


def answers(folder: Path, images: Tensor, tokens: Tensor) -> Iterator[tuple[str, np.ndarray]]:
    """The named outputs of the three files as onnxruntime computes them on the CPU."""
    import onnxruntime

    values = {"images": images.numpy(), "tokens": tokens.numpy()}
    for name, (inputs, outputs_) in NAMES.items():
        session = onnxruntime.InferenceSession(
            folder / f"{name}.onnx", providers=["CPUExecutionProvider"]
        )
        results = session.run(outputs_, {key: values[key] for key in inputs})
        values |= dict(zip(outputs_, results, strict=True))
    for _, names in NAMES.values():
        yield from ((name, values[name]) for name in names)


def _require() -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of packages that are only looked for
            import onnx  # noqa: F401
            import onnxruntime  # noqa: F401
            import onnxscript  # noqa: F401
    except ModuleNotFoundError as error:
        raise ValueError(
            f"exporting to ONNX needs the package {error.name}: pip install onnx onnxscript "
            "onnxruntime"
        ) from error
