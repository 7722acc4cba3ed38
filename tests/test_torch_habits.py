"""What PyTorch users do to modules works on a Sequential, a functional and a subclassed model."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call, grad, stack_module_state, vmap
from torch.nn.utils import prune
from torch.utils.flop_counter import FlopCounterMode

import hornbeam as keras
from hornbeam import layers


def sequential(built: bool = True) -> keras.Model:
    first = {"input_shape": (8,)} if built else {}
    return keras.Sequential(
        [layers.Dense(16, activation="relu", name="layer1", **first), layers.BatchNormalization(), layers.Dense(4, name="layer2")]
    )


def functional(built: bool = True) -> keras.Model:
    x = keras.Input((8,))
    h = torch.relu(layers.Dense(16, name="layer1")(x))
    h = layers.BatchNormalization()(h) + h
    return keras.Model(x, layers.Dense(4, name="layer2")(h))


class Net(keras.Model):
    def __init__(self) -> None:
        super().__init__()
        self.layer1 = layers.Dense(16, activation="relu")
        self.norm = layers.BatchNormalization()
        self.layer2 = layers.Dense(4)

    def call(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer2(self.norm(self.layer1(x)))


def subclassed(built: bool = True) -> keras.Model:
    model = Net()
    if built:
        model.build((None, 8))
    return model


KINDS = {"sequential": sequential, "functional": functional, "subclassed": subclassed}
LAZY = {"sequential": lambda: sequential(False), "subclassed": lambda: subclassed(False), **KINDS}


@pytest.fixture(params=KINDS)
def model(request: pytest.FixtureRequest) -> keras.Model:
    torch.manual_seed(0)
    return KINDS[request.param]()


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(6, 8, generator=torch.Generator().manual_seed(1))


def same(a: torch.Tensor, b: torch.Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_is_a_module_with_readable_keys(model: keras.Model) -> None:
    keys = list(model.state_dict())
    assert keys[0] == "layer1.kernel"
    assert "layer2.bias" in keys
    assert len(keys) == 8
    assert len(list(model.parameters())) == 6
    assert all(isinstance(p, nn.Parameter) for p in model.parameters())


@pytest.mark.parametrize("training", [False, True])
def test_compile_fullgraph(model: keras.Model, x: torch.Tensor, training: bool) -> None:
    torch._dynamo.reset()
    twin = copy.deepcopy(model)
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    same(compiled(x, training=training), twin(x, training=training))
    compiled(x, training=training).sum().backward()
    assert model.layer1.kernel.grad is not None


def test_compile_in_train_mode(model: keras.Model, x: torch.Tensor) -> None:
    torch._dynamo.reset()
    twin = copy.deepcopy(model).train()
    model.train()
    same(torch.compile(model, fullgraph=True, backend="aot_eager")(x), twin(x))
    buffers, others = dict(model.named_buffers()), dict(twin.named_buffers())
    assert buffers
    for key, value in buffers.items():
        same(value, others[key])


def test_export_with_dynamic_batch(model: keras.Model, x: torch.Tensor) -> None:
    program = torch.export.export(model, (x,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    other = torch.randn(3, 8)
    same(program.module()(other), model(other))
    assert len(program.graph_signature.buffers) == 2
    assert len(program.graph_signature.parameters) == 6


@pytest.mark.filterwarnings("ignore:While compiling, we found certain side effects")
def test_strict_export(x: torch.Tensor) -> None:
    model = keras.Sequential([layers.Dense(4, activation="relu", input_shape=(8,)), layers.Dense(2)])
    program = torch.export.export(model, (x,), dynamic_shapes=({0: torch.export.Dim("batch")},), strict=True)
    other = torch.randn(3, 8)
    same(program.module()(other), model(other))


def test_jit_trace(model: keras.Model, x: torch.Tensor) -> None:
    traced = torch.jit.trace(model, x)
    other = torch.randn(3, 8)
    same(traced(other), model(other))


def test_hooks(model: keras.Model, x: torch.Tensor) -> None:
    seen: list[str] = []
    model.layer1.register_forward_pre_hook(lambda m, a: seen.append("pre"))
    model.layer1.register_forward_hook(lambda m, a, o: seen.append("forward"))
    model.layer1.register_full_backward_hook(lambda m, gi, go: seen.append("backward"))
    model(x.requires_grad_()).sum().backward()
    assert seen == ["pre", "forward", "backward"]


def test_forward_hook_may_change_the_output(model: keras.Model, x: torch.Tensor) -> None:
    model.layer2.register_forward_hook(lambda m, a, o: o * 0)
    assert not model(x).any()


@pytest.mark.parametrize("name", LAZY)
@pytest.mark.parametrize("how", ["deepcopy", "pickle"])
@pytest.mark.parametrize("used", [False, True])
def test_copies(name: str, how: str, used: bool, x: torch.Tensor) -> None:
    model = LAZY[name]()
    if used:
        model(x)
    twin = copy.deepcopy(model) if how == "deepcopy" else pickle.loads(pickle.dumps(model))
    if model.built:
        same(twin(x), model(x))
        assert {p.data_ptr() for p in twin.parameters()}.isdisjoint(p.data_ptr() for p in model.parameters())
    else:
        assert twin(x).shape == (6, 4)
    assert twin.layers[0] is not model.layers[0]


def test_state_dict_between_two_builds(x: torch.Tensor) -> None:
    for build in KINDS.values():
        a, b = build(), build()
        assert list(a.state_dict()) == list(b.state_dict())
        b.load_state_dict(a.state_dict())
        same(b(x), a(x))


def test_state_dict_through_a_file(model: keras.Model, x: torch.Tensor) -> None:
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    twin = copy.deepcopy(model)
    for p in twin.parameters():
        nn.init.zeros_(p)
    twin.load_state_dict(torch.load(file, weights_only=True))
    same(twin(x), model(x))


def test_load_with_assign(model: keras.Model, x: torch.Tensor) -> None:
    twin = copy.deepcopy(model)
    values = {k: v.clone() for k, v in model.state_dict().items()}
    twin.load_state_dict(values, assign=True)
    same(twin(x), model(x))
    assert all(isinstance(w, keras.Variable) for w in twin.weights)
    assert [w.name for w in twin.weights] == [w.name for w in model.weights]
    assert len(list(twin.parameters())) == 6
    assert len(list(twin.buffers())) == 2


def test_functional_call_and_gradients_per_sample(model: keras.Model, x: torch.Tensor) -> None:
    zeros = {k: torch.zeros_like(v) for k, v in model.named_parameters()}
    assert not functional_call(model, zeros, (x,)).any()
    parameters = {k: v.detach() for k, v in model.named_parameters()}

    def loss(p: dict[str, torch.Tensor], row: torch.Tensor) -> torch.Tensor:
        return functional_call(model, p, (row[None],)).pow(2).sum()

    per_sample = vmap(grad(loss), in_dims=(None, 0))(parameters, x)
    assert per_sample["layer1.kernel"].shape == (6, 8, 16)
    model(x).pow(2).sum().backward()
    same(per_sample["layer1.kernel"].sum(0), model.layer1.kernel.grad)


def test_ensemble_by_vmap(x: torch.Tensor) -> None:
    for build in KINDS.values():
        models = [build() for _ in range(3)]
        params, buffers = stack_module_state(models)
        base = build()
        outputs = vmap(lambda p, b, base=base: functional_call(base, (p, b), (x,)))(params, buffers)
        same(outputs[1], models[1](x))


def test_double_half_and_meta(model: keras.Model, x: torch.Tensor) -> None:
    assert copy.deepcopy(model).double()(x.double()).dtype is torch.float64
    assert copy.deepcopy(model).bfloat16()(x.bfloat16()).dtype is torch.bfloat16
    assert all(p.is_meta for p in copy.deepcopy(model).to("meta").parameters())
    assert copy.deepcopy(model).to("meta")(x.to("meta")).is_meta


def test_parametrization(model: keras.Model, x: torch.Tensor) -> None:
    class Doubled(nn.Module):
        def forward(self, w: torch.Tensor) -> torch.Tensor:
            return 2 * w

    expected = model.layer2.bias.detach() + 2 * (model(x).detach() - model.layer2.bias.detach())
    torch.nn.utils.parametrize.register_parametrization(model.layer2, "kernel", Doubled())
    same(model(x), expected)
    torch.nn.utils.parametrize.remove_parametrizations(model.layer2, "kernel")
    same(model(x), expected)


def test_weight_norm_and_pruning(model: keras.Model, x: torch.Tensor) -> None:
    expected = model(x).detach()
    torch.nn.utils.parametrizations.weight_norm(model.layer1, "kernel")
    same(model(x), expected)
    prune.l1_unstructured(model.layer2, "kernel", amount=0.5)
    assert int((model.layer2.kernel == 0).sum()) == 32
    assert model(x).shape == (6, 4)
    prune.remove(model.layer2, "kernel")
    assert int((model.layer2.kernel == 0).sum()) == 32


def test_averaged_model(model: keras.Model, x: torch.Tensor) -> None:
    averaged = torch.optim.swa_utils.AveragedModel(model)
    averaged.update_parameters(model)
    same(averaged.module(x, training=False), model(x, training=False))


def test_checkpointing(model: keras.Model, x: torch.Tensor) -> None:
    model(x).sum().backward()
    expected = model.layer1.kernel.grad.clone()
    model.zero_grad()
    torch.utils.checkpoint.checkpoint(model, x, use_reentrant=False).sum().backward()
    same(model.layer1.kernel.grad, expected)


def test_swapping_a_child(model: keras.Model, x: torch.Tensor) -> None:
    model.layer2 = nn.Linear(16, 7)
    assert model(x).shape == (6, 7)
    model.set_submodule("layer2", layers.Dense(3))
    assert model(x).shape == (6, 3)
    assert "layer2.kernel" in model.state_dict()


def test_early_optimizer_sees_the_right_weights(x: torch.Tensor) -> None:
    for build in LAZY.values():
        outer = nn.Sequential(build(), nn.Linear(4, 2))
        optimizer = torch.optim.Adam(outer.parameters(), lr=0.1)
        outer(x).pow(2).sum().backward()
        before = [p.detach().clone() for p in outer.parameters()]
        optimizer.step()
        assert len(before) == 8
        assert all(not torch.equal(a, b) for a, b in zip(before, outer.parameters(), strict=True))


def test_inside_a_plain_module_modes_are_obeyed() -> None:
    net = nn.Sequential(layers.Dropout(0.5), nn.Dropout(0.5))
    ones = torch.ones(4, 100)
    assert bool((net(ones) == 0).any())
    assert torch.equal(net.eval()(ones), ones)
    outer = keras.Sequential([layers.Dropout(0.5), nn.Dropout(0.5)])
    assert torch.equal(outer(ones), ones)
    assert bool((outer(ones, training=True) == 0).any())
    assert torch.equal(outer(ones), ones)
    assert bool((outer.train()(ones) == 0).any())


def test_first_look_leaves_no_trace(x: torch.Tensor) -> None:
    from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

    def looks(model: keras.Model, how: str) -> None:
        if how == "inference":
            with torch.inference_mode():
                model(x)
        elif how == "autocast":
            with torch.autocast("cpu", torch.bfloat16):
                model(x)
        elif how == "fake":
            with FakeTensorMode(allow_non_fake_inputs=True) as mode:
                model(mode.from_tensor(x))
        elif how == "vmap":
            vmap(model)(x[:, None])
        elif how == "grad":
            grad(lambda v: model(v).sum())(x)
        elif how == "meta":
            with torch.device("meta"):
                list(model.parameters())

    for build in KINDS.values():
        torch.manual_seed(3)
        reference = build()
        expected = reference(x, training=False).detach()
        for how in ("inference", "autocast", "fake", "vmap", "grad", "meta"):
            torch.manual_seed(3)
            model = build()
            looks(model, how)
            same(model(x, training=False).detach(), expected)
            model(x).sum().backward()
            assert model.layer1.kernel.grad is not None, how
            assert not isinstance(model.layer1.kernel.data, FakeTensor)
            assert model.layer1.kernel.device.type == "cpu"


def test_order_of_first_looks_does_not_matter(x: torch.Tensor) -> None:
    torch.manual_seed(5)
    a = sequential()
    torch.manual_seed(5)
    b = sequential()
    _ = b.layer2.kernel
    same(a(x), b(x))
    same(a.layer2.kernel, b.layer2.kernel)


def test_to_on_an_unbuilt_layer_is_remembered() -> None:
    layer = layers.Dense(3).to(torch.float64)
    assert layer(torch.ones(2, 4, dtype=torch.float64)).dtype is torch.float64
    assert layer.kernel.dtype is torch.float64


def test_optimizer_state_survives_to(model: keras.Model, x: torch.Tensor) -> None:
    ids = [id(p) for p in model.parameters()]
    model.to(torch.float64)
    assert [id(p) for p in model.parameters()] == ids


@pytest.fixture(scope="module")
def one_process(tmp_path_factory: pytest.TempPathFactory) -> object:
    store = tmp_path_factory.mktemp("store") / "store"
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=0, world_size=1)
    yield torch.distributed.device_mesh.init_device_mesh("cpu", (1,))
    torch.distributed.destroy_process_group()


def test_ddp(one_process: object, model: keras.Model, x: torch.Tensor) -> None:
    expected = model(x, training=False).detach()
    wrapped = nn.parallel.DistributedDataParallel(model)
    same(wrapped(x, training=False), expected)
    wrapped(x).sum().backward()
    assert model.layer1.kernel.grad is not None


@pytest.mark.filterwarnings("ignore")
def test_fully_shard(one_process: object, model: keras.Model, x: torch.Tensor) -> None:
    from torch.distributed.fsdp import fully_shard

    expected = model(x, training=False).detach()
    for layer in (model.layer1, model.layer2):
        fully_shard(layer, mesh=one_process)
    fully_shard(model, mesh=one_process)
    same(model(x, training=False), expected)
    model(x, training=False).sum().backward()
    assert model.layer1._parameters["kernel"].grad is not None
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    optimizer.step()
    assert not torch.equal(model(x, training=False), expected)


def test_plain_function_on_the_model_tree(model: keras.Model) -> None:
    names = [n for n, _ in model.named_modules()]
    assert "layer1" in names
    assert model.get_submodule("layer1") is model.layer1
    assert model.get_parameter("layer1.kernel") is model.layer1.kernel
    model.apply(lambda m: nn.init.zeros_(m.bias) if getattr(m, "bias", None) is not None else None)
    assert not model.layer1.bias.any()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    vector = nn.utils.parameters_to_vector(model.parameters())
    assert vector.numel() == sum(p.numel() for p in model.parameters())


def test_loss_with_plain_torch_training(model: keras.Model, x: torch.Tensor) -> None:
    y = torch.randint(4, (6,))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x, training=True), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def test_script_says_what_to_do_instead(model: keras.Model) -> None:
    with pytest.raises(TypeError, match=r"torch\.jit\.trace\(model, example\)"):
        torch.jit.script(model)


def test_fx_traces_layers_as_single_calls(model: keras.Model, x: torch.Tensor) -> None:
    traced = torch.fx.symbolic_trace(model)
    same(traced(x), model(x))
    assert {n.target for n in traced.graph.nodes if n.op == "call_module"} >= {"layer1", "layer2"}
    assert traced.layer1.kernel is model.layer1.kernel
    outer = torch.fx.symbolic_trace(nn.Sequential(model, nn.Linear(4, 2)))
    assert outer(x).shape == (6, 2)


def test_fx_traces_layers_that_are_not_built(x: torch.Tensor) -> None:
    traced = torch.fx.symbolic_trace(nn.Sequential(layers.Dense(4), nn.ReLU()))
    assert traced(x).shape == (6, 4)


@pytest.mark.parametrize("how", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["deepcopy", "pickle"])
def test_copies_of_a_compiled_model_train_on_their_own(model: keras.Model, x: torch.Tensor, how: object) -> None:
    y = torch.randn(6, 4)
    model.compile("adam", "mse", metrics=["mae"])
    model.fit(x, y, epochs=1, verbose=0)
    twin = how(model)  # type: ignore[operator]
    before = model(x).detach()
    same(twin(x), before)
    twin.fit(x, y, epochs=1, verbose=0)
    same(model(x), before)
    assert not torch.equal(twin(x), before)
    assert int(twin.optimizer.iterations) == int(model.optimizer.iterations) + 1


def test_loading_a_part(model: keras.Model) -> None:
    state = model.state_dict()
    del state["layer2.bias"]
    state["stranger"] = torch.ones(1)
    report = model.load_state_dict(state, strict=False)
    assert report.missing_keys == ["layer2.bias"]
    assert report.unexpected_keys == ["stranger"]
    with pytest.raises(RuntimeError, match=r"layer2\.bias"):
        model.load_state_dict(state)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_type(model: keras.Model, x: torch.Tensor, dtype: torch.dtype) -> None:
    assert model.type(dtype)(x.to(dtype)).dtype is dtype
    assert {p.dtype for p in model.parameters()} == {dtype}


def test_from_meta_to_real_memory(model: keras.Model, x: torch.Tensor) -> None:
    model.to("meta").to_empty(device="cpu")
    for module in model.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    assert model(x).isfinite().all()


def test_layers_inside_torch_containers(model: keras.Model, x: torch.Tensor) -> None:
    chain = nn.Sequential(*model.layers)
    assert chain(x).shape == (6, 4)
    assert len(list(chain.parameters())) == 6
    assert len(list(nn.ModuleList([model, nn.Linear(4, 2)]).parameters())) == 8
    assert "net.layer1.kernel" in nn.ModuleDict({"net": model}).state_dict()


def test_writing_into_weights(model: keras.Model, x: torch.Tensor) -> None:
    names = [n for n, _ in model.named_parameters()]
    assert (names[:2], names[-2:]) == (["layer1.kernel", "layer1.bias"], ["layer2.kernel", "layer2.bias"])
    for p in model.parameters():
        p.data.fill_(1)
    assert all(bool((w == 1).all()) for w in model.trainable_weights)
    nn.init.xavier_uniform_(model.layer1.kernel)
    before = model.layer1.kernel.detach().clone()
    with torch.no_grad():
        model.layer1.kernel *= 2
    same(model.layer1.kernel, 2 * before)
    model.layer1.kernel.data = before
    same(dict(model.named_parameters())["layer1.kernel"], before)
    nn.utils.vector_to_parameters(torch.zeros(sum(p.numel() for p in model.parameters())), model.parameters())
    assert not model(x).any()
    assert [n for n, _ in model.named_parameters()] == names
    assert all(isinstance(w, keras.Variable) for w in model.weights)


def test_a_parameter_put_in_a_weight_s_place(model: keras.Model, x: torch.Tensor) -> None:
    model.layer1.kernel = nn.Parameter(torch.zeros(8, 16))
    model(x).sum().backward()
    assert model.layer1.kernel.grad is not None
    assert len(list(model.parameters())) == 6
    assert len(model.weights) == 8
    model.layer1.kernel.assign(torch.ones(8, 16))
    assert model.layer1.kernel.path.endswith("kernel")
    assert bool((model.state_dict()["layer1.kernel"] == 1).all())


def test_learning_rate_schedulers(model: keras.Model, x: torch.Tensor) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
    for _ in range(2):
        optimizer.zero_grad()
        model(x).sum().backward()
        optimizer.step()
        scheduler.step()
    assert scheduler.get_last_lr() == [0.025]


def test_autocast_and_grad_scaler(model: keras.Model, x: torch.Tensor) -> None:
    scaler, optimizer = torch.amp.GradScaler("cpu"), torch.optim.SGD(model.parameters(), lr=0.1)
    before = model.layer1.kernel.detach().clone()
    with torch.autocast("cpu", torch.bfloat16):
        y = model(x, training=True)
    assert y.dtype is torch.bfloat16
    scaler.scale(y.float().pow(2).mean()).backward()
    scaler.unscale_(optimizer)
    scaler.step(optimizer)
    scaler.update()
    assert not torch.equal(model.layer1.kernel, before)


def test_hooks_with_keywords_and_for_all_modules(model: keras.Model, x: torch.Tensor) -> None:
    seen: list[object] = []
    model.register_forward_pre_hook(lambda m, a, k: seen.append("pre"), with_kwargs=True)
    model.register_forward_hook(lambda m, a, k, o: seen.append("forward"), with_kwargs=True)
    model.layer1.register_forward_pre_hook(lambda m, a, k: ((a[0] * 0,), k), with_kwargs=True)
    handle = nn.modules.module.register_module_forward_hook(lambda m, a, o: seen.append(m))
    try:
        y = model(x)
    finally:
        handle.remove()
    assert [s for s in seen if isinstance(s, str)] == ["pre", "forward"]
    assert sum(s is model.layer1 for s in seen) == sum(s is model for s in seen) == 1
    same(y, model(torch.zeros_like(x)))


def test_own_buffers_and_parameters(model: keras.Model, x: torch.Tensor) -> None:
    model.register_buffer("scale", torch.ones(3))
    model.register_buffer("passing", torch.ones(3), persistent=False)
    model.register_parameter("gain", nn.Parameter(torch.ones(1)))
    assert {"scale", "gain"} <= set(model.state_dict())
    assert "passing" not in model.state_dict()
    assert model.double().scale.dtype is torch.float64
    assert pickle.loads(pickle.dumps(model)).scale.shape == (3,)
    assert model(x.double()).shape == (6, 4)


def test_torch_s_parametrizations(model: keras.Model, x: torch.Tensor) -> None:
    nn.utils.parametrizations.orthogonal(model.layer1, "kernel")
    kernel = model.layer1.kernel
    same(kernel @ kernel.T, torch.eye(8))
    nn.utils.parametrizations.spectral_norm(model.layer2, "kernel", n_power_iterations=200)
    model.train()(x)  # torch's power iterations go on in training mode only
    same(torch.linalg.matrix_norm(model.layer2.kernel, 2), torch.tensor(1.0))
    model(x, training=True).sum().backward()
    nn.utils.parametrize.remove_parametrizations(model.layer2, "kernel")
    assert "layer2.kernel" in model.state_dict()


def test_data_parallel_flops_and_profiler(model: keras.Model, x: torch.Tensor) -> None:
    same(nn.DataParallel(model)(x), model(x))
    with FlopCounterMode(display=False) as counter:
        model(x)
    assert counter.get_total_flops() == 2 * 6 * (8 * 16 + 16 * 4)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        model(x)
    assert any("addmm" in event.key for event in profile.key_averages())
