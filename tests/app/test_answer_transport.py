"""How many writes an answer takes, and when its head is sent."""

import asyncio
import gc
import weakref

import pytest

from app.answer_transport import AnswerTransport


class Wire:
    """Remembers what is written to it, and stands for the request's cycle too."""

    def __init__(self):
        self.written, self.closed, self.response_started = [], False, False

    def write(self, data):
        assert not self.closed
        self.written.append(data)

    def is_closing(self):
        return self.closed

    def close(self):
        self.closed = True


@pytest.fixture
def answering():
    """A loop, its wire and the transport of an answer on it."""
    loop, wire = asyncio.new_event_loop(), Wire()
    yield loop, wire, AnswerTransport(wire, wire, loop)
    loop.close()


def turn(loop):
    """Let everything run that is due now."""
    loop.run_until_complete(asyncio.sleep(0))


def test_a_head_goes_out_with_its_body_and_only_once(answering):
    loop, wire, transport = answering
    wire.response_started = True
    transport.write(b"head ")
    assert not wire.written
    transport.write(b"body")
    assert wire.written == [b"head body"]
    transport.write(b"more")
    turn(loop)
    assert wire.written == [b"head body", b"more"]


def test_a_head_waits_for_no_body(answering):
    loop, wire, transport = answering
    wire.response_started = True
    transport.write(b"head")
    turn(loop)
    assert wire.written == [b"head"]
    transport.write(b"late")
    assert wire.written == [b"head", b"late"]


def test_what_comes_before_an_answer_is_sent_at_once(answering):
    _, wire, transport = answering
    transport.write(b"go on ")
    assert wire.written == [b"go on "]
    wire.response_started = True
    transport.write(b"head ")
    transport.write(b"body")
    assert wire.written == [b"go on ", b"head body"]


def test_a_head_is_sent_before_the_connection_is_closed(answering):
    loop, wire, transport = answering
    wire.response_started = True
    transport.write(b"head")
    transport.close()
    assert (wire.written, transport.is_closing()) == ([b"head"], True)
    turn(loop)
    assert wire.written == [b"head"]


def test_a_request_is_freed_as_soon_as_it_is_over(answering):
    """Without waiting for the collector: it holds whatever was not read of a body."""
    loop = answering[0]
    gc.disable()
    try:
        cycle = Wire()
        cycle.transport = AnswerTransport(Wire(), cycle, loop)
        gone = weakref.ref(cycle)
        del cycle
        assert gone() is None
    finally:
        gc.enable()


def test_a_connection_that_was_lost_is_left_alone(answering):
    loop, wire, transport = answering
    wire.response_started = True
    transport.write(b"head")
    wire.closed = True
    turn(loop)
    assert not wire.written
