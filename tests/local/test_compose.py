"""docker-compose.yml follows the Compose specification, and is the same local AWS."""

from pathlib import Path

import compose_spec
import pytest

TEXT = (Path(__file__).parents[2] / "docker-compose.yml").read_text()


def test_file_follows_the_compose_specification() -> None:
    """Every key and value is one that Compose knows."""
    parsed = compose_spec.PyCompose.from_yaml(TEXT).to_spec()

    assert list(parsed.services) == ["local-aws"]


@pytest.mark.parametrize("mistake", ["network_mod:", "dockerfil_inline:"])
def test_mistake_would_be_noticed(mistake: str) -> None:
    """So that the test above says something."""
    right = mistake.replace("mod:", "mode:").replace("dockerfil_", "dockerfile_")

    with pytest.raises(ValueError, match="does not start with"):
        compose_spec.PyCompose.from_yaml(TEXT.replace(right, mistake))
