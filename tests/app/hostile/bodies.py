"""What nobody sends who means well, and some things that look like it and are all right."""

import json
from dataclasses import dataclass
from typing import Any

CANARY = "Zx9canaryQw"  # stands for what a user wrote, and must be nowhere but in answers

GOOD: dict[str, dict[str, Any]] = {
    "/next-word": {"text": "we study", "top_k": 2},
    "/score": {"text": ["we study", "study we"]},
    "/rank": {"candidates": [{"text": "we study"}, {"text": "study we"}]},
    "/generate": {"text": "we", "max_tokens": 3},
    "/tokenize": {"text": "we study"},
    "/detokenize": {"tokens": [1]},
}

# What is asked in other forms, of which the tests in `clients` and `bulk` tell more.
OTHER_FORMS: dict[str, dict[str, Any]] = {
    "/v1/completions": {"prompt": "we", "max_tokens": 3},
    "/score/bulk": {"text": "we study"},
    "/models/{name}/reload": {},
}


@dataclass(frozen=True)
class Hostile:
    """A body, and the statuses that answer it well."""

    body: bytes
    statuses: tuple[int, ...]


def _raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


# Whatever an endpoint takes, these are no values of JSON, or no objects.
ANYWHERE = {
    "nothing": Hostile(b"", (400,)),
    "no JSON": Hostile(_raw(CANARY), (400,)),
    "NaN": Hostile(b'{"temperature": NaN}', (400,)),
    "1e999": Hostile(b'{"temperature": 1e999}', (400,)),
    "infinity": Hostile(b'{"temperature": -Infinity}', (400,)),
    "5,000 digits": Hostile(b'{"top_k": ' + b"9" * 5000 + b"}", (400, 422)),
    "nested arrays": Hostile(b"[" * 100_000 + b"]" * 100_000, (400,)),
    "nested and never closed": Hostile(b"[" * 1_000_000, (400,)),
    "nested objects": Hostile(b'{"text":' * 100_000 + b"0" + b"}" * 100_000, (400,)),
    "lone surrogate, escaped": Hostile(b'{"text": "\\ud800"}', (400,)),
    "lone surrogate, low": Hostile(b'{"text": "a\\udc00b"}', (400,)),
    "lone surrogate, raw": Hostile(b'{"text": "\xed\xa0\x80"}', (400,)),
    "lone surrogate in a name": Hostile(b'{"\\ud83d": 1}', (400,)),
    "surrogates the wrong way round": Hostile(b'{"text": "\\ude00\\ud83d"}', (400,)),
    "no UTF-8": Hostile(b'{"text": "\xff\xfe\xfa"}', (400,)),
    "overlong UTF-8": Hostile(b'{"text": "\xc0\xaf"}', (400,)),
    "UTF-16": Hostile('{"text": "a"}'.encode("utf-16"), (400,)),
    "UTF-8 cut short": Hostile(b'{"text": "\xf0\x9f\x98"}', (400,)),
    "raw NUL": Hostile(b'{"text": "a\x00b"}', (400,)),
    "raw control characters": Hostile(b'{"text": "a\x1b[31m\x07b"}', (400,)),
    "two values": Hostile(b"{}{}", (400,)),
    "a comment": Hostile(b'{"text": "a" /* b */}', (400,)),
    "single quotes": Hostile(b"{'text': 'a'}", (400,)),
    "null": Hostile(b"null", (422,)),
    "an array": Hostile(b"[]", (422,)),
    "a string": Hostile(json.dumps(CANARY).encode(), (422,)),
    "a number": Hostile(b"-0.0", (422,)),
    "an empty object": Hostile(b"{}", (422,)),
    "a million spaces": Hostile(b" " * 1_000_000, (400,)),
    "a word of a megabyte": Hostile(b'{"text": "' + b"a" * 1_000_000 + b'"}', (422,)),
    "200,000 words": Hostile(b'{"text": "' + b"word " * 200_000 + b'"}', (422,)),
    "200,000 texts": Hostile(b'{"text": [' + b'"",' * 200_000 + b'""]}', (422,)),
    "too much": Hostile(b'{"text": "' + b"a" * 2_000_000 + b'"}', (413,)),
    "a long name": Hostile(json.dumps({CANARY * 5000: 1}).encode(), (422,)),
    "many names": Hostile(json.dumps({f"a{i}": i for i in range(50_000)}).encode(), (422,)),
}
DEEP_FAULTS = json.dumps({"candidates": [{f"a{i}": i for i in range(50_000)}]}).encode()

# In the place of any field's value.
VALUES: dict[str, tuple[str, tuple[int, ...]]] = {
    "true": ("true", (200, 422)),
    "a float": ("1.0", (200, 422)),
    "a tiny float": ("1e-320", (200, 422)),
    "beyond 64 bits": ("18446744073709551616", (400, 422)),
    "below 64 bits": ("-9223372036854775809", (400, 422)),
    "negative": ("-1", (200, 422)),
    "null": ("null", (200, 422)),
    "a digit in a string": ('"1"', (200, 404, 422)),
    "an object": (f'{{"{CANARY}": 1}}', (422,)),
    "an array of arrays": ("[[[]]]", (422,)),
    "path traversal": ('"../../../etc/passwd"', (200, 404, 422)),
    "path traversal, encoded": ('"..%2f..%2fetc%2fpasswd"', (200, 404, 422)),
    "an absolute path": ('"/etc/passwd\\u0000.json"', (200, 404, 422)),
    "a template": ('"{{7*7}}${jndi:ldap://a/b}%n%s"', (200, 404, 422)),
    "SQL": ('"\'; DROP TABLE models; --"', (200, 404, 422)),
    "markup": ('"<script>alert(1)</script>"', (200, 404, 422)),
}

# Texts that are unusual and all right.
TEXTS = {
    "empty": "",
    "blank": " \t\n\r ",
    "NUL": "a\x00b",
    "control characters": "".join(map(chr, range(1, 32))),
    "emoji": "👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽",
    "combining": "e" + "\u0301" * 500,
    "zalgo": "Z̸̢̛͎͇̫̺̈́̆a̵͙̐l̶̮̚g̷̰̈o̴̭͌",
    "right to left": "\u202eabc\u202c שלום \u2066x\u2069",
    "byte order mark": "\ufeffwe",
    "private and unassigned": "\ue000\U000f0000\U0010ffff\ufffe",
    "line separators": "a\u2028b\u2029c\x85d\x0be",
    "special tokens": "<s></s><unk><pad>[MASK]<|endoftext|>",
    "the tokenizer's own marks": "\u2581we \u0120study ##ing",
    "fullwidth": "\uff57\uff45 \ufb01 \u01c5 ß \u0130",
    "quotes": "\\\"'`\\u0000\\x00",
}
