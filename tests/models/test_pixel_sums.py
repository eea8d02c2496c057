from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from se_resnet.models import ops_fused, pixel_sums


@pytest.mark.parametrize("per_image", [False, True])
@pytest.mark.parametrize(
    "shape, dtype", [((2, 7, 7, 256), "bfloat16"), ((3, 5, 4, 16), "float32")], ids=str
)
def test_the_kernel_computes_the_sums_of_xla(shape, dtype, per_image):
    rng = np.random.default_rng(0)
    # Neither 49 nor 20 pixels fill whole tiles. The offsets are positive, so that a pixel beyond
    # the last would open the ReLU.
    x, dy = (jnp.asarray(rng.normal(size=shape), dtype) for _ in range(2))
    factor, offset = (jnp.asarray(rng.random(shape[-1]), jnp.float32) for _ in range(2))

    def terms(x, dy, factor, offset):
        opened = factor * x + offset > 0
        return jnp.where(opened, 1.0, 0.0), jnp.where(opened, dy.astype(jnp.float32), 0.0)

    arguments = (terms, (x, dy), (factor, offset), per_image)
    expected = ops_fused.pixel_sums(*arguments)
    for got, wanted in zip(
        pixel_sums.pixel_sums(*arguments, interpret=True), expected, strict=True
    ):
        assert got.dtype == jnp.float32
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-4)


def test_the_kernel_takes_what_its_tiles_can_hold():
    def applies(channels, dtype="bfloat16"):
        return pixel_sums.applies([jnp.zeros((1, 2, 2, channels), dtype)])

    assert all(applies(channels) for channels in (16, 64, 128, 384, 2048))
    assert not applies(8) and not applies(48) and not applies(64, "float16")
