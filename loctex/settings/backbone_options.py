"""The arguments of timm that a setting, a YAML file or a saved config.json may carry.

They come from anybody, and timm has others that read a pickle (checkpoint_path), fetch an address
(pretrained_cfg, pretrained_cfg_overlay) or choose what is returned: those never reach it.
"""

import re
from typing import Any

SHAPE = (
    *("layers", "channels", "depth", "depths", "dims", "embed_dim", "embed_dims", "num_heads"),
    *("mlp_ratio", "mlp_ratios", "stem_type", "stem_width", "stem_chs", "stem_size", "stem_pool"),
    *("stem_kernel_size", "stem_stride", "output_stride", "img_size", "patch_size", "window_size"),
    *("block_sizes", "cardinality", "base_width", "width_factor", "group_size", "reduce_first"),
    *("down_kernel_size", "avg_down", "kernel_sizes", "head_dim", "head_hidden_size", "fix_stem"),
    *("conv_mlp", "conv_bias", "use_grn", "ls_init_value", "init_values", "qkv_bias", "qk_norm"),
    *("class_token", "reg_tokens", "no_embed_class", "pre_norm", "final_norm", "pos_embed"),
    *("dynamic_img_size", "dynamic_img_pad", "strict_img_size", "always_partition", "use_rel_pos"),
    *("channel_multiplier", "depth_multiplier", "round_limit", "pad_type", "norm_eps", "bn_eps"),
    *("bn_momentum", "bn_tf", "act_layer", "norm_layer", "aa_layer", "attn_layer", "pool_type"),
    *("growth_rate", "block_config", "memory_efficient", "zero_init_last", "replace_stem_pool"),
)
RATES = (
    *("drop_rate", "drop_path_rate", "drop_block_rate", "attn_drop_rate", "proj_drop_rate"),
    *("pos_drop_rate", "patch_drop_rate", "drop_connect_rate"),
)
ALLOWED = frozenset(SHAPE + RATES)
LARGEST = 65_536  # of a number: a wider layer fits no machine
_WORD = re.compile(r"[0-9A-Za-z_.+-]{0,40}")
_LONGEST = 64  # entries of a list
_DEEPEST = 3  # lists in lists


def check(options: Any, setting: str = "model.backbone_options") -> None:
    """ValueError names the option that does not go to timm, and the way out."""
    if not isinstance(options, dict):
        raise ValueError(f"{setting} must hold names and values, got {options!r:.60}")
    for name, value in options.items():
        if name not in ALLOWED:
            raise ValueError(
                f"{setting}: {str(name)[:60]!r} is none of the options that shape a backbone "
                "(layers, channels, stem_width, img_size, patch_size, drop_path_rate, ...); leave "
                "it out. Weights come from a local file: --model.init timm --model.weights FILE"
            )
        _check_value(value, f"{setting}: {name}", 0)


def _check_value(value: Any, entry: str, depth: int) -> None:
    if isinstance(value, list | tuple) and depth < _DEEPEST and len(value) <= _LONGEST:
        for item in value:
            _check_value(item, entry, depth + 1)
        return
    is_number = isinstance(value, int | float) and abs(value) <= LARGEST
    is_word = isinstance(value, str) and _WORD.fullmatch(value) is not None
    if value is not None and not is_number and not is_word:
        raise ValueError(
            f"{entry} must be a number up to {LARGEST:,}, true or false, a short word, or a list "
            f"of these, got {value!r:.60}"
        )
