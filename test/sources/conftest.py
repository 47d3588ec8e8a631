"""The printed box and its features, made once."""

from __future__ import annotations

import pytest

from pnp_ros.objects.mesh import TriangleMesh
from pnp_ros.sources.feature_table import FeatureTable, FeatureTableConfig, make_feature_table
from synthetic.printed_box import printed_box


@pytest.fixture(scope="session")
def box() -> TriangleMesh:
    return printed_box()


@pytest.fixture(scope="session")
def table(box: TriangleMesh) -> FeatureTable:
    return make_feature_table(box, FeatureTableConfig(views=30, size=256))
