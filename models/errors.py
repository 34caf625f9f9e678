"""What can go wrong in a model, without a word of HTTP.

::

    NextwordError
    ├── CheckpointError            a checkpoint folder cannot be used
    │   ├── MissingFileError       a file of it is not there
    │   ├── CorruptFileError       truncated, not what its name says, or a pickle
    │   ├── FormatVersionError     written by another version of the format
    │   └── MismatchError          files that are whole but do not belong together
    ├── BackendUnavailableError    a way to compute that this machine does not have
    ├── UnknownModelError          no model of that name is loaded
    └── InvalidRequestError        a question that cannot be answered as asked
"""


class NextwordError(Exception):
    """Base of every error that this project raises on purpose."""


class CheckpointError(NextwordError):
    """A checkpoint folder that cannot be used; the message names the file."""


class MissingFileError(CheckpointError):
    """A file of the checkpoint is not there."""


class CorruptFileError(CheckpointError):
    """A file is truncated, is not what its name says, or is a pickle."""


class FormatVersionError(CheckpointError):
    """The checkpoint was written in a format version that this code does not read."""


class MismatchError(CheckpointError):
    """Weights, configuration and tokenizer are whole but do not belong together."""


class BackendUnavailableError(NextwordError):
    """A way to compute networks that this machine does not have; the message says why."""


class UnknownModelError(NextwordError):
    """No model of that name is loaded."""


class InvalidRequestError(NextwordError):
    """A question that cannot be answered as asked.

    Attributes:
        field: Name of the offending argument.
    """

    def __init__(self, field: str, message: str) -> None:
        """Store the name of the ``field`` beside the ``message``, which never quotes user text."""
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message
