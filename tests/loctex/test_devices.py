"""Which device a command takes: found out without a card, by CUDA's own checks of its arguments."""

import pytest
import torch

from loctex import atlas, distributed, evaluate, foils, predictor, settings, train
from loctex.jobs.run import Run
from loctex.scoring import predictor as answers
from loctex.training.loop import train as run_loop
from loctex.transfer import coco, efficiency, voc07
from tests.loctex.small import small
from ui import figure

without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")


@pytest.fixture(scope="module")
def run(snapshot, tmp_path_factory):
    run = Run(tmp_path_factory.mktemp("runs") / "run")
    run.path.mkdir()
    run.settings_file.write_text(settings.dump(small(snapshot)))
    run_loop(small(snapshot), run)
    return run.path


@pytest.fixture
def two_cards(monkeypatch):
    """A machine with two GPUs as far as PyTorch's Python goes; lists the indexes that were set."""
    indexes: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch._C, "_cuda_setDevice", indexes.append, raising=False)
    return indexes


@pytest.mark.parametrize(
    ("name", "index"), [("auto", 0), ("cuda", 0), ("cuda:0", 0), ("cuda:1", 1)]
)
def test_training_sets_a_device_with_an_index(two_cards, monkeypatch, name, index):
    """torch.cuda.set_device refuses "cuda" without one, before it looks for a driver."""
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    assert distributed.start(name) == torch.device("cuda", index)
    assert two_cards == [index]


def test_each_process_of_torchrun_takes_the_card_of_its_local_rank(two_cards, monkeypatch):
    groups = []
    monkeypatch.setattr(distributed.dist, "init_process_group", groups.append)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert [distributed.start(name).index for name in ("auto", "cuda", "cuda:0")] == [1, 1, 0]
    assert groups == ["nccl"] * 3
    assert distributed.start("cpu") == torch.device("cpu") and groups[-1] == "gloo"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cuda:2", r"--device cuda:2: PyTorch sees 2 GPU\(s\) here, cuda:0 is the first"),
        ("gpu", r"--device gpu: a device is auto, cpu, cuda, cuda:1 \.\.\. or mps"),
        ("cuda:", r"--device cuda:: a device is"),
        ("mps", r"the device is 'mps', but this is no Mac with one; use --device cpu"),
    ],
)
def test_a_device_that_is_not_here_is_one_sentence(two_cards, monkeypatch, name, message):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ValueError, match=message):
        distributed.choose_device(name)


@without_gpu
@pytest.mark.parametrize(
    ("main", "more"),
    [
        (evaluate.main, ["--data=D"]),
        (foils.main, ["--data=D", "--foils=F"]),
        (predictor.main, ["--image=I.jpg", "--caption=a", "--to=O.json"]),
        (efficiency.main, ["--labels=L"]),
        (voc07.main, ["--voc=V"]),
    ],
)
def test_every_command_says_a_missing_gpu_before_it_reads_anything(main, more):
    with pytest.raises(SystemExit, match="sees no GPU here; use --device cpu"):
        main(["--run=R", *more, "--device=cuda"])


@without_gpu
def test_commands_that_open_their_data_first_say_it_too(run, snapshot, scenes, tmp_path):
    image = next((scenes / "images").iterdir())
    with pytest.raises(SystemExit, match="sees no GPU here; use --device cpu"):
        atlas.main([f"--run={run}", f"--data={snapshot}", "--device=cuda"])
    with pytest.raises(SystemExit, match="sees no GPU here; use --device cpu"):
        figure.main(
            [f"--run={run}", f"--image={image}", "--caption=a", "--to=o.svg"] + ["--device=cuda"]
        )
    with pytest.raises(SystemExit, match="sees no GPU here; use --device cpu"):
        coco.main([f"--to={tmp_path / 'd'}", "--device=cuda"])
    with pytest.raises(SystemExit, match="sees no GPU here; use --train.device cpu"):
        train.main([f"--run={tmp_path / 'r'}", f"--data={snapshot}", "--train.device=cuda"])


@without_gpu
def test_auto_is_the_cpu_where_there_is_no_gpu(run, snapshot, tmp_path):
    evaluate.main([f"--run={run}", f"--data={snapshot}", "--device=auto", f"--to={tmp_path}/e"])
    atlas.main([f"--run={run}", f"--data={snapshot}", "--device=auto"])
    assert answers.Predictor.load(run).model.device == torch.device("cpu")
    assert (tmp_path / "e").exists()
