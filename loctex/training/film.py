"""A film of learning: where the model looks on the same few pictures, every so many steps.

RUN/film.jsonl begins with the pictures, {"pictures": [{"image" (JPEG, base64), "width", "height",
"caption", "words": [{"text", "span"}], "trace"}], "grid": [h, w]}; then comes a line per frame,
{"step", "maps": [one per picture], "hits": [[bool per word] per picture]}. Maps are (W, h, w) bytes
in base64, each scaled to its own peak; "trace" is the person's, on the same grid.
"""

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from transformers import PreTrainedTokenizerFast

from loctex.jobs.run import Run
from loctex.model.model import LocTexModel
from loctex.records import trace, words
from loctex.records.files import write_whole
from loctex.records.images import decode_image
from loctex.records.items import Item, Split
from loctex.records.narrative import Narrative
from loctex.scoring import metrics
from loctex.scoring.predictor import Predictor

WORDS = 6  # of a caption, spread over it
SIDE = 240  # pixels of the longer side
Show = Callable[[int, str, np.ndarray, str], None]
SEARCHED = 200  # images in which narratives with traces are looked for


@dataclass(frozen=True)
class FilmPicture:
    """A validation image and some grounded words of its narrative; cells: (W, h, w) bool."""

    item: Item
    narrative: Narrative
    chosen: tuple[int, ...]  # of its words
    cells: np.ndarray
    target: np.ndarray


class Film:
    """Takes the frames. Only the first process has one; the model's mode and numbers stay."""

    def __init__(
        self,
        run: Run,
        split: Split,
        tokenizer: PreTrainedTokenizerFast,
        num_pictures: int,
        model: LocTexModel,
        step: int,
        show: Show | None = None,
    ) -> None:
        """step: the step it starts from. Later frames are dropped; the first is taken at once.

        show: is handed each picture of a frame, as (step, name, (H, W, 3) bytes, caption).
        """
        grid = model.grids()[-1]
        self.run, self.tokenizer, self.show = run, tokenizer, show
        self.pictures = choose(split, grid, model.config.word_margin, num_pictures)

        frames = [frame for frame in run.film()[1] if frame["step"] <= step]
        head = {"pictures": [_shown(picture) for picture in self.pictures], "grid": grid}
        lines = [json.dumps(line, separators=(",", ":")) + "\n" for line in (head, *frames)]
        if self.pictures:
            write_whole(run.film_file, "".join(lines))

        self.last = frames[-1]["step"] if frames else -1
        if not frames:
            self.shoot(model, step)

    def shoot(self, model: LocTexModel, step: int) -> None:
        """A frame, unless this step has one."""
        if not self.pictures or step <= self.last:
            return

        was_training, maps, hits = model.training, [], []
        predictor = Predictor(model, self.tokenizer)
        for number, picture in enumerate(self.pictures):
            image = decode_image(picture.item.image)
            predictor.set_image(image)
            word_maps = predictor.attend(picture.narrative.caption, picture.narrative.words).maps
            word_maps = word_maps[list(picture.chosen)]
            maps.append(_bytes(word_maps))
            if self.show:
                texts = [picture.narrative.words[i].text for i in picture.chosen]
                self.show(step, f"film/{number}", strip(image, word_maps), " | ".join(texts))
            hits.append((metrics.pointing(word_maps, picture.cells) > 0.5).tolist())

        model.train(was_training)

        line = json.dumps({"step": step, "maps": maps, "hits": hits}, separators=(",", ":"))
        with open(self.run.film_file, "ab") as file:
            file.write(line.encode() + b"\n")
        self.last = step


def choose(split: Split, grid: tuple[int, int], margin: float, count: int) -> list[FilmPicture]:
    """The first images of a split whose narrative has words with a trace."""
    pictures: list[FilmPicture] = []
    for number in range(min(len(split), SEARCHED)):
        if len(pictures) == count:
            break

        item = split[number]
        for narrative in item.narratives:
            target = trace.rasterize(
                narrative.strokes, words.windows(narrative.words, margin), grid
            )
            numbers = _spread(narrative, np.asarray(target.any(axis=(1, 2))))
            if numbers:
                target = target[list(numbers)]
                cells = metrics.trace_cells(target)
                pictures.append(FilmPicture(item, narrative, numbers, cells, target))
                break

    return pictures


def _spread(narrative: Narrative, is_grounded: np.ndarray) -> tuple[int, ...]:
    """WORDS of the grounded words, the longest (they name things), in their order."""
    places = [i for i, grounded in enumerate(is_grounded) if grounded]
    longest = sorted(places, key=lambda i: (-len(narrative.words[i].text.strip(".,;:!?")), i))
    return tuple(sorted(longest[:WORDS]))


def _shown(picture: FilmPicture) -> dict:
    image = decode_image(picture.item.image)
    scale = SIDE / max(image.shape[:2])
    size = round(image.shape[1] * scale), round(image.shape[0] * scale)
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    _, jpeg = cv2.imencode(".jpg", small[..., ::-1], (cv2.IMWRITE_JPEG_QUALITY, 85))

    narrative = picture.narrative
    spans = words.spans(narrative.caption, narrative.words)

    return {
        "image": base64.b64encode(bytes(jpeg)).decode(),
        "width": size[0],
        "height": size[1],
        "caption": narrative.caption,
        "words": [{"text": narrative.words[i].text, "span": spans[i]} for i in picture.chosen],
        "trace": _bytes(picture.target),
    }


def strip(image: np.ndarray, maps: np.ndarray) -> np.ndarray:
    """(H, W, 3) bytes and (N, h, w) -> the image N times side by side, lit where each map is."""
    scale = SIDE / max(image.shape[:2])
    size = round(image.shape[1] * scale), round(image.shape[0] * scale)
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.float32)

    lit = []
    for word_map in maps.astype(np.float32):
        light = cv2.resize(word_map, size, interpolation=cv2.INTER_LINEAR)
        light /= max(float(light.max()), 1e-12)
        lit.append(small * (0.25 + 0.75 * np.clip(light, 0, 1)[..., None]))
    return np.rint(np.concatenate(lit, axis=1)).astype(np.uint8)


def _bytes(maps: np.ndarray) -> str:
    """(W, h, w) of no negative number -> bytes, each map scaled to its own peak, in base64."""
    peaks = maps.max(axis=(1, 2), keepdims=True, initial=0)
    scaled = np.rint(255 * maps / np.where(peaks > 0, peaks, 1)).astype(np.uint8)
    return base64.b64encode(scaled.tobytes()).decode()
