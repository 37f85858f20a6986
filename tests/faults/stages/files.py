"""Files that editors and the office change while the server runs."""

from __future__ import annotations

from pathlib import Path

from tests.faults.trial import Trial, fault


def _broken(trial: Trial, files: list[Path], content: bytes | None, same: bool = True) -> None:
    good = {file: file.read_bytes() for file in files}
    booking = trial.booking("time")
    for file in files:
        if content is None:
            file.unlink()
        else:
            file.write_bytes(content)
    try:
        # Longer than the server goes without a look at its files.
        trial.endure(booking, 8.0)
        for sight in (sight for visitor in trial.visitors for sight in visitor.sights):
            trial.must(not same or sight.kind == "answer", f"not the answer of before: {sight}")
    finally:
        for file in files:
            file.write_bytes(good[file])
    trial.recover()


@fault("office-broken", "small", "office.yml becomes unreadable while the server runs")
def office_broken(trial: Trial) -> None:
    """Save half a file, as an editor does."""
    _broken(trial, [trial.place.home / "office.yml"], b"phone: [unclosed\n")


@fault("office-deleted", "small", "office.yml is deleted while the server runs")
def office_deleted(trial: Trial) -> None:
    """Delete the file."""
    _broken(trial, [trial.place.home / "office.yml"], None)


@fault("answers-broken", "small", "A file of answers becomes unreadable while the server runs")
def answers_broken(trial: Trial) -> None:
    """Save half a file."""
    _broken(trial, [trial.place.home / "data" / "faq" / "symptoms.yml"], b"responses: [unclosed\n")


@fault("answers-deleted", "small", "A file of answers is deleted while the server runs")
def answers_deleted(trial: Trial) -> None:
    """Delete a file."""
    _broken(trial, [trial.place.home / "data" / "faq" / "symptoms.yml"], None, same=False)


@fault("safety-files-broken", "small", "The red flags and their advice become unreadable")
def safety_files_broken(trial: Trial) -> None:
    """Save half of what is read in an emergency."""
    _broken(
        trial, sorted((trial.place.home / "data" / "safety").glob("*.yml")), b"nlu: [unclosed\n"
    )


@fault("safety-files-deleted", "small", "The red flags and their advice are deleted")
def safety_files_deleted(trial: Trial) -> None:
    """Delete what is read in an emergency."""
    _broken(trial, sorted((trial.place.home / "data" / "safety").glob("*.yml")), None, same=False)
