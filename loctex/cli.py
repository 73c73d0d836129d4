"""What several commands say alike: options by one name with one meaning."""

import argparse


def add_device_option(parser: argparse.ArgumentParser) -> None:
    """--device, which `distributed.choose_device` reads."""
    parser.add_argument(
        "--device",
        default="auto",
        metavar="auto|cpu|cuda|cuda:N|mps",
        help="where to compute; auto is the GPU where there is one, else the CPU [auto]",
    )
