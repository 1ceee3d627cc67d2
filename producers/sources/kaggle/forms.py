"""Which files and columns does a dump of Kaggle have? The real Meta Kaggle, and a simple form that other programs write.

Source: Meta Kaggle, of 2022 (no Country, no LocationSharingOptOut, no Medal) and of July 2025; the order of columns does not matter. Of
Meta Kaggle, a dataset's title stands with its current version, and its tags are named in a vocabulary.
"""

from producers.dumps.description import CsvFile

META, SIMPLE = "meta", "simple"

META_USERS = CsvFile(
    "Users.csv",
    required=("Id", "UserName", "DisplayName", "RegisterDate", "PerformanceTier"),
    known=("Country", "LocationSharingOptOut"),
)
META_DATASETS = CsvFile(
    "Datasets.csv",
    required=(
        "Id",
        "CreatorUserId",
        "OwnerUserId",
        "OwnerOrganizationId",
        "CurrentDatasetVersionId",
        "Type",
        "CreationDate",
        "LastActivityDate",
        "TotalViews",
        "TotalDownloads",
        "TotalVotes",
        "TotalKernels",
    ),
    known=("CurrentDatasourceVersionId", "ForumId", "Medal", "MedalAwardDate"),
)
META_VERSIONS = CsvFile(
    "DatasetVersions.csv",
    required=("Id", "LicenseName", "CreationDate", "Title", "Slug", "Subtitle"),
    known=(
        "DatasetId",
        "DatasourceVersionId",
        "CreatorUserId",
        "VersionNumber",
        "Description",
        "VersionNotes",
        "TotalCompressedBytes",
        "TotalUncompressedBytes",
    ),
    may_lack=True,
)
META_DATASET_TAGS = CsvFile("DatasetTags.csv", required=("DatasetId", "TagId"), known=("Id",))
META_TAGS = CsvFile(
    "Tags.csv",
    required=("Id", "Name", "Slug"),
    known=("ParentTagId", "FullPath", "Description", "DatasetCount", "CompetitionCount", "KernelCount"),
)

SIMPLE_USERS = CsvFile("users.csv", required=("Id", "UserName", "RegisterDate", "Country"))
SIMPLE_DATASETS = CsvFile(
    "datasets.csv",
    required=(
        "Id",
        "Title",
        "Subtitle",
        "CreatorUserId",
        "TotalViews",
        "TotalDownloads",
        "CreationDate",
        "LastUpdatedDate",
        "Type",
        "IsPrivate",
    ),
)
SIMPLE_TAGS = CsvFile("tags.csv", required=("DatasetId", "Tags"))
