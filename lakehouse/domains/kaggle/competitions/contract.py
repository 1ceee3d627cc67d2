"""What are the messages of Kaggle's competitions, their hosts (organizations) and their tags? See `lakehouse/domains/kaggle/contract.py`.

An organization is here because it hosts competitions; those of datasets are the same.
"""

from lakehouse.contract import Contract, Field
from lakehouse.domains.kaggle.contract import ROW_FIELDS

# Far above every count of Kaggle's, and low enough that the sum of millions of them is a BIGINT.
MOST = 10**12

COMPETITIONS = Contract(
    topic="kaggle.competitions.v1",
    entity=("competition_id",),
    key=("competition_id", "run_date"),
    version="run_ts",
    deleted="is_gone",
    fields=(
        Field("competition_id", "long", required=True, about="Kaggle's id of the competition"),
        Field("slug", "string", about="its name in addresses"),
        Field("title", "string", about="its name on pages"),
        Field("subtitle", "string", about="one sentence about it"),
        Field("host_segment", "string", about="its kind as the dump has it, such as Featured, InClass or Community"),
        Field("host_name", "string", about="who hosts it, as text; null for most"),
        Field("organization_id", "long", about="the organization that hosts it; null for most"),
        Field("enabled_ts", "timestamp", about="when it began"),
        Field("deadline_ts", "timestamp", about="when it ends"),
        Field("reward_type", "string", about="a currency, such as USD, or Knowledge, Swag, Jobs, Kudos; null for most"),
        Field("reward_quantity", "decimal(18, 4)", about="all prizes together, in the currency of reward_type", low=0),
        Field("num_prizes", "long", about="number of prizes", low=0, high=MOST),
        Field("evaluation_metric", "string", about="short name of the metric by which submissions are ranked"),
        Field("only_kernel_submissions", "boolean", about="whether only notebooks may be submitted"),
        Field("can_qualify_tiers", "boolean", about="whether it counts for users' tiers"),
        Field("total_teams", "long", about="teams so far", low=0, high=MOST),
        Field("total_competitors", "long", about="users in these teams", low=0, high=MOST),
        Field("total_submissions", "long", about="submissions so far", low=0, high=MOST),
        *ROW_FIELDS,
    ),
)

ORGANIZATIONS = Contract(
    topic="kaggle.organizations.v1",
    entity=("organization_id",),
    key=("organization_id", "run_date"),
    version="run_ts",
    deleted="is_gone",
    fields=(
        Field("organization_id", "long", required=True, about="Kaggle's id of the organization"),
        Field("organization_name", "string", about="its name on pages"),
        Field("slug", "string", about="its name in addresses"),
        Field("created_ts", "timestamp", about="when its page was made; midnight where the dump has the day only"),
        Field("description", "string", about="Markdown, with line breaks"),
        *ROW_FIELDS,
    ),
)

COMPETITION_TAGS = Contract(
    topic="kaggle.competition-tags.v1",
    entity=("competition_id",),
    key=("competition_id", "tag_id", "run_date"),
    version="run_ts",
    deleted="is_gone",
    fields=(
        Field("competition_id", "long", required=True, about="the competition; it may not be known"),
        Field("tag_id", "long", required=True, about="Kaggle's id of the tag"),
        Field("tag", "string", about="the tag in addresses; null where the dump's vocabulary lacks it"),
        Field("tag_name", "string", about="the tag for people; null where the dump's vocabulary lacks it"),
        Field("tag_path", "string", about="the tag with those above it; null where the dump's vocabulary lacks it"),
        *ROW_FIELDS,
    ),
)
