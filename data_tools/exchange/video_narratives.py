"""Video Localized Narratives, as their files are: a narrative for each key frame that was told of.

A line tells of a video: key frames, and for each actor a caption with the times of its words and a
trace whose points say which key frame was pointed at. A word belongs to the key frame of the trace
point nearest to its middle in time (ours: the format says no more), so that most captions are
pieces. Times are seconds from the start of the recording.

Voigtlaender et al., "Connecting Vision and Language with Video Localized Narratives", CVPR 2023.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from loctex.records.annotations import long_id
from loctex.records.layouts.csv_tables import rows
from loctex.records.layouts.labeled import Tree
from loctex.records.narrative import Narrative, NarrativeError


class VideoFrames:
    """The pictures of key frames below a folder: VIDEO/000025.jpg, or VIDEO__000025.jpg."""

    def __init__(self, root: Path) -> None:
        self._files: dict[str, list[str]] = defaultdict(list)  # by each end of a path
        for picture in Tree(root).pictures():
            pieces = _pieces(str(picture.with_suffix("")))
            for start in range(len(pieces)):
                self._files["_".join(pieces[start:])].append(str(picture))

    def find(self, video: str, frame: str) -> str | None:
        """The picture's path below the folder; None where there is none, or two."""
        files = self._files.get("_".join(_pieces(f"{video}/{frame}")), [])
        return files[0] if len(files) == 1 else None


def _pieces(name: str) -> list[str]:
    return [piece for piece in re.split(r"[^0-9a-z]+", name.lower()) if piece]


def read(path: Path, frames: VideoFrames, missing: list[str]) -> Iterator[Narrative]:
    """The narratives of the key frames whose pictures are there; missing: names of the others.

    ValueError "FILE:LINE: what is wrong".
    """
    for number, record in rows(path):
        try:
            names = list(map(str, record["keyframe_names"]))
            video, data_set = str(record["video_id"]), f"vidln_{record['dataset_id']}"
            for actor in record["actor_narratives"]:
                for frame, piece in _pieces_of(actor).items():
                    picture = frames.find(video, names[frame])
                    if picture is None:
                        missing.append(f"key frame {names[frame]} of {video}: no picture")
                        continue
                    is_below = "/" in picture
                    yield Narrative.from_json(
                        {
                            "dataset_id": data_set,
                            "image_id": long_id(picture) if is_below else Path(picture).stem,
                            "annotator_id": record["annotator_id"],
                            **piece,
                            "voice_recording": actor.get("recording_filename") or "",
                            "vidln": {
                                "vidln_id": record.get("vidln_id"),
                                "video_id": video,
                                "actor_name": actor.get("actor_name"),
                                "kf_idx": frame,
                                "full_caption": actor["caption"],
                            },
                        }
                    )
        except (KeyError, TypeError, IndexError, NarrativeError) as error:
            raise ValueError(
                f"{path}:{number}: is no Video Localized Narrative: {error!r}"
            ) from error


def _pieces_of(actor: Mapping[str, Any]) -> dict[int, dict[str, Any]]:
    """key frame -> caption, timed_caption and traces of what was said of it."""
    start = actor["recording_start_time_ms_since_epoch"]
    points: list[tuple[float, int]] = []  # seconds, key frame
    strokes: dict[int, list[list[dict[str, float]]]] = defaultdict(list)
    for trace in actor["traces"]:
        before = None
        for point in trace:
            frame, t = point["kf_idx"], max((point["time_ms_since_epoch"] - start) / 1000, 0.0)
            if frame != before:
                strokes[frame].append([])
            strokes[frame][-1].append({"x": point["x"], "y": point["y"], "t": t})
            points.append((t, frame))
            before = frame

    words: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for word in actor["time_alignment"]:
        begin, end = word["start_ms"] / 1000, word["end_ms"] / 1000
        nearest = min(points, key=lambda point: abs(point[0] - (begin + end) / 2), default=None)
        if nearest is not None:
            timed = {"utterance": word["referenced_word"], "start_time": begin, "end_time": end}
            words[nearest[1]].append(timed)

    return {
        frame: {
            "caption": " ".join(word["utterance"] for word in some),
            "timed_caption": some,
            "traces": strokes[frame],
        }
        for frame, some in sorted(words.items())
    }
