"""How are kernels put together? One source, and what is there now; `lakehouse/domains/kaggle/domain.py` joins them to the others."""

from pathlib import Path

from lakehouse.domain import ByKey, Derived, Source, by_key
from lakehouse.domains.kaggle.kernels.contract import KERNELS
from lakehouse.domains.kaggle.kernels.rules import kernel_rules
from lakehouse.domains.kaggle.kernels.tables import BRONZE_KERNELS, KAGGLE_KERNELS, KERNEL_VERSIONS
from lakehouse.domains.kaggle.kernels.transforms import to_kernel_versions, to_kernels

ORACLE = (Path(__file__).parent / "oracle.sql").read_text(encoding="utf-8")


def sources() -> tuple[Source, ...]:
    """Return the sources."""
    return (Source(KERNELS, BRONZE_KERNELS, KERNEL_VERSIONS, kernel_rules(), to_kernel_versions, may_be_empty=True),)


def derived() -> tuple[Derived, ...]:
    """Return the derived tables."""
    versions = by_key(KERNEL_VERSIONS, reach={"kernel_id": "kernel_id"}, with_deleted=True)
    return (Derived(KAGGLE_KERNELS, ByKey(), reads=(versions,), to_rows=to_kernels),)
