"""Everyday English by the thousands, for requests that a model finds words for."""

import random

_SLOTS = {
    "who": "I,we,my sister,our neighbours,the children,my boss,the doctor,everybody,they,"
    "my best friend,the new teacher,your brother,most people,the whole team",
    "place": "the station,the library,the old market,the airport,our kitchen,the hospital,"
    "the museum,the river,the school,the office,the supermarket,the city centre,the beach",
    "thing": "a new computer,some warm clothes,a cup of coffee,the newspaper,a birthday present,"
    "two tickets,a bottle of water,fresh bread,an umbrella,the wrong book,a second chance",
    "when": "tomorrow morning,after work,at the weekend,before lunch,in two weeks,late at night,"
    "on Monday,next summer,as soon as possible,every evening,around seven,during the holidays",
    "meal": "Italian,Chinese,Mexican,vegetarian,Indian,French,cheap,quiet,famous,seafood",
    "number": "two,three,four,five,six,eight,ten",
    "verb": "find,buy,bring,forget,order,return,borrow,look for,pay for,ask about,send back",
    "feeling": "tired,very happy,a little nervous,quite sure,hungry,surprised,too busy,sorry",
    "city": "London,San Francisco,New York,Paris,Seattle,Berlin,Chicago,Boston,Toronto,Rome",
    "reason": "the weather was terrible,the train was late,nobody had told us,it was too expensive,"
    "there was nothing else to do,the shop had closed,we had missed the bus",
    "what": "the meeting,dinner,a walk,the concert,the football match,a long journey,the exam",
}
_TEMPLATES = (
    "I would like to book a table for {number} at a {meal} restaurant near {place}.",
    "Could you please {verb} {thing} {when}?",
    "{who} went to {place} to {verb} {thing} because {reason}.",
    "Is there a flight from {city} to {city} {when}?",
    "I am {feeling} about {what}, but I will be there {when}.",
    "What time does {what} begin, and how do I get to {place} from {city}?",
    "{who} had to {verb} {thing} before {what}.",
    "Please remind me to {verb} {thing} {when}.",
    "The weather in {city} will be much better {when}.",
    "Have you ever been to {place} in {city} with {who}?",
    "We need {number} rooms in {city} {when}, close to {place} if possible.",
    "{who} said that {reason}, so {who} stayed at home until {what}.",
    "How much does it cost to go from {place} to {place} {when}?",
    "If you are {feeling}, we can {verb} {thing} and talk about {what} {when}.",
    "Thank you for {thing}; {who} will call you {when}.",
    "Nobody knew why {who} wanted to {verb} {thing} at {place}.",
)


def everyday_sentences(count: int, *, seed: int) -> list[str]:
    """Return sentences, hardly ever the same one twice."""
    choose = random.Random(seed).choice
    slots = {name: values.split(",") for name, values in _SLOTS.items()}

    def fill(template: str) -> str:
        while "{" in template:
            before, _, rest = template.partition("{")
            name, _, after = rest.partition("}")
            template = before + choose(slots[name]) + after
        return template[0].upper() + template[1:]

    return [fill(choose(_TEMPLATES)) for _ in range(count)]
