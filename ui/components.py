"""The parts of the page that Gradio does not have: gr.HTML with our own plain JavaScript."""

import json
from pathlib import Path
from typing import Any

import gradio as gr
import plotly

_STATIC = Path(__file__).parent / "static"


def static(*names: str) -> str:
    """The text of files of ui/static, joined; scripts share one scope in the order given."""
    return "\n".join((_STATIC / name).read_text(encoding="utf-8") for name in names)


class Recorder(gr.HTML):
    """A photograph on which a person points and types; its value and its prop `answer` are JSON
    strings, a question to Python and the answer (ui/annotate.py). Events: ask, data."""

    def __init__(self, value: str | None = None, **kwargs: Any) -> None:
        parts = ("typing", "drawing", "link", "recorder", "session", "keys")
        script = static("colors.js", *(f"{part}.js" for part in parts))
        super().__init__(
            value,
            html_template=static("recorder.html"),
            css_template=static("recorder.css"),
            js_on_load=script + "\n//# sourceURL=ui/static/recorder.js",
            apply_default_css=False,
            **{"answer": ""} | kwargs,
        )


class Player(gr.HTML):
    """A sentence, a photograph, and under each word the place a model looks at, beside the place
    where a person pointed. Its value is `ui.payload.payload(...)`, or {"message": ...} where there
    is nothing to show; it crosses to the browser as one JSON string."""

    def __init__(self, value: dict[str, Any] | None = None, **kwargs: Any) -> None:
        script = static("colors.js", "stage.js", "player.js", "controls.js")
        super().__init__(
            value,
            html_template=static("player.html"),
            css_template=static("player.css"),
            js_on_load=script + "\n//# sourceURL=ui/static/player.js",
            apply_default_css=False,
            **kwargs,
        )

    def preprocess(self, payload: str | None) -> dict[str, Any] | None:
        return json.loads(payload) if payload else None

    def postprocess(self, value: dict[str, Any] | None) -> str | None:
        return None if value is None else json.dumps(value, separators=(",", ":"))

    def example_payload(self) -> str:
        return json.dumps({"message": "Nothing to show yet."})


class Curves(gr.HTML):
    """The charts of a run. Its value is `ui.curves.chart(...)`; it crosses to the browser as one
    JSON string, and plotly's own script draws it in place, so that a zoom survives."""

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

    def preprocess(self, payload: str | None) -> dict[str, Any] | None:
        return json.loads(payload) if payload else None

    def postprocess(self, value: dict[str, Any] | None) -> str | None:
        return None if value is None else json.dumps(value, separators=(",", ":"))

    def example_payload(self) -> str:
        return json.dumps({"message": "Nothing to draw yet."})


class Listing(gr.HTML):
    """HTML made in Python, whose elements with a data-id can be chosen; the event is `pick`.
    What people typed must come escaped."""

    def __init__(self, value: str = "", **kwargs: Any) -> None:
        super().__init__(
            value,
            css_template=static("listing.css"),
            js_on_load=static("listing.js") + "\n//# sourceURL=ui/static/listing.js",
            apply_default_css=False,
            **kwargs,
        )
