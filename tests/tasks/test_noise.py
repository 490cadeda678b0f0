"""Random numbers that data draw: seeded for each run, apart from those of the model."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, RandomSampler

from steepest.tasks import Task
from steepest.tasks._sources.noise import Noise
from steepest.train import train

X = torch.linspace(-1, 1, 32)[:, None]


class Noisy(Dataset):
    """Adds numbers from all three global generators."""

    def __len__(self):
        return len(X)

    def __getitem__(self, i):
        return X[i] + torch.randn(1) + np.random.randn() + random.gauss(0, 1), X[i]


class NoisyStream(IterableDataset):
    def __iter__(self):
        data = Noisy()
        return (data[i] for i in torch.randperm(len(data)).tolist())


class Epochs(RandomSampler):
    """Shuffles by the number of the epoch, as samplers for several processes do."""

    def __init__(self):
        super().__init__(X)
        self.epoch = None

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __iter__(self):
        return iter(np.random.RandomState(self.epoch).permutation(len(X)).tolist())


def loader(data=Noisy, **options):
    return DataLoader(data(), batch_size=8, **options)


KINDS = {
    "map-style": (Noisy, {}),
    "map-style, workers": (Noisy, {"num_workers": 2}),
    "stream": (NoisyStream, {}),
    "stream, a worker": (NoisyStream, {"num_workers": 1}),
    "DataLoader": (lambda: loader(shuffle=True), {}),
    "DataLoader, workers": (lambda: loader(shuffle=True, num_workers=2), {}),
    "DataLoader, workers that stay": (lambda: loader(shuffle=True, num_workers=1, persistent_workers=True), {}),
    "DataLoader with a generator": (lambda: loader(shuffle=True, generator=torch.Generator().manual_seed(9)), {}),
    "DataLoader, sampler with a generator": (
        lambda: loader(sampler=RandomSampler(X, generator=torch.Generator().manual_seed(9))),
        {},
    ),
    "DataLoader, sampler by epoch": (lambda: loader(sampler=Epochs()), {}),
    "function": (lambda: lambda: loader(shuffle=True), {}),
}


class Dropping(nn.Module):
    """Draws random numbers itself, as many as it is told."""

    def __init__(self, draws, log):
        super().__init__()
        self.linear, self.draws, self.log = nn.Linear(1, 1), draws, log

    def forward(self, x):
        if self.training and torch.is_grad_enabled():
            self.log.append(x.clone())
            torch.rand(self.draws)
            np.random.rand(self.draws)
        return self.linear(x)


def seen(task_data, *, seed=0, draws=0, optimizer=torch.optim.SGD):
    """Return the inputs of six steps, and the validation losses."""
    make, options = task_data
    log = []
    task = Task(
        model=lambda: Dropping(draws, log),
        loss=nn.functional.mse_loss,
        train=make(),
        valid=make(),
        batch_size=8,
        steps=6,
        validations=2,
        **options,
    )
    history = train(task, lambda model, lr: optimizer(model.parameters(), lr), "default", lr=0.01, seed=seed)
    return torch.cat(log), history.valid_loss


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_runs_of_one_seed_see_the_same_numbers_whatever_the_model_draws(kind, rng_untouched):
    with rng_untouched():
        first, losses = seen(kind)
    torch.rand(3)
    random.random()
    np.random.rand()
    other, _ = seen(kind, draws=5, optimizer=torch.optim.Adam)
    again, same_losses = seen(kind)
    assert torch.equal(first, other)
    assert torch.equal(first, again)
    assert losses == same_losses


@pytest.mark.parametrize(
    "kind", ["map-style", "map-style, workers", "stream", "DataLoader with a generator", "function"]
)
def test_another_seed_gives_other_numbers_and_so_does_each_epoch(kind):
    first, _ = seen(KINDS[kind])
    second, _ = seen(KINDS[kind], seed=1)
    assert not torch.equal(first, second)
    assert len(first.unique()) == len(first) == 48


def test_the_users_own_generator_is_left_as_it_was():
    generator = torch.Generator().manual_seed(9)
    before = generator.get_state()
    seen((lambda: loader(shuffle=True, generator=generator), {}))
    assert torch.equal(generator.get_state(), before)


def test_a_sampler_is_told_the_epoch():
    sampler = Epochs()
    seen((lambda: loader(sampler=sampler), {}))
    assert sampler.epoch in (0, 1)  # the last to read it was the validation or the second epoch of training


def test_noise_goes_on_where_it_stopped_and_is_none_of_the_models(rng_untouched):
    with rng_untouched():
        noise = Noise(3)
        with noise:
            first = torch.rand(2)
        with noise:
            second = torch.rand(2)
        whole = Noise(3)
        with whole:
            assert torch.equal(torch.rand(4), torch.cat([first, second]))
    assert not torch.equal(first, torch.rand(2, generator=torch.Generator().manual_seed(3)))
