"""How images and narratives come into a collection and leave it: three tabs inside Data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from data_tools.store import Collection
from ui.components import Listing
from ui.data import exchange
from ui.data.exchange import Outcome
from ui.data.listing import outcome_html, problem_html
from ui.workspace import Workspace


class ExchangePage:
    """The tabs Add images, Import and Export data, and their long work, which Stop ends."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        with gr.Tab("Add images"):
            self._build_images()
        with gr.Tab("Import"):
            self._build_import()
        with gr.Tab("Export data") as self.export_tab:
            self._build_export()

    def _build_images(self) -> None:
        self.files = gr.File(
            show_label=False, file_count="multiple", height=200, elem_id="data-images"
        )
        with gr.Row(elem_classes="studio-line"):
            self.folder = gr.Textbox(
                label="Or name a folder on this machine",
                placeholder="/home/me/pictures",
                max_lines=1,
                scale=4,
                elem_id="data-folder",
            )
            self.add_folder = gr.Button("Add its images", scale=0, min_width=160)

    def _build_import(self) -> None:
        _note(
            "Narratives (Localized Narratives, Video Localized Narratives, the studio's parquet), "
            "captions to be traced, or boxes, which a simulated narrator tells: a file, a folder "
            "or an archive, as YOLO, COCO, CVAT, Roboflow, Label Studio, Open Images or "
            "imagefolder have it. Look says what it is and how much, and writes nothing; what is "
            "there already is not added twice."
        )
        with gr.Row(elem_classes="studio-line"):
            self.file = gr.Textbox(
                label="Narratives, captions or boxes",
                placeholder="/home/me/export.zip",
                max_lines=1,
                scale=3,
                elem_id="data-import",
            )
            self.images = gr.Textbox(
                label="Folder of pictures",
                placeholder="left empty: beside them",
                max_lines=1,
                scale=3,
            )
            self.look = gr.Button("Look", scale=0, min_width=100)
            self.bring = gr.Button("Import", scale=0, min_width=140, variant="primary")

    def _build_export(self) -> None:
        _note(
            "The collection as narratives.jsonl (above 50,000 in several files) with its images, "
            "voices and a card that says what it is: the public format, ready for any reader of it."
        )

        with gr.Row(elem_classes="studio-line"):
            self.to = gr.Textbox(
                label="New folder",
                placeholder="left empty: one in the workspace",
                max_lines=1,
                scale=3,
            )
            self.terms = gr.Textbox(
                label="Terms of use",
                placeholder="for example CC BY 4.0",
                max_lines=1,
                scale=2,
                elem_id="data-terms",
            )
            self.give = gr.Button("Export", scale=0, min_width=160, variant="primary")

        self.parquet = gr.Checkbox(
            label="Also as parquet: opens as a snapshot, and with datasets.load_dataset",
            container=False,
            elem_id="data-parquet",
        )

    def wire(
        self,
        collection: gr.State,
        demo: gr.Button,
        outcome: Listing,
        stop: gr.Button,
        show: dict[str, Any],
    ) -> None:
        """collection: the id of the chosen one. show: the event that shows the page anew."""
        quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}

        for event in (self.export_tab.select, collection.change):
            event(self._terms, collection, self.terms, **quiet)

        steps: list[Any] = []
        for event, action, inputs in (
            (demo.click, self._demo, []),
            (self.files.upload, self._drop, [collection, self.files]),
            (self.add_folder.click, self._folder, [collection, self.folder]),
            (self.folder.submit, self._folder, [collection, self.folder]),
            (self.look.click, exchange.look, [self.file, self.images]),
            (self.bring.click, self._import, [collection, self.file, self.images]),
            (self.give.click, self._export, [collection, self.to, self.terms, self.parquet]),
        ):
            step = event(self._step_by_step(action), inputs, [outcome, stop], **quiet)
            step.then(**show)
            steps.append(step)

            if action == self._drop:
                step.then(lambda: None, None, self.files, **quiet)

        stop.click(None, None, None, cancels=steps, queue=False, api_visibility="private").then(
            lambda: gr.Button(visible=False), None, stop, **quiet
        ).then(**show)

    def _step_by_step(self, action: Callable[..., Iterator[Outcome]]) -> Callable[..., Iterator]:
        """An event that shows outcome after outcome, and Stop meanwhile, for admins."""

        def steps(request: gr.Request, *inputs: Any) -> Iterator[tuple[str, gr.Button]]:
            try:
                self.workspace.demand("admin", request.username)
                for number, outcome in enumerate(action(*inputs)):
                    is_edge = number == 0 or outcome.share == 1  # a late step must not show Stop
                    stop = gr.Button(visible=outcome.share < 1) if is_edge else gr.skip()
                    yield outcome_html(outcome), stop
            except (ValueError, OSError) as error:
                yield problem_html(error), gr.Button(visible=False)

        return steps

    def _find(self, collection_id: int | None) -> Collection:
        return exchange.demand(self.workspace, collection_id)

    def _terms(self, collection: int | None) -> str:
        return self._find(collection).license

    def _demo(self) -> Iterator[Outcome]:
        return exchange.add_demo(self.workspace)

    def _drop(self, collection: int | None, files: list[str] | None) -> Iterator[Outcome]:
        paths = [Path(file) for file in files or ()]
        return exchange.add_images(self.workspace, self._find(collection).id, paths)

    def _folder(self, collection: int | None, folder: str) -> Iterator[Outcome]:
        paths = exchange.files_of(folder)
        return exchange.add_images(self.workspace, self._find(collection).id, paths)

    def _import(self, collection: int | None, file: str, images: str) -> Iterator[Outcome]:
        return exchange.import_narratives(self.workspace, self._find(collection).name, file, images)

    def _export(
        self, collection: int | None, folder: str, terms: str, has_parquet: bool
    ) -> Iterator[Outcome]:
        chosen_collection = self._find(collection)
        return exchange.export(
            self.workspace, chosen_collection, folder, terms, has_parquet=has_parquet
        )


def _note(text: str) -> None:
    gr.HTML(f"<p class='studio-quiet'>{text}</p>", apply_default_css=False)
