"""Who may do what: a page whose events run only for those who may see the tab they belong to.

Hiding a tab hides nothing from somebody who writes requests by hand, so each event asks again.
"""

import copy
import errno
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.state_holder import SessionState
from gradio.utils import get_upload_folder

from ui.guard.payloads import shaped
from ui.workspace import Workspace

_SILENT = {"load", "tick", "then"}  # nobody clicked: no message, nothing shown
log = logging.getLogger("studio")


class Page(gr.Blocks):
    """gr.Blocks with a least role for each tab."""

    def __init__(self, workspace: Workspace, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.workspace = workspace
        self.tabs: list[tuple[gr.Tab, str]] = []
        self._roles: dict[int, str] = {}  # of each event

    @contextmanager
    def tab(self, label: str, name: str, role: str) -> Iterator[gr.Tab]:
        """A tab for people of this role and above; what is built inside is theirs too."""
        events_before = set(self.fns)
        is_open = self.workspace.users is None or role == "annotator"
        with gr.Tab(label, id=name, visible=is_open) as tab:
            yield tab
        self.tabs.append((tab, role))
        self._roles |= dict.fromkeys(set(self.fns) - events_before, role)

    def show_tabs(self) -> None:
        """Once all are built: each person sees the tabs of their role."""
        if self.workspace.users is not None:
            closed = [(tab, role) for tab, role in self.tabs if role != "annotator"]

            def visible(request: gr.Request) -> list[gr.Tab]:
                may = self.workspace.allows
                return [gr.Tab(visible=may(role, request.username)) for _, role in closed]

            self.load(visible, None, [tab for tab, _ in closed], api_visibility="private")

    async def process_api(self, block_fn: Any, inputs: list[Any], *args: Any, **kwargs: Any) -> Any:
        """Gradio calls this for every event."""
        event = self.fns[block_fn] if isinstance(block_fn, int) else block_fn
        requests = kwargs.get("request")
        request = requests[0] if isinstance(requests, list) else requests
        name = getattr(request, "username", None)
        try:
            self.workspace.demand(self._roles.get(event._id, "annotator"), name)
        except ValueError as error:
            if not {kind for _, kind in event.targets} <= _SILENT:
                log.warning("refused: %r asked for event %s", name, event._id)
                raise gr.Error(str(error), print_exception=False) from error
            event = copy.copy(event)
            event.fn = _nothing
        try:
            inputs = shaped(event.inputs, inputs)
            return await super().process_api(event, inputs, *args, **kwargs)
        except (ValueError, OSError) as error:  # what a person can mend, wherever it was met
            log.info("refused: event %s of %r: %s", event._id, name, error)
            raise gr.Error(way_out(error), print_exception=False) from error
        finally:
            self._forget_copies(kwargs.get("state"))

    def _forget_copies(self, state: SessionState | None) -> None:
        """Where an event reads a component that an update changed, Gradio files the changed copy in
        the session once more, under a number of its own, which nobody asks for again: a copy for
        each answer, as long as the session lasts."""
        if state is None:
            return
        blocks = state.blocks_config.blocks
        for number in blocks.keys() - self.default_config.blocks.keys():
            blocks.pop(number, None)
            state.config_values.pop(number, None)


def uploaded(file: Any) -> Path:
    """A file that the browser says it sent; ValueError where it does not lie among the uploads."""
    path = Path(str(file)).resolve()
    if not path.is_relative_to(Path(get_upload_folder()).resolve()) or not path.is_file():
        raise ValueError("This file was not uploaded here; choose it again.")
    return path


def way_out(error: ValueError | OSError) -> str:
    """What a person reads of an error; the system's own words name no way out."""
    if isinstance(error, OSError) and error.errno == errno.EROFS:
        place = Path(error.filename).parent if error.filename else "the workspace"
        return (
            f"Nothing is saved: {place} lies where nothing may be written. Copy the workspace to a "
            "place of your own, and open it there."
        )
    return str(error)


def name_of(request: gr.Request) -> str:
    """Who asks; without logins everybody is one annotator."""
    return request.username or "annotator"


def _nothing(*_: Any) -> Any:
    return gr.skip()
