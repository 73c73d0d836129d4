"""Trains LocTex on one or more snapshots.

    python -m loctex.train --data SNAPSHOT --preset tiny --run RUN
    python -m loctex.train --data MINE=4 --data LN_COCO --preset r50 --run RUN --model.init timm
    python -m loctex.train --run RUN --resume
    torchrun --nproc-per-node 2 -m -- loctex.train --data SNAPSHOT --run RUN

A run is a directory: settings.yaml, metrics.jsonl, checkpoints/, best and last, result.json.
To stop it with a checkpoint, send SIGTERM or create the file RUN/stop; --resume goes on from
RUN/last to the same bits as if it had never stopped. With --resume best or --resume step-00000200
it goes on from there, and what came after is dropped; with --train.steps MORE a run that is done
goes on. (Without the --, torchrun takes our --run for an abbreviation of its own --run-path.)

    python -m loctex.train --data SNAPSHOT --preset r50 --run RUN --resume auto

starts where there is no checkpoint, goes on from RUN/last where there is one, and says so where the
run is done: one line for all that starts a program again, such as Slurm's requeue, torchrun
--max-restarts, a Kubernetes Job, Ray, a spot machine. Ended by SIGTERM or SIGUSR1 it then exits
with 128 + the signal's number, for it is not done; RUN/stop ends it with 0.
"""

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import yaml

from loctex import cli, settings
from loctex.jobs import checkpoint_files, provenance
from loctex.jobs.run import Run
from loctex.records.files import write_whole
from loctex.settings import Settings, changed, presets

AUTO = "auto"
MADE_WITH = ("train.optimizer", "train.ema", "loss.queue")  # and the model's settings


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m loctex.train",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--run", type=Path, required=True, help="the directory of the run")
    parser.add_argument(
        "--data", action="append", metavar="SNAPSHOT[=WEIGHT]", help="a snapshot; several mix"
    )
    parser.add_argument("--preset", choices=sorted(presets.PRESETS), help="settings to start from")
    parser.add_argument("--settings", type=Path, help="a YAML file of settings")
    parser.add_argument(
        "--resume",
        nargs="?",
        const="last",
        metavar="CHECKPOINT",
        help="go on from RUN/last, or from best, or step-00000200; auto: where there is one",
    )
    settings.add_arguments(parser)
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    run = Run(arguments.run)
    try:
        resumed = checkpoint_to_resume(run, arguments.resume)
        run_settings = settle_settings(arguments, run, resumed)
        typed = typed_settings(arguments)
        is_first = int(os.environ.get("RANK", 0)) == 0
        with run.hold() if is_first else nullcontext():
            number = work(run_settings, run, resumed, is_first, typed)
        if number and arguments.resume == AUTO and not run.stop_requested():
            sys.exit(128 + number)  # whoever starts it again must not take it for done
    except DoneError as error:
        if arguments.resume != AUTO:
            sys.exit(f"error: {error}")
        logging.info("%s", error)
    except (ValueError, FileNotFoundError, FloatingPointError) as error:
        sys.exit(f"error: {error}")


def work(
    run_settings: Settings, run: Run, resumed: str | None, is_first: bool, typed: set[str]
) -> int | None:
    """Trains in a run that is ours; only now torch is imported, for that takes seconds.

    typed: the settings that a person named, "section.name", which give way to nothing.
    Returns the number of the signal that ended it before it was done; None where none did.
    """
    import torch

    from loctex.training import estimate, loop, prepare

    if resumed is None and run_settings.model.init not in ("random", "timm"):
        run_settings = prepare.take_shape(run_settings, typed)
    names = provenance.relocated(run, run_settings.data.snapshots)
    run_settings = settings.with_values(run_settings, {"data": {"snapshots": names}})
    if is_first:
        provenance.record(run, names)
        write_whole(run.settings_file, settings.dump(run_settings))
    try:
        outcome = loop.train(run_settings, run, resumed)
    except (MemoryError, RuntimeError) as error:  # of numpy in a loader's thread, or of torch
        if "DataLoader worker" in str(error):
            raise ValueError(
                "a process that makes batches was killed, mostly for want of memory (each needs "
                "its own, and room in /dev/shm): lower data.processes "
                f"({run_settings.data.processes}) or data.threads ({run_settings.data.threads}), "
                f"then resume\n{error}"
            ) from error
        is_full = isinstance(error, MemoryError | torch.OutOfMemoryError)
        if not (is_full or "allocate memory" in str(error)):
            raise
        raise ValueError(f"out of memory: {estimate.what_fits(run_settings)}\n{error}") from error
    number, is_done = outcome.pop("signal"), outcome.pop("is_done")
    if is_first and is_done:
        run.finish(outcome)
    return None if is_done else number


class DoneError(ValueError):
    """The run has taken all its steps."""


def checkpoint_to_resume(run: Run, asked: str | None) -> str | None:
    """What --resume says; what starts again by itself goes on where there is a checkpoint."""
    is_restarted = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)) > 0
    if asked == AUTO or is_restarted and has_checkpoint(run):
        return "last" if has_checkpoint(run) else None
    return asked


def settle_settings(arguments: argparse.Namespace, run: Run, resumed: str | None) -> Settings:
    """Preset, then file, then command line; a resumed run starts from its own settings."""
    base = presets.PRESETS[arguments.preset] if arguments.preset else Settings()
    if resumed:
        checkpoint_files.find(run.path, resumed)  # says the way out where there is none
        base = before = settings.load(run.settings_file)
    elif run.result_file.exists() or has_checkpoint(run):
        raise ValueError(f"{run.path} holds a run already; name another, or add --resume")
    run_settings = over(base, arguments)
    if not resumed and run_settings.model.backbone != base.model.backbone:
        # the preset's options belong to its own backbone; those that were typed stay
        base = settings.with_values(base, {"model": {"backbone_options": {}}})
        run_settings = over(base, arguments)
    if arguments.data:
        run_settings = settings.with_values(run_settings, {"data": {"snapshots": arguments.data}})
    if resumed:
        check_resumed(before, run_settings)
    if resumed and run.result_file.exists() and run_settings.train.steps <= before.train.steps:
        raise DoneError(
            f"{run.path} is done with its {before.train.steps} steps; "
            f"go on with --train.steps {2 * before.train.steps}, say"
        )
    return run_settings


def typed_settings(arguments: argparse.Namespace) -> set[str]:
    """The settings that stand in --settings or on the command line, as "section.name"."""
    typed = {name for name in vars(arguments) if "." in name}
    if arguments.settings:
        content = yaml.safe_load(arguments.settings.read_bytes()) or {}
        for section, values in content.items():
            typed |= {f"{section}.{name}" for name in values or {}}
    return typed


def over(base: Settings, arguments: argparse.Namespace) -> Settings:
    """The file's settings over `base`, and the command line's over these."""
    if arguments.settings:
        base = settings.load(arguments.settings, base)
    return settings.from_arguments(vars(arguments), base)


def has_checkpoint(run: Run) -> bool:
    """Also where the link to it was lost, as by a copy that leaves links out."""
    return (run.path / "last").exists() or bool(checkpoint_files.folders(run.path))


def check_resumed(before: Settings, run_settings: Settings) -> None:
    """ValueError names the settings that a checkpoint made with `before` cannot take up."""
    for name, value in changed(run_settings, before).items():
        section, key = name.split(".")
        if section == "model" and key != "init" or name in MADE_WITH:
            old = getattr(getattr(before, section), key)
            raise ValueError(
                f"--resume cannot change {name} from {old} to {value}: the checkpoint was made "
                "with it; start a new run, with --model.init from this one where its model fits"
            )


if __name__ == "__main__":
    cli.keep_freed_memory()
    main()
    from loctex import distributed

    distributed.leave()
