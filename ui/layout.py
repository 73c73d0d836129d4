"""The page: one line per tab, and how Gradio serves it."""

from functools import partial
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from ui.annotate import tab as annotate
from ui.assets import static
from ui.data import tab as data
from ui.evaluate import tab as evaluate
from ui.export import tab as export
from ui.guard.access import Page
from ui.inspect import tab as inspect
from ui.review import mine, team
from ui.review import tab as review
from ui.train import tab as train
from ui.workspace import Workspace

_THEME = gr.themes.Default(
    primary_hue="indigo",
    neutral_hue="slate",
    radius_size="md",
    font=("system-ui", "sans-serif"),
    font_mono=("ui-monospace", "monospace"),
).set(
    body_text_color_subdued="*neutral_500",
    body_text_color_subdued_dark="*neutral_400",
    button_secondary_background_fill="*neutral_100",
    button_secondary_background_fill_hover="*neutral_200",
    button_secondary_background_fill_dark="*neutral_800",
    button_secondary_background_fill_hover_dark="*neutral_700",
    button_primary_background_fill="*primary_600",
    button_primary_background_fill_dark="*primary_600",
    button_primary_background_fill_hover="*primary_700",
    button_primary_background_fill_hover_dark="*primary_700",
    button_primary_border_color="*primary_600",
    button_primary_border_color_dark="*primary_600",
    link_text_color="*primary_700",
    link_text_color_dark="*primary_300",
    button_large_text_size="*text_md",
    button_large_text_weight="500",
    button_large_padding="8px 16px",
)

LAUNCH: dict[str, Any] = {
    "theme": _THEME,
    "css": static("studio.css"),
    "js": static("tabs.js"),
    "favicon_path": str(Path(__file__).parent / "static" / "favicon.svg"),
    "auth_message": static("login.html"),
    "footer_links": [],
    "run_history": False,
    "ssr_mode": False,
    "max_file_size": "200mb",
}

BRAND = "<b>LocTex</b> Studio"


def build(workspace: Workspace) -> gr.Blocks:
    """The tabs over one workspace, in the order of the journey, each for people of its role and
    above; those of a team where there are logins."""
    with Page(
        workspace,
        title="LocTex Studio",
        fill_width=True,
        analytics_enabled=False,
        delete_cache=(3600, 86400),
    ) as page:
        brand = gr.HTML(BRAND, elem_classes="studio-brand", apply_default_css=False)
        gr.HTML(
            html_template=static("insecure.html"),
            css_template=static("notice.css"),
            js_on_load=static("insecure.js"),
            apply_default_css=False,
            elem_classes="studio-notice",
        )
        if workspace.is_read_only:
            gr.HTML(
                html_template=static("read_only.html"),
                css_template=static("notice.css"),
                apply_default_css=False,
                elem_classes="studio-notice",
            )

        with gr.Tabs() as tabs:
            with page.tab("Annotate", "annotate", "annotator"):
                recorder = annotate.build()
            if workspace.users is not None:  # who works alone reviews nobody
                with page.tab("Mine", "mine", "annotator"):
                    mine.build(workspace)
                with page.tab("Review", "review", "reviewer"):
                    review.build(workspace)
                with page.tab("Team", "team", "reviewer"):
                    team.build(workspace)
            with page.tab("Data", "data", "reviewer"):
                data.build(workspace)
            with page.tab("Train", "train", "reviewer"):
                training = train.build(workspace)
            with page.tab("Inspect", "inspect", "reviewer"):
                inspect.build(workspace).open_run(training.run.inspect.click, training.selected)
            with page.tab("Evaluate", "evaluate", "admin"):
                evaluate.build(workspace)
            with page.tab("Export", "export", "admin"):
                export.build(workspace)

        to_data = partial(gr.Tabs, selected="data")
        recorder.data(to_data, outputs=tabs, api_visibility="private")
        page.show_tabs()
        if workspace.users is not None:
            page.load(_signed_in, None, brand, api_visibility="private", show_progress="hidden")
    return page


def _signed_in(request: gr.Request) -> str:
    """The brand, with who is logged in and the way out."""
    return f"{BRAND} · {escape(request.username or '')} <a href='logout'>Log out</a>"
