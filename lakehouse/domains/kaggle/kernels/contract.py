"""What are the messages of Kaggle's kernels, which its pages call notebooks? See `lakehouse/domains/kaggle/contract.py`."""

from lakehouse.contract import Contract, Field
from lakehouse.domains.kaggle.contract import ROW_FIELDS

KERNELS = Contract(
    topic="kaggle.kernels.v1",
    entity=("kernel_id",),
    key=("kernel_id", "run_date"),
    version="run_ts",
    deleted="is_gone",
    fields=(
        Field("kernel_id", "long", required=True, about="Kaggle's id of the kernel"),
        Field("author_user_id", "long", about="the user who wrote it"),
        Field("title", "string", about="of its current version; null where the dump lacks the versions"),
        Field("slug", "string", about="its name in addresses"),
        Field("current_version_id", "long", about="Kaggle's id of its current version"),
        Field("language", "string", about="of its current version, such as Python or R; null where the dump lacks it"),
        Field("language_name", "string", about="the same with its format, such as IPython Notebook HTML"),
        Field("is_notebook", "boolean", about="whether the current version is a notebook and no script; null where the dump lacks it"),
        Field("forked_from_version_id", "long", about="the version that it was copied from; null for most"),
        Field("created_ts", "timestamp", about="when it was made"),
        Field("made_public_ts", "timestamp", about="when it was made public; midnight where the dump has the day only"),
        Field("medal", "long", about="1 gold, 2 silver, 3 bronze; null for most"),
        Field("total_views", "long", about="views so far", low=0),
        Field("total_comments", "long", about="comments so far", low=0),
        Field("total_votes", "long", about="votes so far", low=0),
        *ROW_FIELDS,
    ),
)
