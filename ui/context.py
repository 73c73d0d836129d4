"""The page and the tab that Gradio is building."""

import gradio as gr
from gradio.context import Context


def page_and_tab() -> tuple[gr.Blocks, gr.Tab]:
    """The page under construction and the tab whose `with` block runs."""
    page, tab = Context.root_block, Context.block
    assert isinstance(page, gr.Blocks) and isinstance(tab, gr.Tab)
    return page, tab
