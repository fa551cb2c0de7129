"""Options from settings: a command's parameter whose type is a dataclass stands for one option a field.

A field gives its option the name, the type and the default; its line under "Attributes:" is the help. Two dataclasses
of one command share the option of a field that both have. A tuple is a comma-separated list, or given several times.
"""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping
from copy import copy
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from functools import wraps
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import typer
from typer.models import OptionInfo, ParameterInfo

from borngap.errors import UserError

# which options stand where in the help, in this order; what is named nowhere is common and comes first
HELP_PANELS: dict[str, tuple[str, ...]] = {
    "Run on a data set": ("max_loss", "max_over_use", "budget", "places", "pilots", "epochs", "accumulation",
                          "warmup_ratio", "packing", "order", "drop_last", "end_of_text", "from_args"),
    "Training": ("joint", "batch_size", "shuffle", "freeze", "dropout", "rival_loss", "penalty", "forward", "stop",
                 "no_lora"),
    "LoRA and others": ("lora_rank", "lora_alpha", "lora_dropout", "lora_targets", "rate_ratio", "virtual_tokens",
                        "peft_config"),
    "Optimiser and schedule": ("optimizer", "schedule", "warmup", "clip", "weight_decay", "beta1", "beta2", "eps"),
    "Rivals": ("relations", "thesaurus", "find_by", "percentile", "min_overlap", "pairs", "bulk_pairs"),
    "Rows": ("text_field", "prompt_field", "completion_field", "messages_field", "allowed_field", "split", "loss",
             "max_length", "window", "strict", "chunk"),
    "Measures": ("criterion", "geometry", "top_p"),
    "Machine": ("device", "dtype", "engine", "workers", "ray_address", "threads"),
}  # fmt: skip
_PANEL_OF = {name: panel for panel, names in HELP_PANELS.items() for name in names}
_FLAGS = {"rate": "--lr"}  # of fields that have another name on the command line
_CHOICES_WIDTH = 16  # a list of choices is broken there, so that a help of 80 columns has room for words


@dataclass(frozen=True)
class Takes:
    """How a command takes settings, beside their type: ``Annotated[Training, Takes(without=("rate",))]``.

    Attributes:
        without: fields that are no options: the command fixes them, or they mean nothing to it.
        defaults: field -> default, where the command has one of its own.
    """

    without: tuple[str, ...] = ()
    defaults: Mapping[str, Any] = field(default_factory=dict)


def from_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command as typer takes it: with options in place of settings.

    Args:
        command: some of its parameters may be dataclasses.

    Returns:
        A function of plain options that builds the dataclasses; one that refuses a value raises its own error.

    Raises:
        TypeError: two parameters give one option different types or defaults, or settings lack a field that is named.
    """
    options: dict[str, inspect.Parameter] = {}
    built: dict[str, tuple[type, list[str]]] = {}
    for parameter in inspect.signature(command, eval_str=True).parameters.values():
        own = [parameter]
        kind, *extras = _parts(parameter.annotation)
        if isinstance(kind, type) and is_dataclass(kind):
            own = list(_of_fields(kind, next((extra for extra in extras if isinstance(extra, Takes)), Takes())))
            built[parameter.name] = (kind, [option.name for option in own])
        for option in own:
            _add(options, option)

    @wraps(command)
    def call(**given: Any) -> None:
        values = {name: _read(options[name], value) for name, value in given.items()}
        made = {name: kind(**{key: values[key] for key in keys}) for name, (kind, keys) in built.items()}
        plain = {name: values[name] for name in values.keys() - {key for _, keys in built.values() for key in keys}}
        for name, value in plain.items():
            _check(options[name], value)
        command(**plain, **made)

    shown = sorted(map(_shown, options.values()), key=_rank)
    call.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]
    call.__annotations__ = {option.name: option.annotation for option in shown}
    return call


def texts(settings: type) -> dict[str, str]:
    """Return what a dataclass and its bases say of their fields under "Attributes:", as help shows it."""
    found: dict[str, str] = {}
    for kind in reversed(settings.__mro__):
        name = ""
        _, _, section = inspect.cleandoc(kind.__dict__.get("__doc__") or "").partition("\nAttributes:\n")
        for line in section.partition("\n\n")[0].splitlines():
            if line.startswith(" " * 8):
                found[name] += f" {line.strip()}"
            else:
                name, _, found[name] = line.strip().partition(": ")
    return {name: (text[:1].upper() + text[1:]).replace("``", "`") for name, text in found.items()}


def _of_fields(settings: type, takes: Takes) -> Iterator[inspect.Parameter]:
    """Yield one option a field."""
    said, types = texts(settings), get_type_hints(settings, include_extras=True)
    unknown = {*takes.without, *takes.defaults} - types.keys()
    if unknown:
        raise TypeError(f"{settings.__name__} has no {', '.join(sorted(unknown))}")
    for entry in fields(settings):
        if entry.name not in takes.without:
            default = takes.defaults.get(entry.name, entry.default)
            kind, *extras = _parts(types[entry.name])
            info = copy(extras[0]) if extras else typer.Option(_flag(entry.name, default))
            info.help = said.get(entry.name)
            if isinstance(default, str) and "," in default:
                info.show_default = re.sub(r",(?=[a-z])", ", ", default)  # a list without spaces is cut off
            yield _option(entry.name, Annotated[kind, info], inspect.Parameter.empty if default is MISSING else default)


def _flag(name: str, default: Any) -> str:
    flag = _FLAGS.get(name, f"--{name.replace('_', '-')}")
    return f"{flag}/--no-{flag.removeprefix('--')}" if default is True else flag


def _option(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)


def _add(options: dict[str, inspect.Parameter], option: inspect.Parameter) -> None:
    """Add an option; one that is there already must mean the same."""
    there = options.setdefault(option.name, option)
    if (_parts(there.annotation)[0], there.default) != (_parts(option.annotation)[0], option.default):
        raise TypeError(f"two options {option.name} of different types or defaults")


def _shown(option: inspect.Parameter) -> inspect.Parameter:
    """Return an option as typer takes it: in its panel; choices as texts, a tuple as a list of texts."""
    kind, *extras = _parts(option.annotation)
    info, default = next((copy(extra) for extra in extras if isinstance(extra, ParameterInfo)), None), option.default
    if not isinstance(info, OptionInfo):
        return option
    info.rich_help_panel, info.metavar = info.rich_help_panel or _PANEL_OF.get(option.name), _metavar(kind)
    element, choices = _element(kind), _choices(kind)
    if choices:  # typer would check them too, but in words other than the settings' own
        kind, info.autocompletion = str | None, _completion(choices)
    if element is not None:
        kind, default = list[str], default and [str(value) for value in default]
    return _option(option.name, Annotated[kind, info], default)


def _rank(option: inspect.Parameter) -> int:
    """Return an option's place in the help, less than that of another; those without a panel are first."""
    panel = next((extra.rich_help_panel for extra in _parts(option.annotation)[1:]), None)
    return [*_PANEL_OF].index(option.name) if panel is not None and panel == _PANEL_OF.get(option.name) else -1


def _metavar(kind: Any) -> str | None:
    """Return what stands for a value in the help; None where typer's own word will do."""
    element = _element(kind)
    if choices := _choices(kind):
        lines = textwrap.wrap("| ".join(choices), _CHOICES_WIDTH, break_on_hyphens=False)
        return "<" + "\n".join(lines).replace("| ", "|") + (">" if element is None else ",...>")
    if element is not None:
        return f"<{element.__name__},...>"
    return "" if kind is bool else None  # a flag takes no value


def _completion(choices: tuple[str, ...]) -> Callable[[str], list[str]]:
    def complete(incomplete: str) -> list[str]:
        return [name for name in choices if name.startswith(incomplete)]

    return complete


def _read(option: inspect.Parameter, value: Any) -> Any:
    """Return a value as the command takes it: a list of texts as a tuple."""
    element = _element(_parts(option.annotation)[0])
    if element is None:
        return value
    parts = [part.strip() for text in value or () for part in text.split(",")]
    if element not in {int, float}:
        return tuple(parts) or option.default
    try:
        return tuple(map(element, parts)) or option.default
    except ValueError:
        rule = f"{'whole numbers' if element is int else 'numbers'}, comma-separated"
        raise UserError(f"can't read the {option.name}", rule=rule, found=", ".join(parts)) from None


def _check(option: inspect.Parameter, value: Any) -> None:
    """Refuse what is none of an option's choices; settings do this themselves."""
    if choices := _choices(_parts(option.annotation)[0]):
        given = value if isinstance(value, tuple) else () if value is None else (value,)
        for text in given:
            if text not in choices:
                flag = option.name.replace("_", "-")
                raise UserError(f"unknown value of --{flag}", rule=f"one of {', '.join(choices)}", found=text)


def _choices(kind: Any) -> tuple[str, ...]:
    """Return what a type, or what a tuple holds, is chosen from; nothing if it is no choice."""
    chosen = _element(kind) or _plain(kind)
    return get_args(chosen) if get_origin(chosen) is Literal else ()


def _element(kind: Any) -> Any:
    """Return what a tuple of any length holds; None of any other type."""
    kind = _plain(kind)
    return get_args(kind)[0] if get_origin(kind) is tuple else None


def _plain(kind: Any) -> Any:
    """Return a type without the None that it allows."""
    return get_args(kind)[0] if get_origin(kind) in {Union, UnionType} and NoneType in get_args(kind) else kind


def _parts(annotation: Any) -> tuple[Any, ...]:
    """Return a type and what stands beside it."""
    return get_args(annotation) if get_origin(annotation) is Annotated else (annotation,)
