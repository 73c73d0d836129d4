"""A real Slurm of this machine: a controller and nodes on loopback, started and ended by pid."""

import os
import re
import shutil
import signal
import socket
import subprocess
from contextlib import ExitStack
from pathlib import Path

from tests.loctex.stand_ins import wait_for

PROGRAMS = ("slurmctld", "slurmd", "sbatch", "srun", "scancel", "scontrol", "squeue")
CONFIGURATION = """
ClusterName=trial
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
AuthType=auth/none
CredType=cred/none
SlurmUser={user}
SlurmdUser={user}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
KillWait=10
MinJobAge={min_job_age}
MaxJobCount={max_jobs}
SlurmdTimeout=5
SlurmctldTimeout=5
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0,sched_min_interval=0
NodeName=n1 NodeHostname=localhost NodeAddr=127.0.0.1 Port={ports[1]} CPUs=2
NodeName=n2 NodeHostname=localhost NodeAddr=127.0.0.1 Port={ports[2]} CPUs=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
PartitionName=main Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP PriorityTier=1 GraceTime=5
PartitionName=first Nodes=n1,n2 MaxTime=INFINITE State=UP PriorityTier=9
"""


def missing() -> str:
    """The program that is not installed; "" where all are."""
    programs = (name for name in PROGRAMS if shutil.which(name) is None)
    return next(programs, "" if os.getuid() == 0 else "root")


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for free in sockets:
            free.bind(("127.0.0.1", 0))
        return [free.getsockname()[1] for free in sockets]


class SlurmCluster:
    """Daemons by name, each a child of ours; `ask` runs a command of Slurm."""

    def __init__(self, folder: Path, max_jobs: int = 1000, min_job_age: int = 300) -> None:
        self.folder = folder
        self.daemons: dict[str, subprocess.Popen] = {}
        self.configuration = folder / "slurm.conf"
        (folder / "state").mkdir(parents=True)
        self.configuration.write_text(
            CONFIGURATION.format(
                host=socket.gethostname(),
                ports=free_ports(3),
                user="root",
                folder=folder,
                max_jobs=max_jobs,
                min_job_age=min_job_age,
            )
        )

    def start(self, *nodes: str) -> None:
        self._start("slurmctld", "-D", "-f", str(self.configuration))
        wait_for(lambda: "UP" in self._answer("scontrol", "ping"), 60)
        for node in nodes:
            self.start_node(node)
        wait_for(lambda: all(self.state_of(node) == "IDLE" for node in nodes), 60)

    def start_node(self, node: str) -> None:
        (self.folder / f"spool-{node}").mkdir(exist_ok=True)
        self._start(node, "-D", "-N", node, "-f", str(self.configuration), program="slurmd")

    def _start(self, name: str, *words: str, program: str = "") -> None:
        with open(self.folder / f"{name}.txt", "ab") as printed:
            self.daemons[name] = subprocess.Popen(
                [program or name, *words], stdout=printed, stderr=printed
            )

    def end(self, name: str) -> None:
        """A daemon, as an administrator does it: it writes down what it knows."""
        daemon = self.daemons.pop(name)
        daemon.terminate()
        daemon.wait(60)

    def kill(self, name: str) -> None:
        """A node: its daemon, and what runs there, as where a machine dies."""
        daemon = self.daemons.pop(name)
        daemon.kill()
        daemon.wait()
        for folder in Path("/proc").iterdir():
            if not folder.name.isdecimal():
                continue
            try:
                environment = (folder / "environ").read_bytes().split(b"\0")
                line = (folder / "cmdline").read_bytes()
            except OSError:  # it has ended
                continue
            is_there = f"SLURMD_NODENAME={name}".encode() in environment
            is_ours = f"SLURM_CONF={self.configuration}".encode() in environment
            if is_there and is_ours or b"slurmstepd" in line and is_ours:
                os.kill(int(folder.name), signal.SIGKILL)

    def stop(self) -> None:
        for daemon in reversed([*self.daemons.values()]):
            daemon.terminate()
            try:
                daemon.wait(20)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()

    def ask(self, *words: str) -> str:
        return subprocess.run(
            words, env=self.environment, capture_output=True, text=True, check=True
        ).stdout

    def _answer(self, *words: str) -> str:
        done = subprocess.run(words, env=self.environment, capture_output=True, text=True)
        return done.stdout

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {"SLURM_CONF": str(self.configuration)}

    def state_of(self, node: str) -> str:
        match = re.search(r"State=(\w+)", self._answer("scontrol", "show", "node", node))
        return match[1] if match else ""

    def jobs_of(self, folder: Path) -> list[tuple[str, str]]:
        """(number, state) of all jobs that execute a run's script."""
        found_jobs = []
        for line in self._answer("scontrol", "--oneliner", "show", "jobs").splitlines():
            if f"Command={folder}/job.sh" in line:
                values = dict(re.findall(r"(JobId|JobState)=(\S+)", line))
                found_jobs.append((values["JobId"], values["JobState"]))
        return found_jobs
