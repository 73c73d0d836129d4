"""What a person sees of a run: its line in the list, how far it is, why it failed."""

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from html import escape
from pathlib import Path
from typing import Any

from loctex import settings
from loctex.jobs import checkpoint_files, damage, failures, provenance
from loctex.jobs import queue as jobs
from loctex.jobs.run import METRICS_TAIL, Run, parse_row
from loctex.jobs.slurm import record, sentences
from loctex.settings import Settings

SCORES = {  # what a finished run is summed up by
    "val_pointing_region": "Pointing",
    "val_pointing_trace": "Pointing at the trace",
    "val_image_to_text_r1": "Caption of an image",
    "val_text_to_image_r1": "Image of a caption",
}


@dataclass(frozen=True)
class RunProgress:
    """How far a run is; seconds are None where they cannot be known yet."""

    state: str
    step: int
    num_steps: int | None
    seconds: float | None
    seconds_left: float | None
    features: tuple[int, int] | None = None  # images that a frozen backbone has seen, of all

    @property
    def share(self) -> float:
        return min(1.0, self.step / self.num_steps) if self.num_steps else 0.0


def progress(run: Run) -> RunProgress:
    """From the ends of metrics.jsonl alone: a long run costs no more than a short one."""
    rows, state = last_rows(run), run.state
    run_settings = settings_of(run)
    num_steps = run_settings.train.steps if run_settings else None

    if not rows:
        features, seconds_left = _features(run) if state == "running" else (None, None)
        return RunProgress(state, 0, num_steps, None, seconds_left, features)

    step, now = rows[-1]["step"], rows[-1]["time"]
    begun = 0.0
    with suppress(OSError):
        begun = run.train_lock.stat().st_mtime

    recent = [row for row in rows if row["time"] >= begun]  # not from before it was resumed

    seconds_left = None
    if state == "running" and num_steps and len(recent) > 1 and step > recent[0]["step"]:
        pace = (now - recent[0]["time"]) / (step - recent[0]["step"])
        seconds_left = max(0.0, (num_steps - step) * pace)

    return RunProgress(state, step, num_steps, _seconds(run, now), seconds_left)


def _features(run: Run) -> tuple[tuple[int, int] | None, float | None]:
    """Images whose features are there, of all, and seconds left; None while none are computed."""
    try:
        facts = json.loads(run.features_file.read_bytes())
        count, total = int(facts["count"]), int(facts["total"])
        num_new = count - max(0, total - facts["missing"])
        pace = (time.time() - facts["began"]) / max(1, num_new)
    except (OSError, ValueError, KeyError, TypeError):
        return None, None
    return (count, total), max(0.0, (total - count) * pace)


def last_rows(run: Run) -> list[dict[str, Any]]:
    """The last lines of metrics.jsonl, about 8 KB of them."""
    try:
        size = run.metrics_file.stat().st_size
        return _last_rows(run.path, size)
    except OSError:
        return []


@lru_cache(maxsize=256)
def _last_rows(path: Path, size: int) -> list[dict[str, Any]]:
    with open(Run(path).metrics_file, "rb") as file:
        start = max(0, size - METRICS_TAIL)
        file.seek(start)
        skipped = len(file.readline()) if start else 0
    return Run(path).read_metrics(start + skipped)[0]


def _seconds(run: Run, now: float) -> float | None:
    """How long it took; unknown for a resumed run, which may have rested for days."""
    command = jobs.read_command(run)
    if command and "--resume" in command.words:
        return None
    with open(run.metrics_file, "rb") as file:
        first_row = parse_row(file.readline())
    return now - first_row["time"] if first_row else None


def settings_of(run: Run) -> Settings | None:
    """The settings of a run; None before they are there, or where they cannot be read."""
    try:
        written = run.settings_file.stat().st_mtime_ns
    except OSError:
        return None
    return _settings(run.settings_file, written)


@lru_cache(maxsize=256)
def _settings(path: Path, written: int) -> Settings | None:
    try:
        return settings.load(path)
    except (OSError, ValueError):  # of another version, or torn: `broken` says so
        return None


def broken(run: Run) -> str:
    """HTML: which files of a run cannot be read, and what can still be done; "" if all can."""
    problems = damage.unreadable(run)
    if not problems:
        return ""
    lines = "".join(
        f"<li><b>{escape(name)}</b> cannot be read: {escape(why)}</li>"
        for name, why in problems.items()
    )
    return (
        f"<div class='failure' role='alert'><b>This run is damaged.</b><ul>{lines}</ul><p>What can "
        f"be read is shown. Put the file right in {escape(str(run.path))}, or delete the run; its "
        "checkpoints can still be looked at. No other run is touched by it.</p></div>"
    )


def run_list(runs: list[Run], selected: str, places: Mapping[str, int]) -> str:
    """The runs as buttons, newest first, each with its state; places: of those in the queue."""
    buttons = []
    for run in runs:
        run_progress, is_shown = progress(run), str(run.name == selected).lower()
        short = _short_state(run_progress, places.get(run.name))
        if run_progress.state == "waiting" and run.has_cluster_job():
            short = "in the cluster's queue"
        problems = damage.unreadable(run)
        if problems:
            short = f"{escape(', '.join(problems))} cannot be read"
        buttons.append(
            f"<button data-run='{escape(run.name)}' aria-pressed='{is_shown}'>"
            f"<b>{escape(run.name)}</b>{_chip(run_progress.state)}<small>{short}</small></button>"
        )
    return f"<nav class='runs' aria-label='Runs'>{''.join(buttons)}</nav>"


def _short_state(run_progress: RunProgress, place: int | None) -> str:
    if run_progress.state == "waiting" and place is not None:
        return "the next one" if place == 1 else f"number {place} in the queue"
    if run_progress.state in ("running", "stopping"):
        time_left = (
            f" · {duration(run_progress.seconds_left)} left"
            if run_progress.seconds_left is not None
            else ""
        )
        return f"{run_progress.share:.0%}{time_left}"
    if run_progress.state in ("done", "stopped", "failed") and run_progress.step:
        return f"{run_progress.step:,} steps"
    return ""


def status(run: Run, ahead: Sequence[str] = ()) -> str:
    """The head of a run's page; `ahead` names the runs it waits for."""
    run_progress = progress(run)

    sections = [
        f"<header><h2>{escape(run.name)}</h2>{_chip(run_progress.state)}</header>",
        f"<p class='about'>{escape(about(run))}</p>",
        _bar(run_progress),
        f"<p class='where'>{escape(_where(run, run_progress, ahead))}</p>",
    ]

    sections.append(broken(run))
    if run_progress.state == "failed":
        sections.append(_failure(run))
    if run_progress.state == "done":
        sections.append(_scores(run))

    return f"<section class='run'>{''.join(sections)}</section>"


def _where(run: Run, run_progress: RunProgress, ahead: Sequence[str]) -> str:
    """Where a run is, and what its cluster says of it where it is there."""
    where = sentence(run_progress, ahead)
    job = record.read(run.path)
    if job is None or not run.has_cluster_job():
        return where
    if run_progress.state == "waiting":
        step = f" It goes on from step {run_progress.step:,}." if run_progress.step else ""
        return sentences.sentence(job) + step
    return f"{where.rstrip('.')}. {sentences.sentence(job)}"


def sentence(run_progress: RunProgress, ahead: Sequence[str] = ()) -> str:
    """Where a run is, in words."""
    where = f"step {run_progress.step:,}"
    if run_progress.num_steps:
        where += f" of {run_progress.num_steps:,}"

    if run_progress.state == "waiting":
        return f"It starts after {', '.join(ahead)}." if ahead else "It starts in a moment."

    if run_progress.state == "running":
        if run_progress.features is not None:
            count, total = run_progress.features
            left = f", about {duration(run_progress.seconds_left or 0)} left"
            return f"Looking at each image once: {count:,} of {total:,}{left}."
        if not run_progress.step:
            return "Starting: loading the program and the images."
        if run_progress.seconds_left is None:
            return where.capitalize()
        return f"{where.capitalize()}, about {duration(run_progress.seconds_left)} left"

    took = f" in {duration(run_progress.seconds)}" if run_progress.seconds is not None else ""
    return {
        "new": "It was not started yet.",
        "stopping": "It writes a checkpoint, then it ends.",
        "stopped": f"Stopped at {where}. Resume goes on from there."
        if run_progress.step
        else "Stopped before its first step. Try again starts it.",
        "failed": f"Ended at {where}." if run_progress.step else "Ended before its first step.",
        "done": f"{run_progress.step:,} steps{took}.",
    }[run_progress.state]


def about(run: Run) -> str:
    """What it is trained on, and what was changed, as its command says."""
    run_settings, command = settings_of(run), jobs.read_command(run)
    if run_settings is None:
        return ""

    text = "On " + (
        " + ".join(Path(name).name for name in run_settings.data.snapshots) or "no images"
    )

    arguments = dict(zip(command.words, command.words[1:], strict=False)) if command else {}
    if "--preset" in arguments:
        text += f" · preset {arguments['--preset']}"
    if "--model.init" in arguments:
        text += f" · from {Path(arguments['--model.init']).name}"

    changed = [
        f"{name.split('.')[1].replace('_', ' ')} {value}"
        for name, value in arguments.items()
        if name.startswith("--") and "." in name and name != "--model.init"
    ]

    return text + (f" with {', '.join(changed)}" if changed else "")


def checkpoints(run: Run) -> list[tuple[str, str]]:
    """(label, name) of what a run can be resumed from, the last one first."""
    links = {
        name: folder.name
        for name in checkpoint_files.NAMES
        if (folder := checkpoint_files.linked(run.path, name)) is not None
    }
    choices = [(f"the last one, {_step_of(links['last'])}", "last")] if "last" in links else []
    for folder in checkpoint_files.folders(run.path)[::-1]:
        if folder.name != links.get("last"):
            best = ", the best so far" if folder.name == links.get("best") else ""
            choices.append((f"{_step_of(folder.name)}{best}", folder.name))
    return choices


def _step_of(name: str) -> str:
    number = name.removeprefix("step-")
    return f"step {int(number):,}" if number.isascii() and number.isdigit() else name


def origin(run: Run) -> str:
    """What the run says of its snapshots, its code and its machine; a line for each start."""
    rows = []
    for start in provenance.starts(run):
        code, machine = start["code"], start["environment"]
        commit = code.get("commit", "")[:12]
        version = f"commit {commit}{' with changes' if code.get('is_changed') else ''}"
        version = version if commit else f"package {code['hash'][:12]}"
        snapshots = ", ".join(f"{Path(f).name} {h[:12]}" for f, h in start["snapshots"].items())

        packages = machine["packages"]
        rows.append(
            (
                time.strftime("%Y-%m-%d %H:%M", time.localtime(start["time"])),
                snapshots,
                version,
                f"Python {machine['python']}, torch {packages.get('torch', 'unknown')}",
                ", ".join(machine["gpus"]) or f"{machine.get('processors', 1)} processor cores",
            )
        )

    if not rows:
        return "<p class='quiet'>The trainer writes this when it starts.</p>"

    head = "".join(f"<th>{name}</th>" for name in ("Start", "Snapshots", "Code", "With", "On"))
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )

    return (
        f"<div class='origin'><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        "</div><p class='quiet'>The whole of it is in starts.jsonl of the run.</p>"
    )


def log_text(run: Run, num_lines: int = 200) -> str:
    """The end of the log, for a box that scrolls to its foot."""
    lines = run.log_tail(num_lines)
    text = "\n".join(lines) if lines else "Nothing was printed yet."
    return f"<pre class='log' tabindex='0'>{escape(text)}</pre>"


def duration(seconds: float) -> str:
    """A time as one says it: 40 s, 12 min, 3 h 5 min, 2 days."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{round(hours / 24)} days"


def _chip(state: str) -> str:
    return f"<span class='chip {state}'>{state}</span>"


def _bar(run_progress: RunProgress) -> str:
    if run_progress.state in ("new", "waiting", "done"):
        return ""
    if run_progress.state == "running" and not run_progress.step:
        return "<div class='bar busy' role='progressbar' aria-label='starting'><i></i></div>"
    return (
        f"<div class='bar {run_progress.state}' role='progressbar' aria-label='steps' "
        f"aria-valuemin='0' aria-valuemax='100' aria-valuenow='{run_progress.share * 100:.0f}'>"
        f"<i style='width: {run_progress.share:.2%}'></i></div>"
    )


def _failure(run: Run) -> str:
    why = failures.explain(run)
    tail = escape("\n".join(run.log_tail(8)))
    return (
        f"<div class='failure' role='alert'><b>{escape(why.what)}</b><p>{escape(why.remedy)}</p>"
        + (f"<pre>{tail}</pre>" if tail else "")
        + "</div>"
    )


def _scores(run: Run) -> str:
    latest = {name: value for row in last_rows(run) for name, value in row.items()}
    cells = []
    for name, label in SCORES.items():
        value, middle = latest.get(name), latest.get(f"{name}_center")
        if value is None:
            continue
        # A share says little without what needs no model: always the middle of the picture.
        trivial = "" if middle is None else f"<small>always the middle: {middle:.0%}</small>"
        cells.append(f"<div><dt>{label}</dt><dd>{value:.0%}{trivial}</dd></div>")
    return f"<dl class='scores'>{''.join(cells)}</dl>" if cells else ""
