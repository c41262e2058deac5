"""What is said when something goes wrong that no command expects."""

from __future__ import annotations

import sys

import pytest

from carver.cli.complaints import explain_crashes


@pytest.fixture
def said(capsys, monkeypatch):
    """Explain an error as it would be that ends the program, and return what was said."""
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    explain_crashes(verbose=False)

    def explain(error):
        sys.excepthook(type(error), error, None)
        return capsys.readouterr().err

    return explain


def test_a_package_that_is_missing_is_named_and_not_called_an_error_of_carvers_own(said):
    text = said(ModuleNotFoundError("No module named 'tqdm.auto'", name="tqdm.auto"))
    assert text.startswith("carver: carver is not installed whole: tqdm is missing; `pip install` carver again")
    assert "own" not in text


def test_another_error_is_carvers_own_and_may_be_reported(said):
    assert said(ValueError("odd")).startswith("carver: an error of carver's own, not of yours: ValueError: odd")
