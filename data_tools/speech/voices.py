"""Voice files: 16 kHz, mono, 16 bits; WAV where they were recorded, Ogg Vorbis where they go."""

import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import soundfile

from loctex.records.annotations import is_plain_name
from loctex.records.files import write_whole
from loctex.records.narrative import Narrative

RATE = 16_000  # samples a second
FOLDER = "voices"  # of a workspace, and of an export
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
        from scipy.signal import resample_poly  # half a second that the app need not wait for

        step = np.gcd(rate, RATE)
        samples = resample_poly(samples, RATE // step, rate // step)
    return np.clip(np.round(samples * 32768), -32768, 32767).astype(np.int16)


def write_ogg(source: Path, to: Path) -> None:
    """The same sound as Ogg Vorbis, as Localized Narratives publishes voices."""
    soundfile.write(to, read_voice(source), RATE, format="OGG", subtype="VORBIS")


class Voices:
    """The folder of voices: NAME.wav of submitted takes, drafts/TAKE.pcm of those being recorded.

    A draft grows piece by piece, and a piece may come twice: nothing is lost and nothing doubled.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self._drafts = Path(folder), Path(folder) / "drafts"
        self._drafts.mkdir(parents=True, exist_ok=True)

    def append(self, take_id: str, at: int, piece: bytes) -> int:
        """Write 16-bit samples at the sample `at`; how many the draft then has. A piece that would
        leave a gap is not written: send again from that number on."""
        path, num_samples = self._draft(take_id), self.heard(take_id)
        if not 0 <= at or len(piece) % 2:
            raise ValueError("This piece of voice has no place.")
        if at + len(piece) // 2 > LONGEST * RATE:
            raise ValueError(f"A take lasts at most {LONGEST // 60} minutes; submit this one.")
        if at > num_samples or at + len(piece) // 2 <= num_samples:
            return num_samples
        with open(path, "r+b" if path.exists() else "xb") as file:
            file.seek(2 * at)
            file.write(piece)
        return at + len(piece) // 2

    def heard(self, take_id: str) -> int:
        """How many samples the draft has."""
        path = self._draft(take_id)
        return path.stat().st_size // 2 if path.exists() else 0

    def draft(self, take_id: str) -> np.ndarray:
        """(S,) int16."""
        path = self._draft(take_id)
        return np.fromfile(path, "<i2") if path.exists() else np.zeros(0, np.int16)

    def keep(self, take_id: str, num_samples: int) -> str:
        """The draft as a WAV file of that many samples; its name for the record."""
        sound = io.BytesIO()
        soundfile.write(sound, self.draft(take_id)[:num_samples], RATE, "PCM_16", format="WAV")
        path = self._draft(take_id)
        write_whole(self.folder / f"{path.stem}.wav", sound.getvalue())
        return f"{FOLDER}/{path.stem}.wav"

    def drop_draft(self, take_id: str) -> None:
        self._draft(take_id).unlink(missing_ok=True)

    def find(self, name: str | None) -> Path | None:
        """The file that a record calls `name`, if it lies here."""
        folder, _, file = (name or "").rpartition("/")
        path = self.folder / file
        return path if folder == FOLDER and is_plain_name(file) and path.is_file() else None

    def drop(self, name: str | None) -> None:
        """Delete the file of a record, for who takes it back."""
        if path := self.find(name):
            path.unlink(missing_ok=True)

    def _draft(self, take_id: str) -> Path:
        if not re.fullmatch(r"[0-9a-f]{32}", take_id):
            raise ValueError("This take has no proper id.")
        return self._drafts / f"{take_id}.pcm"


def exported(voices: Voices, narrative: Narrative, to: Path) -> Narrative:
    """The narrative with its voice as Ogg Vorbis below `to`, as Localized Narratives has it;
    unchanged where its voice is not here."""
    source = voices.find(narrative.voice)
    if source is None:
        return narrative
    name = f"{FOLDER}/{source.stem}.ogg"
    (to / FOLDER).mkdir(exist_ok=True)
    write_ogg(source, to / name)
    return replace(narrative, voice=name)
