"""Where the training of a last layer would end: predicted from the state of a live Adam, then trained on to see.

    python examples/linear_probe.py

A network learns the digits 0 to 4 and is frozen; a new last layer learns 5 to 9 from 100 images, by Adam on squared
loss. With more features (513) than images many last layers fit all images, and the optimizer chooses one. After 60
steps `effective_preconditioner` reads from Adam by what it divides the gradients, and `predict` says where training
ends from here if that stays as it is. It is then trained on, with that frozen, with plain SGD and with Adam itself,
for which it does not stay: the first two end where predicted, Adam near the first but not there. The test errors say
what each end is worth; here all of them are worse than the start.
"""

import copy

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer

from steepest.implicit_bias import Preconditioned, certify, effective_preconditioner, predict

WIDTH, IMAGES, STEPS, MORE_STEPS = 512, 100, 60, 4000


def frozen_features() -> tuple[Tensor, Tensor]:
    """Train a hidden layer on the digits 0 to 4; return its features of the others, (896, 513), and their classes."""
    pixels, labels = (torch.tensor(part) for part in load_digits(return_X_y=True))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Linear(64, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 5)).double()
    optimizer, old = Adam(network.parameters()), labels < 5
    for _ in range(200):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(pixels[old] / 16), labels[old]).backward()
        optimizer.step()
    with torch.no_grad():
        features = network[:2](pixels[~old] / 16)
    centred = features - features[:IMAGES].mean(dim=0)  # better conditioned, so that fewer steps will do
    return torch.cat([centred, torch.ones(len(features), 1)], dim=1), labels[~old] - 5


def train(head: nn.Linear, optimizer: Optimizer, data: tuple[Tensor, Tensor], steps: int, diagonal: Tensor) -> None:
    """Take steps on half the sum of the squared residuals, with preconditioned gradients."""
    for _ in range(steps):
        optimizer.zero_grad()
        ((head(data[0]) - data[1]).square().sum() / 2).backward()
        head.weight.grad.mul_(diagonal)
        optimizer.step()


if __name__ == "__main__":
    torch.set_num_threads(1)  # faster for matrices as small as these
    features, classes = frozen_features()
    A, b = data = features[:IMAGES], nn.functional.one_hot(classes[:IMAGES], 5).double()
    head = nn.Linear(WIDTH + 1, 5, bias=False).double()
    nn.init.zeros_(head.weight)
    adam, ones = Adam(head.parameters(), lr=3e-3), torch.ones(5, WIDTH + 1)
    train(head, adam, data, STEPS, ones)

    start = head.weight.detach().clone()  # (5, 513): a problem of its own for each class, all with the same A
    D = effective_preconditioner(adam).view_as(start)
    ends, checks = {"start": start}, {}
    for name, diagonal, rules in (("D frozen", D, [Preconditioned(d) for d in D]), ("plain SGD", ones, [SGD] * 5)):
        each = list(zip(rules, b.T, start, strict=True))
        ends[f"{name}, predicted"] = torch.stack([predict(rule, A, t, theta0).point for rule, t, theta0 in each])
        curvature = max(float(torch.linalg.matrix_norm(A * d.sqrt(), 2)) ** 2 for d in diagonal)
        probe = copy.deepcopy(head)  # heavy ball is stable below 2 (1 + momentum) / curvature
        train(probe, SGD(probe.parameters(), lr=3 / curvature, momentum=0.98), data, MORE_STEPS, diagonal)
        ends[f"{name}, trained"] = end = probe.weight.detach()
        checks[name] = [certify(rule, A, t, row, theta0) for (rule, t, theta0), row in zip(each, end, strict=True)]
    train(head, adam, data, MORE_STEPS, ones)
    for _ in range(300):  # steps that vanish, for Adam to come to rest
        train(head, adam, data, 10, ones)
        adam.param_groups[0]["lr"] *= 0.97
    ends["Adam itself, trained"] = head.weight.detach()

    print(f"{IMAGES} images, {A.shape[1]} features, 5 classes; the start is after {STEPS} steps of Adam")
    print("D is the diagonal by which Adam multiplies gradients at the start")
    print("                      distance from D frozen (start: 1)   residual   test error")
    for name, theta in ends.items():
        apart = (theta - ends["D frozen, predicted"]).norm() / (start - ends["D frozen, predicted"]).norm()
        residual = (A @ theta.mT - b).norm() / b.norm()
        error = ((features[IMAGES:] @ theta.mT).argmax(dim=1) != classes[IMAGES:]).double().mean()
        print(f"{name:20} {apart:34.1e} {residual:10.1e} {error:12.1%}")
    for name, found in checks.items():
        worst = max(certificate.error for certificate in found)
        print(f"certify {name}, trained: {sum(map(bool, found))} of 5 classes pass, relative error up to {worst:.1e}")
