"""Slow listening in a process of its own: recognizing a voice would stall everybody's saves."""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from data_tools.processes import process_pool

PATIENCE = 120  # seconds


@cache
def _listener() -> ProcessPoolExecutor:
    return process_pool(1)


def word_times(caption: str, voice: np.ndarray) -> list[dict[str, Any]]:
    """The words of the caption as `data_tools.speech.align` finds them, in JSON's types."""
    return _ask(_align, caption, voice)


def proposal(voice: np.ndarray, checkpoint: Path) -> str:
    """What a Whisper checkpoint hears."""
    return _ask(_transcribe, voice, checkpoint)


def _ask(work: Callable, *arguments: Any) -> Any:
    try:
        return _listener().submit(work, *arguments).result(PATIENCE)
    except BrokenProcessPool as error:  # killed, or out of memory: the next one begins anew
        _listener.cache_clear()
        raise ValueError("Listening was interrupted; try again.") from error
    except TimeoutError as error:
        raise ValueError("Listening takes too long; try again, or use Type or Trace.") from error


def _align(caption: str, voice: np.ndarray) -> list[dict[str, Any]]:
    from dataclasses import asdict

    from data_tools.speech.align import align

    return [asdict(word) for word in align(caption, voice)]


def _transcribe(voice: np.ndarray, checkpoint: Path) -> str:
    from data_tools.speech.align import transcribe

    return transcribe(voice, checkpoint)
