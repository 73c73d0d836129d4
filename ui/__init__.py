"""The studio: the Gradio app and its tabs. May import everything of ours."""
