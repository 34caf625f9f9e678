"""The model card: a checkpoint's ``README.md``, written from what the run and the evaluation noted.

The headings follow Mitchell et al. (2019), "Model Cards for Model Reporting".
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from models.checkpoint import CARD, WEIGHTS
from models.language_model import LanguageModel
from training.files import write_text
from training.known_corpora import OWN, source_of
from training.metrics import definition_of_all

LOSS_PICTURE, RELIABILITY_PICTURE = "loss.png", "reliability.png"

_TITLES = {
    "perplexity_per_token": "perplexity per token",
    "online_perplexity_cache": "online perplexity per token, neural cache",
    "online_perplexity_dynamic": "online perplexity per token, dynamic evaluation",
    "perplexity_per_word": "perplexity per word",
    "bits_per_character": "bits per character",
    "perplexity_of_lines_alone": "perplexity per word, each line alone",
    "perplexity_of_lines_with_history": "perplexity per word, the lines before it as history",
    "perplexity_of_lines_with_other_history": "perplexity per word, another document as history",
    "perplexity_of_lines_carried": "perplexity per word, the state carried from line to line",
    "recall_at_1": "recall@1",
    "recall_at_3": "recall@3",
    "mean_reciprocal_rank": "mean reciprocal rank",
    "keystroke_savings_3": "keystroke savings, 3 suggestions",
    "keystroke_savings_5": "keystroke savings, 5 suggestions",
    "word_order_accuracy": "word order told from its shuffle",
    "word_choice_accuracy": "word told from one as frequent",
    "next_word_calibration_error": "calibration error, next word",
    "next_word_calibration_error_at_1": "calibration error, next word, at temperature 1",
    "next_word_calibration_chance": "of it chance, next word",
    "token_calibration_error": "calibration error, token",
}
_SHARES = ("recall", "keystroke", "word_order", "word_choice")


def metric_title(name: str) -> str:
    """Return how people call the metric ``name``."""
    return _TITLES.get(name, name.replace("_", " "))


def metric_order(names: Sequence[str]) -> list[str]:
    """Return metric names in the order in which reports show them."""
    known = [name for name in _TITLES if name in names]
    return known + [name for name in names if name not in _TITLES]


def format_metric(name: str, metric: Mapping[str, Any]) -> str:
    """Return a metric's value, and half its 95% interval where it comes from a sample."""
    value, interval = metric["value"], metric.get("interval")
    if value is None:
        return "–"
    share = name.startswith(_SHARES)
    scale, unit = (100, "%") if share else (1, "")
    digits = 1 if share else (2 if "perplexity" in name else 3)
    text = f"{scale * value:,.{digits}f}{unit}"
    if interval:
        half = scale * (interval[1] - interval[0]) / 2
        text += f" ± {half:.{digits}f}"
    return text


def write_card(folder: Path, model: LanguageModel) -> None:
    """Write the card of ``model``, loaded from ``folder``, where its pictures lie."""
    pictures = [name for name in (LOSS_PICTURE, RELIABILITY_PICTURE) if (folder / name).exists()]
    write_text(folder / CARD, card_text(model, pictures))


def card_text(model: LanguageModel, pictures: Sequence[str] = ()) -> str:
    """Return the card in Markdown."""
    sections = [
        f"# {model.name}\n\n{_introduction(model)}",
        _corpora(model.details),
        _training(model, LOSS_PICTURE in pictures),
        _metrics(model.details.get("metrics", []), RELIABILITY_PICTURE in pictures),
        _limits(model),
        f"## Weights\n\nSHA-256 of `{WEIGHTS}`: `{model.checksum}`",
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _introduction(model: LanguageModel) -> str:
    config = asdict(model.network.config)
    named = {"rnn": "Elman network", "transformer": "Transformer"}
    kind = named.get(config["kind"], config["kind"].upper())
    titles = {
        "num_layers": "{} layers",
        "embedding_size": "embeddings of {}",
        "hidden_size": "hidden vectors of {}",
        "num_heads": "{} attention heads",
        "context_length": "{} tokens of context",
    }
    sizes = [title.format(config[name]) for name, title in titles.items() if name in config]
    words = {
        "subword": "pieces of words, so that no text is unknown to it",
        "word": "whole words; others are `<unk>`",
        "wikitext": "whole words in the manner of WikiText; others are `<unk>`",
    }[model.tokenizer.kind]
    return (
        "A language model that predicts next words, says how likely a sentence is, and continues "
        f"texts: {_article(kind)} {kind} ({', '.join(sizes)}) with {model.num_parameters:,} "
        f"parameters, reading {model.tokenizer.vocab_size:,} {words}. Made and served by nextword."
    )


def _article(noun: str) -> str:
    return "an" if noun[0] in "AEIOLR" else "a"


def _corpora(details: Mapping[str, Any]) -> str:
    corpus = details.get("corpus", {})
    before = details.get("training", {}).get("began_with", {})
    rows, known = [], False
    for use in ("train", "valid"):
        earlier, files = before.get(use, []), corpus.get(use, [])
        for name in dict.fromkeys([*earlier, *files]):
            when = "" if name not in earlier else ", also before" if name in files else ", before"
            source = source_of(name)
            known = known or source != OWN
            rows.append(f"| `{name}` | {use}{when} | {source.title} | {source.licence} |")
    if not rows:
        return ""
    head = "## Data\n\n| file | use | what | licence |\n|---|---|---|---|\n"
    tokens = f"\n\n{corpus['tokens']:,} training tokens." if "tokens" in corpus else ""
    named = " What the texts are is told by the names of their folders." if known else ""
    return head + "\n".join(rows) + tokens + " `valid` chose the best weights." + named


def _training(model: LanguageModel, picture: bool) -> str:
    recipe = model.details.get("recipe")
    training = model.details.get("training")
    if not (recipe and training):
        return ""
    facts = {
        "steps": f"{training['steps']:,} ({training['epochs']:g} epochs), "
        f"best at {training['best_step']:,}",
        "begun with": _base(training.get("began_with")),
        "taught by": _named(training.get("taught_by")),
        "seed": recipe["training"]["seed"],
        "time": f"{training['hours']:.2g} hours, {training['core_hours']:.2g} core-hours",
        "hardware": training["device"],
        "cores": training.get("cores"),
        "precision": training["precision"],
        "storage": _storage(recipe["training"], training),
        "torch": training.get("torch"),
    }
    text = "## Training\n\n| | |\n|---|---|\n"
    text += "\n".join(f"| {name} | {fact} |" for name, fact in facts.items() if fact)
    if training.get("command"):
        text += f"\n\n```sh\n{training['command']}\n```"
    tables = "\n\n".join(
        f"[{table}]\n" + "\n".join(f"{name} = {_toml(value)}" for name, value in settings.items())
        for table, settings in recipe.items()
    )
    text += (
        f"\n\n<details><summary>The recipe, all settings</summary>\n\n```toml\n{tables}\n```\n\n"
    )
    text += "</details>"
    return text + (f"\n\n![Loss over the steps]({LOSS_PICTURE})" if picture else "")


def _named(note: Mapping[str, Any] | None) -> str:
    return f"`{note['name']}`, weights `{note['weights'][:12]}…`" if note else ""


def _base(note: Mapping[str, Any] | None) -> str:
    """Tell whose weights the run began with; nothing where they were drawn."""
    if note is None:
        return ""
    told = _named(note)
    hours = note["core_hours"]
    return told if hours is None else f"{told}, trained for {hours:.2g} core-hours"


def _storage(settings: Mapping[str, Any], training: Mapping[str, Any]) -> str:
    """Tell how the weights are stored, and what it costs; nothing of checkpoints before that."""
    costs = training.get("storage_cost_percent", {})
    told = ", ".join(f"{cost:+.2f}% on `{name}`" for name, cost in costs.items())
    return f"{settings['storage']}; perplexity {told}" if told else ""


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "{" + ", ".join(f'"{name}" = {_toml(v)}' for name, v in value.items()) + "}"
    return f'"{value}"' if isinstance(value, str) else str(value)


def _metrics(evaluations: Sequence[Mapping[str, Any]], picture: bool) -> str:
    if not evaluations:
        return ""
    names = metric_order(list({name: None for e in evaluations for name in e["metrics"]}))
    head = "| | " + " | ".join(f"`{e['data']}`" for e in evaluations) + " |"
    rows = [head, "|---|" + "---:|" * len(evaluations)]
    for name in names:
        values = [
            format_metric(name, e["metrics"][name]) if name in e["metrics"] else "–"
            for e in evaluations
        ]
        rows.append(f"| {metric_title(name)} | " + " | ".join(values) + " |")
    definitions = {
        name: definition_of_all(
            (e["data"], e["metrics"][name]["definition"])
            for e in evaluations
            if name in e["metrics"]
        )
        for name in names
    }
    text = "## Metrics\n\n" + "\n".join(rows) + "\n\n± is half a 95% interval of a sample "
    text += f"({_sample_sizes(evaluations)}), by bootstrap.{_temperature(evaluations)}"
    text += "\n\nWhat was read:\n\n"
    text += "\n".join(f"- `{e['data']}`: {_text(e['text'])}" for e in evaluations)
    text += "\n\nWhat the figures mean:\n\n"
    text += "\n".join(f"- **{metric_title(name)}**: {definitions[name]}." for name in names)
    return text + (f"\n\n![Reliability diagrams]({RELIABILITY_PICTURE})" if picture else "")


def _temperature(evaluations: Sequence[Mapping[str, Any]]) -> str:
    """Tell the temperature of the figures; those noted before it was noted were at 1."""
    found = {e.get("temperature", 1.0) for e in evaluations} - {1.0}
    told = " and ".join(f"{temperature:.3f}" for temperature in sorted(found))
    return f" All are at the calibration temperature {told}, by which logits are divided." * bool(
        told
    )


def _sample_sizes(evaluations: Sequence[Mapping[str, Any]]) -> str:
    sizes = [
        f"{e['metrics']['recall_at_1']['count']:,}"
        for e in evaluations
        if "recall_at_1" in e["metrics"]
    ]
    return f"{', '.join(sizes)} words" if sizes else "none was drawn"


def _text(text: Mapping[str, Any]) -> str:
    unknown = f", {text['unknown']:,} of them `<unk>`" if text["unknown"] else ""
    return (
        f"{text['read']}; {text['lines']:,} lines, {text['words']:,} words, "
        f"{text['characters']:,} characters, {text['tokens']:,} tokens{unknown}"
    )


def _limits(model: LanguageModel) -> str:
    limits = [
        "It knows the language of the texts above and little else; on other kinds of text, and in "
        "other languages, expect worse figures than these.",
        "It is fluent, not truthful: it continues texts as its corpora would, their mistakes and "
        "prejudices included, and may repeat passages of them.",
        "The validation files chose the best weights"
        + (" and the temperature" if "calibration" in model.details else "")
        + ", so that their figures flatter a little.",
    ]
    if model.tokenizer.unk_id is not None:
        limits.append(
            f"Words outside its {model.tokenizer.vocab_size:,} are unknown to it: it scores them "
            "all alike and never suggests one. Perplexities of models with other vocabularies "
            "cannot be compared with its own."
        )
    if reach := model.network.context_length:
        limits.append(f"It sees no further back than {reach} tokens in each layer.")
    else:
        limits.append("How far back it remembers is learnt, and fades: expect tens of words.")
    return "## Limits\n\n" + "\n".join(f"- {limit}" for limit in limits)
