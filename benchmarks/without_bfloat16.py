"""A Muon step on one layer, a line of JSON a step: `polar` runs it in an environment without bfloat16 instructions."""

from __future__ import annotations

import json
import time

import torch
from torch import nn
from torch.optim import Optimizer

from benchmarks.polar import describe
from steepest.norms._polar.products import product_speed
from steepest.optim import Muon

SHAPES = ((1536, 512), (512, 512), (2048, 512), (512, 2048))
OURS, THEIRS = 9, 1


def main() -> None:
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    parameters = [nn.Parameter(torch.randn(shape, generator=generator) * 0.02) for shape in SHAPES]
    for parameter in parameters:
        parameter.grad = torch.randn(parameter.shape, generator=generator) * 1e-2
    ours = Muon(parameters, lr=1e-4)
    ours.step()
    print(json.dumps({"choice": describe(product_speed("cpu"))}), flush=True)
    for _ in range(OURS):
        _time("steepest Muon", ours)
    theirs = torch.optim.Muon(parameters, lr=1e-4, weight_decay=0)
    for _ in range(THEIRS):
        _time("torch Muon", theirs)


def _time(name: str, optimizer: Optimizer) -> None:
    start = time.process_time()
    optimizer.step()
    print(json.dumps({"optimizer": name, "seconds": time.process_time() - start}), flush=True)


if __name__ == "__main__":
    main()
