"""What a person sees of an evaluation, as HTML: how far it is, and what it found."""

import re
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from loctex.jobs import failures
from loctex.jobs import queue as jobs
from loctex.jobs.run import Run
from ui.evaluate.questions import ours_first, result

MEASURES = (  # of retrieval and pointing: (name, what it says)
    ("pointing_region", "Points at the thing named"),
    ("pointing_trace", "Points at the person's trace"),
    ("auc", "Map against the trace, AUC"),
    ("iou", "Map against the trace, best IoU"),
    ("lbm_0", "Distance of the traces, LBM k = 0 (less is better)"),
    ("lbm_1", "Distance of the traces, LBM k = 1 (less is better)"),
    ("energy", "Attention inside the thing named"),
    ("image_to_text_r1", "Finds the caption of an image, first guess"),
    ("image_to_text_r5", "Finds the caption of an image, five guesses"),
    ("text_to_image_r1", "Finds the image of a caption, first guess"),
    ("text_to_image_r5", "Finds the image of a caption, five guesses"),
)
TWINS = ("", "_contrastive", "_center", "_chance")
POINTING = {  # as the sentence above the table names what is pointed at
    "pointing_region": "the thing named",
    "pointing_trace": "the person's trace",
}
MOST_WORDS = 12


def job_list(job_runs: Sequence[Run], selected: str) -> str:
    """The jobs as buttons, newest first, each with its state."""
    rows = []
    for job in job_runs:
        state = job.state
        share, _ = progress(job)
        short = f"{share:.0%}" if state == "running" and share is not None else ""
        rows.append(
            f"<button data-run='{escape(job.name)}' "
            f"aria-pressed='{str(job.name == selected).lower()}'><b>{escape(job.name)}</b>"
            f"<span class='chip {state}'>{state}</span><small>{short}</small></button>"
        )
    return f"<nav class='runs' aria-label='Evaluations'>{''.join(rows)}</nav>"


def progress(job: Run) -> tuple[float | None, str]:
    """(share, what it is at and how long that takes) as its last progress bar says; or (None, "").

    A bar of tqdm: "mine:  45%|####     | 450/1000 [00:10<00:12, 45.0image/s]".
    """
    for line in reversed(job.log_tail(3)):
        bar = re.search(
            r"(?:^|\s)(?P<what>.*?):?\s*(?P<share>\d+)%\|.*?\[.*?<(?P<left>[\d:?]+)", line
        )
        if bar:
            what = bar["what"].strip() or "Scoring"
            time_left = "" if "?" in bar["left"] else f", {bar['left']} left of this part"
            return int(bar["share"]) / 100, what + time_left
    return None, ""


def status(job: Run, ahead: Sequence[str] = ()) -> str:
    """The head of an evaluation's page."""
    state = job.state
    share, doing = progress(job)
    sentence = {
        "waiting": f"It starts after {', '.join(ahead)}." if ahead else "It starts in a moment.",
        "running": f"{doing}." if doing else "Starting: loading the program.",
        "stopping": "It ends.",
        "stopped": "It was stopped. Start it again: features that were computed are kept.",
    }.get(state, "")

    bar = ""
    if state == "running":
        style = f"style='width: {share:.0%}'" if share is not None else ""
        busy = "" if share is not None else " busy"
        bar = (
            f"<div class='bar{busy}' role='progressbar' aria-label='progress'><i {style}></i></div>"
        )

    sections = [
        f"<header><h2>{escape(job.name)}</h2><span class='chip {state}'>{state}</span></header>",
        f"<p class='about'>{escape(about(job))}</p>",
        bar,
        f"<p class='where'>{escape(sentence)}</p>" if sentence else "",
        failure(job) if state == "failed" else "",
        "<p class='problem' role='alert'>Its result.json cannot be read: evaluate again.</p>"
        if state == "done" and not result(job)
        else "",
    ]

    return f"<section class='run'>{''.join(sections)}</section>"


def about(job: Run) -> str:
    """What was asked, in words, as its command says it."""
    command = jobs.read_command(job)
    words = command.words if command else ()
    pairs = list(zip(words, words[1:], strict=False))
    arguments = dict(pairs)
    if "--labels" in arguments:
        beside = [Path(value).name for name, value in pairs if name == "--also"]
        return f"{arguments['--labels']} · beside {', '.join(['random initialization', *beside])}"
    return (
        f"{arguments.get('--data', '')} · split {arguments.get('--split', '')}" if arguments else ""
    )


def failure(job: Run) -> str:
    """Why it failed, and what to do."""
    why = failures.explain(job)
    tail = escape("\n".join(job.log_tail(8)))
    return (
        f"<div class='failure' role='alert'><b>{escape(why.what)}</b><p>{escape(why.remedy)}</p>"
        f"<pre>{tail}</pre></div>"
    )


def headline(content: dict[str, Any]) -> str:
    """What a label-efficiency curve says, in sentences; "" for anything else."""
    if not content.get("sentences"):
        return ""
    lead, *sentences = content["sentences"]
    paragraphs = "".join(f"<p>{escape(text)}</p>" for text in sentences)
    return f"<section class='says'><p class='first'>{escape(lead)}</p>{paragraphs}</section>"


def report(content: dict[str, Any]) -> str:
    """The tables of a result; what does not count is named."""
    if not content:
        return ""
    if content.get("protocol") == "efficiency":
        sections = [label_table(content)]
    else:
        sections = [
            about_split(content),
            verdict(content["metrics"], content.get("intervals", {})),
            measure_table(content["metrics"]),
            word_table(content["words"]),
        ]
    return f"<section class='report'>{''.join(sections)}{left_out(content)}</section>"


def label_table(content: dict[str, Any]) -> str:
    head = "".join(f"<th>{count:,}</th>" for count in content["counts"])
    best = [max(column) for column in zip(*(row["mean"] for row in content["rows"]), strict=True)]

    body = "".join(
        f"<tr><th>{escape(row['name'])}</th>"
        + "".join(
            _cell(f"{100 * mean:.1f} <small>±{100 * std:.1f}</small>", mean == top)
            for mean, std, top in zip(row["mean"], row["std"], best, strict=True)
        )
        + "</tr>"
        for row in ours_first(content["rows"])
    )

    measure = {"accuracy": "accuracy", "map": "mean AP"}[content["measure"]]
    caption = (
        f"{measure}, percent · {len(content['classes'])} classes · {content['num_train']:,} images "
        f"to learn from, {content['num_test']:,} to test on"
    )
    return _table(caption, f"<tr><th>labels</th>{head}</tr>", body)


def about_split(content: dict[str, Any]) -> str:
    return (
        f"<p class='quiet'>{content['num_images']:,} images, {content['num_words']:,} words with a "
        f"trace · split {escape(content['split'])} · {escape(_step(content['checkpoint']))}</p>"
    )


def _step(checkpoint: str) -> str:
    """step-00000550 -> step 550"""
    number = checkpoint.removeprefix("step-")
    return f"step {int(number):,}" if number.isdigit() else checkpoint


def verdict(metrics: dict[str, float], intervals: dict[str, list[float]]) -> str:
    """In words: what the model points at, beside an answer that needs no model."""
    sentences = []
    for name, subject in POINTING.items():
        value, middle = metrics.get(name), metrics.get(f"{name}_center")
        if value is None or middle is None:
            continue

        low, high = intervals.get(name, (value, value))
        comparison = "better than" if value > middle else "not better than"
        sentence = (
            f"Points at {subject} {value:.0%} of the time, {comparison} always pointing at the "
            f"middle ({middle:.0%})"
        )

        if low <= middle <= high:
            sentence += "; with so few pictures that may be chance"
        sentences.append(f"<p>{sentence}.</p>")
    return f"<div class='verdict'>{''.join(sentences)}</div>" if sentences else ""


def measure_table(metrics: dict[str, float]) -> str:
    columns = ("", "model", "its contrastive head", "always the middle", "chance")
    head = f"<tr>{''.join(f'<th>{name}</th>' for name in columns)}</tr>"
    body = ""
    for name, label in MEASURES:
        if name in metrics:
            cells = (metrics.get(name + twin) for twin in TWINS)
            texts = (_cell("" if v is None else f"{v:.3f}", False) for v in cells)
            body += f"<tr><th>{label}</th>{''.join(texts)}</tr>"
    return _table("shares, 0 to 1", head, body)


def word_table(words: dict[str, dict[str, float]]) -> str:
    """Of the words with traces; those that only name a region have no count of them."""
    ranked = sorted(
        ((word, row) for word, row in words.items() if "count" in row),
        key=lambda pair: -pair[1]["count"],
    )
    rows = "".join(
        f"<tr><th>{escape(word)}</th><td>{row['count']:,}</td><td>{row['pointing_trace']:.2f}</td></tr>"
        for word, row in ranked[:MOST_WORDS]
    )
    head = "<tr><th>word</th><th>times</th><th>points at the trace</th></tr>"
    return _table("the words said most", head, rows) if rows else ""


def left_out(content: dict[str, Any]) -> str:
    """What a result does not count, by name."""
    rows = list(content.get("left_out", {}).items())
    if not rows:
        return ""
    items = "".join(f"<li>{escape(what)}: {escape(why)}</li>" for what, why in rows[:10])
    more = f"<li>and {len(rows) - 10:,} more, in the download</li>" if len(rows) > 10 else ""
    return f"<div class='problem'><b>Left out</b><ul>{items}{more}</ul></div>"


def _table(caption: str, head: str, body: str) -> str:
    return (
        f"<div class='scroll'><table><caption>{caption}</caption><thead>{head}</thead>"
        f"<tbody>{body}</tbody></table></div>"
    )


def _cell(text: str, is_best: bool) -> str:
    return f"<td class='best'>{text}</td>" if is_best else f"<td>{text}</td>"
