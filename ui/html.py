"""An empty state: what to do next in one sentence, and the one button that leads there."""

from html import escape


def empty(title: str, sentence: str, tab: str) -> str:
    """HTML; tabs.js opens the tab of this name."""
    return (
        f"<section class='studio-empty'><h2>{escape(title)}</h2><p>{escape(sentence)}</p>"
        f"<button type='button' data-go='{escape(tab)}'>Go to {escape(tab)}</button></section>"
    )
