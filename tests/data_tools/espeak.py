"""Speech whose word starts are known: espeak-ng tells them while it speaks."""

import ctypes
import re
import shutil

import numpy as np
import pytest
from scipy.signal import resample_poly

from data_tools.speech.voices import RATE

_WORD, _SYNCHRONOUS, _UTF8 = 1, 2, 1


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("message", ctypes.c_uint),
        ("position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("milliseconds", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user", ctypes.c_void_p),
        ("id", ctypes.c_char * 8),
    )


_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)


def speak(text: str) -> tuple[np.ndarray, dict[int, float]]:
    """(S,) int16 samples at 16 kHz, and word index -> its start in seconds.

    Words that espeak-ng joins to the one before ("on the") have no start of their own.
    """
    if shutil.which("espeak-ng") is None:
        pytest.skip("no espeak-ng on this machine: apt-get install espeak-ng")
    library = ctypes.CDLL("libespeak-ng.so.1")
    rate = library.espeak_Initialize(_SYNCHRONOUS, 0, None, 0)
    sound, events = [], {}

    def collect(samples, num, event) -> int:
        if samples and num > 0:
            sound.append(np.ctypeslib.as_array(samples, (num,)).copy())
        i = 0
        while event[i].type:
            if event[i].type == _WORD:
                events[event[i].position - 1] = event[i].milliseconds / 1000
            i += 1
        return 0

    callback = _Callback(collect)
    library.espeak_SetSynthCallback(callback)
    library.espeak_SetVoiceByName(b"en-us")
    encoded = text.encode()
    library.espeak_Synth(encoded, ctypes.c_size_t(len(encoded) + 1), 0, 1, 0, _UTF8, None, None)
    library.espeak_Synchronize()
    samples = resample_poly(np.concatenate(sound).astype(float), RATE, rate)
    words = [match.start() for match in re.finditer(r"\S+", text)]
    starts = {i: events[position] for i, position in enumerate(words) if position in events}
    return np.clip(samples, -32768, 32767).astype(np.int16), starts
