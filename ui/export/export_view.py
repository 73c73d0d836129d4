"""What a person sees of an export, as HTML."""

import re
from collections.abc import Sequence
from html import escape

from loctex.jobs.run import Run
from ui.evaluate.evaluation_view import failure
from ui.export import exports


def job_list(job_runs: Sequence[Run], selected: str) -> str:
    """The exports as buttons, newest first."""
    rows = "".join(
        f"<button data-run='{escape(job.name)}' "
        f"aria-pressed='{str(job.name == selected).lower()}'><b>{escape(job.name)}</b>"
        f"<span class='chip {state}'>{state}</span></button>"
        for job in job_runs
        if (state := exports.state(job))
    )
    return f"<nav class='runs' aria-label='Exports'>{rows}</nav>"


def status(job: Run) -> str:
    """The head of an export's page."""
    state = exports.state(job)
    sentence = {
        "waiting": "It starts when the one before it is done.",
        "running": "Writing the weights, then reading them back with the code they are for.",
        "stopping": "It ends.",
        "stopped": "It was stopped; nothing was written.",
    }.get(state, "")

    busy = "<div class='bar busy' role='progressbar' aria-label='progress'><i></i></div>"
    sections = [
        f"<header><h2>{escape(job.name)}</h2><span class='chip {state}'>{state}</span></header>",
        "<p class='about'></p>",
        busy if state == "running" else "",
        f"<p class='where'>{sentence}</p>" if sentence else "",
        failure(job) if state == "failed" else "",
        contents(job) if state == "done" else "",
    ]
    return f"<section class='run'>{''.join(sections)}</section>"


def contents(job: Run) -> str:
    """What was written, and how nearly the reloaded export computes what the run computes."""
    log = "\n".join(job.log_tail(40))
    checks = re.findall(r"^(\w+) +differs by (\S+) after reloading$", log, re.MULTILINE)

    sentence = (
        "Reloaded and compared with the run; the largest difference, as a share of the largest "
        "number: " + ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in checks) + "."
        if checks
        else ""
    )

    rows = "".join(
        f"<tr><th>{escape(str(file.relative_to(exports.files(job))))}</th>"
        f"<td>{_size(file.stat().st_size)}</td></tr>"
        for file in sorted(path for path in exports.files(job).rglob("*") if path.is_file())
    )

    place = escape(str(exports.files(job)))
    table = (
        f"<div class='scroll'><table><caption>{place}</caption><tbody>{rows}</tbody></table></div>"
    )
    return f"<p class='where'>{escape(sentence)}</p>{table}"


def _size(count: int) -> str:
    if count < 1e6:
        return f"{count / 1e3:.1f} kB"
    return f"{count / 1e6:.1f} MB" if count < 1e9 else f"{count / 1e9:.2f} GB"
