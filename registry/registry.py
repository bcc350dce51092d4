"""A registry holds all the parts of one category, and turns a name with options into a checked partial."""

from __future__ import annotations

import functools
import importlib
import inspect
import json
import pkgutil
import typing
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast, overload

import pydantic

from registry.errors import BadInput, did_you_mean
from registry.problems import first_problem
from registry.traits import Options, Traits

AnyPart = TypeVar("AnyPart", bound=Callable[..., Any])
C = TypeVar("C", bound=Callable[..., Any])  # a part with its options bound, as the lab calls it
T = TypeVar("T", bound=Traits)


@dataclass(frozen=True)
class Part(Generic[T]):
    """One registered function or class. Its signature is its schema.

    Positional parameters are what the lab supplies at run time; keyword-only parameters are the options
    that YAML may set. `traits` are what it declares beside them.
    """

    name: str
    make: Callable[..., Any]
    schema: type[pydantic.BaseModel]
    traits: T

    @property
    def summary(self) -> str:
        """The first line of the docstring: what it is and where it comes from."""
        return (self.make.__doc__ or "").strip().splitlines()[0]

    @property
    def owner(self) -> str:
        """Where the part was written: `module (file)`."""
        return f"{self.make.__module__} ({inspect.getsourcefile(self.make)})"

    def options(self) -> dict[str, str]:
        """Option -> `type = default`, for `list`."""
        hints = typing.get_type_hints(_signature_holder(self.make), include_extras=False)
        return {
            name: f"{_type_name(hints[name])}{'' if field.is_required() else f' = {field.default!r}'}"
            for name, field in self.schema.model_fields.items()
        }


class Registry(Generic[C, T]):
    """The parts of one category, by name. `Registry[C, T]`: with its options bound each is a C, and declares traits T.

    `kind` is the singular noun that error messages use, `runtime` the positional parameters that the lab
    supplies, in order; a part that asks for others is refused when it registers. `traits` are those of a part that declares
    none.
    """

    @overload
    def __init__(self: Registry[C, Traits], kind: str, runtime: tuple[str, ...]) -> None: ...
    @overload
    def __init__(self, kind: str, runtime: tuple[str, ...], traits: T) -> None: ...
    def __init__(self, kind: str, runtime: tuple[str, ...], traits: T | None = None) -> None:
        self.kind = kind
        self.runtime = runtime
        self.traits = cast(T, Traits()) if traits is None else traits
        self._parts: dict[str, Part[T]] = {}

    def register(self, name: str, traits: T | None = None) -> Callable[[AnyPart], AnyPart]:
        """Decorator that registers a function or class, with what it declares.

        Raises:
            BadInput: the name is taken, the docstring is missing, or signature or traits are not this registry's.
        """

        def add(make: AnyPart) -> AnyPart:
            if name in self._parts:
                raise BadInput(f"{self.kind} '{name}' is already registered by {self._parts[name].owner}")
            if not (make.__doc__ or "").strip():
                raise BadInput(f"{self.kind} '{name}' has no docstring; its first line feeds `make list`")
            if not isinstance(traits, (type(self.traits), type(None))):
                raise BadInput(f"{self.kind} '{name}' declares {type(traits).__name__}; expected {type(self.traits).__name__}")
            self._parts[name] = Part(name, make, self._schema(name, make), traits or self.traits)
            return make

        return add

    def __iter__(self) -> Iterator[Part[T]]:
        return iter(sorted(self._parts.values(), key=lambda part: part.name))

    def __contains__(self, name: str) -> bool:
        return name in self._parts

    def part(self, name: str) -> Part[T]:
        """The part of that name; BadInput with the nearest name where there is none."""
        if name not in self._parts:
            raise BadInput(f"no {self.kind} named '{name}'; {did_you_mean(name, self._parts)}")
        return self._parts[name]

    def check(self, name: str, options: Options) -> Options:
        """The options as the part's annotations have them, defaults filled in.

        Raises:
            OptionError: an option is unknown, missing, of the wrong type or out of bounds.
            BadInput: no part has that name.
        """
        part = self.part(name)
        try:
            # Through JSON, because only there does pydantic's strict mode take a YAML list for a tuple.
            checked = part.schema.model_validate_json(json.dumps(dict(options)), strict=True)
        except pydantic.ValidationError as error:
            problem = first_problem(error, part.schema, f"{self.kind} '{name}'")
            raise OptionError(problem.key, problem.text) from None
        except (TypeError, ValueError) as error:
            raise BadInput(f"{self.kind} '{name}': {error}") from None
        return {field: getattr(checked, field) for field in part.schema.model_fields}

    def configure(self, name: str, options: Options) -> C:
        """The part with its options bound, waiting for what the lab supplies at run time."""
        return cast(C, functools.partial(self.part(name).make, **self.check(name, options)))

    def _schema(self, name: str, make: Callable[..., Any]) -> type[pydantic.BaseModel]:
        hints = typing.get_type_hints(_signature_holder(make), include_extras=True)
        runtime, fields = [], {}
        for parameter in inspect.signature(make).parameters.values():
            if parameter.kind is parameter.KEYWORD_ONLY:
                if parameter.name not in hints:
                    raise BadInput(f"{self.kind} '{name}': option '{parameter.name}' has no type annotation")
                default = ... if parameter.default is parameter.empty else parameter.default
                fields[parameter.name] = (hints[parameter.name], default)
            else:
                runtime.append(parameter.name)
        if tuple(runtime) != self.runtime:
            raise BadInput(
                f"{self.kind} '{name}' takes ({', '.join(runtime)}), but the lab supplies"
                f" ({', '.join(self.runtime)}); options come after a bare *"
            )
        config = pydantic.ConfigDict(extra="forbid", allow_inf_nan=False, protected_namespaces=())
        return pydantic.create_model(name, __config__=config, **fields)  # type: ignore[call-overload, no-any-return]


def stock(package: str, folders: Iterable[str]) -> None:
    """Import every module of a category's package, so that a part is registered once its file is in the folder."""
    for module in pkgutil.iter_modules(folders):
        importlib.import_module(f"{package}.{module.name}")


class OptionError(BadInput):
    """An option of a part that cannot be used; `key` says which."""

    def __init__(self, key: str, text: str) -> None:
        super().__init__(text)
        self.key = key


def _signature_holder(make: Callable[..., Any]) -> Callable[..., Any]:
    return make.__init__ if inspect.isclass(make) else make  # type: ignore[misc, no-any-return]


def _type_name(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint).replace("typing.", "")
