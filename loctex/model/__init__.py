"""The model and its losses. LocTexModel and LocTexConfig are importable from here (lazily)."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from loctex.model.config import LocTexConfig
    from loctex.model.model import LocTexModel

__all__ = ["LocTexConfig", "LocTexModel"]


def __getattr__(name: str) -> Any:
    """Torch is imported only by who asks; the cards of older exports name `loctex.model.model`."""
    if name == "LocTexModel":
        from loctex.model.model import LocTexModel

        return LocTexModel
    if name == "LocTexConfig":
        from loctex.model.config import LocTexConfig

        return LocTexConfig
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
