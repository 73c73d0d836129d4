"""The page of one run: how far it is, what can be done with it, its curves, its film, its facts."""

from collections.abc import Callable
from typing import Any

import gradio as gr

from loctex.jobs import queue as jobs
from loctex.jobs.run import Run
from ui.components import Curves, FilmPlayer
from ui.train import compare, run_facts
from ui.train.new_run import COMMAND, QUIET, html
from ui.workspace import Workspace

_BUTTON: dict[str, Any] = {"scale": 0, "min_width": 150}


class RunPage:
    """The components, and what its buttons do. `shown(changed)` are the updates of a look."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.status = html()
        self._build_actions()
        self.curves = Curves()
        with gr.Accordion("Where it looks, as it learns"):
            self.film = FilmPlayer()
        with gr.Accordion("What it printed", open=False):
            self.log = html()
        with gr.Accordion("The command it runs", open=False):
            self.command = gr.Textbox(
                label="Command", info=f"In {jobs.ROOT}", elem_classes="studio-command", **COMMAND
            )
        with gr.Accordion("What it was made of and with", open=False):
            self.origin = html()
        self.note = gr.Textbox(
            "",
            label="Note",
            lines=1,
            max_lines=4,
            placeholder="What was tried, what was seen",
            info="Kept as you leave the field.",
            interactive=True,
        )

    def _build_actions(self) -> None:
        hidden: dict[str, Any] = {"visible": False, **_BUTTON}
        with gr.Row(elem_classes="studio-actions"):
            self.stop = gr.Button("Stop", variant="stop", **hidden)
            self.resume = gr.Button("Resume", variant="primary", **hidden)
            self.inspect = gr.Button(
                "See what it learned", variant="primary", **hidden | {"min_width": 200}
            )
            self.earlier = gr.Button("Start earlier", **hidden)
            self.later = gr.Button("Start later", **hidden)
            self.extend = gr.Button("Train on", **hidden)
            self.copy = gr.Button("Duplicate", **_BUTTON)
            self.delete = gr.Button("Delete", **hidden)

        with gr.Row(visible=False, elem_classes="studio-actions") as self.from_row:
            self.checkpoint = gr.Dropdown([], label="Resume from", min_width=240, scale=0)

        with gr.Column(visible=False) as self.extend_row:
            html(
                "<p class='ask'>It goes on in the same run. Its learning rate follows a schedule "
                "over all steps, so it rises again first.</p>"
            )
            with gr.Row(elem_classes="studio-actions"):
                self.steps = gr.Number(
                    label="Steps in all", precision=0, min_width=180, scale=0, minimum=1
                )
                self.go_on = gr.Button("Go on", variant="primary", **_BUTTON)

        with gr.Row(visible=False, elem_classes="studio-actions") as self.delete_row:
            html(
                "<p class='ask'>Delete this run with all its checkpoints? This cannot be undone."
                "</p>"
            )
            self.keep = gr.Button("Keep it", **_BUTTON)
            self.really = gr.Button("Delete for good", variant="stop", **_BUTTON)

    @property
    def parts(self) -> list[Any]:
        """The components that a look may change."""
        return [
            self.status,
            self.curves,
            self.film,
            self.log,
            self.command,
            self.origin,
            self.note,
            self.stop,
            self.resume,
            self.inspect,
            self.earlier,
            self.later,
            self.extend,
            self.delete,
            self.from_row,
            self.checkpoint,
            self.extend_row,
            self.steps,
            self.delete_row,
        ]

    def wire(self, selected: gr.State, look: dict[str, Any]) -> None:
        root = self.workspace.root
        for button, action in (
            (self.stop, lambda run: jobs.stop(root, run)),
            (self.earlier, lambda run: jobs.move(root, run, -1)),
            (self.later, lambda run: jobs.move(root, run, 1)),
        ):
            button.click(self.doing(action), selected, None, **QUIET).then(**look, **QUIET)

        self.resume.click(
            self.doing(lambda run, checkpoint: jobs.resume(root, run, checkpoint or "last")),
            [selected, self.checkpoint],
            None,
            **QUIET,
        ).then(**look, **QUIET)

        self.go_on.click(
            self.doing(lambda run, steps: self.train_on(run, steps)),
            [selected, self.steps],
            None,
            **QUIET,
        ).then(lambda: gr.update(visible=False), None, self.extend_row, **QUIET).then(
            **look, **QUIET
        )

        gr.on(
            [self.note.blur, self.note.submit],
            self.doing(lambda run, note: compare.remark(run, note=note.strip())),
            [selected, self.note],
            None,
            **QUIET,
        )

        for button, row, is_open in (
            (self.extend, self.extend_row, True),
            (self.delete, self.delete_row, True),
            (self.keep, self.delete_row, False),
        ):
            button.click(lambda is_open=is_open: gr.update(visible=is_open), None, row, **QUIET)

    def doing(self, action: Callable[..., None]) -> Callable[..., None]:
        """An event's function that does something to the selected run, for an admin only."""

        def act(request: gr.Request, selected: str, *more: Any) -> None:
            try:
                self.workspace.demand("admin", request.username)
                action(self.workspace.run(selected), *more)
            except (ValueError, OSError) as error:
                raise gr.Error(str(error), print_exception=False) from error

        return act

    def train_on(self, run: Run, steps: float | None) -> None:
        """ValueError where these are not more steps than it took."""
        num_steps = run_facts.progress(run).step
        if not steps or steps <= num_steps:
            raise ValueError(f"It took {num_steps:,} steps already: give a larger number.")
        jobs.extend(self.workspace.root, run, int(steps))

    def facts(self, run: Run) -> dict[str, Any]:
        """What a look shows of a run, by part; curves and film by how much of them there is."""
        command, state = jobs.read_command(run), run.state
        waiting = [queued.name for queued in jobs.queue(self.workspace.root)]
        film = run.film_file.stat().st_size if run.film_file.exists() else 0

        return {
            "status": run_facts.status(run, jobs.ahead(self.workspace.root, run)),
            "log": run_facts.log_text(run),
            "command": jobs.line(run) or "It was started by hand.",
            "origin": run_facts.origin(run),
            "actions": (
                run.name,
                state,
                bool(command),
                tuple(run_facts.checkpoints(run)),
                waiting.index(run.name) if run.name in waiting else -1,
                len(waiting),
            ),
            "film": (run.name, film),
        }

    def actions(
        self, name: str, state: str, is_job: bool, checkpoints: tuple, place: int, num_waiting: int
    ) -> dict[Any, Any]:
        """The updates of what can be done in a state."""
        can_resume = is_job and state in ("stopped", "failed")
        is_at_rest = state not in ("waiting", "running", "stopping")
        steps = run_facts.progress(self.workspace.run(name)).step
        names = [value for _, value in checkpoints]

        return {
            self.stop: gr.update(
                visible=state in ("waiting", "running"),
                value="Cancel" if state == "waiting" else "Stop",
            ),
            self.resume: gr.update(visible=can_resume, value="Resume" if names else "Try again"),
            self.inspect: gr.update(
                visible=bool(names), variant="secondary" if can_resume else "primary"
            ),
            self.earlier: gr.update(visible=place > 0),
            self.later: gr.update(visible=0 <= place < num_waiting - 1),
            self.extend: gr.update(visible=is_job and state == "done"),
            self.delete: gr.update(visible=is_at_rest),
            self.from_row: gr.update(visible=can_resume and len(names) > 1),
            self.checkpoint: gr.update(choices=list(checkpoints), value=(names or [None])[0]),
            self.steps: gr.update(value=2 * steps or None),
            self.extend_row: gr.update(visible=False),
            self.delete_row: gr.update(visible=False),
        }
