"""The table of graph rules: whole graphs pass, and each rule notices its own fault."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

import hornbeam as keras
from hornbeam import layers
from hornbeam.graph.graph import Graph
from hornbeam.graph.node import Node, Ref
from hornbeam.graph.verify import RULES, verify


def graph() -> Graph:
    a, b = keras.Input((3,)), keras.Input((3,))
    h = torch.relu(layers.Dense(4)(a)) + torch.relu(layers.Dense(4)(b))
    return keras.Model([a, b], [h, torch.topk(h, 2).values]).graph


def swap_inputs_and_calls(g: Graph) -> None:
    g.nodes[0], g.nodes[2] = g.nodes[2], g.nodes[0]


def odd_kind(g: Graph) -> None:
    g.nodes[2].kind = "macro"


def late_producer(g: Graph) -> None:
    g.nodes[-1], g.nodes[-2] = g.nodes[-2], g.nodes[-1]


def missing_output(g: Graph) -> None:
    g.nodes[-1].args = (Ref(g.nodes[2], 7),)


def input_without_output(g: Graph) -> None:
    g.inputs[0] = Ref(g.nodes[0], 1)


def foreign_result(g: Graph) -> None:
    g.outputs[0] = Ref(Node("input", "x", "x"), 0)


def module_itself(g: Graph) -> None:
    g.nodes[2].target = layers.Dense(4)


def same_names(g: Graph) -> None:
    for node in g.calls():
        node.name = "same"


FAULTS: dict[str, Callable[[Graph], None]] = dict(
    zip(
        RULES,
        (
            swap_inputs_and_calls, odd_kind, late_producer, missing_output,
            input_without_output, foreign_result, module_itself, same_names,
        ),
        strict=True,
    )
)


def test_a_built_graph_keeps_the_rules() -> None:
    verify(graph())


@pytest.mark.parametrize("rule", RULES)
def test_each_rule_notices_its_fault(rule: str) -> None:
    broken = graph()
    FAULTS[rule](broken)
    assert list(RULES[rule](broken))
    with pytest.raises(AssertionError, match="A graph rule is broken"):
        verify(broken)
