"""How each metric is called and written, on the screen and in a report."""

from dataclasses import dataclass

from ..configs import MetricName


@dataclass(frozen=True)
class Wording:
    """A metric in words and figures."""

    title: str
    scale: int = 1
    """100 for shares, whose changes are in points; 1 for what is written as it is."""
    unit: str = ""
    """What stands behind a figure."""
    lower_is_better: bool = False

    @property
    def heading(self) -> str:
        """The title at the start of a line."""
        return self.title[0].upper() + self.title[1:]

    def figure(self, value: float, sign: str = "", digits: int = 2) -> str:
        """`value`, 85.16%, 85.16 or 0.8516; with `sign` "+" as a change, of a metric or of what is allowed."""
        return f"{value * self.scale:{sign}.{digits if self.scale == 100 else digits + 2}f}{self.unit}"

    def allowed(self, drop: float) -> float:
        """The change of the metric to which an allowed drop comes."""
        return drop if self.lower_is_better else -drop


METRICS: dict[MetricName, Wording] = {
    "accuracy": Wording("accuracy", 100, "%"),
    "f1": Wording("F1", 100, "%"),
    "matthews": Wording("Matthews correlation"),
    "pearson": Wording("Pearson correlation"),
    "spearman": Wording("Spearman correlation"),
    "bleu": Wording("BLEU", 100),
    "chrf": Wording("chrF", 100),
    "ter": Wording("TER", 100, lower_is_better=True),
    "rouge_l": Wording("ROUGE-L", 100),
    "nist": Wording("NIST"),
    "perplexity": Wording("perplexity", lower_is_better=True),
}
