"""A model that does not fit this server is refused at the start, with a sentence that says what differs."""

import json
from pathlib import Path

import pytest

from candlecast import features
from candlecast.errors import BundleError
from candlecast.models.library import Library
from candlecast.models.states import Standing, State, Version
from candlecast.server.app import newest_bundle, open_server
from candlecast.server.serving import check_model
from candlecast.settings import load
from candlecast.triton.client import Metadata, Tensor
from tests.fakes import fitting_bundle


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    repository = tmp_path / "models"
    fitting_bundle(repository / "patchtst" / "1", optional_inputs=["trades", "reference"], reference_symbol="BTCUSDT")
    return repository


def edit_manifest(repository: Path, change) -> None:
    (path,) = repository.glob("patchtst/*/manifest.json")
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


async def refusal(repository: Path, **flags: str) -> str:
    settings = load(
        model_repository=repository,
        state_dir=repository.parent / "state",
        database_url="postgresql://localhost:1/none",
        **flags,
    )
    with pytest.raises(BundleError) as refused:
        async with open_server(settings):
            pass
    return str(refused.value)


async def test_another_feature_set_is_refused_with_both_hashes(repository):
    edit_manifest(repository, lambda m: m["feature_set"].update(hash="00000000deadbeef"))
    said = await refusal(repository)
    assert "00000000deadbeef" in said
    assert f"{features.feature_set_hash(['trades', 'reference']):016x}" in said


async def test_another_reference_symbol_is_refused_with_both_names(repository):
    said = await refusal(repository, reference_symbol="ETHUSDT")
    assert "BTCUSDT" in said
    assert "reference_symbol is ETHUSDT" in said


async def test_another_number_of_columns_is_refused(repository):
    edit_manifest(repository, lambda m: m["feature_set"]["columns"].append("one_more"))
    said = await refusal(repository)
    assert str(len(features.NAMES)) in said
    assert str(len(features.NAMES) + 1) in said


async def test_a_damaged_file_is_refused(repository):
    (model,) = repository.glob("patchtst/*/model.onnx")
    model.write_bytes(model.read_bytes()[:-1])
    assert "model.onnx" in await refusal(repository)


async def test_a_repository_without_a_version_is_refused(tmp_path):
    (tmp_path / "models" / "patchtst").mkdir(parents=True)
    assert "holds no model version" in await refusal(tmp_path / "models")


async def test_a_repository_without_the_version_that_answered_last_is_refused(repository):
    champion = Version("patchtst", 2, "0" * 64, State.CHAMPION, 5, is_loaded=True)
    standing, events = Standing("patchtst").added(champion, "tester", "first")
    state_dir = repository.parent / "state"
    Library(state_dir, repository, "patchtst").write(standing, [], events)
    said = await refusal(repository)
    assert "lacks version 2, which answered last" in said
    assert str(state_dir / "models" / "patchtst.json") in said


class Serves:
    """A Triton that claims to serve something."""

    address, name = "127.0.0.1:1", "patchtst"

    def __init__(self, *, columns=0, outputs=0, version=1):
        shape = (-1, features.WINDOW, len(features.NAMES) + columns)
        self.served = Metadata(
            (str(version),), (Tensor("features", "FP32", shape),), (Tensor("outputs", "FP32", (-1, 20 + outputs)),)
        )

    async def metadata(self):
        return self.served


@pytest.mark.parametrize(
    ("served", "said"),
    [({"columns": 1}, str(len(features.NAMES) + 1)), ({"outputs": 1}, "21"), ({"version": 2}, "versions")],
)
async def test_a_triton_that_serves_another_shape_or_version_is_refused(repository, served, said):
    bundle = newest_bundle(repository / "patchtst")
    await check_model(Serves(), bundle)
    with pytest.raises(BundleError, match=said):
        await check_model(Serves(**served), bundle)
