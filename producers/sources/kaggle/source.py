"""What does the source kaggle provide? Seven tables from dumps: those of Meta Kaggle, or the first three in a simple form. And the public
list of datasets, which is polled.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from lakehouse.contract import Value
from lakehouse.domains.kaggle.competitions.contract import COMPETITION_TAGS, COMPETITIONS, ORGANIZATIONS
from lakehouse.domains.kaggle.contract import DATASET_TAGS, DATASETS, DUMPS, SOURCE_SYSTEM, USERS
from lakehouse.domains.kaggle.kernels.contract import KERNELS
from lakehouse.domains.kaggle.listing.contract import DATASET_LIST, DATASET_LIST_POLLS
from lakehouse.settings import Settings
from producers.budget import Budget, Lane
from producers.clock import Clock
from producers.dumps.description import Dump, DumpSource, DumpTable, Fetched, Figures, Form
from producers.source import BudgetUse, Client, Source, Watched, Words
from producers.sources.kaggle import competitions, forms, kernels, rows

if TYPE_CHECKING:
    from producers.sources.kaggle.listing_polls import TheList

STAMPED = ("run_date", "run_ts", "source_file", "source_system")


def _stamp(dump: Dump) -> Mapping[str, Value]:
    return {
        "run_date": dump.made.date(),
        "run_ts": dump.made,
        "source_file": " + ".join(dump.files),
        "source_system": SOURCE_SYSTEM,
    }


def _to_notice(table: str, dump: Dump, figures: Figures) -> Mapping[str, Value]:
    return {
        "table_name": table,
        **_stamp(dump),
        "rows": figures.rows,
        "added": figures.added,
        "changed": figures.changed,
        "gone": figures.gone,
        "form": dump.form,
    }


def _download(settings: Settings, folder: Path, names: Sequence[str]) -> AbstractContextManager[Fetched]:
    from producers.sources.kaggle.download import download

    return download(settings, folder, names)


KAGGLE = DumpSource(
    name="kaggle",
    domain="kaggle",
    tables=(
        DumpTable(
            "users",
            USERS,
            identity=("user_id",),
            forms=(
                Form(forms.META, (forms.META_USERS,), rows.users),
                Form(forms.SIMPLE, (forms.SIMPLE_USERS,), rows.users),
            ),
        ),
        DumpTable(
            "datasets",
            DATASETS,
            identity=("dataset_id",),
            forms=(
                Form(forms.META, (forms.META_DATASETS, forms.META_VERSIONS), rows.meta_datasets),
                Form(forms.SIMPLE, (forms.SIMPLE_DATASETS,), rows.simple_datasets),
            ),
        ),
        DumpTable(
            "dataset_tags",
            DATASET_TAGS,
            identity=("dataset_id", "tag", "occurrence"),
            forms=(
                Form(forms.META, (forms.META_DATASET_TAGS, forms.META_TAGS), rows.meta_tags),
                Form(forms.SIMPLE, (forms.SIMPLE_TAGS,), rows.simple_tags),
            ),
            repeats="occurrence",
        ),
        DumpTable(
            "organizations",
            ORGANIZATIONS,
            identity=("organization_id",),
            forms=(Form(forms.META, (competitions.META_ORGANIZATIONS,), competitions.meta_organizations),),
        ),
        DumpTable(
            "competitions",
            COMPETITIONS,
            identity=("competition_id",),
            forms=(Form(forms.META, (competitions.META_COMPETITIONS,), competitions.meta_competitions),),
        ),
        DumpTable(
            "competition_tags",
            COMPETITION_TAGS,
            identity=("competition_id", "tag_id"),
            forms=(Form(forms.META, (competitions.META_COMPETITION_TAGS, competitions.META_TAGS), competitions.meta_competition_tags),),
        ),
        DumpTable(
            "kernels",
            KERNELS,
            identity=("kernel_id",),
            forms=(Form(forms.META, (kernels.META_KERNELS, kernels.META_VERSIONS, kernels.META_LANGUAGES), kernels.meta_kernels),),
        ),
    ),
    stamp=_stamp,
    stamped=STAMPED,
    notice=DUMPS,
    to_notice=_to_notice,
    download=_download,
)


def _watched(settings: Settings) -> "Watched[TheList]":
    from producers.sources.kaggle.listing_polls import LIST_KEY, TheList

    return Watched("Kaggle", {LIST_KEY: TheList(settings.kaggle_list_order)})


def _open(
    settings: Settings, clock: Clock, is_stopping: Callable[[], bool], budget: Budget | None
) -> "AbstractContextManager[Client[TheList]]":
    from producers.sources.kaggle.listing_polls import open_list

    return open_list(settings, clock, is_stopping, budget)


def _open_budget(settings: Settings, lane: Lane, program: str) -> Budget:
    from producers.sources.kaggle.listing_polls import open_list_budget

    return open_list_budget(settings, lane, program)


def _poll_weight(lists: int, days: int) -> float:
    from producers.sources.kaggle.listing_polls import PAGES_OF_A_POLL

    return float(lists * PAGES_OF_A_POLL)


def _not_ready(settings: Settings) -> str:
    from producers.sources.kaggle.listing import lacking

    return lacking(settings)


KAGGLE_LIST: "Source[TheList]" = Source(
    name="kaggle",
    domain="kaggle",
    contract=DATASET_LIST,
    watched=_watched,
    open=_open,
    words=Words(records="rows", entity="list", entities="lists", log_field="list"),
    budget=BudgetUse(_open_budget, _poll_weight),
    identity=("ref",),
    listed_as="datasets",
    notice=DATASET_LIST_POLLS,
    not_ready=_not_ready,
)
