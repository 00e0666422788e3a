import math

import pytest
import torch
from helpers import DOUBLE, close, defaults, named, randn

from reverie.config import from_data, to_data
from reverie.spaces import Latent, Pixels, Space, Standardized

DATA = 3 * randn(50, 3, 4, 2, seed=1) * torch.tensor([1.0, 10.0, 0.1], dtype=DOUBLE).reshape(1, 3, 1, 1) + 5
LOSSLESS = {kind: space for kind, space in defaults(Space).items() if not isinstance(space, Latent)}


@pytest.mark.parametrize("space", **named(**LOSSLESS))
def test_every_space_returns_what_it_was_given(space):
    data = (DATA.clamp(0, 25) * 10).round().to(torch.uint8) if space.kind == "pixels" else DATA.float()
    fitted = space.fit(data)
    x = fitted.encode(data)
    assert x.dtype == torch.float32
    assert x.shape == data.shape
    again = fitted.decode(x)
    assert again.dtype == data.dtype
    assert torch.equal(again, data) if data.dtype == torch.uint8 else close(again, data, 1e-5)
    stored = from_data(Space, to_data(fitted), "space")
    assert stored == fitted
    assert torch.equal(stored.encode(data), x)


def test_pixels_round_trip_every_value_and_fill_the_range():
    values = torch.arange(256, dtype=torch.uint8)
    x = Pixels().encode(values)
    assert torch.equal(Pixels().decode(x), values)
    assert (x[0], x[-1]) == (-1, 1)
    assert close(x.double().diff(), torch.full((255,), 1 / 127.5, dtype=DOUBLE), 1e-6)


def test_pixels_clip_and_round():
    x = torch.tensor([-1.5, -1.0, 0.0035, 0.0045, 1.0, 2.0])
    assert Pixels().decode(x).tolist() == [0, 0, 128, 128, 255, 255]
    near = (torch.tensor([3.4, 3.6, 254.4]) / 127.5) - 1
    assert Pixels().decode(near).tolist() == [3, 4, 254]


def test_standardized_has_mean_0_and_standard_deviation_1_by_channel():
    space = Standardized().fit(DATA)
    x = space.encode(DATA).double().transpose(0, 1).flatten(1)
    assert close(x.mean(1), torch.zeros(3), 1e-6)
    assert close(x.std(1, correction=0), torch.ones(3), 1e-6)
    channel = DATA[:, 1].flatten()
    assert space.mean[1] == pytest.approx(float(channel.sum() / len(channel)), rel=1e-12)
    assert space.std[1] == pytest.approx(float(((channel - channel.mean()) ** 2).mean().sqrt()), rel=1e-12)


def test_standardized_is_fitted_once_and_applied_to_other_data():
    space = Standardized((1.0, 2.0), (0.5, 4.0))
    assert close(space.encode(torch.tensor([[2.0, 2.0], [1.0, 6.0]])), torch.tensor([[2.0, 0.0], [0.0, 1.0]]))
    assert close(space.decode(torch.tensor([[2.0, 1.0]])), torch.tensor([[2.0, 6.0]]))
    assert Standardized().fit(torch.rand(10, 2)) != Standardized()


def test_a_constant_channel_is_only_shifted():
    data = torch.cat([torch.full((10, 1), 7.0), torch.arange(10.0)[:, None]], 1)
    space = Standardized().fit(data)
    assert space.std[0] == 1
    assert (space.encode(data)[:, 0] == 0).all()


def test_data_with_other_channels_are_refused():
    for use in (Standardized((0.0,), (1.0,)).encode, Standardized((0.0,), (1.0,)).decode):
        with pytest.raises(ValueError, match="fitted on 1 channels; the data have 3"):
            use(DATA)
    with pytest.raises(ValueError, match="fitted on 0 channels"):
        Standardized().encode(DATA)


@pytest.mark.parametrize("shape", [(3, 2, 2), (3,)])
@pytest.mark.parametrize("space", [Pixels(), Standardized((1.0, 0.0, -3.0), (5.0, 0.1, 2.0))])
def test_log_volume_is_that_of_the_jacobian(space, shape):
    data = 100 * torch.rand(shape, generator=torch.Generator().manual_seed(1))
    jacobian = torch.autograd.functional.jacobian(lambda v: space.encode(v[None])[0], data)
    size = math.prod(shape)
    assert close(space.log_volume(shape), torch.linalg.slogdet(jacobian.reshape(size, size).double())[1], 1e-5)


def test_the_quantum_is_the_distance_of_neighbours_among_the_data():
    assert [space.quantum for space in (Pixels(), Standardized())] == [1.0, 0.0]
    assert close(Pixels().encode(torch.tensor([7.0 + Pixels.quantum])), Pixels().encode(torch.tensor([8])), 0)
    assert Pixels().encode(torch.tensor([127.25])) == pytest.approx(-0.25 / 127.5, abs=1e-7)


def test_a_volume_that_is_not_known_is_refused():
    class Folded(Pixels):
        log_volume = Space.log_volume

    with pytest.raises(ValueError, match="space 'pixels' has no log_volume"):
        Folded().log_volume((1, 2, 2))
    with pytest.raises(ValueError, match="fitted on 1 channels; the data have 2"):
        Standardized((0.0,), (1.0,)).log_volume((2, 4))
