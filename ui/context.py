"""Where a tab is being built: Gradio's current page and tab."""

import gradio as gr
from gradio.context import Context


def page_and_tab() -> tuple[gr.Blocks, gr.Tab]:
    """The page and the tab inside whose `with` blocks the caller stands."""
    page, tab = Context.root_block, Context.block
    assert isinstance(page, gr.Blocks) and isinstance(tab, gr.Tab)
    return page, tab
