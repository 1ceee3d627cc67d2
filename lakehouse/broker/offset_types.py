"""In which shapes do offsets travel? Two, each with one name."""

from collections.abc import Mapping

# {(topic, partition): offset}
PartitionOffsets = Mapping[tuple[str, int], int]
# {topic: {partition as text: (first, last)}}, as the summary of a snapshot has them
OffsetRanges = Mapping[str, Mapping[str, tuple[int, int]]]
