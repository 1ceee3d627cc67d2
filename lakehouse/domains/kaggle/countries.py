"""Which country does a text name? Names and codes as data, from the library that follows ISO 3166, and the names that people use instead.

Kaggle writes a country in English, and not always as ISO 3166 does. What is listed here is looked up by one SQL expression on both engines,
and kept as a dimension (`dim_country`), which DuckDB's oracle and users' queries join.

Source: ISO 3166-1 as packaged by pycountry; COMMON_NAMES by hand, of the lists of countries on Kaggle, in Unicode CLDR and before a
country was renamed. Kosovo has no code of ISO's; XK is the one that the European Commission and CLDR use.
"""

import unicodedata
from functools import cache
from string import ascii_lowercase, ascii_uppercase

import pycountry

from lakehouse.engine.functions import lower_ascii, text

UNKNOWN = "XX"  # ISO 3166 leaves it to users, and never gives it to a country
_SEPARATOR = ";"
_SMALL = str.maketrans(ascii_uppercase, ascii_lowercase)
COMMON_NAMES = {
    "AE": ("UAE",),
    "BA": ("Bosnia", "Bosnia & Herzegovina"),
    "BN": ("Brunei",),
    "BO": ("Plurinational State of Bolivia",),
    "CD": ("Congo - Kinshasa", "Congo, Democratic Republic of the", "Democratic Republic of the Congo", "DR Congo", "Congo (Kinshasa)"),
    "CG": ("Congo - Brazzaville", "Congo (Brazzaville)", "Republic of the Congo", "Congo Republic"),
    "CI": ("Ivory Coast", "Cote d'Ivoire"),
    "CV": ("Cape Verde",),
    "CZ": ("Czech Republic",),
    "FK": ("Falkland Islands",),
    "FM": ("Micronesia",),
    "GB": ("UK", "Great Britain", "England", "Scotland", "Wales", "Northern Ireland"),
    "GM": ("The Gambia",),
    "HK": ("Hong Kong SAR China", "Hong Kong SAR"),
    "KP": ("North Korea",),
    "KR": ("South Korea", "Korea"),
    "LA": ("Laos",),
    "MK": ("Macedonia", "North Macedonia", "FYROM", "The former Yugoslav Republic of Macedonia"),
    "MM": ("Burma", "Myanmar (Burma)"),
    "MO": ("Macau", "Macau SAR China", "Macao SAR China"),
    "NL": ("Holland", "The Netherlands"),
    "PS": ("Palestine", "Palestinian Territories", "Palestinian Territory"),
    "RU": ("Russia",),
    "ST": ("Sao Tome & Principe", "Sao Tome and Principe"),
    "SY": ("Syria",),
    "SZ": ("Swaziland",),
    "TL": ("East Timor",),
    "TR": ("Turkey", "Turkiye"),
    "TT": ("Trinidad & Tobago",),
    "US": ("USA", "United States of America"),
    "VA": ("Vatican", "Vatican City"),
    "VG": ("British Virgin Islands",),
    "VI": ("US Virgin Islands", "U.S. Virgin Islands"),
    "VN": ("Vietnam",),
    "XK": ("XK", "Kosovo"),
}


@cache
def codes() -> dict[str, str]:
    """Return the two-letter code by name or code, in small letters (A to Z alone), in the order of the names."""
    found: dict[str, str] = {}
    for country in pycountry.countries:
        written = [country.alpha_2, country.alpha_3, country.name]
        written += [name for key in ("common_name", "official_name") if (name := getattr(country, key, ""))]
        for name in (*written, *(_turned(name) for name in written if ", " in name)):
            found.setdefault(small(name), country.alpha_2)
            found.setdefault(small(_without_marks(name)), country.alpha_2)
    for code, names in COMMON_NAMES.items():
        found |= {small(name): code for name in names}
    assert not any(_SEPARATOR in name for name in found)
    return dict(sorted(found.items()))


def code_of(country: str) -> str:
    """Return the SQL of a country's code; null where the text is null, blank or no country's."""
    names, listed = (text(_SEPARATOR.join(part)) for part in (codes().keys(), codes().values()))
    # One text, taken apart once for each plan, as in `dates/zones.py`. Spark gives 0 and DuckDB null for what is not in a list.
    place = f"array_position(split({names}, '{_SEPARATOR}'), {lower_ascii(f'trim({country})')})"
    return f"get(split({listed}, '{_SEPARATOR}'), CAST({place} - 1 AS INT))"


def small(name: str) -> str:
    """Return a name with small letters A to Z, as `lower_ascii` does in SQL."""
    return name.translate(_SMALL)


def _turned(name: str) -> str:
    """Turn "Korea, Republic of" round."""
    last, _, first = name.partition(", ")
    return f"{first} {last}"


def _without_marks(name: str) -> str:
    return unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().replace("`", "'")
