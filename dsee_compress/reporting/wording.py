"""How each metric is called and written, on the screen and in a report."""

from dataclasses import dataclass

from ..configs import MetricName


@dataclass(frozen=True)
class Wording:
    """A metric in words and figures."""

    title: str
    share: bool
    """A share is written in percent and its changes in points; a correlation as it is."""

    @property
    def heading(self) -> str:
        """The title at the start of a line."""
        return self.title[0].upper() + self.title[1:]

    def figure(self, value: float, sign: str = "", digits: int = 2) -> str:
        """`value`, 85.16% or 0.8516; with `sign` "+" as a change, of a metric or of what is allowed."""
        return f"{value:{sign}.{digits}%}" if self.share else f"{value:{sign}.{digits + 2}f}"


METRICS: dict[MetricName, Wording] = {
    "accuracy": Wording("accuracy", True),
    "f1": Wording("F1", True),
    "matthews": Wording("Matthews correlation", False),
    "pearson": Wording("Pearson correlation", False),
    "spearman": Wording("Spearman correlation", False),
}
