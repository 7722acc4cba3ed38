"""What a layer tells of itself in a notebook and in a terminal: class, config, shapes, weights. Looking makes no values."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from html import escape
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from hornbeam.core import registry
from hornbeam.core.init_args import signature_defaults
from hornbeam.core.weights import raw

LONGEST = 200  # characters of a name or value that are shown
MOST = 12  # weights that are listed


def clean(value: Any, most: int = LONGEST) -> str:
    """Returns a name or value on one line, without characters that no file or terminal can carry, cut where it is very long.

    >>> clean("a\\nb"), clean("x" * 300)[-3:]
    ('a?b', 'xx…')
    """
    text = str(value)
    text = text if len(text) <= most else text[: most - 1] + "…"
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


def named_weights(module: nn.Module) -> dict[str, torch.Tensor]:
    """Returns a module's weights by path, each once, without making any value; buffers of foreign modules are not weights."""
    found: dict[int, tuple[str, torch.Tensor]] = {}
    for path, part in module.named_modules():
        for key, weight in own_weights(part).items():
            found.setdefault(id(weight), (f"{path}.{key}" if path else key, weight))
    return dict(found.values())


def own_weights(module: nn.Module) -> dict[str, torch.Tensor]:
    """Returns the weights that a module holds itself, without those of its parts, by the names of its attributes."""
    specs = getattr(module, "_specs", None)
    found: dict[str, torch.Tensor] = {}
    for slot in ("_parameters", "_buffers"):
        for key, weight in raw(module, slot).items() if specs is not None else module.__dict__[slot].items():
            if weight is not None and not is_lazy(weight) and (slot == "_parameters" or (specs is not None and key in specs)):
                found[key] = weight
    return found


def config_of(layer: nn.Module) -> tuple[dict[str, str], dict[str, str]]:
    """Returns a layer's config as texts: what differs from the constructor's defaults, and the rest.

    >>> from hornbeam.layers import Dense
    >>> config_of(Dense(4, activation="relu"))[0]
    {'units': '4', 'activation': "'relu'"}
    """
    kind: Any = type(layer)
    try:
        config = layer.get_config()  # type: ignore[operator]
        defaults = signature_defaults(kind)
    except Exception:  # a user's own get_config may ask for what is not there yet
        return {}, {}
    told: dict[str, str] = {}
    rest: dict[str, str] = {}
    for key, value in config.items():
        if key != "name":
            usual = _is_usual(key, value, defaults.get(key, inspect.Parameter.empty))
            (rest if usual else told)[clean(key)] = clean(value_text(value))
    return told, rest


def _is_usual(key: str, value: Any, default: Any) -> bool:
    if key == "dtype":
        return value_text(value) == "'float32'"
    if default is inspect.Parameter.empty:
        return key == "trainable" and value is True
    if value == default:
        return True
    if isinstance(value, (list, tuple)):
        return not isinstance(default, (list, tuple)) and all(v == default for v in value)
    kind = key.rpartition("_")[2]
    if kind in ("activation", "initializer", "regularizer", "constraint") and isinstance(default, str):
        usual = registry.of_kind(kind).find(default)
        plain = {name: None if d is inspect.Parameter.empty else d for name, d in signature_defaults(usual).items()}
        made = isinstance(value, dict) and all(v is None or v == plain.get(name) for name, v in value.get("config", {}).items())
        return value == usual.__name__ or (made and value.get("class_name") == usual.__name__)
    if key == "activation" and default is None:
        return bool(value == "linear")
    return default is None and key == "data_format" and value == "channels_last"


def value_text(value: Any) -> str:
    """Returns a value of a config as a person would write it.

    >>> value_text({"module": "keras.regularizers", "class_name": "L2", "config": {"l2": 0.01}, "registered_name": None})
    'L2(l2=0.01)'
    """
    if isinstance(value, dict) and "class_name" in value and isinstance(value.get("config"), dict):
        given = value["config"]
        if value["class_name"] == "DTypePolicy" and "name" in given:
            return repr(given["name"])
        inner = ", ".join(f"{k}={value_text(v)}" for k, v in given.items() if v is not None)
        return f"{value['class_name']}({inner})"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k!r}: {value_text(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(value_text, value)) + "]"
    return repr(value)


def lines_of(layer: Any) -> list[tuple[str, str]]:
    """Returns what there is to tell of a layer, as pairs of a heading and a text."""
    told = ", ".join(f"{k}={v}" for k, v in config_of(layer)[0].items())
    lines = [("config", told)] if told else []
    nodes = layer.__dict__.get("_inbound_nodes") or ()
    given, made = layer.__dict__.get("_build_shapes"), [o.shape for o in nodes[-1].outputs] if nodes else []
    if given:
        lines.append(("input", clean(given)))
    if made:
        lines.append(("output", clean(made[0] if len(made) == 1 else made)))
    if not layer.built:
        return [*lines, ("weights", "not built yet: call it on an input, or build((None, ...))")]
    weights = named_weights(layer)
    shown = [f"{clean(n)} {tuple(w.shape)}{'' if w.requires_grad else ' not trainable'}" for n, w in list(weights.items())[:MOST]]
    if weights:
        more = f", and {len(weights) - MOST} more" if len(weights) > MOST else ""
        lines.append(("weights", f"{sum(w.numel() for w in weights.values()):,}: {', '.join(shown)}{more}"))
    return lines


def safe(make: Callable[[Any], str]) -> Callable[[Any], str]:
    """Wraps a function that makes HTML of an object: what cannot be shown is shown as its name."""

    @wraps(make)
    def made(thing: Any) -> str:
        try:
            return make(thing)
        except Exception as error:
            return f"<pre>&lt;{escape(type(thing).__name__)}: {escape(clean(error))}&gt;</pre>"

    return made


@safe
def html(layer: Any) -> str:
    """Returns a layer as a small table for a notebook."""
    cell = 'style="text-align:left;vertical-align:top;padding:1px 12px 1px 0;border:0'
    rows = "".join(
        f'<tr><td {cell};opacity:.65">{escape(k)}</td><td {cell}">{escape(v)}</td></tr>' for k, v in lines_of(layer)
    )
    head = f"<b>{escape(clean(layer.name))}</b> <span>{escape(type(layer).__name__)}</span>"
    return f'<div style="font-size:13px">{head}<table style="border:0;margin:2px 0 0 0;font-size:13px">{rows}</table></div>'


def rich_text(layer: Any) -> Any:
    """Returns a layer as text for a terminal that rich writes to."""
    from rich.text import Text  # heavy, and needed only here

    try:
        text = Text.assemble((clean(layer.name), "bold"), f" ({type(layer).__name__})")
        for heading, line in lines_of(layer):
            text.append(f"\n  {heading} ", style="dim").append(line)
    except Exception as error:
        return Text(f"<{type(layer).__name__}: {clean(error)}>")
    return text
