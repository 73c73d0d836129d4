"""Gates on a take: what a reviewer should look at, found by rules. They refuse nothing. (Ours.)

Traces and words are judged on the record alone; the voice, where there is one, on its samples.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from loctex.records import trace, words
from loctex.records.narrative import Narrative

GRID = (14, 14)
MARGIN = 0.2  # seconds by which a word's window is widened
POINTED = 0.6  # least share of words during which the pointer was on the picture
COVERED = 0.3  # least share of the narrative's time that it was
CELLS = 3  # least cells of a 14 x 14 grid that a trace of five words or more visits
PACE = (20, 280)  # words a minute; people speak at 80 to 180 (data_tools.pace)
FRAME = 480  # samples of a voice judged together: 30 ms at 16 kHz
QUIET = -45.0  # dB below full scale: no word is softer on a working microphone
SPOKEN = 0.08  # least share of frames louder than that
FULL = 32_200  # of 32,768: a sample this large was cut off
CLIPPED = 1e-3  # most share of such samples
OF_RECORDS = ("no trace", "words without trace", "stands still", "trace coverage", "pace")


@dataclass(frozen=True)
class Flag:
    """name: one word for a list; says: what is odd, with its number."""

    name: str
    says: str


def flags(narrative: Narrative, voice: np.ndarray | None = None) -> list[Flag]:
    """What is odd about a narrative; voice (S,) int16 samples at 16 kHz, None: there is none."""
    return _trace_flags(narrative) + _pace_flags(narrative) + voice_flags(voice)


def joined(flags_raised: Sequence[Flag]) -> str:
    """As the store keeps them: "|pace|no trace|", "" where nothing is odd."""
    return f"|{'|'.join(flag.name for flag in flags_raised)}|" if flags_raised else ""


def visited(narrative: Narrative) -> np.ndarray:
    """(14, 14) bool: the cells that the trace passes through."""
    t = np.concatenate([np.zeros(1), *(stroke[:, 2] for stroke in narrative.strokes)])
    return trace.rasterize(narrative.strokes, np.array([[t.min(), t.max()]]), GRID)[0] > 0


def voice_flags(voice: np.ndarray | None) -> list[Flag]:
    """Silence and clipping of (S,) int16 samples at 16 kHz."""
    if voice is None:
        return []
    flags_raised = []
    spoken = _share_spoken(voice)
    if spoken < SPOKEN:
        flags_raised.append(Flag("silence", f"The voice is heard {spoken:.0%} of the time."))
    clipped = float(np.mean(np.abs(voice.astype(np.int32)) >= FULL)) if len(voice) else 0.0
    if clipped > CLIPPED:
        flags_raised.append(Flag("clipping", f"{clipped:.1%} of the sound is cut off: too loud."))
    return flags_raised


def _share_spoken(voice: np.ndarray) -> float:
    frames = voice[: len(voice) // FRAME * FRAME].reshape(-1, FRAME).astype(np.float64)
    if not len(frames):
        return 0.0
    loudness = np.sqrt((frames**2).mean(axis=1)) / 32_768
    return float(np.mean(loudness > 10 ** (QUIET / 20)))


def _trace_flags(narrative: Narrative) -> list[Flag]:
    if not narrative.num_points:
        return [Flag("no trace", "Nobody pointed at anything.")]

    flags_raised = []
    times = np.array([(stroke[0, 2], stroke[-1, 2]) for stroke in narrative.strokes if len(stroke)])

    if narrative.words:
        windows = words.windows(narrative.words, MARGIN)
        is_on = (windows[:, :1] <= times[:, 1]) & (windows[:, 1:] >= times[:, 0])  # (W, strokes)
        pointed = is_on.any(axis=1).mean()

        if pointed < POINTED:
            flags_raised.append(
                Flag(
                    "words without trace",
                    f"The pointer was off the picture for {1 - pointed:.0%} of the words.",
                )
            )
        if len(narrative.words) >= 5 and visited(narrative).sum() < CELLS:
            flags_raised.append(Flag("stands still", "The pointer hardly moved."))

    if len(narrative.words) >= 5 and (covered := _covered(narrative, times)) < COVERED:
        flags_raised.append(
            Flag("trace coverage", f"The pointer was on the picture {covered:.0%} of the time.")
        )

    return flags_raised


def _covered(narrative: Narrative, times: np.ndarray) -> float:
    """(strokes, 2) start and end: their share of the time between the first word and the last."""
    start, end = narrative.words[0].start, narrative.words[-1].end
    on = np.clip(times[:, 1], start, end) - np.clip(times[:, 0], start, end)
    return float(on.sum() / (end - start)) if end > start else 1.0


def _pace_flags(narrative: Narrative) -> list[Flag]:
    if len(narrative.words) < 5:
        return []
    seconds = narrative.words[-1].end - narrative.words[0].start
    count = sum(len(word.text.split()) for word in narrative.words)
    pace = 60 * count / seconds if seconds > 0 else np.inf
    if not PACE[0] <= pace <= PACE[1]:
        how = "fast" if pace > PACE[1] else "slow"
        return [Flag("pace", f"{pace:,.0f} words a minute is very {how}.")]
    return []
