"""What labels tell of levels without any network."""

import pytest
import torch

from equipoise.engines.parts.learned.denoising import LEAST, MOST, levels
from equipoise.engines.parts.learned.straight import EDGE, KNOTS, Straight


def planes_of(shares):
    """Planes of two labels on 4 x 4 pixels; the first has the left columns."""
    planes = torch.zeros(len(shares), 2, 4, 4)
    for number, columns in enumerate(shares):
        planes[number, 0, :, :columns] = 1
        planes[number, 1, :, columns:] = 1
    return planes


def test_it_says_nothing_before_it_has_learned():
    planes = planes_of([0, 2, 4])
    assert not Straight(3, 2)(planes, *levels(torch.tensor([0.1, 0.5, 0.9]))).any()


def test_it_learns_levels_that_depend_on_label_and_time():
    straight, planes = Straight(1, 2), planes_of([0, 1, 2, 3, 4] * 8)
    optimiser = torch.optim.AdamW(straight.parameters(), 2e-3)
    draw = torch.Generator().manual_seed(0)
    for _ in range(400):
        time = LEAST + (MOST - LEAST) * torch.rand(len(planes), generator=draw)
        wanted = time.view(-1, 1, 1, 1) * (planes[:, :1] - 0.5 * planes[:, 1:])
        loss = (straight(planes, *levels(time)) - wanted).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        for late in (0.3, 0.8):
            made = straight(planes_of([4, 0]), *levels(torch.full((2,), late))).mean((1, 2, 3))
            assert made.tolist() == pytest.approx([late, -0.5 * late], abs=0.06)


def test_what_a_whole_patch_shows_is_seen_at_each_of_its_pixels():
    straight = Straight(1, 2)
    with torch.no_grad():
        straight.weights[:, 0, 2] = 0.1  # the mean of the first plane
        made = straight(planes_of([0, 1, 4]), *levels(torch.full((3,), 0.5)))
    assert made.flatten(1).std(1).max() < 1e-6
    assert made.mean((1, 2, 3)).tolist() == pytest.approx([0, 0.25, 1])


def test_weights_of_two_neighbouring_times_are_mixed():
    straight = Straight(1, 1)
    with torch.no_grad():
        straight.weights[:, 0, 0] = torch.arange(KNOTS) * 0.1
        ratio = torch.exp(torch.linspace(-EDGE, EDGE, 40))
        made = straight(torch.ones(40, 1, 2, 2), ratio, torch.ones(40)).mean((1, 2, 3))
    assert (made.diff() > 0).all()
    assert made[0].item() == pytest.approx(0, abs=1e-3)
    assert made[-1].item() == pytest.approx(KNOTS - 1, abs=1e-3)


def test_beyond_the_last_knots_weights_stay():
    straight = Straight(1, 1)
    with torch.no_grad():
        straight.weights[0, 0, 0], straight.weights[-1, 0, 0] = 0.1, 0.2
        ends = straight(torch.ones(2, 1, 2, 2), torch.tensor([0.0, 1.0]), torch.tensor([1.0, 0.0])).mean((1, 2, 3))
    assert ends.tolist() == pytest.approx([1.0, 2.0])
