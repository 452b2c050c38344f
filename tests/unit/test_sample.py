"""The sample data of the documents' screenshots: deterministic and varied."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from project.contract.error_codes import FIELD_CODES
from project.domain.attempts import Outcome
from project.domain.records import AttemptRecord

pytestmark = pytest.mark.slow
PATH = Path(__file__).parents[2] / "docs" / "sample.py"


@pytest.fixture(scope="module")
def sample() -> ModuleType:
    """The module, which is not part of the service."""
    spec = importlib.util.spec_from_file_location("sample", PATH)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def first(sample: ModuleType) -> list[AttemptRecord]:
    """The records of a first run."""
    return list(sample.records())


def test_the_sample_is_the_same_at_each_run_and_covers_all_outcomes_and_codes(
    sample: ModuleType, first: list[AttemptRecord]
) -> None:
    assert list(sample.records()) == first
    assert [record.attempt.id for record in first] == sorted({record.attempt.id for record in first})
    assert {Outcome.of(record.status) for record in first} == set(Outcome)
    assert {record.code for record in first} >= FIELD_CODES.keys()
    assert {record.via for record in first} == {"direct", "spool", "recovered"}
    assert (first[-1].attempt.received_at - first[0].attempt.received_at).days > 7


def test_later_records_have_later_ids(sample: ModuleType, first: list[AttemptRecord]) -> None:
    newest = max(record.attempt.id for record in first)

    assert all(record.attempt.id > newest for record in sample.latest(3))
