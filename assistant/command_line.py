"""`assistant`: the one command for running, training, checking and measuring."""

from __future__ import annotations

import json
import logging
import os
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer

import assistant
from assistant.channel_commands import commands as channel_commands
from assistant.office_commands import commands as office_commands
from assistant.settings import SettingError, load_settings, office_file, project_folder
from assistant.staff_commands import commands as staff_commands

app = typer.Typer(
    help="The assistant of an acupuncture and pain-management office.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(office_commands)
app.add_typer(channel_commands)
app.add_typer(staff_commands)


def main() -> None:
    """Run the command line; a known problem is one line on standard error and exit code 1."""
    from assistant.content.catalogue import ContentError
    from assistant.content.office import OfficeFileError
    from assistant.office_commands import OfficeCommandError

    try:
        app()
    except (SettingError, OfficeFileError, ContentError, OfficeCommandError) as error:
        _stop(str(error))


def _stop(message: str) -> None:
    typer.secho(message, fg="red", err=True)
    sys.exit(1)


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Show the version and stop.")] = False,
) -> None:
    if version:
        typer.echo(assistant.__version__)
        raise typer.Exit


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on [HOST].")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on [PORT].")] = None,
) -> None:
    """Train if needed, then serve the assistant until stopped."""
    import dataclasses

    settings = load_settings()
    given = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    settings = dataclasses.replace(settings, **given)  # type: ignore[arg-type]
    _quiet(settings.log_format, settings.log_level)
    from assistant.content.office import load_office
    from assistant.server import check_port
    from assistant.start import check_combination

    check_port(settings.host, settings.port)
    check_combination(settings, load_office(office_file()))
    model = _trained() if settings.train_at_start else _present_model()
    from assistant.agent import ModelError
    from assistant.model_seal import SealError
    from assistant.self_test import SelfTestError
    from assistant.server import serve as run

    # With JSON, whatever the server says is for a program.
    say = typer.echo if settings.log_format == "plain" else logging.getLogger("assistant").info
    say("Starting; loading the model takes some seconds.")
    try:
        run(settings, model, say)
    except (ModelError, SealError, SelfTestError) as error:
        _stop(str(error))


@app.command()
def train(
    force: Annotated[
        bool, typer.Option(help="Train even if a model for this data exists.")
    ] = False,
) -> None:
    """Train a model for the present data and configuration, if there is none."""
    _quiet()
    path = _trained(force=force)
    typer.echo(f"The model is {path.relative_to(project_folder())}.")


@app.command()
def chat() -> None:
    """Talk to the assistant in the terminal; an empty line ends it."""
    _quiet()
    _check_office()
    model = _trained()
    from assistant.terminal import talk

    talk(project_folder(), model)


@app.command()
def check(
    buttons: Annotated[
        bool, typer.Option(help="Also ask the model whether each button reaches its topic.")
    ] = True,
    against: Annotated[
        list[Path] | None,
        typer.Option(help="Evaluation data that no example may repeat.", metavar="DATA.tsv"),
    ] = None,
) -> None:
    """Check all content: every problem with its file and line."""
    from assistant.content.check import check_project, repeated_rows

    problems = check_project(project_folder())
    for path in against or []:
        problems += repeated_rows(project_folder(), path)
    if buttons and not problems:
        _quiet()
        from assistant.evaluation import agent_on_trial, unreached_buttons

        problems += unreached_buttons(agent_on_trial(project_folder(), _trained()))
    for problem in problems:
        typer.echo(str(problem))
    typer.echo(f"{len(problems)} problems")
    if problems:
        raise typer.Exit(1)


@app.command(name="eval")
def evaluate(
    data: Annotated[
        Path, typer.Argument(help="Tab-separated: id, text, label.", metavar="DATA.tsv")
    ],
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write all figures there.", metavar="OUT")
    ] = None,
    typos: Annotated[
        int | None,
        typer.Option(help="Put one typing error into each message, at random from this seed."),
    ] = None,
) -> None:
    """Measure how well labelled messages are answered."""
    _quiet()
    from assistant.evaluation import EvaluationFileError, read_rows
    from assistant.evaluation import evaluate as measure

    try:
        rows = read_rows(data)
    except EvaluationFileError as error:
        _stop(str(error))
    model = _trained()
    with typer.progressbar(length=len(rows), label="Answering", file=sys.stderr) as bar:
        result = measure(project_folder(), model, rows, lambda done, total: bar.update(1), typos)
    _show(result)
    if json_file:
        json_file.write_text(json.dumps(result, indent=2, ensure_ascii=False), encoding="utf-8")


def _trained(force: bool = False) -> Path:
    from assistant.training import TrainingError, train

    try:
        return train(project_folder(), typer.echo, force=force)
    except TrainingError as error:
        _stop(str(error))
        raise AssertionError from error  # not reached


def _present_model() -> Path:
    from assistant.training import TrainingError, model_path

    try:
        return model_path(project_folder())
    except TrainingError as error:
        _stop(str(error))
        raise AssertionError from error  # not reached


def _check_office() -> None:
    from assistant.content.office import load_office

    load_office(office_file())


def _show(result: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(
        "area", "in scope", "right", "in top 3", "out of scope", "turned away", "precision"
    )
    for name, part in [("all", result), *result["areas"].items()]:
        table.add_row(
            name,
            str(part["in_scope"]),
            _percent(part["in_scope_accuracy"]),
            _percent(part["in_scope_top3"]),
            str(part["out_of_scope"]),
            _percent(part["out_of_scope_recall"]),
            _percent(part["out_of_scope_precision"]),
        )
    Console().print(table)
    typer.echo(
        f"{result['rows']} rows, {result['left_out']} left out (they stand in the training data)"
    )


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f} %"


def _quiet(log_format: str = "plain", log_level: str = "WARNING") -> None:
    """Keep the noise of pinned dependencies away; our own warnings and all errors stay."""
    os.environ["LOG_LEVEL"] = "WARNING"  # Rasa's own; it also silences its progress bars
    import sanic.app  # noqa: F401 - it turns deprecation warnings on, so it goes before the filter

    warnings.filterwarnings("ignore", category=DeprecationWarning)
    warnings.filterwarnings("ignore", category=FutureWarning)
    # Ours is the TopicClassifier; and Rasa reports its own merging of retrieval intents.
    warnings.filterwarnings("ignore", message=".*training a response selector")
    warnings.filterwarnings("ignore", message=".*duplicated intents have been found")
    # A start that is refused ends Sanic's loop before it opens the port; the reason stands above.
    warnings.filterwarnings("ignore", message="coroutine 'Loop.create_server' was never awaited")
    # Said of every domain with slots.
    warnings.filterwarnings("ignore", message=".*Slot auto-fill has been removed")
    from assistant.logs import configure_logs

    configure_logs(log_format, log_level)


if __name__ == "__main__":
    main()
