"""README.md of a snapshot or an export: in its head what the hub and `datasets` read, then words.

People are numbers here: names stay in the studio.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from loctex.records import terms

VOICES = "voices.parquet"
UNSTATED = "not stated: ask who recorded it"


def head(
    name: str,
    licenses: Sequence[str | None],
    splits: Sequence[str] = (),
    *,
    has_voices: bool = False,
) -> str:
    """The lines between ---, JSON as YAML takes it. licenses: the terms of each source; splits: of
    the parquet files, none where there are lines alone."""
    stated = set(licenses)
    license = terms.hub_license(stated.pop() if len(stated) == 1 else "; ".join(_texts(licenses)))

    files: Any = "narratives*.jsonl"
    if splits:
        files = [{"split": split, "path": f"data/{split}-*.parquet"} for split in splits]
    configs = [{"config_name": "default", "data_files": files}]
    if has_voices:
        configs.append({"config_name": "voices", "data_files": VOICES})

    content = {
        "pretty_name": name,
        **license,
        "task_categories": ["image-to-text", "zero-shot-image-classification"],
        "tags": ["loctex", "localized-narratives"],
        "configs": configs,
    }
    return f"---\n{json.dumps(content, indent=1)}\n---\n"


def _texts(licenses: Sequence[str | None]) -> list[str]:
    return [text or UNSTATED for text in licenses]


def snapshot_card(name: str, manifest: Mapping[str, Any]) -> str:
    """README.md of a snapshot, from its manifest."""
    sources = manifest["sources"]
    licenses = [source["license"] for source in sources.values()]
    rows = [
        f"| {source} | {counts['images']:,} | {counts['narratives']:,} | {counts['words']:,} "
        f"| {len(counts['annotators']):,} | {counts['license'] or UNSTATED} |"
        for source, counts in sources.items()
    ]
    table = "\n".join(rows)
    sizes = ", ".join(f"{split} {n['images']:,}" for split, n in manifest["splits"].items())
    return f"""{head(name, licenses, list(manifest["splits"]))}
# {name}

Images that people described while they pointed at what they said, frozen for training: snapshot
{manifest["hash"]}, images: {sizes}.

| dataset_id | images | narratives | timed words | annotators | terms |
|---|---|---|---|---|---|
{table}

- `data/`: a row for each image: its JPEG, at most 288 px on the short side, and `narratives`, each
  with caption, times of its words (seconds) and the trace (x, y in fractions; t_us in microseconds;
  stroke_lengths says where a stroke ends)
- `snapshot.json`, `rows.parquet`: what LocTex Studio needs to open it and to go on from it

Frozen by LocTex Studio. A dataset_id with "simulated" was told by nobody: it was made from boxes.
"""
