"""Classification: one text or a pair in, one of some labels out."""

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from ..data.files import Place
from ..errors import UserError
from ..strict import nearest
from . import task, text
from .labels import Labels, in_words
from .task import Spec, Task, register

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

    from ..metrics import Metric


class Options(task.Options):
    """What classification has to be told."""

    positive: str | None = Field(
        None,
        coerce_numbers_to_str=True,
        description="The label that f1 is about; the second of two, in their order, if not given.",
    )


@register
class Classification(Task[Options]):
    """One of some classes."""

    name = "classification"
    label = "one of some classes"
    answers_with = "label"
    metrics = ("accuracy", "f1", "matthews")
    asks = Options
    own_options: ClassVar = {"positive": "names a label, and {task} has none"}

    def describe(self, data: str, options: Options) -> Spec:
        """Read the training split's columns and labels into a task.

        Labels are the names that the set declares, or the sorted values of its training split. UserError for labels
        that are no classes, or of which F1 could not tell the positive one.
        """
        split = text.read(data, "train", options.text, options.label)
        where = split.where
        found = Labels(split)
        for value, place in split.labels():
            found.name(value, place)
        labels = found.declared or found.sorted()
        if len(labels) < 2:
            raise UserError(f"{where} has one label only, {labels[0]}; a classifier needs two")
        return self._spec(
            data,
            options,
            positive=_positive(options, labels, where),
            text=split.text,
            label=split.label,
            labels=labels,
        )

    def encode(self, spec: Spec, split: str, tokenizer: "PreTrainedTokenizerBase") -> "Dataset":
        """Tokenised rows of a split with `labels` as indices into `spec.labels`; not padded.

        UserError for a missing column, a text that is not a string, or a label unseen in training.
        """
        found = text.read(spec.data, split, spec.text, spec.label)
        labels = Labels(found)
        index = {name: position for position, name in enumerate(spec.labels)}

        def index_of(value: Any, place: Place) -> int:
            name = labels.name(value, place)
            if name not in index:
                raise UserError(f"{found.where} has the label {name!r}, which is not in the train split ({place})")
            return index[name]

        return text.encode(found, index_of, in_words(spec.labels), spec.max_length, tokenizer)

    def config_entries(self, spec: Spec) -> dict[str, Any]:
        """One output a label, trained by cross-entropy."""
        return super().config_entries(spec) | {"problem_type": "single_label_classification"}

    def judged_by(self, spec: Spec) -> dict[str, "Metric"]:
        """The metrics that fit `spec`, its own first; F1 only where a class is known to be the positive one."""
        from ..metrics import of_class

        fitting = super().judged_by(spec)
        if spec.positive is None:
            del fitting["f1"]
        else:
            fitting["f1"] = of_class(fitting["f1"], spec.labels.index(spec.positive))
        return fitting

    def predictions(self, spec: Spec, logits: Any, rows: "Dataset", config: "PretrainedConfig") -> Any:
        """The index of each row's largest logit: (rows, labels) to (rows,)."""
        return logits.argmax(-1)


def _positive(options: Options, labels: list[str], where: str) -> str | None:
    """The label that F1 is about: as named, else the second of two."""
    if options.positive is not None:
        if options.positive not in labels:
            raise UserError(f"{where} has no label {options.positive!r}; {nearest(options.positive, labels)}")
        return options.positive
    if len(labels) == 2:
        return labels[1]
    if options.metric == "f1":
        raise UserError(
            f"metric f1 is about one label, and {where} has {len(labels)}; name it with --positive, or choose matthews"
        )
    return None
