"""The film of a run -> what the FilmPlayer draws: a strip of moments for each picture."""

from typing import Any

import numpy as np

from loctex.jobs.run import Run

MOMENTS = 8  # frames that a strip shows


def film(run: Run, limit: int = MOMENTS) -> dict[str, Any]:
    """{run, grid, steps, pictures: [{image, width, height, caption, words, trace, maps, hits}]},
    maps and hits by moment; a message where there is nothing yet."""
    head, frames = run.film()
    if head is None or not frames:
        is_early = run.state in ("new", "waiting", "running")
        coming = "Its first pictures come with the first step."
        return {"run": run.name, "message": coming if is_early else "No film was taken."}

    moment_frames = [frames[i] for i in moments([frame["step"] for frame in frames], limit)]
    pictures = [
        picture | {key: [frame[key][i] for frame in moment_frames] for key in ("maps", "hits")}
        for i, picture in enumerate(head["pictures"])
    ]

    steps = [frame["step"] for frame in moment_frames]
    return {"run": run.name, "grid": head["grid"], "steps": steps, "pictures": pictures}


def moments(steps: list[int], limit: int) -> list[int]:
    """Which frames to show: the first, the last and between them ever wider apart, for most is
    learned early (ours)."""
    if len(steps) <= limit:
        return list(range(len(steps)))
    indices = [0]
    for number, share in enumerate(np.linspace(0, 1, limit)[1:], 1):
        latest = len(steps) - limit + number  # so that there is one for each of the rest
        indices.append(min(max(round((len(steps) - 1) * share**1.7), indices[-1] + 1), latest))
    return indices
