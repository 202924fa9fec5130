"""TOML files that people write, read strictly: what is wrong is one line that names the file and the key."""

import json
import tomllib
from datetime import date, datetime, time
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

Model = TypeVar("Model", bound=BaseModel)


def parse_toml(text: str, name: str, model: type[Model], error_type: type[ValueError]) -> Model:
    """Reads a file's text as `model`; `name` is what it is called in the error.

    Raises:
        error_type: it is not TOML, or a key is missing, unknown or wrong; one line that names the key.
    """
    try:
        # By way of JSON, whose arrays a strict model takes for tuples: `gpus = true` is not one GPU.
        return model.model_validate_json(json.dumps(tomllib.loads(text), default=_written), strict=True)
    except ValidationError as error:
        raise error_type(f"{name}: {first_fault(error)}") from error
    except (ValueError, RecursionError) as error:  # not only TOMLDecodeError: a number of 5,000 digits, a deep nest
        raise error_type(f"{name}: not TOML: {error}") from error


def first_fault(error: ValidationError) -> str:
    """The first thing that a model finds wrong: the key, what is wrong with it, and what was given."""
    first = error.errors()[0]
    return f"{_key(first['loc'])}{_message(first)}"


def _written(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime | date | time) else str(value)


def _key(location: tuple[int | str, ...]) -> str:
    key = ""
    for part in location:
        key += f"[{part}]" if isinstance(part, int) else f".{part}" if part.isprintable() else f".{part!r}"
    return f"{key.lstrip('.')}: " if key else ""


def _message(error: Any) -> str:
    message = str(error["msg"]).removeprefix("Value error, ")
    given = error.get("input")
    return message if isinstance(given, dict | list | tuple | BaseModel) else f"{message} (got {given!r})"
