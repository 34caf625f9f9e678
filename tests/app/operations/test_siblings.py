"""What workers tell each other."""

import asyncio

import orjson

from app.siblings import Shared, Siblings


def test_an_answer_to_one_that_is_gone_is_none_to_its_successor():
    shared = Shared(2)
    shared.slots.set_alive(1, True)

    async def answers_of_successor() -> list:
        assert await Siblings(shared, 0).ask("any", {}, patience=0.01) == []
        asked = orjson.loads(shared.mailboxes[1][0].recv(1000))
        successor = Siblings(shared, 0)
        asking = asyncio.ensure_future(successor.ask("any", {}, patience=0.3))
        await asyncio.sleep(0.01)
        late = {"from": 1, "id": asked["id"], "answer": {"late": True}}
        shared.mailboxes[0][1].send(orjson.dumps(late))
        successor._receive()
        own = orjson.loads(shared.mailboxes[1][0].recv(1000))
        shared.mailboxes[0][1].send(orjson.dumps(late | {"id": own["id"], "answer": {}}))
        successor._receive()
        return await asking

    try:
        assert asyncio.run(answers_of_successor()) == [{}]
    finally:
        for end in (end for pair in shared.mailboxes for end in pair):
            end.close()
