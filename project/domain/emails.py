"""Validates and normalizes e-mail addresses.

The syntax follows RFC 5322 and RFC 6531. DNS is not queried, so that the result does not depend on the network.
"""

import re
import unicodedata

from email_validator import SPECIAL_USE_DOMAIN_NAMES, EmailNotValidError, validate_email
from email_validator.rfc_constants import CASE_INSENSITIVE_MAILBOX_NAMES

from project.domain.errors import RuleError
from project.domain.text import WITHOUT_GLYPH, check_characters, trim
from project.domain.usernames import fold_username

MAX_LENGTH = 254
"""Maximum length of an address (RFC 5321, 4.5.3.1.3, erratum 1690)."""
MAX_LOCAL_LENGTH = 64
"""Maximum length of a local part (RFC 5321, 4.5.3.1.1)."""

_PLAIN = re.compile(
    r"(?P<local>[a-z0-9_+-]+(?:\.[a-z0-9_+-]+)*)@(?P<domain>(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]{2,63})",
    re.ASCII | re.IGNORECASE,
)
"""Matches valid addresses in ASCII, as most are: a fast path without Unicode and IDNA tables."""
_RESERVED = frozenset({"alt", "arpa", "example", "invalid", "localhost", "onion", "test"})
"""Top-level domains that never receive mail (RFC 6761, 7686, 9476). Private domains, such as `.local`, are accepted."""
_PRIVATE = "home.arpa"
"""The domain of home networks (RFC 8375), accepted although `arpa` is reserved."""
SPECIAL_USE_DOMAIN_NAMES.clear()  # email-validator would refuse some private domains and accept others

_SCRIPTS = tuple(
    map(re.compile, ("[A-Za-zÀ-ÖØ-öø-\u024f\u1e00-\u1eff]", "[\u0400-\u052f]", "[\u0370-\u03ff\u1f00-\u1fff]"))
)
"""Patterns of a Latin, a Cyrillic and a Greek letter: many letters of these scripts look alike."""
_TYPOGRAPHIC = re.compile("[\u00b4\u02b9-\u02bf\u2010-\u201f\u2032-\u2037\u2212]")
"""Matches dashes and quotation marks that word processors and phones write instead of ASCII punctuation."""
_LOOKALIKES = re.compile("[асеорхуѕіјһԁԛԝАВСЕНІЈКМОРЅТХУԌԚԜ0-9_.+-]+")
"""Matches local parts that look Latin (Unicode UTS 39, whole-script confusables)."""


def normalize_email(text: str) -> str:
    """Validate an address and return it in the form in which it is stored. Raises RuleError.

    The domain is in lower case and in Unicode (not Punycode). The local part is as written, but mailbox names such as
    `Postmaster` are converted to lower case.
    """
    typed = trim(text)
    if len(typed) > MAX_LENGTH:
        raise RuleError("too_long", limit=MAX_LENGTH, length=len(typed))
    plain = _PLAIN.fullmatch(typed)
    if plain is None or "--" in plain["domain"] or len(plain["local"]) > MAX_LOCAL_LENGTH:
        return _normalize_any(typed)
    local, domain = plain["local"], plain["domain"].lower()
    _check_reserved(domain)
    return f"{local.lower() if local.lower() in CASE_INSENSITIVE_MAILBOX_NAMES else local}@{domain}"


def fold_email(email: str) -> str:
    """Case-fold a normalized address; return the form that must be unique among users.

    The local part is folded like a username. The domain is unchanged: `straße.de` and `strasse.de` are two domains.
    """
    local, _, domain = email.rpartition("@")
    return f"{fold_username(local)}@{domain}"


def _normalize_any(typed: str) -> str:
    check_characters(typed)
    if typed[:7].lower() == "mailto:":
        typed = typed[7:]
    if "@" not in typed:
        typed = unicodedata.normalize("NFKC", typed)  # East Asian keyboards write a full-width @
    local, at, domain = typed.rpartition("@")
    if not at:
        raise RuleError("invalid_email", "no_at")
    if typed.endswith(">"):
        raise RuleError("invalid_email", "display_name")
    if "@" in local:
        raise RuleError("invalid_email", "several")
    if any(character.isspace() for character in typed):
        raise RuleError("invalid_email", "blank")
    if len(local) > MAX_LOCAL_LENGTH:
        raise RuleError("invalid_email", "long_local", limit=MAX_LOCAL_LENGTH)
    try:
        address = _validate(typed)
    except EmailNotValidError:
        raise RuleError("invalid_email", _find_wrong_part(local, domain)) from None
    local, _, domain = address.rpartition("@")
    _check_reserved(domain)
    _check_scripts(local, domain)
    _check_folded(local, domain)
    return address


def _validate(address: str) -> str:
    return validate_email(address, check_deliverability=False, strict=True).normalized


def _find_wrong_part(local: str, domain: str) -> str:
    """Return the variant of `invalid_email`: `special_domain`, `local` or `domain`."""
    if domain.lower() in _RESERVED:
        return "special_domain"
    try:
        _validate(f"{local}@example.org")
    except EmailNotValidError:
        return "local"
    return "domain"


def _check_reserved(domain: str) -> None:
    if domain.rpartition(".")[2] in _RESERVED and not f".{domain}".endswith(f".{_PRIVATE}"):
        raise RuleError("invalid_email", "special_domain")


def _check_scripts(local: str, domain: str) -> None:
    """Raise RuleError if a part of the address mixes scripts, or only looks Latin (UTS 39)."""
    folded = fold_username(local)
    mixed = any(sum(bool(script.search(part)) for script in _SCRIPTS) > 1 for part in (folded, *domain.split(".")))
    looks_latin = any(not form.isascii() and _LOOKALIKES.fullmatch(form) for form in (local, folded))
    if mixed or (domain.isascii() and looks_latin):
        raise RuleError("invalid_email", "keyboard_layout")


def _check_folded(local: str, domain: str) -> None:
    """Raise RuleError for invisible characters, and for look-alikes of punctuation.

    Raises RuleError, too, if the folded address is invalid.
    """
    for position, character in enumerate(local, start=1):
        folded = unicodedata.normalize("NFKC", character)
        forms = character + folded
        is_punctuation = not character.isascii() and any(part.isascii() and not part.isalnum() for part in folded)
        if is_punctuation or _TYPOGRAPHIC.search(forms) or WITHOUT_GLYPH.search(forms):
            raise RuleError("invalid_characters", position=position, codepoint=f"U+{ord(character):04X}")
    try:
        _validate(fold_email(f"{local}@{domain}"))
    except EmailNotValidError:
        raise RuleError("invalid_email", "local") from None
