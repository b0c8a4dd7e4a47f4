"""Whether a component has what the protocol of its kind promises: methods, callable as they are called, and values.

The protocols themselves (:mod:`medkit.protocols`) say what is required; nothing is listed twice. Objects are
checked as soon as they are built, before a run writes anything; ``medkit check`` reads the same from the source
(:mod:`medkit.registry.promises_static`).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Protocol, get_args, get_origin, get_type_hints

from medkit import protocols
from medkit.errors import InputError
from medkit.protocols.distilling import Distiller
from medkit.protocols.events import Listener
from medkit.protocols.external import ExternalObjective
from medkit.protocols.losses import CONTRACTS, DiscriminatorLoss, TieLoss

PROMISED: dict[str, tuple[type, ...]] = {
    "encoder": (protocols.Encoder,),
    "pretext": (protocols.PretextHead,),
    "operator": (protocols.VolumeOperator,),
    "generator": (protocols.Generator,),
    "discriminator": (protocols.Discriminator,),
    "loss": CONTRACTS,
    "metric": (protocols.Metric,),
    "source": (protocols.Source,),
    "transform": (protocols.Transform, protocols.Augmentation),
    "objective": (protocols.Objective, ExternalObjective),
    "optimizer": (protocols.Optimizer,),
    "schedule": (protocols.Schedule,),
    "clip": (protocols.Clip,),
    "tracker": (Listener,),
    "distiller": (Distiller,),
}
"""By kind, the protocols of which a component has to fulfil one."""
MODULES = ("encoder", "pretext", "operator", "generator", "discriminator", "loss", "objective", "distiller")
"""Kinds that are ``torch.nn.Module``: their weights are trained, saved and moved."""
DOCS = "docs/plugins.md"


class Members(Protocol):
    """What is known about a component's members, from the object itself or from its source."""

    def has(self, name: str) -> bool: ...

    def value(self, name: str) -> Any:
        """An attribute's value; :class:`LookupError` if it is not known."""
        ...

    def signature(self, name: str) -> inspect.Signature | None:
        """Of a method, without ``self``; None if it is not known."""
        ...


class Object:
    """The members of a built component."""

    def __init__(self, component: Any) -> None:
        self.component = component

    def has(self, name: str) -> bool:
        try:
            found = getattr(self.component, name)
        except AttributeError:
            return False
        # What nn.Module has in place of a ``forward`` that nobody wrote.
        return getattr(found, "__name__", "") != "_forward_unimplemented"

    def value(self, name: str) -> Any:
        return getattr(self.component, name)

    def signature(self, name: str) -> inspect.Signature | None:
        try:
            return inspect.signature(getattr(self.component, name))
        except (TypeError, ValueError):
            return None  # written in C


@cache
def wanted(protocol: type) -> tuple[Mapping[str, Any], Mapping[str, Callable[..., Any]]]:
    """The attributes (with their types) and the methods that a protocol asks for."""
    attributes: dict[str, Any] = {}
    methods: dict[str, Callable[..., Any]] = {}
    for base in protocol.__mro__:
        if not getattr(base, "_is_protocol", False) or base is Protocol:
            continue
        names = [*vars(base).get("__annotations__", ())]
        attributes |= dict.fromkeys(names, Any) | {n: h for n, h in _hints(base).items() if n in names}
        for name, method in vars(base).items():
            if inspect.isfunction(method) and not name.startswith("_") and not hasattr(method, "has_default"):
                methods[name] = method
    return attributes, methods


def _hints(protocol: type) -> dict[str, Any]:
    try:
        return get_type_hints(protocol)
    except NameError:
        return {}  # types that are imported only for type checkers


def call_of(method: Callable[..., Any]) -> tuple[list[str], list[str]]:
    """The names of the arguments that a method of a protocol is called with: by position, and by name."""
    parameters = list(inspect.signature(method).parameters.values())[1:]
    return (
        [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD],
        [p.name for p in parameters if p.kind is p.KEYWORD_ONLY],
    )


def faults(members: Members, protocol: type) -> Iterator[str]:
    """What a component lacks of a protocol, one sentence each."""
    attributes, methods = wanted(protocol)
    if not attributes and not methods:
        options = [name for name, method in vars(protocol).items() if hasattr(method, "has_default")]
        if not any(map(members.has, options)):
            yield f"has none of the methods {' and '.join(map(repr, options))}"
    for name, hint in attributes.items():
        if not members.has(name):
            yield f"has no attribute '{name}'"
            continue
        try:
            value = members.value(name)
        except LookupError:
            continue
        kinds = _plain_types(hint)
        if kinds and not isinstance(value, kinds):
            yield f"has a '{name}' that is {value!r:.40}, not {kinds[0].__name__}"
    for name, method in methods.items():
        if not members.has(name):
            yield f"has no method '{name}'"
            continue
        try:
            value = members.value(name)
        except LookupError:
            pass  # a method, as far as the source or the class shows
        else:
            if not callable(value):
                yield f"has a '{name}' that is {value!r:.40}, not a method"
                continue
        signature = members.signature(name)
        if signature is None:
            continue
        by_position, by_name = call_of(method)
        if name == "forward" and members.has("needs"):
            by_name = [*by_name, *_needs(members)]
        refused = _refused(signature, by_position, by_name, protocol)
        if refused:
            shown = ", ".join([*by_position, *(f"{n}=..." for n in by_name)])
            yield f"has a method '{name}{signature}' that cannot be called as {name}({shown}): {refused}"


def _plain_types(hint: Any) -> tuple[type, ...]:
    """Types that a value is compared with; none for containers and classes."""
    if get_origin(hint) is ClassVar:
        (hint,) = get_args(hint)
    return (float, int) if hint is float else (hint,) if hint in (str, bool, int) else ()


def _needs(members: Members) -> tuple[str, ...]:
    try:
        return tuple(members.value("needs"))
    except (LookupError, TypeError):
        return ()


def _refused(signature: inspect.Signature, by_position: list[str], by_name: list[str], protocol: type) -> str:
    """Why a call is not accepted; empty if it is."""
    try:
        signature.bind(*by_position, **dict.fromkeys(by_name))
    except TypeError as error:
        return str(error)
    if protocol not in CONTRACTS:
        return ""
    # A plain distance fits anywhere; one that names its two arguments after a place is for that place.
    first = [p.name for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD][:2]
    for other in (TieLoss, DiscriminatorLoss):
        if other is not protocol and first == call_of(wanted(other)[1]["forward"])[0]:
            return f"it compares '{first[0]}' with '{first[1]}', as a {other.__name__} does"
    return ""


def refuse(members: Members, kind: str, contract: type | None, named: Callable[[], str]) -> None:
    """Raise an :class:`InputError` if a component fulfils no protocol of its kind, or not ``contract``.

    ``named`` says the component's name and place, as the message begins; finding a line of source takes time.
    """
    options = PROMISED[kind] if contract is None else (contract,)
    found = [(list(faults(members, protocol)), protocol) for protocol in options]
    lacking, protocol = min(found, key=lambda pair: len(pair[0]))
    if not lacking:
        return
    what = f"{named()} {' and '.join(lacking)}"
    names = [protocol] if kind in ("objective", "loss") else options
    one = f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"
    hint = f"{DOCS}#{kind} says what {one} has to offer ({' or '.join(p.__name__ for p in names)})"
    if contract is not None:
        fits = [other.__name__ for other in CONTRACTS if other is not contract and not list(faults(members, other))]
        hint = f"this place takes a {contract.__name__}"
        hint += f", it is a {' or a '.join(fits)}" if fits else ""
        hint += f": {DOCS}#{kind}"
    raise InputError(what, hint=hint)


def check_promises(component: Any, kind: str, name: str, contract: type | None = None) -> None:
    """Refuse a built component that does not have what its kind, or its place's ``contract``, requires.

    Raises
    ------
    InputError
        with the component, its class and file, and what is missing.
    """

    def named() -> str:
        return f"'{name}' ({_place(component)})"

    if kind in MODULES:
        from torch import nn

        if not isinstance(component, nn.Module):
            raise InputError(f"{named()} is not a torch.nn.Module", hint=f"every {kind} is one: {DOCS}#{kind}")
    refuse(Object(component), kind, contract, named)


def _place(component: Any) -> str:
    cls = type(component)
    try:
        file, line = inspect.getsourcefile(cls), inspect.getsourcelines(cls)[1]
    except (OSError, TypeError):
        return f"class {cls.__qualname__}"
    return f"class {cls.__qualname__}, {'/'.join(Path(str(file)).parts[-2:])}:{line}"
