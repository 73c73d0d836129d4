"""The model card of an export, written from the run: nothing in it is typed by hand.

What the run does not say (moved snapshots, no evaluation) is said to be unknown.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from loctex import settings
from loctex.export import snippets
from loctex.jobs import provenance
from loctex.jobs.checkpoint_files import folder_at
from loctex.jobs.run import Run
from loctex.model.model import LocTexConfig
from loctex.model.pretrained import PACKAGES
from loctex.records import terms
from loctex.records.snapshot import Snapshot

LIBRARIES = {
    "torchvision": "pytorch",
    "timm": "timm",
    "huggingface": "transformers",
    "onnx": "onnx",
    "detectron2": "detectron2",
}
TASKS = {"huggingface": "zero-shot-image-classification"}  # of the hub; the others give features
UNKNOWN = "terms not stated: ask whoever made the snapshot"
ROW_SCORES = ("map", "knn", "box_ap", "mask_ap")  # of a transfer task's row


def preview(run: Path, checkpoint: Path, format: str, license: str = "") -> str:
    """The card that an export of this checkpoint will carry, before it is made."""
    folder = folder_at(checkpoint).resolve()
    return write(run, folder, LocTexConfig.from_pretrained(folder), format, {}, license)


def write(
    run: Path,
    checkpoint: Path,
    config: LocTexConfig,
    format: str,
    differences: Mapping[str, float],
    license: str = "",
) -> str:
    """Markdown. run: the run, or a save_pretrained folder; checkpoint: the folder exported.

    differences: output -> what the reloaded export differs by; nothing before it was made.
    license: of the weights, as the hub names it (cc-by-4.0); empty where nobody stated one.
    """
    name = run.resolve().name
    head: dict[str, object] = {
        "library_name": LIBRARIES[format],
        "pipeline_tag": TASKS.get(format, "image-feature-extraction"),
        "tags": ["loctex", "localized-narratives"],
    }
    head |= terms.hub_license(license)
    kind = "LocTex" if config.localized else "contrastive only: no trace was trained on"

    sections = {
        "Use": snippets.use(format, config),
        "Check": _check(differences),
        "Data": "\n".join(_data(run)),
        "License": _license(license),
        "Scores": "\n".join(_scores(run)),
        "Intended use": "Features for other tasks on images like those above, and showing where a "
        "caption's words are. Check both on your own labels first: "
        "`python -m loctex.transfer.efficiency`.",
        "Limits": "\n".join(f"- {limit}" for limit in _limits(run, config)),
        "Settings": "\n".join(_settings(run, checkpoint)),
        "Made with": "\n".join(_made_with(run)),
    }

    text = "".join(f"\n## {title}\n\n{body}\n" for title, body in sections.items())
    return (
        f"---\n{_front(head)}---\n\n# {name}\n\n"
        f"An image and a text encoder ({config.backbone}; {kind}) trained by LocTex Studio on "
        f"captions with synchronized mouse traces, after Liu et al., ICCV 2021.\n{text}"
    )


def _front(head: Mapping[str, object]) -> str:
    return "".join(f"{key}: {json.dumps(value)}\n" for key, value in head.items())


def _license(license: str) -> str:
    code = "The code that reads them, LocTex Studio, is under Apache-2.0."
    if license:
        return f"The weights: {license}, as whoever exported them stated. {code}"
    return (
        "Nobody stated one for the weights; the terms of the data above bind whoever passes them "
        f"on (`--license ID` states one). {code}"
    )


def _check(differences: Mapping[str, float]) -> str:
    if not differences:
        return "Not made yet: it is reloaded and compared with the run before it is written."
    measured = ", ".join(f"{key} {value:.1e}" for key, value in differences.items())
    return f"Reloaded and compared with the run, as a share of the largest number: {measured}."


def _data(run: Path) -> Iterator[str]:
    """One paragraph per snapshot the run was trained on, with the terms of what it holds."""
    names = settings_of(run).data.snapshots if _has_settings(run) else ()
    if not names:
        yield "Unknown: the export was made from weights without a run."
    recorded = {
        k: v for start in provenance.starts(Run(run)) for k, v in start["snapshots"].items()
    }

    for entry in names:
        folder = provenance.without_weight(entry)
        name, recorded_hash = Path(folder).name, recorded.get(folder)
        try:
            manifest = Snapshot.open(folder).manifest
        except (FileNotFoundError, ValueError):
            was = (
                f"; its content hash was {recorded_hash}"
                if recorded_hash
                else "; its hash is unknown"
            )
            yield f"- `{name}`: no longer where it was, so its sources are unknown{was}"
            continue

        if recorded_hash not in (None, manifest["hash"]):
            yield f"- `{name}`: was trained on with hash {recorded_hash}, and was changed since"
            continue

        counts = manifest["splits"].get("train", {})
        yield (
            f"- `{name}`, snapshot {manifest['hash']}: {counts.get('images', 0):,} images "
            f"and {counts.get('narratives', 0):,} narratives to train on"
        )

        for source, count in manifest.get("sources", {}).items():
            license = terms.of(source) or count.get("license") or UNKNOWN
            people = len(count.get("annotators", ()))
            by_whom = f", told by {people:,} annotator{'s' * (people != 1)}" if people else ""
            num_images = count.get("images", 0)
            yield f"  - {source}: {num_images:,} images in all splits{by_whom}; {license}"


def _made_with(run: Path) -> Iterator[str]:
    """Code and machine of the last start, as the run recorded them."""
    starts = provenance.starts(Run(run))
    if not starts:
        yield "Unknown: the run did not record it."
        return

    code, machine = starts[-1]["code"], starts[-1]["environment"]
    commit = f", commit {code['commit']}" if "commit" in code else ""
    commit += " with changes" if code.get("is_changed") else ""
    devices = ", ".join(machine["gpus"]) or f"{machine.get('processors', 1)} processor cores"

    yield f"LocTex Studio, code {code['hash'][:16]}{commit}; started {_times(len(starts))}."
    yield (
        f"\nPython {machine['python']} on {devices}, {_counted(machine['processes'], 'process')}; "
        + (", ".join(f"{name} {version}" for name, version in machine["packages"].items()))
        + "."
    )


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}es"


def _scores(run: Path) -> Iterator[str]:
    """A table of what was measured: by the trainer, by loctex.evaluate, by the transfer tasks."""
    rows = [("validation at the end of training", _read(Run(run).result_file).get("metrics", {}))]
    for file in sorted(run.glob("evaluations/*/result.json")):
        rows.append((file.parent.name, _read(file).get("metrics", {})))
    for file in sorted(run.glob("transfer/*/result.json")):
        rows += _rows(file.parent.name, _read(file))
    for file in sorted(run.resolve().parents[1].glob("evaluations/runs/*/result.json")):
        content = _read(file)  # asked for in the studio
        if content.get("run") == run.resolve().name:
            rows += _rows(file.parent.name, content)

    rows = [(where, values) for where, values in rows if values]
    if not rows:
        yield "None was measured."
        return

    yield "| where | measure | value |\n|---|---|---|"
    for where, values in rows:
        for measure, value in sorted(values.items()):
            yield f"| {where} | {measure} | {value:.3f} |"


def _rows(where: str, content: dict) -> Iterator[tuple[str, dict[str, float]]]:
    """(where, measure -> value) of a result.json."""
    if "metrics" in content:
        yield where, content["metrics"]
    for row in content.get("rows", []):
        scores = {key: row[key] for key in ROW_SCORES if row.get(key) is not None}
        if row.get("mean"):  # of a label-efficiency curve, its ends
            pairs = {content["counts"][k]: row["mean"][k] for k in (0, -1)}
            scores = {f"{content['measure']}, {n} labels": value for n, value in pairs.items()}
        yield f"{where}, {row.get('name')}", scores


def _limits(run: Path, config: LocTexConfig) -> Iterator[str]:
    yield "Human traces are noisy: about half of their points lie beside the thing that is named."
    yield "It knows the words and the pictures of its data, and carries over their biases."
    yield f"Captions are cut at {config.max_tokens} tokens."
    if not config.localized:
        yield "No trace was trained on: its attention comes from matching whole captions."
    if any("scenes" in line or "simulated" in line for line in _data(run)):
        yield "Some of its narratives are simulated; scores on them say little about people."
    model = settings_of(run).model
    if model.init == "timm" and model.backbone in PACKAGES and not model.weights:
        package = PACKAGES[model.backbone].name
        yield f"Its backbone started from {package}: trained on ImageNet, Apache-2.0."
    elif model.init != "random":
        yield "It started from other weights (see `model.init`), whose terms and data also count."


def _settings(run: Path, checkpoint: Path) -> Iterator[str]:
    yield f"Checkpoint `{checkpoint.name}`."
    if _has_settings(run):
        values = settings.to_dict(settings_of(run))
        names = [Path(name).name for name in values["data"]["snapshots"]]
        values["data"]["snapshots"] = names  # where they lie on this machine is nobody's business
        init = values["model"]["init"]
        values["model"]["init"] = Path(init).name
        values["model"]["weights"] = Path(values["model"]["weights"]).name
        yield f"\n```yaml\n{settings.dump(settings.from_dict(values))}```"


def _has_settings(run: Path) -> bool:
    return Run(run).settings_file.exists()


def settings_of(run: Path) -> settings.Settings:
    return settings.load(Run(run).settings_file) if _has_settings(run) else settings.Settings()


def _read(file: Path) -> dict:
    """The JSON object of a file; {} where it is missing."""
    with suppress(FileNotFoundError):
        return json.loads(file.read_bytes())
    return {}
