"""Options of a command, made from the config of its stage, so that help and defaults stand in one place."""

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import typer

from dsee_compress.option_types import OneOf
from dsee_compress.strict import StrictConfig

Command = TypeVar("Command", bound=Callable[..., None])

_SHOWN = 8
"""Choices at most."""

Output = Annotated[Path, typer.Option(help="Folder to write; must not hold something else.", show_default=False)]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.", show_default=False)]


def options_of(config: type[StrictConfig]) -> Callable[[Command], Command]:
    """Give a command that takes `**options` one option for each field of `config`.

    Only what the user wrote is passed on; the config knows the defaults and checks the values.
    """

    def decorate(command: Command) -> Command:
        own = inspect.signature(command)
        parameters = [parameter for parameter in own.parameters.values() if parameter.kind != parameter.VAR_KEYWORD]
        for name, field in config.model_fields.items():
            kind, choices = _kind(field.annotation)
            choices = choices or _named(field.metadata)
            text = " ".join(filter(None, (field.description, _limits(field.annotation, field.metadata))))
            if not field.is_required() and field.default is not None:
                default = ",".join(map(str, field.default)) if isinstance(field.default, list) else field.default
                text += f" (default: {default})"
            option = typer.Option(
                "--" + name.replace("_", "-"),
                help=text,
                metavar="|".join(choices) or None,
                show_default=False,
            )
            annotation = Annotated[kind if field.is_required() else kind | None, option]  # type: ignore[valid-type]
            default = inspect.Parameter.empty if field.is_required() else None
            parameters.append(
                inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
            )

        def wrapper(**given: Any) -> None:
            names = config.model_fields.keys()
            command(**{name: value for name, value in given.items() if name not in names or value not in (None, [])})

        wrapper.__name__, wrapper.__doc__ = command.__name__, command.__doc__
        wrapper.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
        wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return wrapper  # type: ignore[return-value]

    return decorate


def _limits(annotation: Any, metadata: Sequence[Any]) -> str:
    """The numbers that an option takes, as a sentence; nothing unless both ends are known."""
    found = {
        name: getattr(limit, name) for limit in metadata for name in ("ge", "gt", "le", "lt") if hasattr(limit, name)
    }
    low, high = ({name: found[name] for name in names if name in found} for names in (("ge", "gt"), ("le", "lt")))
    if low and high:
        words = {"ge": "From", "gt": "Above", "le": "to", "lt": "to below"}
        return " ".join(f"{words[name]} {limit:,}" for name, limit in (low | high).items()) + "."
    for part in get_args(annotation):
        own = [limit for extra in getattr(part, "__metadata__", ()) for limit in getattr(extra, "metadata", [extra])]
        if limits := _limits(part, own):
            return limits
    return ""


def _named(metadata: Sequence[Any]) -> list[str]:
    """The names that a text is one of, where they are few enough to be shown."""
    names = next((list(extra.names()) for extra in metadata if isinstance(extra, OneOf)), [])
    return names if len(names) <= _SHOWN else []


def _kind(annotation: Any) -> tuple[Any, list[str]]:
    """The type that the shell parses, and the choices to show; the config checks the rest."""
    origin = get_origin(annotation)
    if origin is Annotated:
        own, *extras = get_args(annotation)
        kind, choices = _kind(own)
        return kind, choices or _named(extras)
    if origin is Literal:
        return str, list(get_args(annotation))
    if origin is list:
        return list[str], _kind(get_args(annotation)[0])[1]
    if origin is dict:
        return list[str], ["PATTERN=VALUE,..."]
    if origin in (Union, UnionType):
        return _kind(next(part for part in get_args(annotation) if part is not type(None)))
    return annotation, []
