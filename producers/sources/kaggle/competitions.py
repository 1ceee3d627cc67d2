"""Which files and columns of Meta Kaggle tell of competitions, and how do they become rows? See `rows.py`.

Source: Meta Kaggle of March 2022 (42 columns of Competitions.csv, every field quoted) and of July 2025 (48); the order does not matter.
Columns without which the figures of a year would be wrong are required. The simple form of a dump has none of these tables.
"""

from collections.abc import Mapping

from lakehouse.domains.kaggle.competitions.contract import COMPETITION_TAGS, COMPETITIONS, ORGANIZATIONS
from producers.dumps.csv_files import raw
from producers.dumps.description import Csv, CsvFile
from producers.sources.kaggle import forms
from producers.sources.kaggle.rows import as_before, others_of, typed_rows, with_vocabulary

META_COMPETITIONS = CsvFile(
    "Competitions.csv",
    required=(
        "Id",
        "Title",
        "HostSegmentTitle",
        "EnabledDate",
        "RewardType",
        "RewardQuantity",
        "TotalTeams",
        "TotalCompetitors",
        "TotalSubmissions",
    ),
    known=(
        "Slug",
        "Subtitle",
        "HostName",
        "OrganizationId",
        "DeadlineDate",
        "NumPrizes",
        "EvaluationAlgorithmAbbreviation",
        "OnlyAllowKernelSubmissions",
        "CanQualifyTiers",
        # Not used.
        "ForumId",
        "CompetitionTypeId",
        "ProhibitNewEntrantsDeadlineDate",
        "TeamMergerDeadlineDate",
        "TeamModelDeadlineDate",
        "ModelSubmissionDeadlineDate",
        "FinalLeaderboardHasBeenVerified",
        "HasKernels",
        "HasLeaderboard",
        "LeaderboardPercentage",
        "LeaderboardDisplayFormat",
        "ScoreTruncationNumDecimals",
        "EvaluationAlgorithmName",
        "EvaluationAlgorithmDescription",
        "EvaluationAlgorithmIsMax",
        "ValidationSetName",
        "ValidationSetValue",
        "MaxDailySubmissions",
        "NumScoredSubmissions",
        "MaxTeamSize",
        "BanTeamMergers",
        "EnableTeamModels",
        "EnableSubmissionModelHashes",
        "EnableSubmissionModelAttachments",
        "UserRankMultiplier",
        "LicenseName",
        "Overview",
        "Rules",
        "DatasetDescription",
        "TotalCompressedBytes",
        "TotalUncompressedBytes",
    ),
)
META_ORGANIZATIONS = CsvFile("Organizations.csv", required=("Id", "Name"), known=("Slug", "CreationDate", "Description"))
META_COMPETITION_TAGS = CsvFile("CompetitionTags.csv", required=("CompetitionId", "TagId"), known=("Id",))
META_TAGS = CsvFile(forms.META_TAGS.name, forms.META_TAGS.required, forms.META_TAGS.known, may_lack=True)
_OF_TAG = ("tag", "tag_name", "tag_path")


def meta_competitions(files: Mapping[str, Csv], kept: str | None) -> str:
    """Return the SQL of competitions of Meta Kaggle."""
    csv = files[META_COMPETITIONS.name]
    columns = {
        "competition_id": raw("Id"),
        "slug": raw("Slug"),
        "title": raw("Title"),
        "subtitle": raw("Subtitle"),
        "host_segment": raw("HostSegmentTitle"),
        "host_name": raw("HostName"),
        "organization_id": raw("OrganizationId"),
        "enabled_ts": raw("EnabledDate"),
        "deadline_ts": raw("DeadlineDate"),
        "reward_type": raw("RewardType"),
        "reward_quantity": raw("RewardQuantity"),
        "num_prizes": raw("NumPrizes"),
        "evaluation_metric": raw("EvaluationAlgorithmAbbreviation"),
        "only_kernel_submissions": raw("OnlyAllowKernelSubmissions"),
        "can_qualify_tiers": raw("CanQualifyTiers"),
        "total_teams": raw("TotalTeams"),
        "total_competitors": raw("TotalCompetitors"),
        "total_submissions": raw("TotalSubmissions"),
    }
    return typed_rows(COMPETITIONS, csv.relation, columns, others_of(csv))


def meta_organizations(files: Mapping[str, Csv], kept: str | None) -> str:
    """Return the SQL of organizations of Meta Kaggle."""
    csv = files[META_ORGANIZATIONS.name]
    columns = {
        "organization_id": raw("Id"),
        "organization_name": raw("Name"),
        "slug": raw("Slug"),
        "created_ts": raw("CreationDate"),
        "description": raw("Description"),
    }
    return typed_rows(ORGANIZATIONS, csv.relation, columns, others_of(csv))


def meta_competition_tags(files: Mapping[str, Csv], kept: str | None) -> str:
    """Return the SQL of competitions' tags of Meta Kaggle; the names of a tag that the vocabulary lacks are null.

    Without the vocabulary, which a partial dump may lack, the names are those of the last delivered dump.
    """
    tags, names = files[META_COMPETITION_TAGS.name], files.get(META_TAGS.name)
    columns = {
        "competition_id": raw("CompetitionId"),
        "tag_id": raw("TagId"),
        "tag": raw("tag Slug"),
        "tag_name": raw("tag Name"),
        "tag_path": raw("tag FullPath"),
    }
    if names is None:
        there = columns | dict.fromkeys(_OF_TAG, "")
        return as_before(typed_rows(COMPETITION_TAGS, tags.relation, there, others_of(tags)), kept, ("competition_id", "tag_id"), _OF_TAG)
    joined, others = with_vocabulary(tags, names)
    return typed_rows(COMPETITION_TAGS, joined, columns, others)
