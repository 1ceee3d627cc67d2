"""What are the messages of the polled list? Each tells of one dataset what a poll saw, or of one poll how it ended."""

from lakehouse.contract import Contract, Field

# The public list of datasets, which is polled. A poll reads all of its pages and has one time, whatever page a row came from.
_POLL = Field("poll_ts", "timestamp", required=True, about="when the poll began")

DATASET_LIST = Contract(
    topic="kaggle.dataset-list.v1",
    entity=("ref",),
    key=("ref", "poll_ts"),
    version="seen_ts",
    fields=(
        Field("ref", "string", required=True, about="owner/slug, the dataset's address"),
        _POLL,
        Field("seen_ts", "timestamp", required=True, about="when the page was answered, or the last one where is_absent"),
        Field("is_absent", "boolean", about="whether this complete poll did not find it, after polls that had; all else is null then"),
        Field("absent_polls", "long", about="complete polls in a row that did not find it, 1 or 2; a third one is not told", low=1),
        Field("title", "string", about="as the list has it"),
        Field("subtitle", "string", about="as the list has it"),
        Field("url", "string", about="address of its page"),
        Field("listed_id", "long", about="Kaggle's id of the dataset, where the list tells it"),
        Field("license_name", "string", about="as the list has it"),
        Field("updated_ts", "timestamp", about="when its current version was made, where the list tells it"),
    ),
)

DATASET_LIST_POLLS = Contract(
    topic="kaggle.dataset-list-polls.v1",
    entity=("list_name",),
    key=("poll_ts",),
    version="ended_ts",
    fields=(
        Field("list_name", "string", required=True, about="the list and its order, such as datasets-hottest"),
        _POLL,
        Field("ended_ts", "timestamp", required=True, about="when its last page was answered, or when it was given up"),
        Field("is_complete", "boolean", required=True, about="whether every page was read; only then does a poll show what is absent"),
        Field("rows", "long", about="datasets that it found", low=0),
        Field("absent", "long", about="known datasets that it did not find; null where it is not complete", low=0),
        Field("pages", "long", about="pages that it read", low=0),
    ),
)
