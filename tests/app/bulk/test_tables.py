"""Arrow tables in and out; what runs them, Ray, is not needed for that."""

import datetime
import decimal
import json

import pytest

from app.bulk.scorers import LocalScorer
from app.bulk.sources import line_of
from app.settings import Settings
from tests.app.conftest import SUBWORD

arrow = pytest.importorskip("pyarrow")


def test_a_row_is_a_line_whatever_its_cells_are():
    row = {"text": "we", "context": None, "bos": False, "n": 3}
    assert json.loads(line_of(row)) == {"text": "we", "bos": False, "n": 3}
    assert json.loads(line_of(row, {"context": "so", "bos": True})) == {
        "context": "so",
        "text": "we",
        "bos": False,
        "n": 3,
    }
    for odd in (b"\xff", decimal.Decimal("1.5"), datetime.timedelta(1), object()):
        assert json.loads(line_of({"text": odd})) == {"text": {}}
        assert json.loads(line_of({"text": [odd]})) == {"text": [{}]}


@pytest.mark.parametrize(
    "column",
    [
        arrow.array([b"we", b"\xff"]),
        arrow.array([decimal.Decimal("1.5"), decimal.Decimal(2)]),
        arrow.array([[b"we"], []]),
        arrow.array([3, 2**63 - 1]),
        arrow.array([{"a": datetime.timedelta(1)}, None]),
    ],
    ids=lambda column: str(column.type),
)
def test_a_cell_that_json_cannot_say_has_an_error_of_its_own(models, column):
    from app.bulk.tables import lines_of, with_scores

    table = arrow.table({"text": column, "other": [b"x", b"y"]})
    scorer = LocalScorer(models[SUBWORD], Settings())
    rows = [row for rows in scorer.rows(lines_of(table)) for row in rows]
    scored = with_scores(table, rows).to_pylist()
    assert [row["other"] for row in scored] == [b"x", b"y"]
    for row in scored:
        assert json.loads(row["error"])["errors"][0]["field"] == "text"
        assert row["log_prob"] is None


def test_a_string_that_is_no_utf_8_takes_no_other_with_it(models):
    from app.bulk.tables import lines_of

    texts = arrow.array([b"we", b"w\xff", b"we sold"]).view(arrow.string())
    scorer = LocalScorer(models[SUBWORD], Settings())
    table = arrow.table({"text": texts, "context": ["so"] * 3})
    found = [json.loads(row) for rows in scorer.rows(lines_of(table)) for row in rows]
    assert ["error" in row for row in found] == [False, True, False]
    whole = scorer.rows(lines_of(table.take([0, 2])))
    wanted = [json.loads(row) for rows in whole for row in rows]
    assert [row["log_prob"] for row in found[::2]] == [row["log_prob"] for row in wanted]


def test_columns_with_the_scores_names_give_way(models):
    from app.bulk.tables import lines_of, with_scores

    scorer = LocalScorer(models[SUBWORD], Settings())
    table = arrow.table({"error": ["mine", "mine"], "text": ["we sold", "we"], "log_prob": [1, 2]})
    rows = [row for rows in scorer.rows(lines_of(table)) for row in rows]
    once = with_scores(table, rows)
    assert len(set(once.column_names)) == len(once.column_names)
    found = once.to_pylist()
    assert [row["log_prob"] for row in found] == [json.loads(row)["log_prob"] for row in rows]
    assert [row["error"] for row in found] == [None, None]
    assert with_scores(once, rows).equals(once)  # scored again
