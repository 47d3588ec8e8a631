import pytest

from pnp_ros.objects.object_package import ObjectPackage
from pnp_ros.pipeline.onboarding import onboard
from synthetic.printed_box import printed_box


@pytest.fixture(scope="session")
def onboarded(tmp_path_factory: pytest.TempPathFactory) -> ObjectPackage:
    """A printed box's package, made of its mesh alone."""
    made = onboard(tmp_path_factory.mktemp("objects") / "box", "box", printed_box())
    assert made.verdict == "textured: poses from now on"
    assert made.found >= 0.5
    return made.package
