"""The files of ui/static as text, for the page and for figures that are files of their own."""

from pathlib import Path

_STATIC = Path(__file__).parent / "static"


def static(*names: str) -> str:
    """The text of files of ui/static, joined; scripts share one scope in the order given."""
    return "\n".join((_STATIC / name).read_text(encoding="utf-8") for name in names)


PLAYER_SCRIPTS = ("colors.js", "stage.js", "player.js", "layers.js", "controls.js")
