"""Settings of the optimizer, the schedule of its learning rate, and the clipping of gradients. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from aimass.core.config import Config
from aimass.core.errors import UsageError, unknown_name
from aimass.core.patterns import fits

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]


@dataclass(frozen=True, kw_only=True)
class Method:
    """What is known of an optimizer before torch is: its default learning rate, and which settings are its own."""

    lr: float
    settings: frozenset[str] = frozenset()
    momentum: float = 0.0
    eps: float = 1e-8
    initial_accumulator: float = 0.0
    torch_class: str = ""
    from_sums: bool = False
    """Whether it computes p anew in each step, from sums of all gradients: what else had moved p is lost."""


def _method(lr: float, *settings: str, **others: Any) -> Method:
    return Method(lr=lr, settings=frozenset(settings), **others)


_SUMS = ("initial_accumulator", "l1", "l2", "keep_start")  # of those that compute p anew from sums of gradients

METHODS = {
    "sgd": _method(0.01, "momentum", "nesterov", torch_class="SGD"),
    "momentum": _method(0.01, "momentum", "nesterov", momentum=0.9, torch_class="SGD"),
    "adam": _method(0.001, "betas", "eps", torch_class="Adam"),
    "adamw": _method(0.001, "betas", "eps", torch_class="Adam"),
    "adagrad": _method(0.01, "eps", "initial_accumulator", eps=1e-10, torch_class="Adagrad"),
    "rmsprop": _method(0.01, "momentum", "eps", "alpha", "centered", torch_class="RMSprop"),
    "adadelta": _method(1.0, "options", torch_class="Adadelta"),
    "adamax": _method(0.002, "options", torch_class="Adamax"),
    "asgd": _method(0.01, "options", torch_class="ASGD"),
    "nadam": _method(0.002, "options", torch_class="NAdam"),
    "radam": _method(0.001, "options", torch_class="RAdam"),
    "rprop": _method(0.01, "options", torch_class="Rprop"),
    "ftrl": _method(0.1, *_SUMS, "lr_power", "l2_shrinkage", "beta", initial_accumulator=0.1, from_sums=True),
    "adagrad_da": _method(0.1, *_SUMS, initial_accumulator=0.1, from_sums=True),
    "proximal_sgd": _method(0.01, "l1", "l2", "box"),
}
"""Every optimizer that is elementwise, by name."""

AUTO = "auto"
"""The name that leaves the choice to the run, which measures some steps first."""

_NOT_ELEMENTWISE = {
    "adafactor": "it keeps one statistic per row and column of a matrix",
    "muon": "it orthogonalises whole matrices",
    "lbfgs": "it measures angles between whole gradients, and evaluates the model several times a step",
    "sparseadam": "it wants sparse gradients",
}

_UNKNOWN = _method(0.001)
_OTHER_NAMES = {"ftrlproximal": "ftrl", "dualaveraging": "adagrad_da", "proximalgradientdescent": "proximal_sgd"}

_OWN_SETTINGS = sorted(set().union(*(method.settings for method in METHODS.values())))


def _squash(name: str) -> str:
    return name.strip().removeprefix("torch.optim.").lower().replace("-", "").replace("_", "")


class OptimizerConfig(Config):
    """Which optimizer, and how it is set. What is left out has the method's own default.

    Args:
        name: such as `sgd`, `momentum`, `adam`, `adagrad` or `ftrl`, or `auto`, by what the run measures; PyTorch's spelling
            (`"torch.optim.NAdam"`, `"NAdam"`) is understood.
        lr: the learning rate; by default the method's own.
        weight_decay: λ ≥ 0.
        decoupled: True shrinks the weights by `1 − lr·λ` before the step (Loshchilov and Hutter), False adds λ·p to the
            gradient (L2). By default True for `adamw` and False for the others.
        decay_bias: decay the biases and the weights of norms too, as torch does. By default only tensors with two
            dimensions and more are decayed.
        momentum: of `sgd` (0), `momentum` (0.9) and `rmsprop` (0).
        nesterov: look ahead along the momentum.
        betas: how slowly Adam's two averages forget.
        eps: added to a denominator; 1e-8, and 1e-10 for `adagrad`.
        alpha: how slowly RMSprop's average forgets.
        centered: divide by the standard deviation in place of the root mean square (`rmsprop`).
        initial_accumulator: what the sums of squared gradients start from; 0 for `adagrad`, 0.1 for `ftrl` and `adagrad_da`.
        lr_power: the power of those sums in the rate of `ftrl`, −½ as in Adagrad; 0 is a fixed rate.
        l1: λ₁ ‖p‖₁ is added to the loss, which makes elements exactly 0.
        l2: λ₂ ½‖p‖² is added to the loss, in `ftrl` λ₂ ‖p‖².
        l2_shrinkage: 2λp is added to the gradient, but not to its sum of squares (`ftrl`).
        beta: added to the root of the sums (`ftrl`).
        box: the bounds `(lo, hi)` that every element is kept within; None for an open one (`proximal_sgd`).
        keep_start: begin at the model's first parameters, rather than at 0 as `ftrl` and `adagrad_da` do. By default where the model has
            more than one matrix, since from 0 that would not learn, was trained before, or is a module of yours.
        rates: what the learning rate of some parameters is multiplied with, by their names with `*` and `?`; the first that fits.
        options: further keywords of the torch class, for the methods that have no settings here.

    >>> OptimizerConfig(name="torch.optim.AdamW").learning_rate
    0.001
    >>> OptimizerConfig.parse({"name": "adm"})
    Traceback (most recent call last):
    aimass.core.errors.UsageError: there is no optimizer 'adm'; did you mean 'adam'? Known: adadelta, ...
    """

    name: str = "adam"
    lr: Positive | None = None
    weight_decay: NotNegative = 0.0
    decoupled: bool | None = None
    decay_bias: bool = False
    momentum: Fraction | None = None
    nesterov: bool = False
    betas: tuple[Fraction, Fraction] = (0.9, 0.999)
    eps: NotNegative | None = None
    alpha: Fraction = 0.99
    centered: bool = False
    initial_accumulator: NotNegative | None = None
    lr_power: Annotated[float, Field(ge=-1, le=0)] = -0.5
    l1: NotNegative = 0.0
    l2: NotNegative = 0.0
    l2_shrinkage: NotNegative = 0.0
    beta: NotNegative = 0.0
    box: tuple[float | None, float | None] | None = None
    keep_start: bool | None = None
    rates: dict[str, Positive] = Field(default_factory=dict)
    options: dict[str, bool | float | tuple[float, float]] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        if isinstance(value, Mapping) and value.get("group"):
            raise UsageError(
                "group shrinks whole rows of a matrix, and a run updates one flat vector in slices that may cut a row; use l1, which works "
                "element by element, or aimass.optim.ProximalSGD(..., group=...) in a loop of your own"
            )
        return {"name": value} if isinstance(value, str) else value

    @field_validator("name")
    @classmethod
    def _canonical_name(cls, name: str) -> str:
        key = _squash(name)
        if key in _NOT_ELEMENTWISE:
            raise UsageError(
                f"the optimizer {name!r} cannot train one flat vector in slices, because {_NOT_ELEMENTWISE[key]}; "
                f"choose one that works element by element: {', '.join(sorted(METHODS))}"
            )
        found = {_squash(method): method for method in (*METHODS, AUTO)} | _OTHER_NAMES
        if key not in found:
            raise unknown_name("optimizer", name, [*METHODS, AUTO])
        return found[key]

    @model_validator(mode="after")
    def _has_only_its_settings(self) -> Self:
        for setting in _OWN_SETTINGS:
            changed = getattr(self, setting) != type(self).model_fields[setting].get_default(call_default_factory=True)
            if changed and setting not in self.method.settings:
                having = ", ".join(sorted(name for name, method in METHODS.items() if setting in method.settings))
                raise UsageError(f"{setting} is not a setting of the optimizer {self.name!r}; leave it out, or choose one of {having}")
        if self.nesterov and not self.momentum_value:
            raise UsageError("nesterov needs momentum; give momentum=0.9, or leave nesterov out")
        if self.name == "adamw" and self.decoupled is False:
            raise UsageError("adamw is Adam with decoupled weight decay; for coupled decay choose name='adam'")
        return self

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        method = self.method
        if method.from_sums and (self.weight_decay or self.decoupled or self.decay_bias):
            raise UsageError(f"{self.name} computes p anew from sums of gradients, which weight decay does not reach; set l2 in its place")
        from_zero = not self.initial_accumulator_value and not self.beta
        if method.from_sums and from_zero and (self.keep_start or not self.l2):
            above = "initial_accumulator or beta" if self.name == "ftrl" else "initial_accumulator"
            raise UsageError(f"{self.name} would divide 0 by 0 where a gradient is 0; set {above} above 0")
        if self.box is not None and None not in self.box and self.box[0] > self.box[1]:  # type: ignore[operator]
            raise UsageError(f"box={self.box}: the lower bound comes first, such as (-1, 1), or (0, None) for what shall not be negative")
        return self

    def rate_of(self, parameter: str) -> float:
        """What the learning rate of a parameter is multiplied with.

        >>> OptimizerConfig(rates={"features": 0.1}).rate_of("features.0.weight")
        0.1
        """
        return next((rate for pattern, rate in self.rates.items() if fits(parameter, pattern)), 1.0)

    @property
    def method(self) -> Method:
        """What is known of it. Of `auto` nothing, until the run has chosen."""
        return _UNKNOWN if self.name == AUTO else METHODS[self.name]

    @property
    def learning_rate(self) -> float:
        """The learning rate before its schedule: `lr`, or the method's default."""
        return self.method.lr if self.lr is None else self.lr

    @property
    def momentum_value(self) -> float:
        """The momentum: as set, or the method's default."""
        return self.method.momentum if self.momentum is None else self.momentum

    @property
    def eps_value(self) -> float:
        """The eps: as set, or the method's default."""
        return self.method.eps if self.eps is None else self.eps

    @property
    def initial_accumulator_value(self) -> float:
        """What sums of squares start from: as set, or the method's default."""
        return self.method.initial_accumulator if self.initial_accumulator is None else self.initial_accumulator

    @property
    def is_decoupled(self) -> bool:
        """Whether weight decay is decoupled from the gradient."""
        return self.name == "adamw" if self.decoupled is None else self.decoupled

    def weight_decay_of(self, group: str) -> float:
        """The weight decay of a manifest's group: `"decay"` or `"no_decay"`.

        >>> config = OptimizerConfig(weight_decay=0.1)
        >>> config.weight_decay_of("decay"), config.weight_decay_of("no_decay")
        (0.1, 0.0)
        """
        return self.weight_decay if group == "decay" or self.decay_bias else 0.0


class ScheduleConfig(Config):
    """How the learning rate changes over the steps.

    Args:
        name: `constant`, `cosine`, `step` or `inverse_sqrt`.
        warmup_steps: the first steps, over which the rate rises in a straight line to its full value.
        step_size: after how many steps `step` multiplies by gamma.
        gamma: the factor of `step`.
        min_factor: what `cosine` ends at, of the full rate.
    """

    name: Literal["constant", "cosine", "step", "inverse_sqrt"] = "constant"
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    step_size: Annotated[int, Field(ge=1)] = 1000
    gamma: Annotated[float, Field(gt=0, le=1)] = 0.1
    min_factor: Annotated[float, Field(ge=0, le=1)] = 0.0

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value


class ClipConfig(Config):
    """How large a gradient may be. A single number is the norm.

    Args:
        norm: the largest Euclidean norm of the whole gradient; a larger one is scaled down to it.
        value: the largest magnitude of one element; larger ones are cut. It comes before the norm.
    """

    norm: Positive | None = None
    value: Positive | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_number(cls, value: Any) -> Any:
        return {"norm": value} if isinstance(value, int | float) and not isinstance(value, bool) else value
