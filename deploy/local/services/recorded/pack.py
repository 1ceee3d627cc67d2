"""How were open_meteo.jsonl.gz and the golden files created? This script packs a folder of recorded answers.

    python deploy/local/services/recorded/pack.py FOLDER

FOLDER contains the answers as files, index.jsonl, errors.jsonl and the two upstream tables; the repository's CREDIT.md names their source.
The same folder always produces the same bytes.
"""

import csv
import gzip
import io
import json
import sys
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import urlsplit

HERE = Path(__file__).parent
GOLDEN = HERE.parents[3] / "tests" / "golden"
SETS = ("responses", "responses_week", "revised", "chunk_edge")

CITY_DAILY = {
    "location_key": "location_key",
    "date_utc": "date_utc",
    "aqi_daily_max": "aqi_daily_max",
    "hours_in_cat_good": "hours_good",
    "hours_in_cat_moderate": "hours_moderate",
    "hours_in_cat_usg": "hours_usg",
    "hours_in_cat_unhealthy": "hours_unhealthy",
    "hours_in_cat_very_unhealthy": "hours_very_unhealthy",
    "hours_in_cat_hazardous": "hours_hazardous",
    "hours_measured": "hours_measured",
}
EPISODE = {
    "location_key": "location_key",
    "start_ts_utc": "start_ts",
    "end_ts_utc": "end_ts",
    "duration_hours": "duration_hours",
    "peak_aqi": "peak_aqi",
}

Record = dict[str, object]


def recorded_answers(folder: Path) -> list[Record]:
    """Return every recorded answer with the known facts about its request, sets in a fixed order, by time of answer within a set."""
    index = [json.loads(line) for line in (folder / "index.jsonl").read_text().splitlines()]
    records: list[Record] = []
    for name in SETS:
        members = [entry for entry in index if f"/{name}/" in entry["path"]]
        records += [
            {
                "set": name,
                "city": entry["city"],
                "start_date": entry["start_date"],
                "end_date": entry["end_date"],
                "served_at": f"{parsedate_to_datetime(entry['served_at']):%Y-%m-%dT%H:%M:%SZ}",
                "request": urlsplit(entry["request"]).query,
                "answer": json.loads((folder / name / Path(entry["path"]).name).read_text()),
            }
            for entry in sorted(members, key=lambda entry: (parsedate_to_datetime(entry["served_at"]), entry["path"]))
        ]
    return [*records, _multi(folder, records), _forecast(folder)]


def _multi(folder: Path, records: list[Record]) -> Record:
    week = {str(record["city"]): record for record in records if record["set"] == "responses_week"}
    cities = ["hanoi", "hcmc", "danang"]
    return {
        "set": "multi",
        "city": ",".join(cities),
        "start_date": "2024-01-01",
        "end_date": "2024-01-07",
        # Combined from the three answers of the week; this is when the last of them was served.
        "served_at": max(str(week[city]["served_at"]) for city in cities),
        "request": "",
        "answer": json.loads((folder / "multi_location_2024-01-01_2024-01-07.json").read_text()),
    }


def _forecast(folder: Path) -> Record:
    return {
        "set": "forecast",
        "city": "lahore",
        "start_date": "2026-10-08",
        "end_date": "2026-10-12",
        # Not recorded; the first hour of the answer, 2026-10-08T00:00+05:00, is used instead.
        "served_at": "2026-10-07T19:00:00Z",
        "request": "",
        "answer": json.loads((folder / "lahore_forecast_2026-10-08_verbatim.json").read_text()),
    }


def write_packed(records: list[Record], path: Path) -> None:
    """Write one record per line, compressed, without a time or a name in the header, so that the bytes depend on the records alone."""
    with path.open("wb") as raw, gzip.GzipFile(filename="", mode="wb", fileobj=raw, compresslevel=9, mtime=0) as packed:
        for record in records:
            packed.write(json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")


def write_facts(source: Path, target: Path, columns: dict[str, str]) -> None:
    """Write the named columns of a table with weir's names, rows sorted by the first two columns."""
    with source.open(newline="") as file:
        rows = sorted([row[name] for name in columns] for row in csv.DictReader(file))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns.values())
    writer.writerows(rows)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text.getvalue())


def main(folder: Path) -> None:
    """Write all files."""
    write_packed(recorded_answers(folder), HERE / "open_meteo.jsonl.gz")
    write_facts(folder / "upstream_fact_city_daily_2024.csv", GOLDEN / "air_quality" / "upstream_city_daily_2024.csv", CITY_DAILY)
    write_facts(folder / "upstream_fact_episode_2024.csv", GOLDEN / "air_quality" / "upstream_episode_2024.csv", EPISODE)
    (GOLDEN / "open_meteo_errors.jsonl").write_text((folder / "errors.jsonl").read_text().rstrip("\n") + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
