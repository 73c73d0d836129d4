"""Voices at rest: drafts that grow piece by piece, WAV files, and Ogg Vorbis for who takes them."""

import json

import numpy as np
import pytest
import soundfile

from data_tools.localized_narratives import export_collection, import_file
from data_tools.speech.voices import LONGEST, RATE, Voices, read_voice
from data_tools.store import Store
from loctex.records.narrative import Narrative, read_jsonl
from tests.data_tools.samples import picture

TAKE = "0123456789abcdef" * 2


def tone(seconds: float, rate: int = RATE) -> np.ndarray:
    return (8000 * np.sin(np.arange(round(seconds * rate)) * 2 * np.pi * 440 / rate)).astype("<i2")


def test_pieces_that_come_twice_or_too_early_leave_the_draft_whole(tmp_path):
    voices, sound = Voices(tmp_path), tone(3)
    first, second, third = (sound[i * RATE : (i + 1) * RATE].tobytes() for i in range(3))
    assert voices.append(TAKE, 0, first) == RATE
    assert voices.append(TAKE, 2 * RATE, third) == RATE  # a gap: from there on, please
    assert voices.append(TAKE, RATE, second) == 2 * RATE
    assert voices.append(TAKE, RATE, second) == 2 * RATE
    assert voices.append(TAKE, 0, first) == 2 * RATE
    assert voices.append(TAKE, 2 * RATE - 100, sound[2 * RATE - 100 :].tobytes()) == 3 * RATE
    assert np.array_equal(voices.draft(TAKE), sound) and voices.heard(TAKE) == 3 * RATE

    name = voices.keep(TAKE, 2 * RATE)
    found = voices.find(name)
    samples, rate = soundfile.read(found, dtype="int16")
    assert rate == RATE and np.array_equal(samples, sound[: 2 * RATE])
    voices.drop_draft(TAKE)
    assert voices.heard(TAKE) == 0
    voices.drop(name)
    assert voices.find(name) is None and not list(tmp_path.rglob("*.*"))


@pytest.mark.parametrize("take_id", ["../../studio", "a" * 31, "/etc/passwd", "G" * 32, ""])
def test_an_id_that_is_no_id_names_no_file(tmp_path, take_id):
    with pytest.raises(ValueError, match="no proper id"):
        Voices(tmp_path).append(take_id, 0, b"\0\0")


def test_a_voice_without_end_is_refused(tmp_path):
    voices = Voices(tmp_path)
    with pytest.raises(ValueError, match="at most 30 minutes"):
        voices.append(TAKE, 0, bytes(2 * LONGEST * RATE + 2))
    for at, piece in ((-1, b"\0\0"), (0, b"\0")):
        with pytest.raises(ValueError, match="no place"):
            voices.append(TAKE, at, piece)
    assert voices.heard(TAKE) == 0


@pytest.mark.parametrize("name", ["voices/../studio.db", "/etc/passwd", "other/x.wav", None, ""])
def test_only_what_lies_in_the_folder_is_found(tmp_path, name):
    (tmp_path / "studio.db").touch()
    (tmp_path / "voices").mkdir()
    assert Voices(tmp_path / "voices").find(name) is None


def test_a_voice_of_any_kind_is_read_at_16_khz_mono(tmp_path):
    stereo = np.stack([tone(1, 44_100)] * 2, axis=1)
    soundfile.write(tmp_path / "x.flac", stereo, 44_100)
    read = read_voice(tmp_path / "x.flac")
    assert read.dtype == np.int16 and abs(len(read) - RATE) <= 1
    assert np.abs(read[100:-100].astype(int) - tone(1)[100 : len(read) - 100]).max() < 200
    (tmp_path / "no.wav").write_text("no sound")
    with pytest.raises(ValueError, match="no.wav: is no sound file"):
        read_voice(tmp_path / "no.wav")


def test_an_export_has_its_voices_as_ogg_and_comes_back_equal(tmp_path):
    store = Store.of_workspace(tmp_path / "workspace", is_new=True)
    voices = Voices(tmp_path / "workspace" / "voices")
    voices.append(TAKE, 0, tone(2).tobytes())
    collection = store.add_collection("voiced")
    image = store.add_image(collection, picture(1), dataset_id="studio")
    record = {
        "dataset_id": "studio",
        "image_id": image.image_id,
        "annotator_id": 7,
        "caption": "a cat",
        "timed_caption": [{"utterance": "a cat", "start_time": 0.5, "end_time": 1.0}],
        "traces": [[{"x": 0.5, "y": 0.5, "t": 0.5}]],
        "voice_recording": voices.keep(TAKE, 2 * RATE),
    }
    store.add(collection, Narrative.from_json(record))
    export_collection(store, collection, tmp_path / "out")
    (told,) = read_jsonl(tmp_path / "out" / "narratives.jsonl")
    assert told.to_json() == record | {"voice_recording": f"voices/{TAKE}.ogg"}
    kind = soundfile.info(tmp_path / "out" / told.voice)
    assert (kind.format, kind.subtype, kind.samplerate, kind.frames) == (
        "OGG",
        "VORBIS",
        RATE,
        2 * RATE,
    )
    report = import_file(
        store, tmp_path / "out" / "narratives.jsonl", tmp_path / "out" / "images", "again"
    )
    assert report.num_imported == 1
    (back,) = [n for _, n in store.each_narrative(store.collection("again"))]
    assert json.dumps(back.to_json()) == json.dumps(told.to_json())
    store.close()
