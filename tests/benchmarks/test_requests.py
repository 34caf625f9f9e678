import json

from benchmarks.mixture import tasks
from benchmarks.requests import keystrokes, scoring, typing
from benchmarks.sentences import everyday_sentences
from benchmarks.sizes import VOCABULARY, WORDS
from benchmarks.vocabulary import sentences, words


def test_a_sentence_is_typed_character_by_character():
    strokes = list(keystrokes("To be."))
    assert strokes == [
        ("", ""),
        ("", "T"),
        ("", "To"),
        ("To", ""),
        ("To", "b"),
        ("To", "be"),
        ("To", "be."),
    ]


def test_requests_are_http_with_the_length_of_their_body():
    for request in typing(1, count=2):
        head, _, body = request.partition(b"\r\n\r\n")
        assert head.startswith(b"POST /next-word HTTP/1.1\r\n")
        assert b"Content-Length: %d" % len(body) in head
        assert set(json.loads(body)) == {"text", "prefix", "top_k"}


def test_sentences_differ_and_come_again_with_their_seed():
    many = everyday_sentences(2000, seed=1)
    assert len(set(many)) > 1500
    assert not any("{" in sentence for sentence in many)
    assert many == everyday_sentences(2000, seed=1)
    assert sentences(3, seed=1) == sentences(3, seed=1) != sentences(3, seed=2)


def test_made_up_words_are_distinct_and_a_smaller_vocabulary_is_part_of_a_larger():
    assert len(set(words(VOCABULARY))) == VOCABULARY
    assert words() == words(VOCABULARY)[:WORDS]


def test_every_request_to_score_has_equally_many_words():
    for request in scoring(1, texts=4, count=3):
        texts = json.loads(request.partition(b"\r\n\r\n")[2])["text"]
        assert [len(text.split()) for text in texts] == [20] * 4


def test_the_mixture_holds_every_kind_and_comes_again_with_its_seed():
    first, again = ([task for task, _ in zip(tasks(1), range(300), strict=False)] for _ in "ab")
    assert first == again
    assert {task.kind for task in first} >= {"typing", "fresh", "score", "rank", "generate"}
    assert {task.kind for task in first} >= {"stream", "abandoned", "bad"}
    assert {task.status for task in first} > {200, 422}
