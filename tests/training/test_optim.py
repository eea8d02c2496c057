from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import breakhis
from se_resnet.errors import UserError
from se_resnet.training.lr_multipliers import make_rules
from se_resnet.training.optim import Adam, Schedule, make_phases, merge, phase_at

PARTS = ("stem", "stage1", "head")
PARAMS = {
    "stem": {"conv": {"kernel": jnp.ones((3, 3))}, "norm": {"scale": jnp.ones(3)}},
    "stage1": {"kernel": jnp.ones((3, 3))},
    "head": {"kernel": jnp.ones((3, 1)), "bias": jnp.ones(1)},
}


def phases_of(epochs: int = 4, epoch_steps: int = 5, **changes):
    optim = breakhis.get_config().optim
    optim.update(changes)
    rules = make_rules(optim, PARTS)
    return make_phases(optim, rules, PARAMS, epochs=epochs, epoch_steps=epoch_steps)


def update(phase, gradient: float = 1.0):
    """The first update of each trained parameter."""
    trained, _ = phase.split(PARAMS)
    gradients = jax.tree.map(lambda leaf: jnp.full_like(leaf, gradient), trained)
    return phase.optimizer.update(gradients, phase.optimizer.init(trained), trained)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("constant", [1, 2, 3, 4, 4, 4, 4, 4]),
        ("linear", [1, 2, 3, 4, 4, 3, 2, 1]),
        ("cosine", [1, 2, 3, 4, *(2 + 2 * np.cos(np.pi * np.arange(4) / 4))]),
    ],
)
def test_schedules_rise_to_the_peak_and_fall_to_zero(kind, expected):
    schedule = Schedule(kind, 4.0, steps=8, warmup_steps=4)
    np.testing.assert_allclose([schedule(step) for step in range(8)], expected, rtol=1e-6)
    assert float(schedule(8)) == pytest.approx(4 if kind == "constant" else 0, abs=1e-6)


@pytest.mark.parametrize("kind", ["constant", "linear", "cosine"])
def test_without_warm_up_a_schedule_starts_at_the_peak(kind):
    assert float(Schedule(kind, 4.0, steps=8)(0)) == 4
    assert float(Schedule(kind, 4.0, steps=8, warmup_steps=1)(0)) == 4


def test_the_defaults_are_adam():
    (phase,) = phases_of()
    wanted, _ = optax.adam(1e-4).update(PARAMS, optax.adam(1e-4).init(PARAMS), PARAMS)
    found, _ = phase.optimizer.update(PARAMS, phase.optimizer.init(PARAMS), PARAMS)
    assert all(jax.tree.leaves(jax.tree.map(lambda a, b: (a == b).all(), found, wanted)))
    assert not phase.frozen and phase.learning_rate(7) == pytest.approx(1e-4)


def test_the_configured_schedule_is_the_optimizers():
    (phase,) = phases_of(schedule="linear", warmup_epochs=0.4, learning_rate=0.1)
    assert phase.learning_rate(0) == pytest.approx(0.05)  # 2 steps of warm-up
    assert phase.learning_rate(11) == pytest.approx(0.05)
    updates, _ = update(phase)
    assert float(updates["head"]["bias"][0]) == pytest.approx(-0.05, rel=1e-4)


@pytest.mark.parametrize(
    "changes",
    [{}, {"weight_decay": 0.1, "clip_norm": 1.0, "layer_decay": 0.5}, {"schedule": "cosine"}],
)
def test_the_first_state_is_that_of_optax(changes):
    optimizer = phases_of(**changes)[-1].optimizer
    wanted, found = optimizer._transformation().init(PARAMS), optimizer.init(PARAMS)
    assert jax.tree.structure(found) == jax.tree.structure(wanted)
    for made, expected in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        assert (made.dtype, made.weak_type) == (expected.dtype, expected.weak_type)
        np.testing.assert_array_equal(made, expected)


def test_weights_decay_but_neither_biases_nor_normalisations():
    (phase,) = phases_of(weight_decay=0.1, learning_rate=0.5)
    updates, _ = update(phase, gradient=0.0)
    assert float(updates["stem"]["conv"]["kernel"][0, 0]) == pytest.approx(-0.05)
    assert float(updates["head"]["kernel"][0, 0]) == pytest.approx(-0.05)
    assert not updates["stem"]["norm"]["scale"].any() and not updates["head"]["bias"].any()


def test_the_global_norm_is_clipped():
    moments = {}
    for clip in (0.0, 2.0):
        (phase,) = phases_of(clip_norm=clip)
        _, state = update(phase, gradient=3.0)
        moments[clip] = float(optax.tree.norm(optax.tree.get(state, "mu")))
    assert moments[0.0] == pytest.approx(0.1 * 3 * np.sqrt(25))
    assert moments[2.0] == pytest.approx(0.1 * 2)


def test_multipliers_scale_the_update_and_zero_keeps_no_moments():
    (phase,) = phases_of(rules="stem=0 stage1=0.25 head=1", learning_rate=0.1, weight_decay=1.0)
    updates, state = update(phase)
    assert set(updates) == {"stage1", "head"}
    ratio = updates["stage1"]["kernel"][0, 0] / updates["head"]["kernel"][0, 0]
    assert float(ratio) == pytest.approx(0.25)
    kept = sum(leaf.size for leaf in jax.tree.leaves(state) if leaf.ndim)
    assert kept == 2 * (9 + 4), "two moments of stage1 and head"


def test_layer_decay_reaches_the_optimizer():
    (phase,) = phases_of(layer_decay=0.5, learning_rate=0.1)
    updates, _ = update(phase)
    stem, stage, head = (
        float(updates[part].get("conv", updates[part])["kernel"][0, 0]) for part in PARTS
    )
    assert stem / head == pytest.approx(0.25) and stage / head == pytest.approx(0.5)


def test_the_head_goes_first_and_alone():
    head, rest = phases = phases_of(head_epochs=1, schedule="linear", learning_rate=0.1)
    assert set(head.split(PARAMS)[0]) == {"head"} and not rest.frozen
    assert [phase_at(phases, step).number for step in (0, 4, 5, 19)] == [0, 0, 1, 1]
    assert head.learning_rate(4) == pytest.approx(0.1)
    assert rest.learning_rate(5) == pytest.approx(0.1), "the schedule begins when all train"
    assert rest.learning_rate(19) == pytest.approx(0.1 / 15)


def test_rules_hold_in_the_heads_phase_too():
    head, rest = phases_of(head_epochs=1, rules="stem=0 stage1=1 head=1")
    assert rest.frozen == {"stem/conv/kernel", "stem/norm/scale"}
    assert head.frozen == rest.frozen | {"stage1/kernel"}
    with pytest.raises(UserError, match="freezes the head, which config.optim.head_epochs = 1"):
        phases_of(head_epochs=1, rules="stem|stage1=1 head=0")


def test_split_and_merge_are_inverse():
    (phase,) = phases_of(rules="stem/conv=0 stem/norm|stage1|head=1")
    trained, frozen = phase.split(PARAMS)
    assert set(trained["stem"]) == {"norm"} and set(frozen) == {"stem"}
    assert jax.tree.structure(merge(trained, frozen)) == jax.tree.structure(PARAMS)


def test_adam_takes_a_number():
    updates, _ = Adam(0.1).update(PARAMS, Adam(0.1).init(PARAMS), PARAMS)
    assert float(updates["head"]["bias"][0]) == pytest.approx(-0.1, rel=1e-4)
