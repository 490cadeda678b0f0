"""Rows of steepest.norms."""

from __future__ import annotations

import torch
from tests.public.kinds import FLAG, FLOATING, MAPPING, OBJECT, choice, number, untried, whole
from tests.public.rows import Fresh, Result, Row, row

from steepest.norms import (
    L2,
    Blockwise,
    LInf,
    ProductSpeed,
    objective,
    penalized_step,
)


def gradient():
    return torch.tensor([[3.0, -1.0, 0.5], [2.0, 0.0, 1.0], [-1.0, 1.0, 2.0], [0.1, 0.2, 0.3]])


def weights():
    return torch.full((4, 3), 1 / 12)


def blocks():
    return {"x": gradient()}


def used(norm):
    """What was accepted is called, so that it fails here and not in a user's training."""
    g = blocks() if isinstance(norm, Blockwise) else gradient()
    return objective(norm, g, penalized_step(norm, g, 0.1), 0.1)


G = (Fresh(gradient), FLOATING)
BLOCKS = (Fresh(blocks), MAPPING.also("{'x': None}", "{'x': [1.0]}", "{1: 2}"))
SEQUENCE = (Fresh(lambda: [gradient()]), OBJECT.but("[]", "tensor", "{}").also("[None]", "['x']"))
BLOCK_SEQUENCE = (Fresh(lambda: [blocks()]), OBJECT.but("[]", "{}").also("[None]", "['x']"))
NORM = (L2(), OBJECT)
ALPHA = (0.1, number("(0, inf)"))
LENGTH = (0.1, number("[0, inf)"))
SEAM_ALPHA = (0.1, untried("steepest.norms checks it, and optimizers pass tensors on a device: no look at them"))
EXPONENT = (3.0, number("(1, inf)"))

TABLE: dict[str, Row | Result] = {
    "norms.L1": row(then=used),
    "norms.L2": row(then=used),
    "norms.LInf": row(then=used),
    "norms.Lp": row(then=used, p=EXPONENT),
    "norms.Ellipsoid": row(
        then=lambda norm: norm(torch.ones(norm.diagonal.shape)),
        diagonal=(
            Fresh(lambda: torch.tensor([1.0, 2.0, 3.0])),
            FLOATING.also("zero tensor", "nan tensor", "inf tensor"),
        ),
    ),
    "norms.Spectral": row(then=used, exact=(True, FLAG)),
    "norms.Nuclear": row(then=used),
    "norms.Schatten": row(then=used, p=EXPONENT),
    "norms.MaxRow": row(then=used),
    "norms.MaxColumn": row(then=used),
    "norms.Flattened": row(then=used, norm=NORM),
    "norms.Scaled": row(then=used, nan="a factor beyond the range of float32", norm=NORM, by=(2.0, number("(0, inf)"))),
    "norms.Power": row(then=used, norm=NORM, p=EXPONENT),
    "norms.Split": row(
        then=lambda norm: norm.exactly(),
        norm=NORM,
        parts=(2, whole(1).but("[1.0, 2.0]").also("()", "[-1]", "('x', 'x')", "[nan]")),
        dim=(0, whole(-(10**9)).but("-1000000001, below the least")),
    ),
    "norms.Blockwise": row(
        then=used, norms=({"x": LInf()}, MAPPING.also("{}", "{'x': None}", "{1: 2}")), combine=("l2", choice())
    ),
    "norms.KullbackLeibler": row(
        point=(Fresh(weights), FLOATING.also("zero tensor", "nan tensor", "inf tensor", "tensor", "empty tensor")),
    ),
    "norms.Norm.__call__": row(x=G),
    "norms.Norm.dual_norm": row(g=G),
    "norms.Norm.duality_map": row(g=G),
    "norms.Norm.duality_pair": row(g=G),
    "norms.Norm.duality_maps": row(gs=SEQUENCE),
    "norms.Distance.distance": row(u=G),
    "norms.Distance.penalized_step": row(g=G, alpha=SEAM_ALPHA),
    "norms.Distance.duality_gap": row(g=G, step=G, alpha=SEAM_ALPHA),
    "norms.Distance.exactly": row(),
    "norms.Blockwise.__call__": row(x=BLOCKS),
    "norms.Blockwise.dual_norm": row(g=BLOCKS),
    "norms.Blockwise.duality_map": row(g=BLOCKS),
    "norms.Blockwise.duality_pair": row(g=BLOCKS),
    "norms.Blockwise.duality_maps": row(gs=BLOCK_SEQUENCE),
    "norms.Blockwise.distance": row(u=BLOCKS),
    "norms.Blockwise.penalized_step": row(g=BLOCKS, alpha=SEAM_ALPHA),
    "norms.Blockwise.duality_gap": row(g=BLOCKS, step=BLOCKS, alpha=SEAM_ALPHA),
    "norms.KullbackLeibler.distance": row(u=G, nan="outside of the simplex it is infinite"),
    "norms.penalized_step": row(norm=NORM, g=G, alpha=LENGTH),
    "norms.constrained_step": row(norm=NORM, g=G, radius=LENGTH),
    "norms.objective": row(norm=NORM, g=G, step=G, alpha=ALPHA),
    "norms.duality_gap": row(norm=NORM, g=G, step=G, alpha=ALPHA),
    "norms.polar_factor": row(g=G, exact=(True, FLAG)),
    "norms.product_speed": row(device=("cpu", OBJECT)),
    "norms.ProductSpeed": Result(lambda: ProductSpeed("cpu", 1.0, 0.0)),
}
