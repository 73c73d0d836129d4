"""Slurm without a Slurm: its options, what it says, and how a run's state follows from it."""

import shlex
import stat
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from loctex.jobs import failures
from loctex.jobs import queue as jobs
from loctex.jobs.launchers import launchers, slurm_options, wrap
from loctex.jobs.run import Run
from loctex.jobs.slurm import client, record, sentences
from loctex.jobs.slurm.attendant import Attendant, always_the_same
from loctex.jobs.slurm.options import SlurmOptions
from loctex.jobs.slurm.record import ClusterJob
from loctex.records.files import locked
from ui.train import run_facts

WORDS = ("python", "-m", "loctex.train", "--run", "runs/my run")
SHOWN = (  # as Slurm 22.05 prints it, shortened
    "JobId=12 JobName=it's a run UserId=root(0) Account=(null) JobState={state} Reason={reason} "
    "Requeue=1 Restarts={restarts} ExitCode={code} TimeLimit=04:00:00 NodeList={nodes} "
    "Command=/w/runs/my run/job.sh WorkDir=/w StdErr=/w/runs/my run/log.txt StdIn=/dev/null "
    "StdOut=/w/runs/my run/log.txt Power= \n"
)


def shown(state: str, reason="None", restarts=0, code="0:0", nodes="(null)") -> client.JobStatus:
    return client.parse_status(
        SHOWN.format(state=state, reason=reason, restarts=restarts, code=code, nodes=nodes)
    )


def test_a_slurm_launcher_is_read_as_slurm_reads_it(tmp_path: Path) -> None:
    """4:00:00 is no number of seconds, and a name may be a number."""
    (tmp_path / "launchers.yaml").write_text(
        "cluster:\n  slurm:\n    partition: 01\n    gpus: a100:2\n    time: 4:00:00\n    cpus: 8\n"
        "    nodes: 2\n    options: --exclusive --mail-type 'END'\n"
        "    setup: |\n      module load cuda\n      ulimit -n 4096\n"
        "plain: {slurm: }\nsrun: {command: 'srun {command}', side_by_side: yes}\n"
        "ssh: ssh a '{line}'\n"
    )
    by_name = {launcher.name: launcher for launcher in launchers(tmp_path)}
    assert [launcher.side_by_side for launcher in by_name.values()] == [True, True, True, False]
    assert by_name["plain"].slurm == SlurmOptions()
    options = slurm_options(tmp_path, "cluster")
    assert (options.partition, options.time, options.num_processes) == ("01", "4:00:00", 2)
    words = options.submission(Path("/w/runs/50%"), "loctex 1")
    assert words[0] == "sbatch" and words[-1] == "/w/runs/50%/job.sh"
    assert {
        "--output=/w/runs/50%%/log.txt",
        "--partition=01",
        "--gpus-per-node=a100:2",
        "--time=4:00:00",
        "--nodes=2",
        "--ntasks-per-node=2",
        "--cpus-per-task=8",
        "--signal=USR1@120",
        "--exclusive",
        "END",
    } <= set(words)
    launched = wrap(by_name["cluster"].command, WORDS)
    assert launched[1:] == ["-m", "loctex.jobs", "slurm", "cluster", "--", *WORDS]


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ("{slurm: {partiton: gpu}}", "slurm has no key 'partiton'; its keys are partition, "),
        ("{slurm: {nodes: two}}", "nodes must be a whole number, got 'two'"),
        ("{slurm: {nodes: 0}}", "nodes must be 1 or more"),
        ("{slurm: {time: [1, 2]}}", "time must be one value"),
        ("{slurm: gpu}", "slurm must hold names and values, got 'gpu'"),
        ('{slurm: {options: "--x \'y"}}', "options cannot be read"),
        ("{partition: gpu}", "'partition' is none of command, side_by_side, slurm"),
        ("{slurm: {}, command: 'srun {command}'}", "either a command or slurm"),
        ("{side_by_side: true}", "either a command or slurm"),
        ("{command: 'srun {command}', side_by_side: maybe}", "must be true or false"),
        ("[srun]", "expected a command, or names and values"),
    ],
)
def test_what_no_launcher_can_mean_is_refused_by_name(tmp_path, entry, problem) -> None:
    (tmp_path / "launchers.yaml").write_text(f"cluster: {entry}")
    with pytest.raises(ValueError, match="launchers.yaml, cluster: ") as refused:
        launchers(tmp_path)
    assert problem in str(refused.value)


def test_a_template_can_name_the_runs_folder() -> None:
    words = wrap("sbatch --wait -o '{folder}/log.txt' --wrap '{line}'", WORDS)
    assert words[3] == f"{jobs.ROOT}/runs/my run/log.txt"


@pytest.mark.parametrize(
    ("gpus", "count"), [("", 1), ("4", 4), ("a100:2", 2), ("a100:2,v100:1", 3), ("gpu:a100:8", 8)]
)
def test_there_are_as_many_processes_as_gpus(gpus: str, count: int) -> None:
    assert SlurmOptions(gpus=gpus).num_processes == count
    assert SlurmOptions(gpus=gpus, processes=5).num_processes == 5


def test_what_scontrol_shows_is_read_whatever_the_paths_hold() -> None:
    status = shown("RUNNING", restarts=2, nodes="n[1-2]")
    assert status == client.JobStatus("RUNNING", "", "n[1-2]", 2, 0, script="/w/runs/my run/job.sh")
    assert shown("FAILED", code="138:0").exit_code == 138
    assert shown("CANCELLED", code="0:15").exit_code == 143
    assert client.parse_accounting("CANCELLED by 1000|0:15|n1\n").state == "CANCELLED"
    assert client.parse_accounting("") is None
    assert client.job_number("sbatch: a remark\n12;cluster\n") == "12"
    with pytest.raises(ValueError, match="did not say the number"):
        client.job_number("Submitted")


@pytest.mark.parametrize(
    ("state", "reason", "restarts", "sentence"),
    [
        ("PENDING", "Resources", 0, "It waits in the cluster's queue as job 12: no node that"),
        ("PENDING", "Priority", 0, "other jobs come first"),
        ("PENDING", "JobHeldUser", 0, "`scontrol release 12` lets it go"),
        ("PENDING", "ReqNodeNotAvail,_UnavailableNodes:n1", 0, "are down or reserved"),
        ("PENDING", "QOSMaxGRESPerUser", 0, "Slurm's reason is QOSMaxGRESPerUser"),
        ("PENDING", "BeginTime", 1, "Taken off its node (preempted, requeued, or the node failed)"),
        ("RUNNING", "", 0, "It runs on n1 as job 12."),
        ("COMPLETING", "", 0, "It runs on n1 as job 12."),
        ("RUNNING", "", 2, "It runs on n1 as job 12, for the 3rd time."),
        ("SUSPENDED", "", 0, "The cluster has suspended job 12, on n1"),
    ],
)
def test_the_clusters_state_is_a_sentence(state, reason, restarts, sentence) -> None:
    job = ClusterJob("t", WORDS, "12", state, reason, "n1", restarts)
    assert sentence in sentences.sentence(job)


@pytest.mark.parametrize(
    ("state", "code", "what"),
    [
        ("TIMEOUT", 0, "time limit"),
        ("FAILED", 138, "time limit"),  # it ended by itself, shortly before
        ("CANCELLED", 143, "cancelled in the cluster"),
        ("PREEMPTED", 143, "Another job of the cluster took its place"),
        ("NODE_FAIL", 1, "node of the cluster that it ran on failed"),
        ("OUT_OF_MEMORY", 137, "more memory than its job in the cluster may"),
        ("LOST", 0, "no longer knows its job 12"),
        ("REFUSED", 0, "Slurm refused the job: no such partition"),
    ],
)
def test_how_the_cluster_ended_it_is_said_and_never_want_of_memory_for_a_scancel(
    tmp_path, state, code, what
) -> None:
    run = Run(tmp_path / "runs" / "one")
    run.path.mkdir(parents=True)
    run.log_file.write_text("$ line\nstep 3\nslurmstepd-n1: error: *** JOB 12 CANCELLED ***\n")
    run.exit_file.write_text('{"code": 143}')
    reason = "no such partition" if state == "REFUSED" else ""
    ClusterJob("t", WORDS, "12", state, reason, exit_code=code, has_ended=True).write(run.path)
    failure = failures.explain(run)
    assert what in failure.what and failure.what != failures.KILLED
    assert what in run_facts.status(run) and run.state == "failed"


def test_a_training_that_failed_there_says_its_own_last_line(tmp_path) -> None:
    run = Run(tmp_path / "runs" / "one")
    run.path.mkdir(parents=True)
    run.log_file.write_text(
        "$ line\nslurm: It runs on n1 as job 12.\nKeyError: 'word'\n"
        "srun: error: n1: task 0: Exited with exit code 1\nslurm: job 12 ended: FAILED\n"
    )
    run.exit_file.write_text('{"code": 1}')
    ClusterJob("t", WORDS, "12", "FAILED", exit_code=1, has_ended=True).write(run.path)
    assert failures.explain(run).what == "KeyError: 'word'"


def test_what_srun_refuses_is_said_by_a_template_too() -> None:
    line = "srun: error: Unable to allocate resources: Invalid partition name specified"
    assert failures.from_log(1, ["$ srun", line]).what == (
        "Slurm refused the job: Invalid partition name specified"
    )


def test_the_state_of_a_run_is_that_of_its_job_also_without_an_attendant(tmp_path) -> None:
    run = Run(tmp_path / "runs" / "one")
    job = ClusterJob("t", WORDS, "12", "PENDING", "Resources")
    job.write(run.path)
    assert run.state == "waiting" and jobs.unattended(tmp_path)[0].name == "one"
    assert jobs.has_work(tmp_path), "a watcher is started, and an attendant by it"
    with locked(run.job_lock):
        assert run.state == "waiting" and not jobs.unattended(tmp_path)
    replace(job, state="RUNNING", nodes="n1").write(run.path)
    assert run.state == "running" and "It runs on n1 as job 12." in run_facts.status(run)
    run.request_stop()
    assert run.state == "stopping"
    with pytest.raises(ValueError, match="'one' is stopping"):
        jobs.resume(tmp_path, run)
    replace(job, state="CANCELLED", has_ended=True).write(run.path)
    assert run.state == "stopped" and not jobs.has_work(tmp_path)
    (run.path / record.FILE).write_text('{"job": 12')
    assert run.state == "stopped"


def test_each_start_of_a_job_goes_on_and_a_named_checkpoint_counts_for_the_first(tmp_path) -> None:
    assert always_the_same(WORDS)[-2:] == ("--resume", "auto")
    assert always_the_same((*WORDS, "--resume"))[-2:] == ("--resume", "auto")
    named = always_the_same((*WORDS, "--resume", "step-00000004"))
    assert named[-2:] == ("--resume", "step-00000004")

    script = SlurmOptions(requeues=2, setup="module load cuda").script(tmp_path, named)
    assert "module load cuda" in script and "srun --kill-on-bad-exit=1" in script
    executed = script.replace("srun --kill-on-bad-exit=1", "echo").replace("module load", "true")
    for count, last in ((None, "step-00000004"), ("1", "auto")):
        environment = {"SLURM_JOB_ID": "12"} | ({"SLURM_RESTART_COUNT": count} if count else {})
        printed = subprocess.run(
            ["sh", "-c", executed], env=environment, capture_output=True, text=True, check=True
        ).stdout
        assert printed == shlex.join(named[:-1]).replace("'", "") + f" {last}\n"
        assert (tmp_path / "job.exit").read_text() == "12 0\n"


def test_in_a_copied_folder_the_job_is_the_other_runs(tmp_path, monkeypatch) -> None:
    """cluster.json came along; the job that it names prints elsewhere, and is not touched."""
    run = Run(tmp_path / "runs" / "one")
    attendant = Attendant(run, SlurmOptions(), (*WORDS[:-1], str(run.path)))
    ClusterJob("t", attendant.words, "12", "RUNNING").write(run.path)
    monkeypatch.setattr(
        client,
        "ask",
        lambda words: SHOWN.format(
            state="RUNNING", reason="None", restarts=0, code="0:0", nodes="n1"
        ),
    )
    assert attendant.attend() == 1
    assert record.read(run.path).state == record.LOST


def test_what_slurm_does_not_answer_is_not_taken_for_an_answer(tmp_path, monkeypatch) -> None:
    for name, text, code in (
        ("scontrol", "slurm_load_jobs error: Unable to contact slurm controller", 1),
        ("squeue", "slurm_load_jobs error: Unexpected message received", 1),
    ):
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\necho '{text}' >&2\nexit {code}\n")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(client.UnreachableError, match="Unable to contact"):
        client.status("12")
    with pytest.raises(client.UnreachableError, match="Unexpected message"):
        client.find("token")


def test_without_slurm_a_run_ends_with_a_sentence_and_a_living_job_is_not_forgotten(
    tmp_path, monkeypatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    run = Run(tmp_path / "runs" / "one")
    run.path.mkdir(parents=True)
    attendant = Attendant(run, SlurmOptions(), (*WORDS[:-1], str(run.path)))
    assert attendant.attend() == 1
    job = record.read(run.path)
    assert sentences.end(job)[0] == "Slurm refused the job: sbatch is not installed on this machine"

    ClusterJob("t", attendant.words, "12", "RUNNING").write(run.path)
    with pytest.raises(client.MissingError, match="scontrol is not installed"):
        Attendant(run, SlurmOptions(), (*WORDS[:-1], str(run.path))).attend()
    run.exit_file.write_text('{"code": 1}')
    assert run.state == "failed"
    assert "its job 12 may still be in the cluster" in failures.explain(run).what


def test_what_a_cluster_said_of_an_earlier_start_is_forgotten_at_the_next(tmp_path) -> None:
    run = Run(tmp_path / "one")
    ClusterJob("t", WORDS, "12", "TIMEOUT", has_ended=True).write(run.path)
    run.forget_end()
    assert record.read(run.path) is None
    ClusterJob("t", WORDS, "12", "RUNNING").write(run.path)
    run.forget_end()
    assert record.read(run.path).job == "12", "it may live"
