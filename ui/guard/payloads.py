"""What a page sends is looked at before an event reads it: inputs are of their component's kind."""

from collections.abc import Sequence
from typing import Any

import gradio as gr
from gradio.blocks import Block
from gradio.components import HTML

MOST_INTEGER = 2**53  # a browser's numbers are exact up to here, and databases hold them
MOST_CHARACTERS = 50_000  # of a text: half an hour of quick speech
ANEW = "Reload the page, and try again."


def shaped(components: Sequence[Block], inputs: Any) -> list[Any]:
    """The inputs, each of its component's kind; a text that is missing is empty. Raises ValueError,
    a sentence, where the page itself would never send this."""
    if not isinstance(inputs, list) or len(inputs) < len(components):
        raise ValueError(f"The page sent too little. {ANEW}")
    for component, value in zip(components, inputs, strict=False):
        if value is not None and not _is_of_kind(component, value):
            label = getattr(component, "label", None) or type(component).__name__
            raise ValueError(f"{label}: this is nothing that can stand here. {ANEW}")
    texts = {k for k, component in enumerate(components) if isinstance(component, gr.Textbox)}
    return ["" if value is None and k in texts else value for k, value in enumerate(inputs)]


def _is_of_kind(component: Block, value: Any) -> bool:
    if isinstance(component, gr.State):
        return True  # the session's own: what the browser sends for it is not read
    if isinstance(component, gr.Textbox):
        return is_text(value)
    if isinstance(component, gr.Number | gr.Slider):
        return is_number(value)
    if isinstance(component, gr.Checkbox):
        return isinstance(value, bool)
    if isinstance(component, gr.Dropdown | gr.Radio | gr.CheckboxGroup):
        takes_several = isinstance(component, gr.CheckboxGroup) or getattr(
            component, "multiselect", False
        )
        if isinstance(value, list) != bool(takes_several):
            return False
        several = value if isinstance(value, list) else [value]
        return all(is_text(one) or is_number(one) or isinstance(one, bool) for one in several)
    if isinstance(component, HTML):
        return isinstance(value, str)
    return True


def is_text(value: Any) -> bool:
    """Whether it is text that a page may send: of a bounded length, without NUL and surrogates."""
    if not isinstance(value, str) or len(value) > MOST_CHARACTERS or "\0" in value:
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= MOST_INTEGER  # which NaN is not, either


def field(event: gr.EventData, name: str, kind: type) -> Any:
    """What the browser says of an event, by its name. Raises ValueError where it is of no such
    kind: int, str, bool or list."""
    content = getattr(event, "_data", None)
    value = content.get(name) if isinstance(content, dict) else None
    is_right = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
    is_bounded = is_number(value) if kind is int else is_text(value) if kind is str else True
    if not (is_right and is_bounded):
        raise ValueError(f"The page did not say what was chosen. {ANEW}")
    return value


def demand_length(text: str, most: int, noun: str) -> None:
    """ValueError where a text that a person wrote is longer than one is."""
    if len(text) > most:
        raise ValueError(f"{noun} has {len(text):,} characters; {most:,} are the most.")
