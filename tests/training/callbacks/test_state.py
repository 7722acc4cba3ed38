"""What a callback remembers can be taken and put back."""

from __future__ import annotations

import pickle
import sys
from collections import deque

import numpy as np
import pytest
import torch

from hornbeam.callbacks import Callback, CallbackList, EarlyStopping, History, LambdaCallback, ReduceLROnPlateau
from hornbeam.layers import Dense
from hornbeam.models import Sequential
from hornbeam.training.callbacks.callback import is_data


class Mine(Callback):
    def __init__(self):
        self.seen, self.last, self.sums = [], deque(maxlen=3), torch.zeros(2)
        self.array, self.rng = np.arange(3.0), np.random.default_rng(0)
        self.file, self.made, self.other = sys.stdout, (i for i in range(3)), Dense(2)
        self.function, self.named = (lambda: 0), np.mean


def test_all_data_is_the_state_and_nothing_else():
    mine = Mine()
    mine.set_model(Sequential([Dense(1)]))
    mine.set_params({"epochs": 3})
    assert sorted(mine.state_dict()) == ["array", "last", "rng", "seen", "sums"]


def test_a_state_is_a_copy_both_ways():
    mine = Mine()
    mine.seen.append(1)
    draws = np.random.default_rng(0).random(3)
    state = mine.state_dict()
    mine.seen.append(2)
    mine.sums += 1
    mine.rng.random(5)
    for _ in range(2):
        mine.load_state_dict(state)
        assert mine.seen == [1]
        assert mine.sums.tolist() == [0, 0]
        assert np.array_equal(mine.rng.random(3), draws)
        mine.seen.append(3)
        mine.sums += 1


@pytest.mark.parametrize("value", [torch.nn.Linear(1, 1), [torch.nn.Parameter(torch.ones(1))], {"a": Callback()}, lambda: 0])
def test_what_is_no_data(value):
    assert not is_data(value)


def test_early_stopping_goes_on_where_it_was():
    results = [1.0, 0.8, 0.9, 0.85, 0.7, 0.75, 0.9, 0.9]

    def run(cut):
        model = Sequential([Dense(1)])
        model.build((None, 2))
        stop = EarlyStopping("loss", patience=2, restore_best_weights=True)
        stop.set_model(model)
        stop.on_train_begin()
        for epoch, loss in enumerate(results):
            if epoch == cut:
                state = pickle.loads(pickle.dumps(stop.state_dict()))
                stop = EarlyStopping("loss", patience=2, restore_best_weights=True)
                stop.set_model(model)
                stop.on_train_begin()
                stop.load_state_dict(state)
            with torch.no_grad():
                model.layers[0].kernel.fill_(epoch)
            stop.on_epoch_end(epoch, {"loss": loss})
        stop.on_train_end()
        return stop.stopped_epoch, stop.best, stop.best_epoch, model.layers[0].kernel[0, 0].item()

    assert {run(cut) for cut in range(len(results))} == {run(None)}


def test_a_list_keeps_states_by_class_and_number():
    class Count(Callback):
        n = 0

        def on_epoch_end(self, epoch, logs=None):
            self.n += 1

    one, two = Count(), Count()
    hooks = CallbackList([one, ReduceLROnPlateau(), two], add_history=True)
    one.on_epoch_end(0)
    state = hooks.state_dict()
    assert list(state) == ["Count", "ReduceLROnPlateau", "Count_2", "History"]
    assert state["Count"] == {"n": 1}
    other = CallbackList([Count(), Count(), LambdaCallback()])
    with pytest.warns(UserWarning, match="callbacks that this run has not: History, ReduceLROnPlateau"):
        other.load_state_dict(state)
    assert [c.n for c in other.callbacks[:2]] == [1, 0]


def test_the_state_of_a_callback_that_is_no_callback_of_ours():
    class Foreign:
        def __init__(self):
            self.epochs = 0

        def on_epoch_end(self, epoch, logs=None):
            self.epochs += 1

    hooks = CallbackList([Foreign()])
    hooks.load_state_dict({"Foreign": {"epochs": 7}})
    assert hooks.state_dict() == {"Foreign": {"epochs": 7}}


def test_the_history_is_part_of_it():
    history = History()
    history.on_epoch_end(0, {"loss": 1.0})
    again = History()
    again.load_state_dict(history.state_dict())
    history.on_epoch_end(1, {"loss": 0.5})
    assert (again.epoch, again.history) == ([0], {"loss": [1.0]})
