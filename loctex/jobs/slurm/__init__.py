"""Slurm as a launcher: a run is a job of the cluster, from sbatch until Slurm says how it ended.

An attendant (`python -m loctex.jobs slurm LAUNCHER -- COMMAND`) on the studio's machine submits it
and asks how it is; what it knows lies in RUN/cluster.json, so that another attendant finds the job
again. Nothing here imports torch.
"""
