"""Runs as jobs of a real Slurm on this machine."""

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from loctex import settings
from loctex.jobs import checkpoint_files, failures, provenance
from loctex.jobs import queue as jobs
from loctex.jobs.command import Command, training
from loctex.jobs.run import Run
from loctex.jobs.slurm import record, sentences
from loctex.records.files import holder, is_locked, worker
from loctex.settings import presets
from tests.loctex import slurm_cluster
from tests.loctex.slurm_cluster import SlurmCluster
from tests.loctex.stand_ins import stand_in, wait_for
from tests.loctex.test_resume_auto import assert_same, lively
from ui.train import run_facts

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        bool(slurm_cluster.missing()),
        reason="needs root and apt-get install slurmctld slurmd slurm-client",
    ),
]
PATIENCE = 90
# Trains as the real one does where Slurm looks: it goes on from `last`, heeds signals and the stop
# file, writes its checkpoint before it ends, and says where it was.
TRAINER = """
import os, signal, sys, time
from contextlib import nullcontext
from loctex.jobs.run import Run
from loctex.records.files import write_whole
run, steps = Run(sys.argv[1]), int(sys.argv[2])
received = []
for number in (signal.SIGTERM, signal.SIGUSR1):
    signal.signal(number, lambda number, frame: received.append(number))
rank, last = int(os.environ.get("RANK", 0)), run.path / "last"
with run.hold() if rank == 0 else nullcontext():
    start = int(last.read_text()) if last.exists() else 0
    if rank == 0:
        run.cut_back(start)
    print("begins after", start, "as", rank, "on", os.environ["SLURMD_NODENAME"], flush=True)
    for step in range(start + 1, steps + 1):
        if "fails" in sys.argv and step == 5:
            raise FloatingPointError("the loss is not finite")
        if rank == 0:
            run.log(step, loss=1 / step)
            if not received:
                write_whole(last, str(step))
        if run.stop_requested():
            sys.exit()
        if received:
            time.sleep(float(sys.argv[3]))  # as long as its checkpoint takes
            if rank == 0:
                write_whole(last, str(step))
                print("wrote its checkpoint", flush=True)
            sys.exit(128 + received[0])
        time.sleep(0.05)
if rank == 0:
    run.finish({"step": steps})
"""
ENDLESS = "1000000"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmCluster]:
    cluster = SlurmCluster(tmp_path_factory.mktemp("slurm") / "cluster")
    try:
        cluster.start("n1", "n2")
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
def workspace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cluster: SlurmCluster
) -> Iterator[Path]:
    (tmp_path / "runs").mkdir()
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'stand-ins'}:{jobs.ROOT}")
    monkeypatch.setenv("SLURM_CONF", str(cluster.configuration))
    configure(tmp_path, "cpus: 1")
    yield tmp_path
    for run in jobs.all_runs(tmp_path):
        jobs.stop(tmp_path, run)
    cluster.ask("scancel", "--user=root")  # of this cluster, which is ours
    wait_for(lambda: not is_locked(tmp_path / "watcher.lock"), PATIENCE)


def configure(workspace: Path, *lines: str) -> None:
    entries = "".join(f"    {line}\n" for line in lines)
    (workspace / "launchers.yaml").write_text(f"cluster:\n  slurm:\n{entries}")


def add(workspace: Path, name: str, steps: str = "40", *more: str) -> Run:
    run = Run(workspace / "runs" / name)
    stand_in(workspace / "stand-ins", name, TRAINER, steps, *(more or ("1",)))
    command = Command(training(run.path, (), "", {}), devices=(f"c: {name}",), launcher="cluster")
    return jobs.submit(workspace, run, command, "train: {steps: 3}")


def has_ended(run: Run) -> bool:
    return run.state in ("done", "failed", "stopped")


def shown(run: Run) -> str:
    return run_facts.status(run)


def job_of(run: Run) -> record.ClusterJob:
    """What its attendant knows; nothing yet where it has written nothing."""
    return record.read(run.path) or record.ClusterJob("", (), state="")


def occupy(cluster: SlurmCluster, *options: str) -> str:
    """Takes both nodes; the number of the job that does."""
    words = ("sbatch", "--parsable", "-N2", "--exclusive", "-o/dev/null", *options)
    return cluster.ask(*words, "--wrap", "sleep 600").strip()


def test_a_run_waits_in_the_cluster_runs_and_is_done_with_its_log_in_its_folder(
    workspace: Path, cluster: SlurmCluster
) -> None:
    blocking = occupy(cluster)
    run = add(workspace, "it's 50%j of a run", "40")
    wait_for(lambda: run.state == "waiting" and job_of(run).reason == "Resources", PATIENCE)
    number = job_of(run).job
    sentence = (
        f"It waits in the cluster's queue as job {number}: no node that it needs is free yet."
    )
    assert sentences.sentence(job_of(run)) == sentence
    assert "no node that it needs is free yet" in shown(run)
    assert "in the cluster&#x27;s queue" in run_facts.run_list([run], "", {}) or (
        "in the cluster's queue" in run_facts.run_list([run], "", {})
    )
    cluster.ask("scancel", blocking)

    wait_for(lambda: run.state == "running" and "It runs on n" in shown(run), PATIENCE)
    assert job_of(run).nodes in ("n1", "n2")
    wait_for(lambda: has_ended(run), PATIENCE)
    assert (run.state, run.exit_code) == ("done", 0), run.log_tail(30)
    log = run.log_file.read_text()
    assert "begins after 0 as 0 on n" in log and f"slurm: job {number} ended: COMPLETED" in log
    assert cluster.jobs_of(run.path) == [(number, "COMPLETED")]


def test_stopped_while_it_waits_there_it_leaves_the_queue_and_resume_makes_one_job(
    workspace: Path, cluster: SlurmCluster
) -> None:
    blocking = occupy(cluster)
    run = add(workspace, "one", "20")
    wait_for(lambda: run.state == "waiting" and job_of(run).state == "PENDING", PATIENCE)
    jobs.stop(workspace, run)
    wait_for(lambda: run.state == "stopped", 15)
    first = job_of(run).job
    assert cluster.jobs_of(run.path) == [(first, "CANCELLED")]
    cluster.ask("scancel", blocking)
    jobs.resume(workspace, run)
    wait_for(lambda: has_ended(run), PATIENCE)
    assert run.state == "done"
    assert [state for _, state in cluster.jobs_of(run.path)] == ["CANCELLED", "COMPLETED"]


def test_stopped_while_it_runs_it_writes_a_checkpoint_and_resume_goes_on(
    workspace: Path, cluster: SlurmCluster
) -> None:
    run = add(workspace, "one", ENDLESS)
    wait_for(lambda: len(run.metrics()) > 5, PATIENCE)
    jobs.stop(workspace, run)
    wait_for(lambda: run.state == "stopped", PATIENCE)
    step = int((run.path / "last").read_text())
    assert run.metrics()[-1]["step"] == step and run.exit_code == 0
    assert [state for _, state in cluster.jobs_of(run.path)] == ["COMPLETED"]
    jobs.resume(workspace, run)
    wait_for(lambda: run.metrics()[-1]["step"] > step + 3, PATIENCE)
    assert f"begins after {step} as 0" in run.log_file.read_text()
    assert [row["step"] for row in run.metrics()][: step + 3] == [*range(1, step + 4)]
    states = [state for _, state in cluster.jobs_of(run.path)]
    assert states.count("RUNNING") == 1


def test_a_run_that_does_not_heed_its_stop_file_is_cancelled_after_its_grace(
    workspace: Path, cluster: SlurmCluster
) -> None:
    """It has the time of SIGTERM for its checkpoint: the job's shell does not end before it."""
    run = Run(workspace / "runs" / "deaf")
    deaf = TRAINER.replace("if run.stop_requested():\n            sys.exit()", "")
    assert deaf != TRAINER
    stand_in(workspace / "stand-ins", "deaf", deaf, ENDLESS, "3")
    words = training(run.path, (), "", {})
    command = Command(words, devices=("c: deaf",), launcher="cluster", grace=1.0)
    jobs.submit(workspace, run, command, "train: {steps: 3}")
    wait_for(lambda: len(run.metrics()) > 5, PATIENCE)
    jobs.stop(workspace, run)
    wait_for(lambda: run.state == "stopped", PATIENCE)
    assert "wrote its checkpoint" in run.log_file.read_text()
    assert [state for _, state in cluster.jobs_of(run.path)] == ["CANCELLED"]


def test_requeued_it_waits_again_and_goes_on_from_its_last_checkpoint(
    workspace: Path, cluster: SlurmCluster
) -> None:
    run = add(workspace, "one", "150")
    wait_for(lambda: len(run.metrics()) > 5 and job_of(run).state == "RUNNING", PATIENCE)
    number = job_of(run).job
    cluster.ask("scontrol", "requeue", number)
    wait_for(lambda: run.state == "waiting" and job_of(run).restarts == 1, PATIENCE)
    wait_for(lambda: job_of(run).reason == "BeginTime", PATIENCE)
    assert "Taken off its node" in shown(run) and "about two minutes" in shown(run)
    step = int((run.path / "last").read_text())
    assert f"It goes on from step {step}" in shown(run)
    cluster.ask("scontrol", "update", f"JobId={number}", "StartTime=now")
    wait_for(lambda: run.state == "running" and "for the 2nd time" in shown(run), PATIENCE)
    wait_for(lambda: has_ended(run), PATIENCE)
    assert run.state == "done"
    assert f"begins after {step} as 0" in run.log_file.read_text()
    assert [row["step"] for row in run.metrics()] == [*range(1, 151)]
    assert cluster.jobs_of(run.path) == [(number, "COMPLETED")]


def test_preempted_it_writes_a_checkpoint_and_goes_on_when_the_other_job_is_done(
    workspace: Path, cluster: SlurmCluster
) -> None:
    run = add(workspace, "one", "150")
    wait_for(lambda: len(run.metrics()) > 5 and job_of(run).state == "RUNNING", PATIENCE)
    blocking = occupy(cluster, "--partition=first")
    wait_for(lambda: run.state == "waiting" and job_of(run).restarts == 1, PATIENCE)
    assert "wrote its checkpoint" in run.log_file.read_text()
    assert "Taken off its node (preempted" in shown(run)
    number, step = job_of(run).job, int((run.path / "last").read_text())
    cluster.ask("scontrol", "update", f"JobId={number}", "StartTime=now")
    wait_for(lambda: job_of(run).reason in ("Resources", "Priority"), PATIENCE)
    cluster.ask("scancel", blocking)
    wait_for(lambda: has_ended(run), PATIENCE)
    assert run.state == "done" and f"begins after {step} as 0" in run.log_file.read_text()
    assert cluster.jobs_of(run.path) == [(number, "COMPLETED")]


def test_cancelled_by_somebody_else_it_says_so_and_does_not_come_back(
    workspace: Path, cluster: SlurmCluster
) -> None:
    run = add(workspace, "one", ENDLESS)
    wait_for(lambda: len(run.metrics()) > 5, PATIENCE)
    cluster.ask("scancel", job_of(run).job)
    wait_for(lambda: has_ended(run), PATIENCE)
    assert run.state == "failed"
    assert "cancelled in the cluster (scancel)" in failures.explain(run).what
    assert cluster.jobs_of(run.path) == [(job_of(run).job, "CANCELLED")]
    assert "wrote its checkpoint" in run.log_file.read_text()
    assert "memory" not in shown(run)


def test_a_training_that_fails_says_its_own_reason(workspace: Path, cluster: SlurmCluster) -> None:
    run = add(workspace, "one", "40", "1", "fails")
    wait_for(lambda: has_ended(run), PATIENCE)
    assert (run.state, run.exit_code) == ("failed", 1)
    assert failures.explain(run).what == "The loss was no longer a finite number."
    assert cluster.jobs_of(run.path) == [(job_of(run).job, "FAILED")]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("partition: no-such", "Invalid partition name specified"),
        ("memory: 900G", "Requested node configuration is not available"),
        ("time: yesterday", "Invalid"),
    ],
)
def test_what_slurm_refuses_has_failed_with_slurms_reason(
    workspace: Path, cluster: SlurmCluster, line: str, reason: str
) -> None:
    configure(workspace, line)
    run = add(workspace, "one")
    wait_for(lambda: has_ended(run), PATIENCE)
    why = failures.explain(run)
    assert run.state == "failed" and "Slurm refused the job: " in why.what, run.log_tail(20)
    assert reason.lower() in why.what.lower()
    assert "launchers.yaml" in why.remedy
    assert {state for _, state in cluster.jobs_of(run.path)} <= {"FAILED"}, "none is left"
    configure(workspace, "cpus: 1")
    jobs.resume(workspace, run)
    wait_for(lambda: has_ended(run), PATIENCE)
    assert run.state == "done"


def test_more_than_the_cluster_has_waits_with_slurms_reason(
    workspace: Path, cluster: SlurmCluster
) -> None:
    configure(workspace, "nodes: 5")
    run = add(workspace, "one")
    wait_for(lambda: "it asks for more than its partition has" in shown(run), PATIENCE)
    assert run.state == "waiting"


def test_two_nodes_with_two_processes_are_one_run(workspace: Path, cluster: SlurmCluster) -> None:
    configure(workspace, "nodes: 2", "processes: 2")
    run = add(workspace, "two", "40")
    wait_for(lambda: run.state == "running" and job_of(run).nodes == "n[1-2]", PATIENCE)
    wait_for(lambda: has_ended(run), PATIENCE)
    assert run.state == "done", run.log_tail(30)
    begun = re.findall(r"begins after \d+ as (\d) on (n\d)", run.log_file.read_text())
    assert sorted(begun) == [("0", "n1"), ("1", "n1"), ("2", "n2"), ("3", "n2")]


def test_the_real_training_on_two_nodes_is_requeued_and_learns_the_bits_of_an_undisturbed_one(
    workspace: Path, cluster: SlurmCluster, snapshot: Path
) -> None:
    configure(workspace, "nodes: 2")
    chosen = lively(snapshot, train__steps=60, train__evaluate_every=20, train__film_every=20)
    runs = []
    for name in ("whole", "broken"):
        run = Run(workspace / "runs" / name)
        changes = settings.changed(chosen, presets.PRESETS["tiny"])
        del changes["data.snapshots"]
        words = training(run.path, [snapshot], "tiny", changes)
        command = Command(words, devices=("c: one after the other",), launcher="cluster")
        runs.append(jobs.submit(workspace, run, command, settings.dump(chosen)))
    whole, broken = runs

    wait_for(lambda: has_ended(whole), 300)
    assert whole.state == "done", whole.log_tail(30)
    assert provenance.starts(whole)[0]["environment"]["processes"] == 2
    wait_for(lambda: len(broken.metrics()) > 3, 300)
    number = job_of(broken).job
    cluster.ask("scontrol", "requeue", number)
    wait_for(lambda: job_of(broken).restarts == 1 and job_of(broken).is_queued, PATIENCE)
    step = checkpoint_files.step_of(checkpoint_files.find(broken.path, "last"))
    assert 0 < step < 60
    cluster.ask("scontrol", "update", f"JobId={number}", "StartTime=now")
    wait_for(lambda: has_ended(broken), 300)
    assert broken.state == "done", broken.log_tail(30)
    assert_same(whole, broken)


def test_killed_and_started_again_the_watcher_and_the_attendant_find_their_job(
    workspace: Path, cluster: SlurmCluster
) -> None:
    run = add(workspace, "one", ENDLESS)
    wait_for(lambda: run.state == "running" and len(run.metrics()) > 5, PATIENCE)
    number, before = job_of(run).job, worker(run.job_lock)

    os.kill(before, signal.SIGKILL)  # the watcher sees it, and starts another
    wait_for(
        lambda: is_locked(run.job_lock) and worker(run.job_lock) not in (None, before), PATIENCE
    )
    assert run.state == "running"

    watcher = holder(workspace / "watcher.lock")
    os.kill(watcher, signal.SIGKILL)
    os.kill(worker(run.job_lock), signal.SIGTERM)  # as a machine does that is restarted
    wait_for(lambda: not is_locked(run.job_lock), PATIENCE)
    assert run.state == "running" and jobs.has_work(workspace)
    with pytest.raises(ValueError, match="'one' is running"):
        jobs.resume(workspace, run)
    jobs.ensure_watcher(workspace)
    wait_for(lambda: is_locked(run.job_lock) and worker(run.job_lock), PATIENCE)
    assert [state for _, state in cluster.jobs_of(run.path)] == ["RUNNING"]

    os.kill(holder(workspace / "watcher.lock"), signal.SIGKILL)  # now the attendant is alone
    jobs.stop(workspace, run)
    wait_for(lambda: has_ended(run), PATIENCE)
    assert run.state == "stopped"
    assert cluster.jobs_of(run.path) == [(number, "COMPLETED")]


def test_resume_takes_up_a_living_job_that_nobody_wrote_down(
    workspace: Path, cluster: SlurmCluster
) -> None:
    """Killed between sbatch and its answer: the job is found by the token in its comment."""
    blocking = occupy(cluster)
    run = add(workspace, "one", "20")
    wait_for(lambda: run.state == "waiting" and job_of(run).state == "PENDING", PATIENCE)
    job = job_of(run)
    watcher, attendant = holder(workspace / "watcher.lock"), worker(run.job_lock)
    os.kill(watcher, signal.SIGKILL)
    os.kill(attendant, signal.SIGKILL)
    wait_for(lambda: not is_locked(run.job_lock), PATIENCE)
    record.ClusterJob(job.token, job.words).write(run.path)
    jobs.ensure_watcher(workspace)
    wait_for(lambda: job_of(run).job == job.job, PATIENCE)
    cluster.ask("scancel", blocking)
    wait_for(lambda: has_ended(run), PATIENCE)
    assert run.state == "done" and cluster.jobs_of(run.path) == [(job.job, "COMPLETED")]


@pytest.mark.parametrize(
    ("checkpoint", "states"), [("last", ["RUNNING"]), ("step-00000004", ["CANCELLED", "RUNNING"])]
)
def test_resume_takes_up_a_living_job_or_ends_it_before_another_starts(
    workspace: Path, cluster: SlurmCluster, checkpoint: str, states: list[str]
) -> None:
    """Its attendant ended in an error, so that the run counts as failed while its job lives."""
    run = add(workspace, "one", ENDLESS)
    wait_for(lambda: run.state == "running" and len(run.metrics()) > 5, PATIENCE)
    watcher, attendant = holder(workspace / "watcher.lock"), worker(run.job_lock)
    os.kill(watcher, signal.SIGKILL)
    os.kill(attendant, signal.SIGKILL)
    wait_for(lambda: not is_locked(run.job_lock), PATIENCE)
    run.exit_file.write_text('{"code": 1}')
    wait_for(lambda: not is_locked(workspace / "watcher.lock"), PATIENCE)
    assert "may still be in the cluster" in sentences.end(job_of(run))[0]

    step = run.metrics()[-1]["step"]
    run.train_lock.rename(run.path / "elsewhere.lock")  # as on a file system without locks
    assert run.state == "failed"
    jobs.resume(workspace, run, checkpoint)
    wait_for(lambda: run.state == "running" and run.metrics()[-1]["step"] > step + 5, PATIENCE)
    wait_for(lambda: [state for _, state in cluster.jobs_of(run.path)] == states, PATIENCE)


def test_near_its_time_limit_it_writes_a_checkpoint_and_goes_back_into_the_queue_once(
    workspace: Path, cluster: SlurmCluster
) -> None:
    """USR1 comes up to a minute early, so that a limit of a minute has it come at once."""
    configure(workspace, "time: 1:00", "grace: 30", "requeues: 1")
    run = add(workspace, "one", ENDLESS)
    wait_for(lambda: run.path.joinpath("cluster.json").exists() and job_of(run).restarts == 1, 150)
    step = int((run.path / "last").read_text())
    assert step > 0 and "near its time limit" in run.log_file.read_text()
    cluster.ask("scontrol", "update", f"JobId={job_of(run).job}", "StartTime=now")
    wait_for(lambda: has_ended(run), 200)
    assert run.state == "failed"
    assert failures.explain(run).what == "It reached the time limit of its job in the cluster."
    assert "requeues" in failures.explain(run).remedy
    assert f"begins after {step} as 0" in run.log_file.read_text()
    assert int((run.path / "last").read_text()) > step
    assert len(cluster.jobs_of(run.path)) == 1


def test_a_run_that_does_not_heed_the_early_signal_ends_at_its_time_limit(
    workspace: Path, cluster: SlurmCluster
) -> None:
    configure(workspace, "time: 1:00", "grace: 0")
    run = add(workspace, "one", ENDLESS)
    wait_for(lambda: has_ended(run), 200)
    assert run.state == "failed" and job_of(run).state == "TIMEOUT"
    assert failures.explain(run).what == "It reached the time limit of its job in the cluster."
    assert "wrote its checkpoint" in run.log_file.read_text(), "SIGTERM comes before SIGKILL"


def test_a_node_that_dies_gives_the_run_back_to_the_queue(
    workspace: Path, cluster: SlurmCluster
) -> None:
    run = add(workspace, "one", "2000")
    wait_for(lambda: job_of(run).state == "RUNNING" and len(run.metrics()) > 20, PATIENCE)
    node, number = job_of(run).nodes, job_of(run).job
    cluster.kill(node)
    wait_for(lambda: run.state == "waiting" and job_of(run).restarts == 1, 150)
    assert "the node failed" in shown(run)
    step = int((run.path / "last").read_text())
    cluster.ask("scontrol", "update", f"JobId={number}", "StartTime=now")
    wait_for(lambda: run.state == "running" and run.metrics()[-1]["step"] > step, PATIENCE)
    assert job_of(run).job == number and node not in run.log_file.read_text().split("begins")[-1]
    jobs.stop(workspace, run)
    wait_for(lambda: has_ended(run), PATIENCE)
    cluster.start_node(node)
    wait_for(lambda: cluster.state_of(node) == "IDLE", PATIENCE)


def test_a_controller_that_is_away_changes_nothing(workspace: Path, cluster: SlurmCluster) -> None:
    run = add(workspace, "one", "1200")
    wait_for(lambda: job_of(run).state == "RUNNING" and len(run.metrics()) > 5, PATIENCE)
    cluster.end("slurmctld")
    wait_for(lambda: job_of(run).problem, PATIENCE)
    assert run.state == "running" and "Slurm does not answer" in shown(run)
    cluster.start()
    wait_for(lambda: has_ended(run), 200)
    assert run.state == "done", run.log_tail(20)
    assert len(cluster.jobs_of(run.path)) == 1


def test_a_full_queue_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = SlurmCluster(tmp_path / "cluster", max_jobs=2, min_job_age=2)
    workspace = tmp_path / "workspace"
    (workspace / "runs").mkdir(parents=True)
    monkeypatch.setenv("PYTHONPATH", f"{workspace / 'stand-ins'}:{jobs.ROOT}")
    monkeypatch.setenv("SLURM_CONF", str(cluster.configuration))
    configure(workspace, "cpus: 1")
    try:
        cluster.start("n1")
        blocking = cluster.ask("sbatch", "--parsable", "--hold", "--wrap", "true").strip()
        run, second = add(workspace, "one", "20"), add(workspace, "two", "20")
        wait_for(lambda: "It is being handed to the cluster" in shown(run), PATIENCE)
        wait_for(lambda: job_of(second).state == record.SUBMITTING, PATIENCE)
        assert run.state == second.state == "waiting"
        jobs.stop(workspace, second)
        wait_for(lambda: second.state == "stopped", PATIENCE)
        cluster.ask("scancel", blocking)
        wait_for(lambda: has_ended(run), 300)
        assert run.state == "done" and not second.metrics(), run.log_tail(20)
    finally:
        for run in jobs.all_runs(workspace):
            jobs.stop(workspace, run)
        wait_for(lambda: not is_locked(workspace / "watcher.lock"), PATIENCE)
        cluster.stop()
