"""DistributedDataParallel whose gradients travel by a scheme of steepest, and what that sends.

    torchrun --standalone --nproc-per-node=2 examples/ddp_hook.py

Everything but the two marked lines, and what is printed, is any DistributedDataParallel program.
"""

import gc

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from steepest.communication import Ring, ddp_hook, measure

STEPS = 30


def train() -> tuple[float, int]:
    """Train as one of the workers; return the loss at the end and the bytes that this worker has sent."""
    rank, workers = distributed.get_rank(), distributed.get_world_size()
    torch.manual_seed(0)
    model = DistributedDataParallel(nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 1)))
    model.register_comm_hook(*ddp_hook(Ring()))  # <- the first line
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    x = torch.randn(256, 8, generator=torch.Generator().manual_seed(1))
    y = x[:, :1] * x[:, 1:2]
    loss = torch.zeros(())
    with measure() as traffic:  # <- the second line
        for _ in range(STEPS):
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(model(x[rank::workers]), y[rank::workers])
            loss.backward()
            optimizer.step()
    return loss.item(), traffic.bytes


def main() -> None:
    """Train in the process group that torchrun has prepared."""
    distributed.init_process_group("gloo")
    loss, sent = train()
    print(f"worker {distributed.get_rank()}: loss {loss:.4f}, sent {sent} bytes")
    distributed.destroy_process_group()
    gc.collect()  # The model is part of a circle, and holds threads of gloo, which must not outlive Python.


if __name__ == "__main__":
    main()
