"""Messages that tell users how to fix the invalid fields of an attempt."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from project.domain.errors import FieldError


@dataclass(frozen=True, slots=True, kw_only=True)
class Messages:
    """Labels of fields and messages about their errors, in the reader's language."""

    fields: Mapping[str, str]
    """Field -> label. A field without a label is shown by its name."""
    sentences: Mapping[tuple[str, str], str]
    """Code and variant of an error -> sentence, with placeholders for parameters."""

    def describe(self, errors: Iterable[FieldError]) -> str:
        """Return the label and message of every invalid field.

        Example: `Phone: The number is too short. E-mail: There is no @.`
        """
        return " ".join(f"{self.fields.get(error.field, error.field)}: {self._sentence(error)}" for error in errors)

    def _sentence(self, error: FieldError) -> str:
        default = self.sentences.get((error.code, ""), error.code)
        sentence = self.sentences.get((error.code, error.variant), default)
        return sentence % error.params if error.params else sentence
