"""Whether a value is of a type, TypedDicts field by field: what mypy believes of records, seen at run time."""

import types
import typing


def faults(value, hint, where="summary"):
    """Yield the places at which a value is not of a type."""
    if typing.is_typeddict(hint):
        yield from _of_fields(value, typing.get_type_hints(hint), where)
        return
    base, arguments = typing.get_origin(hint), typing.get_args(hint)
    if base in {typing.Union, types.UnionType}:
        fine = any(not list(faults(value, each, where)) for each in arguments)
    elif base is typing.Literal:
        fine = value in arguments
    else:
        fine = isinstance(value, (int, float) if hint is float else object if hint is object else base or hint)
    if not fine:
        yield f"{where}: {value!r} is not {hint}"
    elif base in {list, dict}:
        for key, item in value.items() if base is dict else enumerate(value):
            yield from faults(item, arguments[-1], f"{where}[{key}]")


def _of_fields(value, fields, where):
    if not isinstance(value, dict) or value.keys() != fields.keys():
        yield f"{where}: {value!r} has not the fields {sorted(fields)}"
        return
    for name, hint in fields.items():
        yield from faults(value[name], hint, f"{where}.{name}")
