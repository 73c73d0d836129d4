"""A page with nothing but a player, for the tests: python -m tests.browser.player_page PORT FOLDER

?item=NAME says what it shows. FOLDER takes the sound of the item "voice".
"""

import io
import sys
import wave
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np

from loctex.records import trace
from loctex.records.narrative import Narrative, Word
from loctex.records.words import estimate
from ui.viewing.payload import payload


def answer(caption: str, maps: np.ndarray) -> SimpleNamespace:
    """What Predictor.attend gives for a caption, with these (W, h, w) maps."""
    maps = (maps / maps.sum(axis=(1, 2), keepdims=True)).astype(np.float32)
    words = estimate(caption)
    return SimpleNamespace(
        words=words,
        spans=tuple((0, 1) for _ in words),
        maps=maps,
        score=0.4,
        trace=np.column_stack((trace.centroid(maps), [word.start for word in words])),
        boxes=trace.mass_box(maps),
    )


def one_cell(size: tuple[int, int], cell: tuple[int, int], grid=(7, 7)) -> dict:
    """A black picture (w, h) and one word that looks at one cell."""
    maps = np.full((1, *grid), 1e-6)
    maps[0][cell] = 1
    return payload(answer("spot", maps), np.zeros((size[1], size[0], 3), np.uint8))


def random_maps(count: int, grid=(14, 14)) -> np.ndarray:
    return np.random.default_rng(0).random((count, *grid)) ** 6


def photo(width: int, height: int) -> np.ndarray:
    noise = np.random.default_rng(1).integers(0, 255, (height // 40 + 1, width // 40 + 1, 3))
    return cv2.resize(noise.astype(np.uint8), (width, height), interpolation=cv2.INTER_CUBIC)


def told(seconds: float = 2.0) -> Narrative:
    """Four words; the pointer goes from left to right at an even pace."""
    t = np.linspace(0, seconds, 101)
    stroke = np.column_stack((0.1 + 0.8 * t / seconds, np.full(101, 0.5), t))
    times = np.linspace(0, seconds, 5)
    words = [Word(f"word{i}", times[i], times[i + 1]) for i in range(4)]
    return Narrative("people", "1", 0, "word0 word1 word2 word3", tuple(words), (stroke,))


def spoken(folder: Path, seconds: float) -> Path:
    """A quiet sound of that length."""
    content = io.BytesIO()
    with wave.open(content, "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes(b"\0\0" * int(16000 * seconds))
    (folder / "voice.wav").write_bytes(content.getvalue())
    return folder / "voice.wav"


def items(folder: Path) -> dict[str, dict]:
    both = answer("word0 word1 word2 word3", random_maps(4))
    both.words = told().words
    spots = {
        f"spot-{w}x{h}-{r}-{c}": one_cell((w, h), (r, c))
        for w, h in ((900, 300), (300, 900), (40, 30))
        for r, c in ((1, 5), (6, 0))
    }
    return spots | {
        "both": payload(both, photo(640, 480), told(), hits=[True, False, None, True]),
        "replay": payload(None, photo(640, 480), told()),
        "voice": payload(None, photo(640, 480), told(), voice=spoken(folder, 2.0)),
        "sixty": payload(answer(" ".join(["word"] * 60), random_maps(60)), photo(1280, 960)),
        "many": payload(
            answer(" ".join(["word"] * 400), random_maps(400, (7, 7))), photo(640, 480)
        ),
        "thin": payload(answer("a thin thing", random_maps(3)), photo(1, 5000)),
        "flat": payload(answer("a flat thing", random_maps(3)), photo(5000, 1)),
        "arabic": payload(answer("خيول بنية تعبر النهر 🐎", random_maps(5)), photo(640, 480)),
        "markup": payload(
            answer("<img src=x onerror=alert(1)> dog", random_maps(4)), photo(64, 48)
        ),
        "nothing": {"message": "Choose a picture."},
    }


def main(port: int, folder: Path) -> None:
    import gradio as gr

    from ui.components import Player

    known = items(folder)

    def chosen(request: gr.Request) -> dict:
        return known[request.query_params.get("item", "nothing")]

    with gr.Blocks(analytics_enabled=False, fill_width=True) as page:
        player = Player({"message": "wait"})
        page.load(chosen, outputs=player)
    page.launch(server_port=port, quiet=True, run_history=False, ssr_mode=False, footer_links=[])


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
