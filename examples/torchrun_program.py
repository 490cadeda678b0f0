"""A training by two processes as a program that steepest compare runs: each averages its gradients with the other.

    steepest compare --program examples/torchrun_program.py:run --optimizers adamw,muon --workers 1

The program starts torchrun itself, which runs this file in each process; the trial travels there as a pickle.
"""

import gc
import pickle
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from steepest.train import Trial

PROCESSES, STEPS = 2, 40


def run(trial: Trial) -> None:
    """Train once, in processes of their own on this machine, at a port that is free."""
    with tempfile.TemporaryDirectory() as folder:
        sent = Path(folder, "trial.pickle")
        sent.write_bytes(pickle.dumps(trial))
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={PROCESSES}"]
        subprocess.run([*torchrun, __file__, str(sent)], check=True, timeout=300)


def train(trial: Trial) -> None:
    """Train in one of the processes; what rank 0 reports counts."""
    distributed.init_process_group("gloo")
    rank, size = distributed.get_rank(), distributed.get_world_size()
    torch.manual_seed(trial.seed)
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 1))
    trial.initialize(model)
    model = DistributedDataParallel(model)
    optimizer = trial.optimizer(model)
    steps = trial.steps or STEPS
    scheduler = trial.scheduler(optimizer, steps)
    x = torch.randn(512, 8, generator=torch.Generator().manual_seed(0))
    y = x[:, :1] * x[:, 1:2]
    order = torch.Generator().manual_seed(trial.seed)
    for step in range(steps + 1):
        if step % 20 == 0 or step == steps:
            with torch.no_grad():
                trial.report(step, loss=nn.functional.mse_loss(model(x[384:]), y[384:]))
        batch = torch.randint(384, (32,), generator=order)[rank::size]  # its share of the batch
        optimizer.zero_grad()
        nn.functional.mse_loss(model(x[batch]), y[batch]).backward()
        if step < steps:
            optimizer.step()
            scheduler.step()
    distributed.destroy_process_group()


if __name__ == "__main__":
    train(pickle.loads(Path(sys.argv[1]).read_bytes()))
    gc.collect()  # The model is part of a circle, and holds threads of gloo, which must not outlive Python.
