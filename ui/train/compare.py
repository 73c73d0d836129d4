"""Several runs beside each other: their curves in one chart, settings and scores in a table."""

import json
from collections.abc import Sequence
from typing import Any

from loctex import settings
from loctex.jobs.run import Run
from loctex.records.files import write_whole
from ui.train import run_facts
from ui.train.curves import History

MOST = 6  # runs in one chart; more cannot be told apart
PANELS = (  # (metric, title, what it says, is a share)
    ("loss", "Loss", "lower is better", False),
    ("val_pointing_region", "Pointing at the thing named", "on new images", True),
    ("val_pointing_trace", "Pointing at the person's trace", "on new images", True),
    ("val_image_to_text_r1", "Caption of an image", "right at the first guess", True),
    ("val_text_to_image_r1", "Image of a caption", "right at the first guess", True),
    ("pairs_per_second", "Speed", "pairs a second", False),
)


def remarks(run: Run) -> dict[str, Any]:
    """{"star", "note"}: what a person said of a run."""
    try:
        content = json.loads(run.remarks_file.read_bytes())
    except (OSError, ValueError):
        content = {}
    content = content if isinstance(content, dict) else {}
    return {"star": bool(content.get("star")), "note": str(content.get("note", ""))}


def remark(run: Run, **values: Any) -> None:
    """Change a run's star or note."""
    write_whole(run.remarks_file, json.dumps(remarks(run) | values))


def scores(run: Run) -> dict[str, float]:
    """The last validation's scores, by the names of `run_facts.SCORES`."""
    latest = {name: value for row in run_facts.last_rows(run) for name, value in row.items()}
    return {
        label: latest[name]
        for name, label in run_facts.SCORES.items()
        if latest.get(name) is not None
    }


def table(runs: Sequence[Run], picked: Sequence[str]) -> dict[str, Any]:
    """What the RunTable component shows: {rows: [{name, star, note, state, step, scores,
    settings}], scores: [name], settings: [name]}; settings are those that differ among the picked
    runs, or among all."""
    settings_of = {run.name: run_facts.settings_of(run) for run in runs}
    compared = [own for name in picked or settings_of if (own := settings_of.get(name))]
    differ = differing(compared)

    rows = []
    for run in runs:
        progress, run_settings = run_facts.progress(run), settings_of[run.name]
        flat = _flat(run_settings) if run_settings else {}
        rows.append(
            {
                "name": run.name,
                "state": progress.state,
                "step": progress.step,
                **remarks(run),
                "picked": run.name in picked,
                "scores": scores(run),
                "settings": {name: _text(flat[name]) for name in differ if name in flat},
            }
        )

    named = [
        label for label in run_facts.SCORES.values() if any(label in r["scores"] for r in rows)
    ]

    return {"rows": rows, "scores": named, "settings": differ, "picked": list(picked)}


def differing(compared: Sequence[settings.Settings]) -> list[str]:
    """The names of the settings in which these differ."""
    flat = [_flat(run_settings) for run_settings in compared]
    return [name for name in flat[0] if len({repr(f[name]) for f in flat}) > 1] if flat else []


def _flat(run_settings: settings.Settings) -> dict[str, Any]:
    sections = settings.to_dict(run_settings)
    return {
        f"{section}.{name}": value
        for section, values in sections.items()
        for name, value in values.items()
    }


def _text(value: Any) -> str:
    if isinstance(value, list):  # snapshots: their folders' names say enough
        return ", ".join(str(folder).rstrip("/").rsplit("/", 1)[-1] for folder in value)
    return value.rsplit("/", 1)[-1] if isinstance(value, str) else json.dumps(value)


def chart(histories: Sequence[History]) -> dict[str, Any]:
    """What the Curves component draws of several runs: a run has one color in all charts."""
    panels: list[dict[str, Any]] = []
    for metric, title, note, is_share in PANELS:
        lines = []
        for number, history in enumerate(histories):
            if metric in history.lines:
                x, y = history.line(metric)
                lines.append({"name": history.run.name, "x": x, "y": y, "color": number + 1})
        if lines:
            panels.append({"title": title, "note": note, "is_share": is_share, "lines": lines})

    names = [history.run.name for history in histories]
    last_step = max((line["x"][-1] for panel in panels for line in panel["lines"]), default=None)

    return {
        "run": " ".join(names),
        "steps": last_step,
        "panels": panels,
        "message": "Choose runs in the table to lay their curves over each other.",
    }
