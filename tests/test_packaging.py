"""What is published: licences, cards, the conda recipe, the services around the app."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from cytovae.quiz.answers import Store

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
MODELS = sorted(path.parent for path in (ROOT / "models").glob("*/config.json"))

spec = importlib.util.spec_from_file_location("sbom", ROOT / ".ci" / "sbom.py")
assert spec is not None and spec.loader is not None
sbom = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sbom)

CARD = {
    "type": "object",
    "required": ["license", "library_name", "pipeline_tag", "tags", "datasets", "metrics", "model-index"],
    "additionalProperties": False,
    "properties": {
        "license": {"enum": ["cc-by-nc-sa-3.0", "other"]},
        "license_name": {"const": "none-needed"},
        "library_name": {"const": "cytovae"},
        "pipeline_tag": {"const": "feature-extraction"},
        "tags": {"type": "array", "minItems": 1, "items": {"type": "string"}},
        "datasets": {"type": "array", "minItems": 1, "items": {"type": "string"}},
        "metrics": {"type": "array", "minItems": 1, "items": {"type": "string"}},
        "model-index": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["name", "results"],
                "properties": {
                    "results": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "required": ["task", "dataset", "metrics"],
                            "properties": {
                                "task": {"required": ["type"]},
                                "dataset": {"required": ["name", "type"]},
                                "metrics": {"items": {"required": ["type", "value"]}},
                            },
                        },
                    }
                },
            },
        },
    },
}
"""What model hubs ask of the YAML at the head of a card."""


def front_matter(text: str) -> Any:
    return yaml.safe_load(text.split("---\n")[1])


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_a_card_can_be_read_by_a_hub(model: Path) -> None:
    card = front_matter((model / "README.md").read_text())
    jsonschema.validate(card, CARD)
    measured = json.loads((model / "metrics.json").read_text())
    for line in card["model-index"][0]["results"][0]["metrics"]:
        assert line["value"] == pytest.approx(measured[line["type"]], abs=1e-6)


def test_a_card_without_a_licence_is_no_card() -> None:
    card = front_matter((MODELS[0] / "README.md").read_text())
    del card["license"]
    with pytest.raises(jsonschema.ValidationError, match="license"):
        jsonschema.validate(card, CARD)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_models_of_real_images_carry_their_licence_everywhere(model: Path) -> None:
    real = model.name.startswith("bbbc021-")
    config = json.loads((model / "config.json").read_text())
    assert (config["data"]["licence"] == "CC BY-NC-SA 3.0") == real
    assert (front_matter((model / "README.md").read_text())["license"] == "cc-by-nc-sa-3.0") == real
    assert f"{model.name.split('-')[0]}-*" in (ROOT / "models" / "LICENSE").read_text()


def test_the_code_is_bsd_and_the_package_says_what_else_is_in_it() -> None:
    assert PROJECT["license"] == "BSD-3-Clause AND CC-BY-NC-SA-3.0"
    assert PROJECT["license-files"] == ["LICENSE", "models/LICENSE"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["license"] == "BSD-3-Clause"


def test_every_run_time_package_states_a_licence_that_can_be_shipped() -> None:
    made = sbom.document()
    assert [c["name"] for c in made["components"]] == sorted(sbom.locked())
    for component in made["components"]:
        said = component["licenses"][0]["license"]["name"]
        assert said and not sbom.COPYLEFT.search(said), f"{component['name']}: {said}"


def test_copyleft_is_seen_and_the_lesser_one_is_not() -> None:
    assert sbom.COPYLEFT.search("GPL-3.0-only") and sbom.COPYLEFT.search("GNU AGPLv3")
    assert not sbom.COPYLEFT.search("LGPL-2.1-or-later")


def test_hashes_are_those_of_the_locked_versions() -> None:
    lines = (ROOT / "requirements-hashes.lock").read_text().splitlines()
    found = dict(re.match(r"([^=]+)==([^ +]+)", line).groups() for line in lines if "==" in line)  # type: ignore[union-attr]
    assert found == {name: version for name, version in sbom.locked().items() if name != "torch"}
    assert all(re.search(r" --hash=sha256:[0-9a-f]{64}$", line) for line in lines if "==" in line)


def test_the_conda_recipe_asks_for_what_the_package_asks_for() -> None:
    recipe = yaml.safe_load((ROOT / "packaging" / "conda" / "recipe.yaml").read_text())
    names = {"torch": "pytorch", "opencv-python-headless": "opencv"}
    wanted = set()
    for one in PROJECT["dependencies"]:
        name, bounds = re.match(r"([A-Za-z0-9_-]+)(.*)", one).groups()  # type: ignore[union-attr]
        wanted.add(f"{names.get(name, name)} {bounds}")
    python = f"python {PROJECT['requires-python']}"
    assert set(recipe["requirements"]["run"]) == {python, *wanted}
    assert recipe["build"]["noarch"] == "python"
    assert recipe["about"]["license"] == PROJECT["license"]
    assert recipe["about"]["license_file"] == PROJECT["license-files"]
    version = re.search(r'__version__ = "(.*)"', (ROOT / "cytovae" / "__init__.py").read_text())
    assert version and recipe["context"]["version"] == version[1]


def test_only_the_proxy_can_be_reached_and_secrets_are_files() -> None:
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    assert [name for name, service in services.items() if service.get("ports")] == ["proxy"]
    assert services["proxy"]["ports"] == ["127.0.0.1:8080:8080"]
    assert services["app"]["read_only"] and services["proxy"]["read_only"]
    assert "PASSWORD_FILE" in str(services["database"]["environment"])


def test_a_container_with_a_read_only_root_keeps_the_quizs_answers_in_a_volume(tmp_path: Path) -> None:
    lines = (ROOT / "Dockerfile").read_text()
    found = re.search(r"CYTOVAE_QUIZ_DB=(\S+)", lines)
    volume = re.search(r"^VOLUME (\S+)$", lines, flags=re.M)
    assert found and volume and re.search(rf"chown cytovae .*{volume[1]}", lines)
    assert found[1].startswith(f"sqlite:///{volume[1]}/")
    with contextlib.closing(Store(found[1].replace(volume[1], str(tmp_path)))) as store:
        assert store.calls().empty
    assert list(tmp_path.iterdir())


def test_the_proxy_asks_for_a_login_and_lets_websockets_through() -> None:
    config = (ROOT / "packaging" / "proxy" / "nginx.conf").read_text()
    assert config.index("auth_basic_user_file") < config.index("location")  # it holds for every location
    assert re.findall(r"location (?:= )?(\S+) \{ auth_basic off", config) == ["/_stcore/health"]
    assert "proxy_set_header Upgrade $http_upgrade" in config
