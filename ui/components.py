"""The parts of the page that Gradio does not have: gr.HTML with our own plain JavaScript."""

import json
from pathlib import Path
from typing import Any

import gradio as gr
import plotly

from ui.assets import PLAYER_SCRIPTS, static


class Recorder(gr.HTML):
    """A photograph on which a person points and types. It asks ui/annotate/route.py itself: as an
    event of the page, each save made a new copy of this component. Event: data."""

    def __init__(self, value: str | None = None, **kwargs: Any) -> None:
        script_names = (
            "typing",
            "drawing",
            "changes",
            "link",
            "shelf",
            "voice",
            "recorder",
            "undo",
            "wave",
            "tracing",
            "zoom",
            "session",
            "keys",
        )

        script = static("colors.js", *(f"{name}.js" for name in script_names))
        super().__init__(
            value,
            html_template=static("recorder.html"),
            css_template=static("recorder.css"),
            js_on_load=script + "\n//# sourceURL=ui/static/recorder.js",
            apply_default_css=False,
            **kwargs,
        )


class Player(gr.HTML):
    """A sentence, a photograph, and under each word the place a model looks at, beside the place
    where a person pointed. Its value is `ui.viewing.payload.payload(...)`, or
    {"message": ...} where there is nothing to show; it crosses to the browser as one JSON
    string."""

    def __init__(self, value: dict[str, Any] | None = None, **kwargs: Any) -> None:
        defaults: dict[str, Any] = {
            "html_template": static("player.html"),
            "css_template": static("player.css"),
            "js_on_load": static(*PLAYER_SCRIPTS) + "\n//# sourceURL=ui/static/player.js",
            "apply_default_css": False,
        }
        super().__init__(value, **defaults | kwargs)

    def preprocess(self, payload: str | None) -> Any:
        return _decoded(payload)

    def postprocess(self, value: Any) -> str | None:
        return None if value is None else json.dumps(value, separators=(",", ":"))

    def example_payload(self) -> str:
        return json.dumps({"message": "Nothing to show yet."})


class Comparison(Player):
    """Two to four models on one picture. Its value is `ui.inspect.comparison.compare(...)`."""

    def __init__(self, value: dict[str, Any] | None = None, **kwargs: Any) -> None:
        script = static("colors.js", "stage.js", "compare.js")
        defaults: dict[str, Any] = {
            "html_template": static("compare.html"),
            "css_template": static("player.css", "compare.css"),
            "js_on_load": script + "\n//# sourceURL=ui/static/compare.js",
        }
        super().__init__(value, **defaults | kwargs)


class Saver(gr.HTML):
    """Nothing to see: a value {"name", "type", "base64"} is saved as a file by the browser."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(
            None,
            html_template="<span hidden></span>",
            js_on_load=static("saver.js") + "\n//# sourceURL=ui/static/saver.js",
            apply_default_css=False,
            **kwargs,
        )

    def postprocess(self, value: Any) -> str | None:
        return None if value is None else json.dumps(value)


class _Json(gr.HTML):
    """A component whose value crosses to the browser as one JSON string: fifty times faster than
    as an object."""

    def preprocess(self, payload: str | None) -> Any:
        return _decoded(payload)

    def postprocess(self, value: Any) -> str | None:
        return None if value is None else json.dumps(value, separators=(",", ":"))

    def example_payload(self) -> str:
        return json.dumps({"message": "Nothing to draw yet."})


class Curves(_Json):
    """The charts of a run, or of several. Its value is `ui.train.curves.chart(...)` or
    `ui.train.compare.chart(...)`; plotly's own script draws it in place, and a zoom survives."""

    def __init__(self, value: dict[str, Any] | None = None, **kwargs: Any) -> None:
        script = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
        gr.set_static_paths([script])
        # in the text: a prop is lost where the value changes before the component is first visible
        address = f"const PLOTLY = {json.dumps(f'{script}?v={plotly.__version__}')};\n"
        super().__init__(
            value,
            html_template=static("curves.html"),
            css_template=static("curves.css"),
            js_on_load=address + static("curves.js") + "\n//# sourceURL=ui/static/curves.js",
            apply_default_css=False,
            **kwargs,
        )


class FilmPlayer(_Json):
    """Where a run looked on a few pictures as it learned. Its value is
    `ui.train.film_frames.film(...)`."""

    def __init__(self, value: dict[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init__(
            value,
            html_template=static("film.html"),
            css_template=static("film.css"),
            js_on_load=static("colors.js", "film.js") + "\n//# sourceURL=ui/static/film.js",
            apply_default_css=False,
            **kwargs,
        )


class RunTable(_Json):
    """All runs, to sort, filter, star, open and choose. Its value is `ui.train.compare.table(...)`;
    events: pick (runs), star (run, star), open (run)."""

    def __init__(self, value: dict[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init__(
            value,
            html_template=static("runs.html"),
            css_template=static("runs.css"),
            js_on_load=static("runs.js") + "\n//# sourceURL=ui/static/runs.js",
            apply_default_css=False,
            **kwargs,
        )


class Listing(gr.HTML):
    """HTML made in Python, whose elements with a data-id can be chosen; the event is `pick`.
    What people typed must come escaped."""

    def __init__(self, value: str = "", **kwargs: Any) -> None:
        super().__init__(
            value,
            js_on_load=static("listing.js") + "\n//# sourceURL=ui/static/listing.js",
            apply_default_css=False,
            **{"css_template": static("listing.css")} | kwargs,
        )


def _decoded(payload: str | None) -> Any:
    """What a browser sent as JSON. Raises ValueError where it is none."""
    try:
        return json.loads(payload) if payload else None
    except (ValueError, RecursionError) as error:
        raise ValueError("The page sent something that cannot be read; reload it.") from error
