"""A fold is what results from the records of a log, applied one after the other: here, all that a worker knows.

Every worker applies the same records in the same order and so holds the same model. Only committed records come here,
after the commit: nothing ever has to be unlearned.
"""

from __future__ import annotations

from dataclasses import dataclass

from streamal.core.books import Books
from streamal.core.codec.events import decode_request, decode_training
from streamal.core.learned import Learned
from streamal.core.records import Example, NaturalExample, Refusal, Training
from streamal.errors import InconsistentLog

__all__ = ["Fold"]


@dataclass(slots=True)
class Fold:
    """The result of applying the records of ``training`` and ``requests`` in order: all that a worker knows.

    Attributes:
        books: open requests, costs, positions; always at the head of the log. The trainer joins by them.
        learned: model, schema, quality; with a version of its own, which predictions carry.
    """

    books: Books
    learned: Learned

    def apply_training(self, offset: int, value: bytes | None) -> None:
        """Apply the record at *offset* of ``training``.

        Raises:
            InconsistentLog: the record is not ours; a model without it would not be the other workers' model.
        """
        record = decode_training(value)
        if isinstance(record, Refusal):
            raise InconsistentLog(f"training offset {offset}: {record.detail}; only streamal may write to this topic")
        creator = self._creator(record)
        self.learned.apply(record, offset)  # first: it may raise, and then nothing has changed
        self.books.apply(record, offset, value)
        if creator is not None:
            self.books.new_classes.note(creator.annotator, creator.at)

    def apply_request(self, partition: int, offset: int, key: bytes | None, value: bytes | None) -> None:
        """Apply the record at *offset* of ``requests``: a request, or the tombstone that takes one off the queue.

        Raises:
            InconsistentLog: the record is not ours.
        """
        books = self.books
        books.note_request(partition, offset, key, value)
        if value is None:
            books.pending.withdraw((key or b"").decode(errors="replace"))
            return
        request = decode_request(value)
        if isinstance(request, Refusal):
            raise InconsistentLog(
                f"requests {partition}-{offset}: {request.detail}; only streamal may write to this topic"
            )
        books.apply_request(request)

    def _creator(self, record: Training) -> Example | NaturalExample | None:
        """Return *record* if its label is a class that the model does not know yet."""
        match record:
            case Example() | NaturalExample() if record.label not in self.learned.model.classes:
                return record
        return None
