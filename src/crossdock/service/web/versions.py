"""The versions of the API."""

from __future__ import annotations

VERSIONS = (
    "2017-10-01, 2019-05-01, 2021-09-01, 2022-12-01, 2023-07-01, 2025-04-01, 2025-11-01, 2019-12-01-preview, "
    "2020-11-01-preview, 2021-06-01-preview, 2021-08-01-preview, 2021-12-01-preview, 2022-02-01-preview, "
    "2023-01-01-preview, 2023-06-01-preview, 2023-08-01-preview, 2023-11-01-preview, 2024-11-01-preview, "
    "2024-01-01-preview, 2025-03-01-preview, 2025-05-01-preview, 2025-06-01-preview, 2025-09-01-preview, "
    "2025-12-01-preview, 2026-01-01-preview, 2026-03-01-preview"
)
"""What Azure's registries advertise (az-contract 2.1). Any other one is taken as well."""
