"""What optimizers do around their formulas: variables, gradients, layouts, state, copies, errors."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from hornbeam import optimizers
from hornbeam.core.weights import Variable
from hornbeam.optimizers import SGD, Adam, Optimizer, part

ALL = [
    "Adadelta", "Adafactor", "Adagrad", "Adam", "AdamW", "Adamax", "Ftrl", "Lamb", "Lion", "Muon", "Nadam", "RMSprop", "SGD",
    "ScheduleFreeAdamW",
]  # fmt: skip


def step_on(optimizer: Any, model: nn.Module, seed: int = 0) -> None:
    torch.manual_seed(seed)
    loss = model(torch.randn(4, 3, 8, 8)).square().mean()
    for p in model.parameters():
        p.grad = None
    loss.backward()
    optimizer.apply([p.grad for p in model.parameters()], list(model.parameters()))


def network() -> nn.Module:
    torch.manual_seed(7)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 2))


@pytest.mark.parametrize("name", ["Adam", "SGD", "RMSprop"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_channels_last_weights_give_the_same_steps(name: str, when: str) -> None:
    options = {"momentum": 0.9} if name == "SGD" else {}
    plain, permuted = network(), network()
    a, b = (getattr(optimizers, name)(0.01, **options) for _ in range(2))
    if when == "before":
        permuted.to(memory_format=torch.channels_last)
    for i in range(4):
        if when == "after" and i == 2:
            permuted.to(memory_format=torch.channels_last)
        step_on(a, plain, i)
        step_on(b, permuted, i)
    for p, q in zip(plain.parameters(), permuted.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["Adam", "SGD"])
def test_gradients_of_any_layout_are_read_by_index(name: str) -> None:
    value, gradient = torch.randn(3, 4), torch.randn(4, 3).t()
    ws = [nn.Parameter(value.clone()) for _ in range(3)]
    sparse = gradient.contiguous().to_sparse()
    for w, g in zip(ws, (gradient, gradient.contiguous(), sparse), strict=True):
        getattr(optimizers, name)(0.5).apply([g], [w])
    assert torch.equal(ws[0], ws[1])
    assert torch.equal(ws[0], ws[2])


@pytest.mark.parametrize("name", ["Adam", "SGD", "AdamW"])
def test_without_fused_kernels_the_foreach_formulas_give_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"momentum": 0.9} if name == "SGD" else {"amsgrad": True}
    a, b = network(), network()
    fused, plain = (getattr(optimizers, name)(0.01, **options) for _ in range(2))
    for i in range(4):
        step_on(fused, a, i)
    monkeypatch.setattr(part, "_kernel_works", lambda *args: False)
    monkeypatch.delattr(torch, "_fused_adam_")
    monkeypatch.delattr(torch, "_fused_sgd_")
    for i in range(4):
        step_on(plain, b, i)
    for p, q in zip(a.parameters(), b.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-6, atol=1e-6)


def test_a_missing_kernel_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch, "_fused_adam_")
    assert part._kernel_works.__wrapped__("adam", "cpu", torch.float32) is False
    assert part._kernel_works.__wrapped__("sgd", "cpu", torch.float32) is True


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_dtypes_and_mixtures_of_them(name: str, dtype: torch.dtype) -> None:
    if name == "Muon" and dtype is torch.bfloat16:
        dtype = torch.float16
    ws = [nn.Parameter(torch.zeros(2, 3, dtype=dtype)), nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(4, dtype=dtype))]
    optimizer = getattr(optimizers, name)(0.25, weight_decay=0.0, clipnorm=10.0)
    for _ in range(2):
        optimizer.apply([torch.ones_like(w) for w in ws], ws)
    assert [w.dtype for w in ws] == [dtype, torch.float32, dtype]
    assert all(bool(torch.isfinite(w).all()) and bool((w < 0).all()) for w in ws)


def test_variables_without_gradient_are_left_and_named_once() -> None:
    a, b = Variable([1.0], name="a"), Variable([1.0], name="b")
    optimizer = SGD(0.5)
    with pytest.warns(UserWarning, match="no gradient for these variables and leaves them as they are: a"):
        optimizer.apply([None, torch.ones(1)], [a, b])
    optimizer.apply([None, torch.ones(1)], [a, b])
    assert (a.item(), b.item()) == (1.0, 0.0)
    assert optimizer.iterations == 2


def test_a_subset_of_the_variables_and_pairs() -> None:
    a, b = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(2))
    optimizer = SGD(0.5)
    optimizer.build([a, b])
    optimizer.apply([torch.ones(2)], [b])
    optimizer.apply_gradients([(torch.ones(2), b), (torch.ones(1), a)])
    assert a.tolist() == [0.5]
    assert b.tolist() == [0.0, 0.0]


def test_constraints_follow_the_update() -> None:
    w = nn.Parameter(torch.ones(2))
    w.constraint = lambda v: v.clamp(min=0.75)  # type: ignore[attr-defined]
    SGD(0.5).apply([torch.tensor([1.0, 0.25])], [w])
    assert w.tolist() == [0.75, 0.875]


def test_excluded_variables_do_not_decay() -> None:
    ws = [Variable([1.0], name=n) for n in ("kernel", "bias", "gamma")]
    optimizer = SGD(0.5, weight_decay=0.5)
    optimizer.exclude_from_weight_decay(var_list=[ws[2]], var_names=["bias"])
    optimizer.apply([torch.zeros(1)] * 3, ws)
    assert [w.item() for w in ws] == [0.75, 1.0, 1.0]
    ws, optimizer = copy.deepcopy((ws, optimizer))
    optimizer.apply([torch.zeros(1)] * 3, ws)
    assert [w.item() for w in ws] == [0.5625, 1.0, 1.0]


def test_numbers_of_an_optimizer() -> None:
    optimizer = Adam(0.5)
    assert float(optimizer.learning_rate) == 0.5
    optimizer.learning_rate = torch.tensor(0.25)
    assert optimizer.learning_rate == 0.25
    optimizer.learning_rate.assign(0.125)
    assert optimizer.learning_rate.numpy() == np.float32(0.125)
    assert optimizer.learning_rate * 2 == 0.25
    optimizer.iterations.assign(4)
    assert optimizer.iterations == 4
    assert (optimizer.iterations.numpy(), optimizer.iterations.value) == (4, 4)
    assert Adam().get_config()["learning_rate"] == float(np.float32(0.001))


@pytest.mark.parametrize("name", [*ALL, "LossScaleOptimizer"])
def test_state_moves_to_another_optimizer_and_training_goes_on_alike(name: str) -> None:
    def make() -> Any:
        if name == "LossScaleOptimizer":
            return optimizers.LossScaleOptimizer(optimizers.Nadam(0.01))
        return getattr(optimizers, name)(0.01, use_ema=True, gradient_accumulation_steps=2)

    model, first = network(), make()
    for i in range(3):
        step_on(first, model, i)
    saved = {k: v.clone() for k, v in first.state_dict().items()}
    store: dict[str, np.ndarray] = {}
    first.save_own_variables(store)
    weights = copy.deepcopy(model.state_dict())
    for i in range(3, 6):
        step_on(first, model, i)
    expected = [p.detach().clone() for p in model.parameters()]
    for way in ("late", "early", "store", "pickle"):
        other, second = network(), make()
        other.load_state_dict(weights)
        if way == "early":
            second.load_state_dict(saved)
        second.build(list(other.parameters()))
        if way in ("late", "pickle"):
            second.load_state_dict(saved)
        if way == "store":
            second.load_own_variables(store)
        if way == "pickle":
            other, second = pickle.loads(pickle.dumps((other, second)))
        for i in range(3, 6):
            step_on(second, other, i)
        for p, q in zip(expected, other.parameters(), strict=True):
            assert torch.equal(p, q), way


def test_a_state_that_does_not_fit_is_refused() -> None:
    optimizer = Adam()
    optimizer.build([nn.Parameter(torch.zeros(2))])
    with pytest.raises(ValueError, match=r"does not fit adam.*Missing: .*'variable_0_momentum'"):
        optimizer.load_state_dict({"iteration": torch.tensor(1)})
    with pytest.raises(ValueError, match=r"'variable_0_momentum' has shape \(2,\). Received: shape \(3,\)"):
        optimizer.load_state_dict({k: torch.zeros(3) if v.dim() else v for k, v in optimizer.state_dict().items()})


def test_deepcopy_steps_on_its_own() -> None:
    model, optimizer = network(), Adam(0.01)
    step_on(optimizer, model)
    other, copied = copy.deepcopy((model, optimizer))
    step_on(copied, other, 1)
    assert (optimizer.iterations, copied.iterations) == (1, 2)
    assert not torch.equal(model[0].weight, other[0].weight)
    step_on(optimizer, model, 1)
    assert torch.equal(model[0].weight, other[0].weight)


def test_stateless_apply_leaves_everything_as_it_is() -> None:
    w, optimizer = nn.Parameter(torch.ones(2)), Adam(0.5)
    optimizer.build([w])
    own = [v.detach().clone() for v in optimizer.variables]
    ([new], state) = optimizer.stateless_apply(own, [torch.ones(2)], [torch.ones(2)])
    assert w.tolist() == [1.0, 1.0]
    assert [torch.equal(a, b) for a, b in zip(own, optimizer.variables, strict=True)] == [True] * 4
    assert int(state[0]) == 1
    optimizer.apply([torch.ones(2)])
    assert torch.equal(new, w)


def test_averages_are_taken_at_the_end() -> None:
    w, optimizer = nn.Parameter(torch.ones(1)), SGD(0.25, use_ema=True, ema_momentum=0.5)
    for _ in range(2):
        optimizer.apply([torch.ones(1)], [w])
    optimizer.finalize_variable_values([w])
    assert w.item() == 0.625


def test_an_optimizer_of_ones_own_in_keras_spelling() -> None:
    class Momentum(Optimizer):
        def __init__(self, learning_rate: float = 0.5, keep: float = 0.5, **kwargs: Any) -> None:
            super().__init__(learning_rate=learning_rate, **kwargs)
            self.keep = keep

        def build(self, variables: Any) -> None:
            if self.built:
                return
            super().build(variables)
            self.speeds = self.add_optimizer_variables(variables, "speed")

        def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
            speed = self.speeds[self._get_variable_index(variable)]
            self.assign(speed, self.keep * speed + gradient)
            self.assign_sub(variable, learning_rate * speed)

    w, optimizer = Variable([1.0], name="w"), Momentum()
    for _ in range(2):
        optimizer.apply([torch.ones(1)], [w])
    assert w.item() == 1.0 - 0.5 - 0.75
    assert [v.name for v in optimizer.variables] == ["iteration", "learning_rate", "w_speed"]
    other = Momentum()
    other.load_state_dict(optimizer.state_dict())
    other.apply([torch.zeros(1)], [w])
    assert w.item() == 1.0 - 0.5 - 0.75 - 0.375


def test_a_subclass_may_change_one_update() -> None:
    class Halved(SGD):
        def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
            super().update_step(gradient / 2, variable, learning_rate)

    w = nn.Parameter(torch.ones(1))
    Halved(0.5).apply([torch.ones(1)], [w])
    assert w.item() == 0.75


def test_get_reads_names_configs_classes_and_optimizers() -> None:
    for name in ("adam", "Adam", "ADAM"):
        assert type(optimizers.get(name)) is Adam
    assert optimizers.get(None) is None
    assert type(optimizers.get(SGD)) is SGD
    assert optimizers.get({"class_name": "SGD", "config": {"learning_rate": 0.5}}).learning_rate == 0.5
    assert type(optimizers.get("rmsprop")).__name__ == "RMSprop"
    assert type(optimizers.get("schedulefreeadamw")).__name__ == "ScheduleFreeAdamW"


W = nn.Parameter(torch.ones(2))


@pytest.mark.parametrize(
    ("act", "error", "message"),
    [
        (lambda: optimizers.get("adamm"), ValueError, "Unknown optimizer: 'adamm'. Did you mean 'adam'"),
        (lambda: optimizers.get(3), ValueError, "Could not read 3"),
        (lambda: Adam(lr=0.1), TypeError, "Adam got an argument it does not know: 'lr'. Did you mean 'learning_rate'?"),
        (lambda: Adam(beta1=0.1), TypeError, "'beta1'. Did you mean 'beta_1'"),
        (lambda: SGD("fast"), ValueError, "learning_rate of SGD must be a number"),
        (lambda: SGD(momentum=2.0), ValueError, r"momentum of SGD must be in the range \[0, 1\]. Received: 2.0"),
        (lambda: SGD(clipnorm=1.0, clipvalue=1.0), ValueError, "one of clipnorm, clipvalue and global_clipnorm"),
        (lambda: SGD(gradient_accumulation_steps=1), ValueError, "gradient_accumulation_steps must be an integer of at least 2"),
        (lambda: SGD(use_ema=True, ema_momentum=3), ValueError, "ema_momentum of SGD"),
        (lambda: SGD(use_ema=True, ema_overwrite_frequency=0), ValueError, "ema_overwrite_frequency"),
        (lambda: optimizers.Lion(beta_1=0), ValueError, "beta_1 of Lion must be above 0"),
        (lambda: optimizers.AdamW(weight_decay=None), ValueError, "weight_decay of AdamW must be a number"),
        (lambda: optimizers.Ftrl(learning_rate_power=1), ValueError, "learning_rate_power of Ftrl"),
        (lambda: optimizers.Ftrl(l1_regularization_strength=-1), ValueError, "l1_regularization_strength of Ftrl"),
        (lambda: optimizers.LossScaleOptimizer(SGD(), clipnorm=1.0), ValueError, "set it on the inner optimizer"),
        (lambda: optimizers.LossScaleOptimizer("sgd"), TypeError, "wraps an optimizer"),
        (lambda: optimizers.MultiOptimizer(3), TypeError, "OptimizerMap or a callable"),
        (lambda: optimizers.MultiOptimizer(optimizers.LossScaleOptimizer(SGD())), ValueError, "cannot hold a LossScale"),
        (
            lambda: optimizers.OptimizerMap(SGD(), {".*": optimizers.MultiOptimizer(SGD())}),
            ValueError,
            "cannot hold a MultiOptimizer. Give it plain",
        ),
        (
            lambda: optimizers.MultiOptimizer(lambda _: optimizers.LossScaleOptimizer(SGD())).build([W]),
            ValueError,
            "cannot hold a LossScaleOptimizer",
        ),
        (lambda: SGD().apply([torch.ones(2)]), ValueError, r"is not built: call `build"),
        (lambda: SGD().apply([None], [W]), ValueError, "no gradient for any variable"),
        (lambda: SGD().apply([torch.ones(2)] * 2, [W]), ValueError, "got 2 gradients for 1 variables"),
        (lambda: SGD().build([3]), TypeError, "takes a list of variables. Item 0 is 3"),
        (lambda: SGD().build([nn.UninitializedParameter()]), ValueError, "variable 0 has no shape yet"),
        (lambda: Optimizer(0.1).apply([torch.ones(2)], [W]), NotImplementedError, "needs an `update` or an `update_step`"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*got no gradient:UserWarning")
def test_mistakes_are_named(act: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        act()


def test_a_variable_that_is_not_the_optimizers_is_refused() -> None:
    optimizer = SGD(name="mine")
    optimizer.build([W])
    with pytest.raises(ValueError, match=r"mine was not built for the variable 'stranger' of shape \(3,\)"):
        optimizer.apply([torch.ones(3)], [Variable([1.0, 2.0, 3.0], name="stranger")])


def test_the_old_decay_argument_is_ignored_with_a_warning() -> None:
    with pytest.warns(UserWarning, match="`decay` is ignored"):
        SGD(0.5, decay=0.1)


def test_stepping_imports_no_dynamo() -> None:
    code = (
        "import sys, torch; from hornbeam import optimizers as o; w = torch.nn.Parameter(torch.ones(2))\n"
        f"for name in {ALL!r}: getattr(o, name)().apply([torch.ones(2)], [w])\n"
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": ":".join(sys.path)}, check=False).returncode == 0


def test_sharded_weights_step_like_whole_ones() -> None:
    code = f"""
import torch, torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from hornbeam import optimizers
dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
mesh = init_device_mesh("cpu", (1,))
for name in {ALL!r}:
    options = dict(weight_decay=0.1, clipnorm=1.0, use_ema=True, ema_overwrite_frequency=2)
    whole, sharded = torch.nn.Linear(4, 3), torch.nn.Linear(4, 3)
    sharded.load_state_dict(whole.state_dict())
    fully_shard(sharded, mesh=mesh)
    for model in (whole, sharded):
        optimizer = getattr(optimizers, name)(0.01, **options)
        for _ in range(3):
            model(torch.ones(2, 4)).square().sum().backward()
            optimizer.apply([p.grad for p in model.parameters()], list(model.parameters()))
            model.zero_grad()
    for p, q in zip(whole.parameters(), sharded.parameters()):
        torch.testing.assert_close(q.full_tensor(), p, rtol=1e-6, atol=1e-6, msg=name)
dist.destroy_process_group()
"""
    environment = {"PYTHONPATH": ":".join(sys.path), "OMP_NUM_THREADS": "1", "PATH": ""}
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ALL)
def test_gradients_may_be_arrays(name: str) -> None:
    values = np.arange(1.0, 7.0).reshape(2, 3)
    given = [Variable(torch.ones(2, 3)) for _ in range(2)]
    for variable, gradient in zip(given, (values, torch.tensor(values, dtype=torch.float32)), strict=True):
        optimizers.get(name).apply_gradients([(gradient, variable)])
    assert torch.equal(*given)
    assert not torch.equal(given[0].detach(), torch.ones(2, 3))


def test_the_inner_loss_scale_factor_does_not_count_in_a_loss_scale_optimizer() -> None:
    variable = Variable(torch.ones(2))
    optimizer = optimizers.LossScaleOptimizer(SGD(0.5, loss_scale_factor=100.0), initial_scale=8.0)
    optimizer.apply([torch.tensor([8.0, 16.0])], [variable])
    assert variable.tolist() == [0.5, 0.0]


def test_a_multi_optimizer_lists_the_optimizers_of_its_map() -> None:
    first, rest = SGD(0.5), Adam()
    optimizer = optimizers.MultiOptimizer(optimizers.OptimizerMap(rest, {".*": first}))
    assert optimizer.optimizers == [first, rest]
    variable = Variable(torch.ones(2))
    optimizer.apply([torch.ones(2)], [variable])
    assert variable.tolist() == [0.5, 0.5]
    assert int(rest.iterations) == 0
    copy.deepcopy(optimizer).load_state_dict(optimizer.state_dict())


def test_a_learning_rate_equals_the_number_it_was_set_to() -> None:
    optimizer = SGD(0.0075)
    rate = optimizer.learning_rate
    assert rate == 0.0075
    assert rate.value == 0.0075 == rate
    assert rate != 0.0076
    assert rate != "0.0075"
    assert hash(rate) == hash(float(np.float32(0.0075)))
    assert type(pickle.loads(pickle.dumps(rate.value))) is float
    assert type(copy.deepcopy(optimizer.iterations.value)) is int


def test_a_multi_optimizer_takes_one_optimizer_for_all() -> None:
    only, variable = SGD(0.5), Variable(torch.ones(2))
    optimizer = optimizers.MultiOptimizer(only)
    optimizer.apply([torch.ones(2)], [variable])
    assert optimizer.optimizers == [only]
    assert variable.tolist() == [0.5, 0.5]


@pytest.mark.parametrize("make", [SGD, Adam, optimizers.Muon])
def test_update_step_of_one_variable_needs_no_context(make: Any) -> None:
    optimizer, variable = make(), Variable(torch.ones(2, 2))
    optimizer.build([variable])
    optimizer.update_step(torch.ones(2, 2), variable, 0.5)
    assert (variable < 1).all()


@pytest.mark.oracle
@pytest.mark.parametrize("options", [{}, {"momentum": 0.9}, {"gradient_accumulation_steps": 2}])
def test_variables_that_take_their_gradient_as_value_are_those_of_keras(options):
    import keras

    from hornbeam.core.weights import Variable

    seen = []
    for library, make in ((keras.optimizers, keras.Variable), (optimizers, Variable)):
        taking, learning = make(np.ones(2, "float32")), make(np.ones(2, "float32"))
        taking.overwrite_with_gradient = True
        optimizer, values = library.SGD(0.1, **options), []
        for g in (5.0, 7.0, 3.0, 2.0):
            optimizer.apply([torch.tensor([g, 6.0]), torch.tensor([5.0, 6.0])], [taking, learning])
            values.append((taking.numpy().tolist(), learning.numpy().round(4).tolist()))
        seen.append((values, len(optimizer.variables)))
    assert seen[0] == seen[1]


def test_a_constraint_may_be_set_later():
    from hornbeam.core.weights import Variable

    w = Variable(np.ones(2, "float32"), name="w")
    sgd = optimizers.SGD(1.0)
    sgd.apply([torch.tensor([3.0, 0.0])], [w])
    assert w.numpy().tolist() == [-2, 1]
    w.constraint = "non_neg"
    sgd.build([w])
    sgd.apply([torch.zeros(2)], [w])
    assert w.numpy().tolist() == [0, 1]
    w.regularizer = lambda x: x.sum()
    assert w.regularizer(torch.ones(3)) == 3
    with pytest.raises(ValueError, match="Could not read 3"):
        w.constraint = 3
