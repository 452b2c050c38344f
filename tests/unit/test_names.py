"""Names of fields: synonyms for an import, and hints of the API, never a wrong one."""

import pytest

from project.domain.errors import FIELDS
from project.domain.names import FIELD_SYNONYMS, NAME_PARTS, find_field, find_parameter, find_similar_field

SYNONYMS = [(synonym, field) for field, synonyms in FIELD_SYNONYMS.items() for synonym in synonyms]


def test_every_field_has_synonyms_and_no_synonym_has_two_meanings() -> None:
    names = [find_field(synonym) for synonym, _ in SYNONYMS]

    assert tuple(FIELD_SYNONYMS) == FIELDS
    assert names == [field for _, field in SYNONYMS]
    assert not {find_field(part) for part in NAME_PARTS} - {None}


@pytest.mark.parametrize(
    ("name", "field"),
    [
        *(("login", "username"), ("userName", "username"), ("user_login", "username"), ("USER-NAME", "username")),
        *(
            ("mobile", "phone"),
            ("tel", "phone"),
            ("phone_number", "phone"),
            ("phoneNumber", "phone"),
            ("Телефон", "phone"),
        ),
        *(("фио", "name"), ("Ф.И.О.", "name"), ("fullName", "name"), ("Имя", "name")),
        *(
            ("dob", "birth_date"),
            ("date_of_birth", "birth_date"),
            ("birthDate", "birth_date"),
            ("birthday", "birth_date"),
        ),
        *(("e-mail", "email"), ("E-Mail Address", "email"), ("эл.почта", "email")),
    ],
)
def test_names_that_people_try_are_known_to_the_import_and_as_hints(name: str, field: str) -> None:
    assert find_field(name) == find_similar_field(name) == field


@pytest.mark.parametrize(
    ("name", "field"),
    [
        *(
            ("first_name", "name"),
            ("lastName", "name"),
            ("surname", "name"),
            ("отчество", "name"),
            ("family_name", "name"),
        ),
        *(("phne", "phone"), ("emial", "email"), ("usrname", "username"), ("birth_dte", "birth_date")),
        *(
            ("nmae", "name"),
            ("Naem", "name"),
            ("lgoin", "username"),
            ("фои", None),
            ("тлеефон", "phone"),
            ("mean", None),
        ),
    ],
)
def test_parts_of_names_and_typos_are_hints_only(name: str, field: str | None) -> None:
    assert (find_field(name), find_similar_field(name)) == (None, field)


@pytest.mark.parametrize(
    "name",
    [
        *(
            "is_admin",
            "id",
            "role",
            "password",
            "age",
            "amount",
            "nickname",
            "usertype",
            "gender",
            "date",
            "created_at",
        ),
        *("address", "city", "company", "position", "", "_", "пол", "адрес", "x" * 300),
    ],
)
def test_no_hint_is_better_than_a_wrong_one(name: str) -> None:
    assert find_field(name) is None
    assert find_similar_field(name) is None


def test_a_synonym_of_a_parameter_is_a_hint_only_where_the_parameter_is_known() -> None:
    assert find_parameter("outcome", ("result", "status")) == "result"
    assert find_parameter("outcome", ("dry_run",)) is None
