"""An inventory that is controlled by two whole numbers: a simulation without a gradient, minimised from its values.

    python examples/black_box.py

Every evening, when the stock is at or below a level s, so much is ordered that it is S the next morning. An order costs
32, a unit in stock 1 per day, a unit that is asked for and not there 9. The levels are rounded, so that the derivative
of the cost is zero wherever it exists; the score function needs values alone. All points of a step meet the same
customers (common random numbers), so that their costs differ by their levels alone.
"""

import torch
from torch import Tensor

from steepest.estimators import ScoreFunction

DAYS = 200


def cost(levels: Tensor, customers: Tensor) -> Tensor:
    """Return the cost per day [samples] for levels (s, S) [samples, 2] and the customers of each day [days]."""
    low, high = levels.round().clamp(min=0).unbind(-1)
    high = torch.maximum(high, low)
    stock, total = high, torch.zeros_like(high)
    for asked in customers:
        left = stock - asked
        total += left.clamp(min=0) + 9 * (-left).clamp(min=0)
        stock = left.clamp(min=0)
        orders = stock <= low
        total += 32 * orders
        stock = torch.where(orders, high, stock)
    return total / len(customers)


def days(generator: torch.Generator, count: int = DAYS) -> Tensor:
    """Return how many customers come on each day: Poisson, 10 on average."""
    return torch.poisson(torch.full((count,), 10.0), generator=generator)


def train(steps: int = 200) -> Tensor:
    """Return the levels after so many steps of Adam, from (5, 15)."""
    generator = torch.Generator().manual_seed(0)
    levels = torch.tensor([5.0, 15.0], requires_grad=True)
    optimizer = torch.optim.Adam([levels], lr=0.5)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    source = ScoreFunction(sigma=2.0, samples=20)
    for _ in range(steps):
        customers = days(generator)
        levels.grad = source(lambda points, today=customers: cost(points, today), levels, generator).gradient
        optimizer.step()
        schedule.step()
    return levels.detach()


if __name__ == "__main__":
    torch.set_num_threads(1)
    found = train().round()
    fresh = days(torch.Generator().manual_seed(1), 5_000)
    grid = torch.cartesian_prod(torch.arange(0.0, 40.0), torch.arange(0.0, 80.0))
    best = grid[cost(grid, fresh).argmin()]
    for name, levels in (("the start", torch.tensor([5.0, 15.0])), ("found", found), ("best of the grid", best)):
        print(f"{name:16}  s = {levels[0]:2.0f}, S = {levels[1]:2.0f}: {cost(levels[None], fresh).item():6.2f} per day")
