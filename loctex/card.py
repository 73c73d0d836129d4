"""The model card of an export, written from the run: nothing in it is typed by hand.

What the run does not say (moved snapshots, no evaluation) is said to be unknown.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from loctex import settings
from loctex.model import LocTexConfig
from loctex.runs import Run
from loctex.snapshot import Snapshot

# Terms by the beginning of a narrative's dataset_id, where the snapshot does not state them.
_NARRATIVES = "narratives: Localized Narratives, CC BY 4.0"
TERMS = {
    "mscoco": f"{_NARRATIVES}; images: COCO, terms of Flickr",
    "coco": f"{_NARRATIVES}; images: COCO, terms of Flickr",
    "flickr30k": f"{_NARRATIVES}; images: Flickr30k, research and education only",
    "ade20k": f"{_NARRATIVES}; images: ADE20K, research only",
    "open_images": f"{_NARRATIVES}; images: Open Images, CC BY 2.0",
    "scenes": "rendered scenes and simulated narrators of this software; free",
}
LIBRARIES = {"torchvision": "pytorch", "timm": "timm", "huggingface": "transformers",
             "onnx": "onnx", "detectron2": "detectron2"}  # fmt: skip


def write(
    run: Path,
    checkpoint: Path,
    config: LocTexConfig,
    format: str,
    differences: Mapping[str, float],
) -> str:
    """Markdown. run: the run, or a save_pretrained folder; checkpoint: the folder exported."""
    name = run.resolve().name
    head = {"library_name": LIBRARIES[format], "tags": ["loctex", "localized-narratives"]}
    kind = "LocTex" if config.localized else "contrastive only: no trace was trained on"
    sections = {
        "Use": _use(format, config),
        "Check": "Reloaded and compared with the run, as a share of the largest number: "
        + ", ".join(f"{key} {value:.1e}" for key, value in differences.items())
        + ".",
        "Data": "\n".join(_data(run)),
        "Scores": "\n".join(_scores(run)),
        "Intended use": "Features for other tasks on images like those above, and showing where a "
        "caption's words are. Check both on your own labels first: "
        "`python -m loctex.transfer.efficiency`.",
        "Limits": "\n".join(f"- {limit}" for limit in _limits(run, config)),
        "Settings": "\n".join(_settings(run, checkpoint)),
    }
    text = "".join(f"\n## {title}\n\n{body}\n" for title, body in sections.items())
    return (
        f"---\n{_front(head)}---\n\n# {name}\n\n"
        f"An image and a text encoder ({config.backbone}; {kind}) trained by LocTex Studio on "
        f"captions with synchronized mouse traces, after Liu et al., ICCV 2021.\n{text}"
    )


def _front(head: Mapping[str, object]) -> str:
    return "".join(f"{key}: {json.dumps(value)}\n" for key, value in head.items())


def _use(format: str, config: LocTexConfig) -> str:
    name, size = config.backbone, config.image_size
    options = "".join(f", {key}={value!r}" for key, value in config.backbone_options.items())
    lines = {
        "torchvision": [
            f"model = torchvision.models.{name}()",
            "model.fc = torch.nn.Identity()",
            "model.load_state_dict(safetensors.torch.load_file('model.safetensors'), strict=True)",
        ],
        "timm": [
            f"model = timm.create_model({name!r}, features_only=True, out_indices=(-1,),",
            f"                          checkpoint_path='model.safetensors'{options})",
            "features = model(images)[-1].mean((2, 3))",
        ],
        "huggingface": [
            "model = loctex.model.LocTexModel.from_pretrained('.')",
            "tokenizer = transformers.AutoTokenizer.from_pretrained('.')",
            "processor = transformers.AutoImageProcessor.from_pretrained('.')",
        ],
        "onnx": [
            "image = onnxruntime.InferenceSession('image.onnx')",
            "embedding, features, cells = image.run(None, {'images': images})",
            "text = onnxruntime.InferenceSession('text.onnx')",
            "embedding, words = text.run(None, {'tokens': tokens})",
            "attention = onnxruntime.InferenceSession('attention.onnx')",
            "(maps,) = attention.run(None, {'cell_vectors': cells, 'token_vectors': words})",
        ],
        "detectron2": [
            "MODEL.WEIGHTS = 'model.pkl'",
            "MODEL.PIXEL_MEAN = [123.675, 116.280, 103.530]",
            "MODEL.PIXEL_STD = [58.395, 57.120, 57.375]",
            "MODEL.RESNETS.STRIDE_IN_1X1 = False",
            "INPUT.FORMAT = 'RGB'",
        ],
    }[format]
    code = "\n".join(lines)
    return (
        f"```python\n{code}\n```\n\nPixels: RGB / 255, less the mean (.485, .456, .406), divided "
        f"by (.229, .224, .225). It was trained on squares of {size} pixels."
    )


def _data(run: Path) -> Iterator[str]:
    """One paragraph per snapshot the run was trained on."""
    names = _wanted(run).data.snapshots if _has_settings(run) else ()
    if not names:
        yield "Unknown: the export was made from weights without a run."
    for entry in names:
        folder = Path(entry.rpartition("=")[0] or entry)
        try:
            manifest = Snapshot.open(folder).manifest
        except (FileNotFoundError, ValueError):
            yield f"- `{folder.name}`: no longer where it was; its hash and sources are unknown"
            continue
        counts = manifest["splits"].get("train", {})
        yield (
            f"- `{folder.name}`, snapshot {manifest['hash']}: {counts.get('images', 0):,} images "
            f"and {counts.get('narratives', 0):,} narratives to train on"
        )
        for source, count in manifest.get("sources", {}).items():
            terms = count.get("license") or manifest.get("licenses", {}).get(source)
            total = count.get("images", 0)
            yield f"  - {source}: {total:,} images in all splits; {terms or _terms(source)}"


def _terms(source: str) -> str:
    known = (terms for start, terms in TERMS.items() if source.lower().startswith(start))
    return next(known, "terms not stated: ask whoever made the snapshot")


def _scores(run: Path) -> Iterator[str]:
    """A table of what was measured: by the trainer, by loctex.evaluate, by the transfer tasks."""
    rows = [("validation at the end of training", _read(Run(run).result_file).get("metrics", {}))]
    for file in sorted(run.glob("evaluations/*/result.json")):
        rows.append((file.parent.name, _read(file).get("metrics", {})))
    for file in sorted(run.glob("transfer/*/result.json")):
        content = _read(file)
        for row in content.get("rows", []):
            found = {key: row[key] for key in ("map", "knn") if row.get(key) is not None}
            if row.get("mean"):  # of a label-efficiency curve, its end
                found = {f"{content['measure']}, {content['counts'][-1]} labels": row["mean"][-1]}
            rows.append((f"{file.parent.name}, {row.get('name')}", found))
    rows = [(where, values) for where, values in rows if values]
    if not rows:
        yield "None was measured."
        return
    yield "| where | measure | value |\n|---|---|---|"
    for where, values in rows:
        for measure, value in sorted(values.items()):
            yield f"| {where} | {measure} | {value:.3f} |"


def _limits(run: Path, config: LocTexConfig) -> Iterator[str]:
    yield "Human traces are noisy: about half of their points lie beside the thing that is named."
    yield "It knows the words and the pictures of its data, and carries over their biases."
    yield f"Captions are cut at {config.max_tokens} tokens."
    if not config.localized:
        yield "No trace was trained on: its attention comes from matching whole captions."
    if any("scenes" in line or "simulated" in line for line in _data(run)):
        yield "Some of its narratives are simulated; scores on them say little about people."
    if _wanted(run).model.init != "random":
        yield "It started from other weights (see `model.init`), whose terms and data also count."


def _settings(run: Path, checkpoint: Path) -> Iterator[str]:
    yield f"Checkpoint `{checkpoint.name}`."
    if _has_settings(run):
        wanted = settings.to_dict(_wanted(run))
        names = [Path(name).name for name in wanted["data"]["snapshots"]]
        wanted["data"]["snapshots"] = names  # where they lie on this machine is nobody's business
        init = wanted["model"]["init"]
        wanted["model"]["init"] = Path(init).name
        yield f"\n```yaml\n{settings.dump(settings.from_dict(wanted))}```"


def _has_settings(run: Path) -> bool:
    return Run(run).settings_file.exists()


def _wanted(run: Path) -> settings.Settings:
    return settings.load(Run(run).settings_file) if _has_settings(run) else settings.Settings()


def _read(file: Path) -> dict:
    """The JSON object of a file; {} where it is missing."""
    with suppress(FileNotFoundError):
        return json.loads(file.read_bytes())
    return {}
