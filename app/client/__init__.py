"""Ask a served model from Python: `Client`, and `AsyncClient` for event loops.

::

    with Client("http://127.0.0.1:8000") as client:
        for p in client.next_word("I would like to book a", top_k=3).predictions:
            print(p.word, p.probability)

Answers are what the service documents, typed. A service that is busy (429), or is starting or
stopping (503), is asked again when it says so, or a little later each time; asking twice does no
harm, for no question changes anything.

Errors::

    NextwordError              (models.errors)
    └── ClientError
        ├── UnreachableError   nobody answered, not in time, or not to the end
        └── ServiceError       the service answered with a problem, whose details it carries
"""

from app.client.awaited import AsyncClient
from app.client.blocking import Client
from app.client.errors import ClientError, ServiceError, UnreachableError
from app.client.events import TextPiece
from app.client.retries import Retries
from app.schemas.bulk import BulkError, BulkScore

__all__ = [
    "AsyncClient",
    "BulkError",
    "BulkScore",
    "Client",
    "ClientError",
    "Retries",
    "ServiceError",
    "TextPiece",
    "UnreachableError",
]
