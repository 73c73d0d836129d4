"""Exports of models as jobs: a format, written and checked in a process of its own, and its zip.

They lie in WORKSPACE/handover/runs; what is handed over is the folder `files` of each, which is
there whole and checked, or not at all.
"""

import json
import sys
import zipfile
from contextlib import suppress
from pathlib import Path

from gradio.utils import get_upload_folder

from loctex.jobs.checkpoint_files import folder_at
from loctex.jobs.command import Command, short
from loctex.jobs.run import Run
from loctex.records import terms
from loctex.records.files import draft_file
from ui import heavy
from ui.evaluate.questions import free_path
from ui.workspace import Workspace

FORMATS = (  # (name, what it is for)
    ("torchvision", "torchvision: one state dict, load_state_dict(strict=True)"),
    ("timm", "timm: create_model(checkpoint_path=...)"),
    ("huggingface", "Hugging Face: the whole model, from_pretrained"),
    ("onnx", "ONNX: image, text and attention, for any runtime"),
    ("detectron2", "detectron2: MODEL.WEIGHTS"),
)


TORCHVISION = ("torchvision", "detectron2")  # formats that hold torchvision's own models only


def root(workspace: Workspace) -> Path:
    """Whose runs/ the exports are."""
    return workspace.root / "handover"


def files(job: Run) -> Path:
    """The folder that is handed over."""
    return job.path / "files"


def state(job: Run) -> str:
    """As of any job; done where the checked folder is there."""
    if job.is_live():
        return job.state
    return "done" if (files(job) / "README.md").exists() else job.state


def command(
    workspace: Workspace, model: str, format: str, license: str = ""
) -> tuple[Run, Command]:
    """The job that writes RUN/best in a format, and what it executes. license: of the weights, for
    the card. ValueError: none chosen, or one that this format has no place for."""
    if not model:
        raise ValueError("Choose a model.")
    if format not in dict(FORMATS):
        raise ValueError(f"There is no format {format[:20]!r}; choose one from the list.")

    checkpoint = Path(model)
    if format in TORCHVISION and _has_own_layers(checkpoint):
        raise ValueError(
            f"{checkpoint.parent.name} has layers of its own, as the tiny preset has, which "
            "torchvision has not: choose timm, Hugging Face or ONNX."
        )

    job = Run(free_path(root(workspace), f"{checkpoint.parent.name}-{format}"))
    words = (
        short(sys.executable),
        "-m",
        "loctex.export",
        "--run",
        short(checkpoint.parent),
        "--checkpoint",
        checkpoint.name,
        "--format",
        format,
        "--to",
        short(files(job)),
        *(("--license", _license_id(license)) if license.strip() else ()),
    )
    return job, Command(words, devices=("cpu",), grace=0.0)


def _license_id(license: str) -> str:
    """The hub's name of a license, also of one that is written as people write it; ValueError where
    it is several words that it knows no name of."""
    named = terms.hub_license(license)
    if named["license"] != "other":
        return named["license"]
    words = license.split()
    if len(words) != 1 or words[0].startswith("-"):
        raise ValueError(
            f"The hub knows no license {license.strip()!r}: write its name there, as cc-by-4.0, or "
            "leave it empty and say it in the card."
        )
    return words[0]


def _has_own_layers(checkpoint: Path) -> bool:
    """Whether the backbone is built with options of its own; loctex.export refuses those too."""
    with suppress(FileNotFoundError):
        return bool(
            json.loads((folder_at(checkpoint) / "config.json").read_bytes()).get("backbone_options")
        )
    return False


def card(model: str, format: str, license: str = "") -> str:
    """The model card that an export would carry, as Markdown."""
    cards = heavy.module("export.card")
    checkpoint = Path(model)
    stated = _license_id(license) if license.strip() else ""
    return without_head(cards.preview(checkpoint.parent, checkpoint, format, stated))


def without_head(text: str) -> str:
    """A card without the lines between --- that are for the hub."""
    return text.split("---\n", 2)[2] if text.startswith("---\n") else text


def packed(job: Run) -> Path:
    """The files as a zip, where the browser may fetch it; made once."""
    written = (files(job) / "README.md").stat().st_mtime_ns
    zipped = Path(get_upload_folder()) / "handover" / str(written) / f"{job.name}.zip"
    if not zipped.exists():
        paths = sorted(path for path in files(job).rglob("*") if path.is_file())
        with draft_file(zipped) as draft, zipfile.ZipFile(draft, "w") as archive:
            for file in paths:  # stored as it is, for weights do not shrink
                archive.write(file, Path(job.name) / file.relative_to(files(job)))
    return zipped
