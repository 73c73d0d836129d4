"""What a card shows of the use of its files: lines that run as they stand in their folder."""

from collections.abc import Callable, Mapping, Sequence

from loctex.export import timm_folder
from loctex.export.wheel import wheel_name
from loctex.model.config import LocTexConfig

PICTURE = 'picture = Image.new("RGB", (640, 480))  # or Image.open(FILE)'


def use(format: str, config: LocTexConfig) -> str:
    """Markdown: the snippets of a format, and how its pixels are made."""
    size = config.image_size
    return (
        f"{_SNIPPETS[format](config)}\n\n"
        f"Pixels: RGB / 255, less the mean ({three(config.pixel_mean)}), divided by "
        f"({three(config.pixel_std)}). It was trained on squares of {size} pixels, into which "
        "whole images were stretched."
    )


def three(values: Sequence[float], factor: int = 1) -> str:
    """Numbers of red, green and blue, as a person writes them."""
    return ", ".join(f"{factor * value:.3f}" for value in values)


def _python(*lines: str) -> str:
    return "\n".join(("```python", *lines, "```"))


def _torchvision(config: LocTexConfig) -> str:
    size = config.image_size
    return _python(
        "import torch",
        "import torchvision",
        "from safetensors.torch import load_file",
        "",
        f"model = torchvision.models.{config.backbone}()",
        "model.fc = torch.nn.Identity()",
        'model.load_state_dict(load_file("model.safetensors"), strict=True)',
        f"features = model.eval()(torch.zeros(1, 3, {size}, {size}))  # (B, C), of pixels as below",
    )


def _timm(config: LocTexConfig) -> str:
    is_whole = timm_folder.is_whole(config)
    answer = "features" if is_whole else "maps"
    pixels = "transform(picture)[None]"
    if not is_whole:
        axes = "(1, 2)" if timm_folder.answers_channels_last(config) else "(2, 3)"
        pooling = [f"features = maps[-1].mean({axes})  # (B, C)"]
    else:
        pooling = []

    first = _python(
        "import timm",
        "from PIL import Image",
        "",
        'model = timm.create_model("local-dir:.", pretrained=True).eval()',
        "transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))",
        PICTURE,
        f"{answer} = model({pixels})",
        *pooling,
    )
    sentences = [
        'On the hub it is `"hf-hub:OWNER/NAME"` in place of `"local-dir:."`. With '
        "`features_only=True` it answers maps"
        + (", with `num_classes=10` it has a new classifier." if is_whole else ".")
    ]
    if is_whole or timm_folder.has_own_names(config):
        sentences.append(f"The file of weights alone:\n\n{_checkpoint(config, is_whole)}")
    return "\n\n".join((first, *sentences))


def _checkpoint(config: LocTexConfig, is_whole: bool) -> str:
    kind = "num_classes=0" if is_whole else "features_only=True, out_indices=(-1,)"
    return _python(
        "import timm",
        "",
        "model = timm.create_model(",
        f'    "{config.backbone}",',
        *(f"    {key}={value!r}," for key, value in config.backbone_options.items()),
        f"    {kind},",
        '    checkpoint_path="model.safetensors",',
        ")",
    )


def _huggingface(config: LocTexConfig) -> str:
    install = f"```sh\npip install ./{wheel_name()}\n```"
    embeddings = _python(
        "import torch",
        "from loctex import LocTexModel  # from now on AutoModel and AutoConfig know it",
        "from PIL import Image",
        "from transformers import AutoImageProcessor, AutoModel, AutoTokenizer",
        "",
        'model = AutoModel.from_pretrained(".").eval()',
        'processor = AutoImageProcessor.from_pretrained(".")',
        'tokenizer = AutoTokenizer.from_pretrained(".")',
        "",
        PICTURE,
        'pixels = processor(images=picture, return_tensors="pt")',
        'words = tokenizer(["a red circle", "a dog"], padding=True, return_tensors="pt")',
        "with torch.no_grad():",
        "    image, text = model.get_image_features(**pixels), model.get_text_features(**words)",
        "    similarity = model.logit_scale.exp() * image @ text.T  # (1, 2)",
    )
    pipelines = _python(
        "from loctex import LocTexModel",
        "from PIL import Image",
        "from transformers import pipeline",
        "",
        PICTURE,
        'classify = pipeline("zero-shot-image-classification", model=".")',
        'scores = classify(picture, candidate_labels=["circle", "dog"])',
    )
    words = _python(
        "import numpy as np",
        "from loctex import Predictor",
        "from PIL import Image",
        "",
        PICTURE,
        'predictor = Predictor.load(".")',
        "predictor.set_image(np.asarray(picture))",
        'maps = predictor.attend("a red circle left of a dog").maps  # (words, h, w)',
    )
    return (
        f"The package is not on PyPI; its wheel lies here:\n\n{install}\n\n"
        f"Embeddings:\n\n{embeddings}\n\nIn pipelines:\n\n{pipelines}\n\n"
        f"Where each word is:\n\n{words}"
    )


def _onnx(config: LocTexConfig) -> str:
    return _python(
        "import onnxruntime",
        "from PIL import Image",
        "from transformers import AutoImageProcessor, AutoTokenizer",
        "",
        PICTURE,
        'images = AutoImageProcessor.from_pretrained(".")(images=picture, return_tensors="np")',
        'tokens = AutoTokenizer.from_pretrained(".")(["a red circle"], return_tensors="np")',
        "",
        'image = onnxruntime.InferenceSession("image.onnx")',
        'embedding, features, cells = image.run(None, {"images": images["pixel_values"]})',
        'text = onnxruntime.InferenceSession("text.onnx")',
        'embedding, words = text.run(None, {"tokens": tokens["input_ids"]})',
        'attention = onnxruntime.InferenceSession("attention.onnx")',
        '(maps,) = attention.run(None, {"cell_vectors": cells, "token_vectors": words})',
    )


def _detectron2(config: LocTexConfig) -> str:
    lines = (
        "MODEL.WEIGHTS = 'model.pkl'",
        f"MODEL.PIXEL_MEAN = [{three(config.pixel_mean, 255)}]",
        f"MODEL.PIXEL_STD = [{three(config.pixel_std, 255)}]",
        "MODEL.RESNETS.STRIDE_IN_1X1 = False",
        "INPUT.FORMAT = 'RGB'",
    )
    return "\n".join(("Settings of detectron2's config:", "", "```text", *lines, "```"))


_SNIPPETS: Mapping[str, Callable[[LocTexConfig], str]] = {
    "torchvision": _torchvision,
    "timm": _timm,
    "huggingface": _huggingface,
    "onnx": _onnx,
    "detectron2": _detectron2,
}
