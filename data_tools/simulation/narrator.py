"""A simulated narrator: words on a speech clock, and a pointer that circles what is named. Ours.

No person spoke or pointed here: whatever this makes must be labeled as simulated. The settings
imitate what people did in the Video Localized Narratives sample ("people": 46 narratives, of which
the 6 that describe a background are most like Localized Narratives, "back.") and in one record of
Localized Narratives ("LN"). Rendered scenes are told by DEFAULTS, photographs by PHOTOGRAPHS:

    measure                              people  back.     LN   scenes  photographs (COCO)
    seconds a word, median                  .42    .42    .20      .30      .38
    words a second, pauses included         .54    .66    3.2      2.7      1.09
    gaps above .2 s between words           39 %   37 %    0 %     11 %     32 %
    seconds of such a pause, median         2.8    2.0      -      .43      1.3
    points a second, whole narrative        6.2   12.0   49.4     46       14.7
    points a second while moving             45     44     55     48       54
    words with a point                      66 %   67 %   84 %     99 %     65 %
    speed, image sides a second, 25 %       .20    .19    .92     .15      .20
                                 50 %       .39    .36   1.68     .31      .36
                                 75 %       .69    .67   2.80     .64      .67
                                 90 %      1.09   1.09   4.17    1.34     1.12
    points inside the box that is named     54.8 % (published for COCO)    59 %     55 %

The people browsed a video's key frames between words, which is why their pauses are longer; "while
moving" leaves out gaps above .1 s. `python -m data_tools.pace FILE` measures.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.signal import lfilter

from loctex.records.narrative import Word


@dataclass(frozen=True)
class NarratorSettings:
    """How a simulated narrator speaks and points; lengths are fractions of the image's sides."""

    word_seconds: float = 0.08  # a word takes word_seconds + letter_seconds * letters,
    letter_seconds: float = 0.06
    word_spread: float = 0.3  # times exp(normal * word_spread)
    pause_share: float = 0.08  # share of words followed by a pause; after , . : ; always
    pause_seconds: float = 0.4  # mean of the pause (gamma distributed, shape 2)
    start_seconds: float = 0.5  # mean silence before the first word
    end_seconds: float = 0.0  # mean time until the recording stops after the last one
    lead_seconds: float = 0.0  # the pointer sets out this long before the first word of a name,
    lead_spread: float = 0.2  # give or take (standard deviation): often it is late
    inertia: float = 0.08  # s; time constant of each of the two low-pass filters of the hand
    rounds: float = 0.8  # circles per second over what is being named
    rest: float = 0.15  # of that speed is left once it has been named
    radius: float = 1.0  # of the circles, in half extents of the region; drawn in +-50 %
    scribble: float = 0.0  # half length of quick strokes to and fro on top, in half extents,
    scribbles: float = 1.6  # and how many a second
    offset: float = 0.45  # of the circles' center (standard deviation), in half extents
    careless_share: float = 0.08  # share of names pointed at with three times the offset
    drift: float = 0.02  # slow wandering (standard deviation)
    drift_seconds: float = 0.5  # and how slow
    linger_seconds: float = math.inf  # the hand moves so long into a pause (mean), then rests,
    burst_seconds: float = math.inf  # and otherwise moves so long at a time (mean)
    stop_seconds: float = 0.2  # with stops of this length (mean) between
    rate: float = 60.0  # pointer events per second at most
    pixel: float = 1 / 400  # positions are multiples of this; an unmoved pointer sends no event
    limit: float = math.inf  # the hand is not meant to go further outside the image than this
    border: float = 0.1  # points further outside the image than this end the stroke


DEFAULTS = NarratorSettings()  # at one go, as of a rendered scene

PHOTOGRAPHS = NarratorSettings(  # looks for what to say next, and rests meanwhile
    word_seconds=0.1,
    letter_seconds=0.085,
    word_spread=0.35,
    pause_share=0.28,
    pause_seconds=1.5,
    start_seconds=1.0,
    end_seconds=1.0,
    lead_seconds=0.15,
    lead_spread=0.3,
    inertia=0.1,
    rounds=0.35,
    rest=0.6,
    radius=0.8,
    scribble=0.5,
    scribbles=1.4,
    linger_seconds=0.2,
    burst_seconds=0.6,
    stop_seconds=0.35,
    limit=0.0,
)


@dataclass(frozen=True, eq=False)
class Phrase:
    """Words said in one go and what they name: `region` (M, 2) x, y fractions, its points."""

    text: str
    region: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Visit:
    """The seconds in which a region (M, 2) is named."""

    start: float
    end: float
    region: np.ndarray


def box_region(box: Sequence[float]) -> np.ndarray:
    """(x0, y0, x1, y1) fractions -> (64, 2) points: a region for things known by a box only."""
    x0, y0, x1, y1 = box
    steps = (np.arange(8) + 0.5) / 8
    x, y = np.meshgrid(x0 + steps * (x1 - x0), y0 + steps * (y1 - y0))
    return np.stack([x.ravel(), y.ravel()], axis=1)


def mask_region(mask: np.ndarray, most: int = 256) -> np.ndarray:
    """(H, W) bool, not empty -> (M <= most, 2) pixel centers as fractions, evenly picked."""
    pixels = np.flatnonzero(mask)
    pixels = pixels[np.linspace(0, len(pixels) - 1, min(most, len(pixels))).astype(int)]
    height, width = mask.shape
    return np.stack([(pixels % width + 0.5) / width, (pixels // width + 0.5) / height], axis=1)


def phrases(caption: str, regions: Sequence[tuple[int, int, np.ndarray]]) -> list[Phrase]:
    """A caption, cut where something else is named.

    regions: (start, end, region) of caption characters, in order; a word belongs to the region of
    which it has a character.
    """
    runs: list[tuple[np.ndarray | None, list[str]]] = []
    for word in re.finditer(r"\S+", caption):
        named = next((r for a, b, r in regions if a < word.end() and word.start() < b), None)
        if not runs or runs[-1][0] is not named:
            runs.append((named, []))
        runs[-1][1].append(word[0])
    return [Phrase(" ".join(texts), region) for region, texts in runs]


def narrate(
    phrases: Sequence[Phrase],
    rng: np.random.Generator,
    settings: NarratorSettings = DEFAULTS,
) -> tuple[tuple[Word, ...], tuple[np.ndarray, ...]]:
    """Speak the phrases and point at their regions: the words, and strokes (P, 3) of x, y, t."""
    words = speak([word for phrase in phrases for word in phrase.text.split()], rng, settings)

    visits, position = [], 0
    for phrase in phrases:
        spoken = words[position : position + len(phrase.text.split())]
        position += len(spoken)
        if phrase.region is not None:
            visits.append(Visit(spoken[0].start, spoken[-1].end, phrase.region))

    silences = [(a.end, b.start) for a, b in pairwise(words) if b.start > a.end]
    end = words[-1].end
    if settings.end_seconds:
        end += rng.gamma(2.0, settings.end_seconds / 2)

    return words, point(visits, end, rng, settings, silences)


def speak(
    texts: Sequence[str], rng: np.random.Generator, settings: NarratorSettings = DEFAULTS
) -> tuple[Word, ...]:
    """Give each word its start and end in seconds, rounded to 10 ms like the public records."""
    letters = np.array([len(re.sub(r"\W", "", text)) for text in texts])
    spoken = settings.word_seconds + settings.letter_seconds * letters
    spoken = spoken * np.exp(settings.word_spread * rng.standard_normal(len(texts)))

    pauses = rng.gamma(2.0, settings.pause_seconds / 2, len(texts) + 1)
    hesitates = rng.random(len(texts)) < settings.pause_share
    stops = np.array([text[-1] in ",.:;" for text in texts])
    pauses[1:] *= hesitates | stops
    pauses[0] *= settings.start_seconds / settings.pause_seconds

    ends = np.cumsum(spoken + pauses[:-1])
    starts = (ends - spoken).round(2).tolist()
    return tuple(map(Word, texts, starts, ends.round(2).tolist()))


def point(
    visits: Sequence[Visit],
    end: float,
    rng: np.random.Generator,
    settings: NarratorSettings = DEFAULTS,
    silences: Sequence[tuple[float, float]] = (),
) -> tuple[np.ndarray, ...]:
    """The pointer's strokes, each (P, 3) x, y, t, from second 0 to `end`.

    `visits` are in the order of time. The pointer starts somewhere around the middle, sets out
    for a region a little before or after its name, circles there while it is named and nearly
    rests until the next; the hand is a second-order low pass of that, and it drifts.
    """
    t = np.arange(max(2, int(end * settings.rate))) / settings.rate
    regions = [rng.uniform(0.35, 0.65, (1, 2)), *(visit.region for visit in visits)]
    leads = settings.lead_seconds + settings.lead_spread * rng.standard_normal(len(visits))
    leaves = np.array([visit.start for visit in visits]) - leads
    which = np.searchsorted(np.maximum.accumulate(leaves), t, side="right")  # 0: none yet
    named_until = np.array([0.0, *(visit.end for visit in visits)])
    is_moving = moves(t, silences, rng, settings)
    if math.isfinite(settings.linger_seconds):
        is_moving &= which > 0
    if not is_moving.any():
        return ()
    t, which = t[is_moving], which[is_moving]

    size = np.array([np.sqrt(3) * region.std(axis=0) for region in regions])  # half extents
    is_careless = rng.random(len(regions)) < settings.careless_share
    away = settings.offset * np.where(is_careless, 3, 1)[:, None] * size
    center = np.array([region.mean(axis=0) for region in regions])
    center += away * rng.standard_normal(size.shape)
    radius = settings.radius * size * rng.uniform(0.5, 1.5, size.shape)  # also flat: a swipe
    pace = settings.rounds * rng.uniform(0.6, 1.4, len(regions)) * rng.choice([-1, 1], len(regions))
    vigor = np.where(t < named_until[which], 1, settings.rest)
    rounds = np.cumsum(pace[which] * vigor) / settings.rate
    angle = 2 * np.pi * (rng.random(len(regions))[which] + rounds)

    goal = center[which] + radius[which] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    if settings.scribble:
        goal += scribbles(size, which, vigor, rng, settings)
    goal = np.clip(goal, -settings.limit, 1 + settings.limit)
    inertia = settings.inertia * settings.rate
    path = low_pass(low_pass(goal, inertia), inertia)
    path += settings.drift * wander(rng, len(t), settings.rate * settings.drift_seconds)
    return events(path, t, rng, settings)


def scribbles(
    size: np.ndarray,
    which: np.ndarray,
    vigor: np.ndarray,
    rng: np.random.Generator,
    settings: NarratorSettings,
) -> np.ndarray:
    """(P, 2) quick strokes to and fro, of each region in a direction of its own.

    size: (R, 2) half extents; which: (P,) region at each time; vigor: (P,) speed, 1 as usual.
    """
    direction = rng.uniform(0, 2 * np.pi, len(size))
    along = np.stack([np.cos(direction), np.sin(direction)], axis=1)
    along *= size * settings.scribble * rng.uniform(0.5, 1.5, (len(size), 1))
    across = 0.25 * along[:, ::-1] * rng.choice([-1, 1], (len(size), 2))

    angle = 2 * np.pi * settings.scribbles / settings.rate * np.cumsum(vigor)
    return along[which] * np.sin(angle)[:, None] + across[which] * np.cos(angle)[:, None]


def moves(
    t: np.ndarray,
    silences: Sequence[tuple[float, float]],
    rng: np.random.Generator,
    settings: NarratorSettings,
) -> np.ndarray:
    """(P,) bool: is the hand moving at `t`? It rests in silences, and now and then anyway."""
    result = np.ones(len(t), dtype=bool)
    if math.isfinite(settings.linger_seconds):
        for start, end in silences:
            result[(t > start + rng.exponential(settings.linger_seconds)) & (t < end)] = False

    if math.isfinite(settings.burst_seconds):
        means = [settings.burst_seconds, settings.stop_seconds]
        count = 2 + int(2 * len(t) / settings.rate / sum(means))
        turns = rng.exponential(means, (count, 2)).ravel().cumsum()
        result &= np.searchsorted(turns, t) % 2 == 0

    return result


def low_pass(values: np.ndarray, steps: float) -> np.ndarray:
    """(P, 2) -> (P, 2): exponential smoothing over `steps` samples, at rest before the first."""
    keep = np.exp(-1 / steps) if steps > 0 else 0.0
    return lfilter([1 - keep], [1, -keep], values, axis=0, zi=keep * values[:1])[0]


def wander(rng: np.random.Generator, count: int, steps: float) -> np.ndarray:
    """(count, 2) smooth noise of standard deviation 1, which forgets itself in some `steps`."""
    skip = int(8 * steps)  # until the filters' start is forgotten
    noise = low_pass(low_pass(rng.standard_normal((skip + count, 2)), steps), steps)[skip:]
    keep = np.exp(-1 / steps)
    return noise / np.sqrt((1 - keep) ** 4 * (1 + keep**2) / (1 - keep**2) ** 3)


def events(
    path: np.ndarray, t: np.ndarray, rng: np.random.Generator, settings: NarratorSettings
) -> tuple[np.ndarray, ...]:
    """What a browser reports of the path: whole pixels, changes only, strokes cut outside."""
    jitter = rng.normal(0, 0.001, len(t)).clip(-0.004, 0.004)
    t = np.maximum(t + jitter, 0).round(3)
    path = np.round(path / settings.pixel) * settings.pixel

    moved = np.append(True, np.any(np.diff(path, axis=0) != 0, axis=1))
    low, high = -settings.border, 1 + settings.border
    inside = np.all((path > low) & (path < high), axis=1)

    stroke = np.cumsum(~inside)  # grows while the pointer is outside
    points = np.column_stack([path.round(5), t])

    reported = moved & inside
    cuts = np.flatnonzero(np.diff(stroke[reported])) + 1
    return tuple(piece for piece in np.split(points[reported], cuts) if len(piece))
