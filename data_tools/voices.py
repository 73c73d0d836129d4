"""Voice files: 16 kHz, mono, 16 bits; WAV where they were recorded, Ogg Vorbis where they go."""

from pathlib import Path

import numpy as np
import soundfile
from scipy.signal import resample_poly

RATE = 16_000  # samples a second
LONGEST = 1800  # seconds; longer is no narrative


def read_voice(path: Path | str) -> np.ndarray:
    """(S,) int16 samples at 16 kHz, whatever was in the file; ValueError: no sound is."""
    try:
        with soundfile.SoundFile(path) as file:
            if file.frames > LONGEST * file.samplerate:
                raise ValueError(f"{Path(path).name}: is longer than {LONGEST // 60} minutes")
            samples, rate = file.read(dtype="float32", always_2d=True).mean(axis=1), file.samplerate
    except soundfile.LibsndfileError as error:
        raise ValueError(f"{Path(path).name}: is no sound file: {error}") from error
    if rate != RATE:
        step = np.gcd(rate, RATE)
        samples = resample_poly(samples, RATE // step, rate // step)
    return np.clip(np.round(samples * 32768), -32768, 32767).astype(np.int16)


def write_ogg(source: Path, to: Path) -> None:
    """The same sound as Ogg Vorbis, as Localized Narratives publishes voices."""
    soundfile.write(to, read_voice(source), RATE, format="OGG", subtype="VORBIS")
