"""LocTex: visual features from captions and the mouse traces that were drawn with them."""

import os

# What Apple's GPUs lack runs on the CPU, with PyTorch's own warning; read when torch is loaded.
os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")
