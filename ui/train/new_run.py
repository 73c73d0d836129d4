"""The form of a new run: what to learn from and where, the settings, and the command they give."""

import re
import secrets
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from html import escape
from typing import Any

import gradio as gr
import yaml

from loctex import settings
from loctex.jobs import provenance
from loctex.jobs import queue as jobs
from loctex.jobs.execution import Execution
from loctex.jobs.run import Run
from loctex.settings import Settings
from loctex.settings.presets import PRESETS
from ui import form
from ui.assets import static
from ui.data.exchange import DEMO
from ui.guard.access import uploaded
from ui.html import empty
from ui.train import devices, run_facts
from ui.train.start import (
    RunRequest,
    choices,
    like,
    make_plan,
    next_name,
    picked_from,
    start,
    starts_from,
)
from ui.workspace import Workspace

PRESET_NOTES = {
    "photos": "Photos: a backbone that knows ImageNet and is kept as it is; minutes on a laptop",
    "photos-finetune": "Photos, fine-tuned: the backbone learns too, slowly; for a GPU",
    "tiny": "Tiny: from random numbers, for rendered scenes; minutes on a laptop",
    "r50": "ResNet-50: the size of the LocTex paper, for a GPU",
    "softmask": "Soft mask: the same with a fusion encoder, which tells near captions apart",
}
DEFAULT = "photos"  # for all but rendered scenes, which no photograph prepares for
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
_ACTION: dict[str, Any] = {"scale": 0, "min_width": 220}
COMMAND: dict[str, Any] = {"interactive": False, "buttons": ["copy"], "lines": 2, "max_lines": 8}
_EMPTY = empty(
    "Nothing to learn from yet",
    "Describe a few pictures in Annotate, or open the demo collection in Data. Then a model learns "
    "here where the words are.",
    "Data",
)


def html(value: str = "", **kwargs: Any) -> gr.HTML:
    return gr.HTML(value, css_template=static("train.css"), apply_default_css=False, **kwargs)


def problem(text: str) -> Any:
    """A line that says what to mend; hidden where there is nothing."""
    markup = f"<p class='problem' role='alert'>{escape(text)}</p>"
    return gr.update(value=markup, visible=bool(text))


class NewRun:
    """The components of the form, and what they do.

    `request_inputs` are the inputs in the order of RunRequest.
    """

    inputs: dict[str, Any]  # of `form.build`; Gradio adds their events while it runs

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.starting = threading.Lock()
        self.guide = html(_EMPTY, visible=False)

        with gr.Column(visible=False) as self.questions:
            self._build_questions()
            with gr.Accordion("As YAML", open=False):
                self._build_yaml()
            with gr.Accordion("Snapshots from elsewhere", open=False):
                self.folders = gr.Textbox(
                    "",
                    label="Folders",
                    lines=2,
                    info="One a line; FOLDER=2 shows its images twice an epoch.",
                )
            self._build_end()

        self.request_inputs = [
            self.picked,
            self.folders,
            self.preset,
            self.name,
            self.devices,
            self.launcher,
            *self.inputs.values(),
        ]

        self._previewed = [
            self.problem,
            self.lines,
            self.yaml,
            self.start,
            self.marks,
            self.back,
        ]

    def _build_questions(self) -> None:
        with gr.Row(equal_height=True):
            self.picked = gr.CheckboxGroup([], label="Learn from", min_width=320)
            self.preset = gr.Radio(
                [(PRESET_NOTES.get(name, name), name) for name in PRESETS],
                value=DEFAULT,
                label="Model",
                min_width=320,
            )

        with gr.Row(visible=False) as self.places:
            self.devices = gr.CheckboxGroup([], label="Runs on", min_width=320)
            self.launcher = gr.Dropdown(
                [("this machine", devices.HERE)],
                value=devices.HERE,
                label="Started by",
                visible=False,
                min_width=200,
                scale=0,
            )

        self.inputs, self.search, self.only_changed = form.build(PRESETS[DEFAULT])

    def _build_yaml(self) -> None:
        self.yaml = gr.Textbox(
            label="All settings",
            lines=12,
            max_lines=24,
            buttons=["copy"],
            info="Always as above. Change or paste here, then use it; what is left out stays.",
            elem_id="start-yaml",
            elem_classes="studio-command",
            interactive=True,
        )
        with gr.Row(elem_classes="studio-actions"):
            self.use_yaml = gr.Button("Use this YAML", **_ACTION)
            self.open_yaml = gr.UploadButton("Open a file", file_types=[".yaml", ".yml"], **_ACTION)

    def _build_end(self) -> None:
        self.name = gr.Textbox("", label="Name of the run", max_lines=1)

        self.forecast = html("<p class='forecast'></p>")
        self.lines = gr.Textbox(
            label="What “Start” runs",
            info=f"You can type the same in {jobs.ROOT}",
            elem_id="start-line",
            elem_classes="studio-command",
            **COMMAND,
        )
        self.problem = html(visible=False)

        with gr.Row(elem_classes="studio-actions"):
            self.start = gr.Button("Start", variant="primary", **_ACTION)
            self.back = gr.Button("Undo changes", visible=False, **_ACTION)

        self.token = gr.Textbox("", visible=False)
        self.marks = html("<style></style>", visible="hidden")

    # --- events

    def wire(self, opened: Sequence[Callable], selected: gr.State) -> None:
        """opened: the events after which the form may be in view; it is where "" is selected.
        Elsewhere nothing is asked: the first forecast imports torch, which takes seconds."""
        form_inputs, form_outputs = self._fresh_io()
        for event in opened:
            self.refresh(
                event(self._fresh_in_view, [selected, *form_inputs], form_outputs, **QUIET)
            )

        own: list[Any] = [self.picked, self.folders, self.name, self.devices, self.launcher]
        gr.on(
            [field.input for name, field in self.inputs.items() if name != "model.init"]
            + [field.input for field in own],
            self.preview,
            [*self._shown_by, *self.request_inputs],
            self._previewed,
            trigger_mode="always_last",
            **QUIET,
        ).then(self.foresee, self.request_inputs, self.forecast, **QUIET)

        gr.on(
            [self.search.change, self.only_changed.input],
            self.mark,
            [*self._shown_by, self.preset, *self.inputs.values()],
            self.marks,
            trigger_mode="always_last",
            **QUIET,
        )

        fields = [*self.inputs.values()]
        self.refresh(
            gr.on(
                [self.preset.input, self.back.click],
                self.use_preset,
                [self.preset, self.name],
                [self.name, *fields],
                **QUIET,
            )
        )

        init = self.inputs["model.init"]
        self.refresh(init.input(self.use_init, fields, fields, **QUIET))

        filled = [self.picked, self.folders, *fields]
        for event, reader, source in (
            (self.use_yaml.click, self.read_yaml, self.yaml),
            (self.open_yaml.upload, self.read_file, self.open_yaml),
        ):
            self.refresh(
                event(
                    reader,
                    [source, self.picked, self.folders, self.preset],
                    filled,
                    api_visibility="private",
                )
            )

    @property
    def _shown_by(self) -> list[Any]:
        return [self.search, self.only_changed]

    def refresh(self, event: Any) -> Any:
        """After an event that changed the form: the preview, then the forecast."""
        return event.then(
            self.preview, [*self._shown_by, *self.request_inputs], self._previewed, **QUIET
        ).then(self.foresee, self.request_inputs, self.forecast, **QUIET)

    def again(self, event: Any) -> Any:
        """After an event that asks for a new run: the form as it is on a fresh page."""
        return self.refresh(event.then(self.fresh, *self._fresh_io(), **QUIET))

    def _fresh_io(self) -> tuple[list[Any], list[Any]]:
        form_inputs = [
            self.picked,
            self.preset,
            self.name,
            self.devices,
            self.launcher,
            *self.inputs.values(),
        ]

        form_outputs = [
            self.guide,
            self.questions,
            self.picked,
            self.preset,
            self.name,
            self.token,
            self.places,
            self.devices,
            self.launcher,
            *self.inputs.values(),
        ]

        return form_inputs, form_outputs

    def _fresh_in_view(self, selected: str | None, *form_values: Any) -> list[Any]:
        return (
            self.fresh(*form_values) if selected == "" else [gr.skip()] * len(self._fresh_io()[1])
        )

    def fresh(
        self,
        picked: list[str],
        preset: str,
        name: str,
        takes: list[str],
        launcher: str,
        *inputs: Any,
    ) -> list[Any]:
        """What can be trained on now, and where; a free name; what to start from.

        A form that nobody changed starts from the preset that fits what is picked, never from an
        earlier run: two runs could not be compared then. Starting from one is a choice.
        """
        sources = choices(self.workspace)
        offered = [value for _, value in sources]
        ticked = [value for value in picked or [] if value in offered] or offered[:1]

        names = [run.name for run in self.workspace.runs()]
        needs_name = not name.strip() or name.strip() in names

        places, usual, _ = devices.available(self.workspace.runs())
        uuids = [value for _, value in places]
        ticked_devices = [value for value in takes or [] if value in uuids] or usual

        launchers = self._launchers()
        starts = starts_from(self.workspace)
        field_values = list(inputs)

        if needs_name and preset in (DEFAULT, "tiny") and _is_untouched(inputs, PRESETS[preset]):
            preset = preset_for(ticked)
            field_values = form.values(PRESETS[preset])

        at = list(self.inputs).index("model.init")
        field_values[at] = gr.update(choices=starts, value=field_values[at])

        return [
            gr.update(visible=not sources),
            gr.update(visible=bool(sources)),
            gr.update(choices=sources, value=ticked),
            preset,
            next_name(self.workspace, preset) if needs_name else gr.skip(),
            secrets.token_hex(8),
            gr.update(visible=bool(places or launchers)),
            gr.update(choices=places, value=ticked_devices, visible=bool(places)),
            gr.update(
                choices=[("this machine", devices.HERE), *((n, n) for n in launchers)],
                value=launcher if launcher in launchers else devices.HERE,
                visible=bool(launchers),
            ),
            *field_values,
        ]

    def _launchers(self) -> list[str]:
        try:
            return [launcher.name for launcher in devices.launchers(self.workspace.root)]
        except ValueError as error:
            gr.Warning(str(error))
            return []

    def preview(self, search: str, only_changed: bool, *form_values: Any) -> list[Any]:
        """problem, lines, yaml, start, marks, back"""
        request = _request(form_values)
        try:
            plan = make_plan(self.workspace, request)
        except ValueError as error:
            return [
                problem(str(error)),
                gr.skip(),
                gr.skip(),
                gr.update(interactive=False),
                gr.skip(),
                gr.skip(),
            ]

        _, complete = plan.command([folder for _, folder in plan.collections])
        changed = settings.changed(plan.settings, PRESETS[request.preset])

        return [
            problem(""),
            plan.lines(),
            settings.dump(complete),
            gr.update(interactive=True),
            form.style(changed, search, only_changed),
            gr.update(visible=bool(changed)),
        ]

    def mark(self, search: str, only_changed: bool, preset: str, *inputs: Any) -> str:
        try:
            changed = settings.changed(form.read(inputs, PRESETS[preset]), PRESETS[preset])
        except ValueError:
            changed = {}
        return form.style(changed, search, only_changed)

    def foresee(self, *form_values: Any) -> str:
        """How much, how long, how large: once the preview is there, for it may take seconds."""
        _, _, no_gpu = devices.available([])
        try:
            forecast = make_plan(self.workspace, _request(form_values)).forecast()
        except (ValueError, RuntimeError) as error:  # timm knows no such backbone, and the like
            forecast = "" if isinstance(error, ValueError) else f"It cannot be estimated: {error}"
        texts = [text for text in (forecast, no_gpu) if text]
        return f"<p class='forecast'>{escape(' '.join(texts))}</p>"

    def use_preset(self, preset: str, name: str) -> list[Any]:
        is_ours = re.fullmatch(rf"({'|'.join(PRESETS)})-\d+", name.strip())
        new = next_name(self.workspace, preset) if is_ours else gr.skip()
        return [new, *form.values(PRESETS[preset])]

    def use_init(self, *inputs: Any) -> list[Any]:
        """The model takes the shape of the run it starts from."""
        init = inputs[list(self.inputs).index("model.init")]
        return like(self.workspace, init, inputs)

    def read_yaml(self, text: str, picked: list[str], folders: str, preset: str) -> list[Any]:
        """The form as a YAML text says; what it leaves out is as the preset has it."""
        try:
            run_settings = form.from_yaml(text, PRESETS[preset])
        except (ValueError, yaml.YAMLError) as error:
            raise gr.Error(str(error), print_exception=False) from error
        if run_settings.data.snapshots:
            picked, folders = picked_from(self.workspace, run_settings.data.snapshots)
        offered = self._offered(picked)
        return [offered, folders, *form.values(run_settings)]

    def read_file(self, file: str, *form_values: Any) -> list[Any]:
        """The same of a file; its path comes from the browser, so it is checked."""
        try:
            path = uploaded(file)
        except ValueError as error:
            raise gr.Error(str(error), print_exception=False) from error
        return self.read_yaml(path.read_text(encoding="utf-8", errors="replace"), *form_values)

    def _offered(self, picked: Sequence[str]) -> Any:
        """What is picked, with all that can be: a value that is no choice of the page is refused
        by Gradio, in words that nobody understands."""
        sources = choices(self.workspace)
        offered = [value for _, value in sources]
        return gr.update(choices=sources, value=[value for value in picked if value in offered])

    @property
    def copied(self) -> list[Any]:
        """The outputs of `copy_of`."""
        return [*self._fresh_io()[1], self.folders]

    def copy_of(self, name: str) -> list[Any]:
        """The form as an earlier run was asked for, under a new name, on a page that may never
        have shown it: `copied`."""
        try:
            run = self.workspace.run(name)
        except ValueError as error:
            raise gr.Error(str(error), print_exception=False) from error

        run_settings, command = run_facts.settings_of(run) or Settings(), jobs.read_command(run)
        arguments = dict(zip(command.words, command.words[1:], strict=False)) if command else {}
        preset = arguments.get("--preset", "tiny")

        snapshots = run_settings.data.snapshots
        with suppress(ValueError):  # of one that is gone the old place is shown
            snapshots = tuple(provenance.relocated(run, snapshots))

        picked, folders = picked_from(self.workspace, snapshots)
        stem = re.sub(r"-\d+$", "", name)
        new_name = next_name(self.workspace, stem)
        takes = [*Execution(command.words, command.devices).gpus] if command else []

        updates = self.fresh(
            picked, preset, new_name, takes, devices.HERE, *form.values(run_settings)
        )

        updates[self.copied.index(self.picked)] = self._offered(picked)
        updates[self.copied.index(self.name)] = new_name
        return [*updates, folders]

    def begin(self, token: str, form_values: Sequence[Any], progress: Any) -> Run:
        """Put the run that is wished for into the queue; the same click again is the same run."""
        with self.starting:  # two clicks, one after the other
            run = jobs.find(self.workspace.root, token)
            if run is None:
                run = start(make_plan(self.workspace, _request(form_values)), token, progress)
        return run


def preset_for(picked: Sequence[str]) -> str:
    """The preset for what is picked (values of `choices`): tiny for the demo's scenes alone."""
    names = [value.partition(":")[2].replace("-", " ") for value in picked]
    is_demo = bool(names) and all(name.startswith(DEMO) for name in names)
    return "tiny" if is_demo else DEFAULT


def _is_untouched(inputs: Sequence[Any], preset: Settings) -> bool:
    try:
        return form.read(inputs, preset) == preset
    except ValueError:
        return False


def _request(values: Sequence[Any]) -> RunRequest:
    picked, folders, preset, name, takes, launcher, *inputs = values
    return RunRequest(
        tuple(picked or ()),
        folders or "",
        preset,
        name or "",
        tuple(takes or ()),
        launcher or "",
        tuple(inputs),
    )
