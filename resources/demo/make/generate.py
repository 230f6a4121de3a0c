"""Writes the text on which the demo model is trained and tested.

Four kinds of document, all from one seeded grammar: short stories, small sums, sorted words, and facts of
an invented little world. Whatever can be tested is split by a checksum of its content, so that no sum,
set of words, story, or pair of a fact and a phrasing in the held-out part ever occurs in the training part.
"""

import argparse
import json
import random
import zlib
from pathlib import Path

SEPARATOR = "<|endoftext|>"
HELD_OUT_ONE_IN = 10
WORLD_SEED = 7
EVAL_SEED = 20_000

NAMES = {
    "she": "Mira Tessa Lena Orla Nell Hanna Vera Ines Petra Edda Runa Sela Tilda Wanda Yara Zita Alma Dora".split(),
    "he": "Bram Otto Finn Joris Karl Leo Milo Nico Oskar Pavel Rolf Sven Tomas Ugo Viktor Willem Anton Emil".split(),
}
TOWNS = "Aldor Brimley Corvel Dunmere Elsfold Fenwick Garrow Holt Ismere Kestow Lorne Marsk".split()
JOBS = "baker miller weaver potter farmer fisher singer smith painter carver gardener teacher".split()
ANIMALS = "cat dog goat hen fox duck horse crow mouse rabbit sheep toad".split()
COLOURS = "red blue green yellow white black brown pink grey purple".split()
WATERS = "lake river sea marsh forest mountain valley bridge mill harbour meadow cliff".split()
FOODS = "bread cheese honey soup pies plums nuts pears butter cakes beans fish".split()
SORT_WORDS = (
    "apple arrow axe ball basket bell boat candle card chair cup desk door drum egg fan feather fig flute "
    "gate glass glove hammer hat hook ink iron jar jug key kite knife ladder lamp leaf map melon moon nail "
    "needle net oar olive onion pear pen pipe pot quilt rake ring rope sack shoe spoon table tent tile urn "
    "vase violin wagon wheel yarn"
).split()
OBJECTS = "key lamp ring kite drum flute basket hat glove bell cup map rope spoon boat ball".split()
PLACES = "garden kitchen barn market cellar tower stable school well attic".split()
HIDING = ["under the bed", "behind the door", "in the old chest", "on the roof", "beside the well", "in the hay"]
WEATHER = ["sunny", "rainy", "windy", "cold", "warm", "foggy", "quiet"]
TIMES = ["morning", "evening", "afternoon", "day"]
FRUITS = "apples plums pears nuts eggs cakes figs onions".split()
SAD = ["sad", "tired", "cross", "worried", "lonely"]
GLAD = ["happy", "proud", "glad", "calm", "cheerful"]

RELATIONS = {
    "town": {
        "statements": ["{n} lives in {v}.", "The home of {n} is in {v}.", "{n} has a house in {v}.",
                       "You can find {n} in {v}."],
        "questions": ["Where does {n} live?", "In which town does {n} live?", "What is the home town of {n}?",
                      "Where can you find {n}?"],
    },
    "job": {
        "statements": ["{n} works as a {v}.", "{n} is a {v}.", "The work of {n} is that of a {v}.",
                       "Everyone knows {n} the {v}."],
        "questions": ["What is the job of {n}?", "What does {n} work as?", "What work does {n} do?",
                      "Which trade does {n} have?"],
    },
    "animal": {
        "statements": ["{n} has a {v}.", "The animal of {n} is a {v}.", "{n} keeps a {v}.",
                       "A {v} belongs to {n}."],
        "questions": ["Which animal does {n} have?", "What is the animal of {n}?", "What animal does {n} keep?",
                      "Which animal belongs to {n}?"],
    },
    "colour": {
        "statements": ["{n} likes the colour {v}.", "The best colour for {n} is {v}.", "{n} always wears {v}.",
                       "The door of {n} is {v}."],
        "questions": ["Which colour does {n} like?", "What is the best colour for {n}?",
                      "What colour does {n} wear?", "What colour is the door of {n}?"],
    },
    "water": {
        "statements": ["{n} lies by the {v}.", "The town of {n} is near the {v}.", "Next to {n} is the {v}.",
                       "From {n} you can see the {v}."],
        "questions": ["What does {n} lie by?", "What is the town of {n} near?", "What is next to {n}?",
                      "What can you see from {n}?"],
    },
    "food": {
        "statements": ["{n} is famous for its {v}.", "The best {v} come from {n}.", "In {n} people eat {v}.",
                       "{n} sells {v} to everyone."],
        "questions": ["What is {n} famous for?", "What comes from {n}?", "What do people eat in {n}?",
                      "What does {n} sell?"],
    },
}


def is_held_out(key):
    """True for one content in ten; the same on every machine and in every run."""
    return zlib.crc32(key.encode()) % HELD_OUT_ONE_IN == 0


def build_world():
    """The people and the towns, each with the value of every relation."""
    rng = random.Random(WORLD_SEED)
    people = {}
    for pronoun, names in NAMES.items():
        for name in names:
            people[name] = {
                "pronoun": pronoun,
                "town": rng.choice(TOWNS),
                "job": rng.choice(JOBS),
                "animal": rng.choice(ANIMALS),
                "colour": rng.choice(COLOURS),
            }
    waters, foods = rng.sample(WATERS, len(WATERS)), rng.sample(FOODS, len(FOODS))
    towns = {t: {"water": w, "food": f} for t, w, f in zip(TOWNS, waters, foods)}
    return people, towns


PEOPLE, TOWN_FACTS = build_world()
FACTS = [
    (subject, relation, value)
    for table in (PEOPLE, TOWN_FACTS)
    for subject, values in table.items()
    for relation, value in values.items()
    if relation != "pronoun"
]


def fact_lines(held_out):
    """Every statement and question about every fact that lies on the asked side of the split."""
    lines = []
    for name, relation, value in FACTS:
        phrasings = RELATIONS[relation]
        answers = [f"Question: {q} Answer: {{v}}." for q in phrasings["questions"]]
        for text in phrasings["statements"] + answers:
            if is_held_out(f"{name}|{text}") == held_out:
                lines.append(text.format(n=name, v=value))
    return lines


FACT_LINES = {side: fact_lines(side) for side in (False, True)}


def sum_line(rng, held_out):
    """One sum of operands up to 99. Sums of two single digits are too few to hold out: all are trained on."""
    while True:
        limits = rng.choice([(9, 9), (99, 9), (9, 99), (99, 99), (99, 99), (99, 99)])
        a, b = rng.randint(0, limits[0]), rng.randint(0, limits[1])
        key_is_held_out = max(a, b) > 9 and is_held_out(f"{min(a, b)}+{max(a, b)}")
        if key_is_held_out == held_out:
            return f"{a} + {b} = {a + b}."


def sort_line(rng, held_out):
    """One list of three to five words and the same words in alphabetical order."""
    while True:
        words = rng.sample(SORT_WORDS, rng.choice([3, 3, 4, 4, 5]))
        answer = " ".join(sorted(words))
        if is_held_out(answer) == held_out:
            return f"sort: {' '.join(words)} -> {answer}."


def sums(rng, held_out):
    return "\n".join(sum_line(rng, held_out) for _ in range(rng.randint(5, 14)))


def sorting(rng, held_out):
    return "\n".join(sort_line(rng, held_out) for _ in range(rng.randint(3, 8)))


def facts(rng, held_out):
    return "\n".join(rng.sample(FACT_LINES[held_out], rng.randint(4, 10)))


def opening(rng, name):
    """A first sentence that says something true about the hero."""
    who = PEOPLE[name]
    time, weather = rng.choice(TIMES), rng.choice(WEATHER)
    return rng.choice([
        f"One {weather} {time}, {name} the {who['job']} walked through {who['town']}.",
        f"{name} is a {who['job']} in {who['town']}.",
        f"In {who['town']}, near the {TOWN_FACTS[who['town']]['water']}, lives {name} the {who['job']}.",
        f"It was a {weather} {time} in {who['town']}, and {name} put on {coat_of(who)}.",
    ])


def coat_of(who):
    """The coat of a person, in the colour that the person likes."""
    return f"{'her' if who['pronoun'] == 'she' else 'his'} {who['colour']} coat"


def pick_two(rng):
    """Two different people: a hero and a friend, with the pronouns of the hero."""
    hero, friend = rng.sample(sorted(PEOPLE), 2)
    she = PEOPLE[hero]["pronoun"]
    return hero, friend, she.capitalize(), "her" if she == "she" else "his"


def lost_and_found(rng):
    hero, friend, she, her = pick_two(rng)
    thing, colour = rng.choice(OBJECTS), rng.choice(COLOURS)
    places = rng.sample(PLACES, rng.randint(1, 3))
    spot, animal = rng.choice(HIDING), PEOPLE[hero]["animal"]
    search = " ".join(f"{she} looked in the {p}, but it was not there." for p in places)
    end = rng.choice([
        f"At last {friend} found the {thing} {spot}. \"Here is your {thing},\" said {friend}.",
        f"Then the {animal} ran to {hero}. The {animal} had the {colour} {thing}!",
        f"In the end the {thing} was {spot}. {she} laughed, for {she.lower()} had put it there.",
    ])
    mood = rng.choice([f"{hero} was {rng.choice(GLAD)} again.", f"{she} put the {colour} {thing} on the table."])
    return f"{opening(rng, hero)} {she} could not find {her} {colour} {thing}. {search} {end} {mood}"


def gift(rng):
    hero, friend, she, _ = pick_two(rng)
    thing, colour, mood = rng.choice(OBJECTS), PEOPLE[friend]["colour"], rng.choice(SAD)
    start = f"{opening(rng, hero)} {she} met {friend}, who was {mood}."
    plan = rng.choice([
        f"{she} went to the market and bought a {colour} {thing}, for {friend} likes the colour {colour}.",
        f"{she} worked all night and made a {thing} for {friend}. {she} painted it {colour}.",
    ])
    end = rng.choice([
        f"{friend} took the {colour} {thing} and was not {mood} any more.",
        f"\"Thank you, {hero},\" said {friend}. \"This is the best {thing} in {PEOPLE[friend]['town']}.\"",
    ])
    return f"{start} {plan} {end} They were {rng.choice(GLAD)}."


def counting(rng):
    hero, friend, she, _ = pick_two(rng)
    fruit = rng.choice(FRUITS)
    have, more = rng.randint(2, 9), rng.randint(2, 9)
    text = f"{opening(rng, hero)} {she} had {have} {fruit}. {friend} gave {hero} {more} more {fruit}."
    text += f" Now {hero} had {have + more} {fruit}."
    if rng.random() < 0.6:
        eaten = rng.randint(1, min(9, have + more))
        eater = PEOPLE[hero]["animal"]
        text += f" But the {eater} ate {eaten} of them, and {have + more - eaten} {fruit} were left."
    return f"{text} {hero} was {rng.choice(GLAD + SAD)}."


def journey(rng):
    hero, friend, she, her = pick_two(rng)
    town = PEOPLE[friend]["town"]
    place = TOWN_FACTS[town]
    ride = rng.choice([f"with {her} {PEOPLE[hero]['animal']}", "on foot", "by boat", "in a wagon"])
    text = f"{opening(rng, hero)} {she} wanted to visit {friend} in {town} and went there {ride}."
    text += f" {she} saw the {place['water']}, and {friend} gave {hero} {place['food']}."
    end = rng.choice([
        f"Then {friend} showed {hero} the {PEOPLE[friend]['animal']}.",
        f"{friend} the {PEOPLE[friend]['job']} was {rng.choice(GLAD)} to see {hero}.",
        f"They sat in the {rng.choice(PLACES)} until the {rng.choice(TIMES)} was over.",
    ])
    return f"{text} {end} {hero} came home {rng.choice(GLAD + SAD)}."


def fable(rng):
    first, second = rng.sample(ANIMALS, 2)
    thing, place = rng.choice(OBJECTS), rng.choice(PLACES)
    start = f"A {first} and a {second} lived in the {place}. The {first} had a {thing}."
    middle = rng.choice([
        f"The {second} wanted the {thing} and ran away with it. The {first} was {rng.choice(SAD)}.",
        f"\"Give me the {thing},\" said the {second}. \"No,\" said the {first}, \"it is my {thing}.\"",
    ])
    end = rng.choice([
        f"Then the {second} said, \"I am sorry.\" The {first} and the {second} shared the {thing}.",
        f"But the {thing} broke, and nobody had a {thing} any more.",
        f"Next day the {second} found another {thing}, and both were {rng.choice(GLAD)}.",
    ])
    return f"{start} {middle} {end}"


def story(rng, held_out):
    while True:
        text = rng.choice([lost_and_found, gift, counting, journey, fable])(rng)
        if is_held_out(text) == held_out:
            return text


KINDS = {"sums": (sums, 6), "facts": (facts, 5), "stories": (story, 5), "sorting": (sorting, 4)}


def documents(seed, held_out=False):
    """An endless stream of documents."""
    rng = random.Random(seed)
    makers, weights = zip(*KINDS.values())
    while True:
        yield rng.choices(makers, weights)[0](rng, held_out)


def skill_items(seed, count):
    """Held-out prompts with their answers: a prompt ends where the model must go on, and the answer at a full stop."""
    rng = random.Random(seed)
    questions = [line for line in FACT_LINES[True] if line.startswith("Question")]
    lines = {
        "sums": distinct(lambda: sum_line(rng, True), count),
        "sorting": distinct(lambda: sort_line(rng, True), count),
        "facts": rng.sample(questions, min(count, len(questions))),
    }
    marks = {"sums": "=", "sorting": "->", "facts": "Answer:"}
    return {skill: [split_item(line, marks[skill]) for line in lines[skill]] for skill in lines}


def distinct(make, count):
    """The first `count` different lines that make() gives."""
    found = {}
    while len(found) < count:
        found[make()] = None
    return list(found)


def split_item(line, mark):
    prompt, answer = line.split(mark)
    return {"prompt": prompt + mark, "answer": answer}


def write_held_out(folder, text_bytes, skill_count):
    """Writes eval.txt and skills.json."""
    stream, texts, size = documents(EVAL_SEED, held_out=True), [], 0
    while size < text_bytes:
        texts.append(next(stream))
        size += len(texts[-1]) + len(SEPARATOR) + 2
    (folder / "eval.txt").write_text(f"\n{SEPARATOR}\n".join(texts) + "\n")
    items = skill_items(EVAL_SEED + 1, skill_count)
    (folder / "skills.json").write_text(json.dumps(items, indent=1) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="seed of the training text that is printed")
    parser.add_argument("--documents", type=int, default=20, help="number of training documents to print")
    parser.add_argument("--held-out", type=Path, metavar="FOLDER", help="write eval.txt and skills.json there instead")
    args = parser.parse_args()
    if args.held_out:
        write_held_out(args.held_out, text_bytes=48_000, skill_count=60)
        return
    stream = documents(args.seed)
    for _ in range(args.documents):
        print(next(stream), SEPARATOR, sep="\n")


if __name__ == "__main__":
    main()
