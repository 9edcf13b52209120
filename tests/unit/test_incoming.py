"""Bundles that are dropped: waited for until they are whole, handed on once, set aside with the reason."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from candlecast.errors import BundleError, ModelUnavailable
from candlecast.models import ensemble, incoming
from candlecast.models.incoming import Incoming
from tests.bundles import walked
from tests.fakes import fitting_bundle


def contents(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.iterdir() if file.is_file()}


def inside(path: Path) -> list[str]:
    """Return the names in a folder; of one that is not there none."""
    return sorted(file.name for file in path.iterdir()) if path.exists() else []


class Desk:
    """Accepts bundles, and keeps in mind which files it was given."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, dict[str, bytes], str]] = []
        self.error: Exception | None = None
        self.asked = 0

    async def accept(self, path: Path, why: str) -> None:
        self.asked += 1
        if self.error is not None:
            raise self.error
        self.taken.append((path.name, contents(path), why))


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "incoming"


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return fitting_bundle(tmp_path / "made" / "7", version=7).path


def watching(folder: Path, desk: Desk, patience_ms: int = 60_000, **more: object) -> Incoming:
    limits = {"poll_ms": 1, "patience_ms": patience_ms, "bytes_max": 10_000_000}
    return Incoming(folder, desk.accept, **limits | more)  # type: ignore[arg-type]


def refused(folder: Path) -> dict[str, str]:
    """Return what was set aside, and why."""
    aside = folder / "refused"
    return {
        one.name.rpartition("-")[0]: (aside / f"{one.name}.txt").read_text() for one in aside.iterdir() if one.is_dir()
    }


async def test_a_bundle_is_handed_on_once_it_has_not_changed_between_two_looks(
    folder: Path, desk: Desk, bundle: Path
) -> None:
    watch = watching(folder, desk)
    await watch.look()
    shutil.copytree(bundle, folder / "new model")
    await watch.look()
    assert not desk.taken
    await watch.look()

    ((name, files, why),) = desk.taken
    assert name == "new model"
    assert files == contents(bundle)
    assert why == f"found in {folder}"
    assert inside(folder) == []
    await watch.look()
    assert desk.asked == 1


async def test_a_copy_that_is_still_written_is_waited_for_in_whatever_order_it_comes(
    folder: Path, desk: Desk, bundle: Path
) -> None:
    watch = watching(folder, desk)
    names = inside(bundle)
    for turn in range(len(names)):
        place = folder / f"turn {turn}"
        place.mkdir(parents=True)
        for name in names[turn:] + names[:turn]:
            content = (bundle / name).read_bytes()
            for part in (content[: len(content) // 2], content):  # it stands still at half of each file
                (place / name).write_bytes(part)
                if part is not content or name != (names[turn:] + names[:turn])[-1]:
                    for _ in range(3):
                        await watch.look()
                    assert len(desk.taken) == turn
        await watch.look()
        await watch.look()
        assert len(desk.taken) == turn + 1
    assert all(files["model.onnx"] == b"onnx" for _, files, _ in desk.taken)
    assert not (folder / "refused").exists()


async def test_what_is_refused_is_set_aside_with_the_reason_and_never_tried_again(
    folder: Path, desk: Desk, bundle: Path
) -> None:
    desk.error = BundleError("WRONG_TENSORS: it has 21 outputs")
    shutil.copytree(bundle, folder / "bad")
    watch = watching(folder, desk)
    for _ in range(5):
        await watch.look()

    assert desk.asked == 1
    assert inside(folder) == ["refused"]
    (why,) = refused(folder).values()
    assert "WRONG_TENSORS: it has 21 outputs" in why


async def test_what_never_becomes_whole_is_refused_when_patience_ends(folder: Path, desk: Desk, bundle: Path) -> None:
    shutil.copytree(bundle, folder / "cut")
    (folder / "cut" / "model.onnx").write_bytes(b"on")
    (folder / "thesis").mkdir()
    (folder / "thesis" / "chapter.tex").write_text("years of work")
    for _ in range(3):
        await watching(folder, desk).look()
    assert not (folder / "refused").exists()

    watch = watching(folder, desk, patience_ms=0)
    for _ in range(3):
        await watch.look()

    said = refused(folder)
    assert "lacks the model.onnx that its manifest names" in said["cut"]
    assert "lacks a manifest.json" in said["thesis"]
    assert not desk.asked


@pytest.mark.parametrize("layout", ["in its folder", "beside it"])
async def test_an_ensemble_is_whole_when_its_members_are(folder: Path, desk: Desk, tmp_path: Path, layout: str) -> None:
    made = [
        fitting_bundle(tmp_path / "made" / name / "1", name=name, metrics=walked(loss))
        for name, loss in (("patchtst", 1.0), ("lstm", 1.05))
    ]
    written = ensemble.write(tmp_path / "made" / "ensemble" / "1", ensemble.weigh(made, 1)).path
    place = folder / "one" if layout == "in its folder" else tmp_path / "models" / "ensemble" / "1"
    home = place if layout == "in its folder" else tmp_path / "models"
    shutil.copytree(written, place)

    async def strangers() -> list[Path]:
        return [] if layout == "in its folder" else [place]

    async def looks(count: int) -> None:
        for _ in range(count):
            await watch.look()

    watch = watching(folder, desk, written=strangers)
    await looks(3)
    for one in made:
        assert desk.asked == 0
        shutil.copytree(one.path, home / one.manifest.name / "1", ignore=shutil.ignore_patterns("model.onnx"))
        await looks(3)
        assert desk.asked == 0
        shutil.copy(one.path / "model.onnx", home / one.manifest.name / "1")
        await looks(3)
    assert desk.asked > 0


async def test_of_one_that_is_too_large_nothing_is_read(folder: Path, desk: Desk, bundle: Path) -> None:
    shutil.copytree(bundle, folder / "huge")
    (folder / "huge" / "model.onnx").write_bytes(b"another")
    desk.error = BundleError("TOO_LARGE")
    watch = watching(folder, desk, bytes_max=1_000)
    await watch.look()
    await watch.look()

    assert "TOO_LARGE" in refused(folder)["huge"]


async def test_a_mistake_of_ours_keeps_nobody_else_out(folder: Path, desk: Desk, bundle: Path) -> None:
    shutil.copytree(bundle, folder / "first")
    shutil.copytree(bundle, folder / "second")
    desk.error = ZeroDivisionError("oops")
    watch = watching(folder, desk)
    await watch.look()
    await watch.look()

    assert set(refused(folder)) == {"first", "second"}


async def test_while_triton_is_away_a_bundle_waits(folder: Path, desk: Desk, bundle: Path) -> None:
    desk.error = ModelUnavailable("Triton is away")
    shutil.copytree(bundle, folder / "good")
    watch = watching(folder, desk)
    for _ in range(4):
        await watch.look()
    assert desk.asked == 3
    assert (folder / "good").is_dir()

    desk.error = None
    await watch.look()
    assert [name for name, _, _ in desk.taken] == ["good"]


async def test_a_version_in_the_repository_stays_when_it_is_taken_and_goes_when_it_is_refused(
    folder: Path, desk: Desk, bundle: Path
) -> None:
    async def written() -> list[Path]:
        return [bundle] if inside(bundle) else []

    watch = watching(folder, desk, written=written)
    await watch.look()
    await watch.look()
    assert [name for name, _, _ in desk.taken] == ["7"]
    assert inside(bundle)

    desk.error = BundleError("GOLDEN_MISMATCH")
    for _ in range(3):
        await watch.look()
    assert not inside(bundle)
    assert "GOLDEN_MISMATCH" in refused(folder)["7"]


async def test_only_so_many_refused_bundles_are_kept(
    folder: Path, desk: Desk, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(incoming, "REFUSED_KEPT_MAX", 3)
    desk.error = BundleError("DAMAGED")
    watch = watching(folder, desk)
    for k in range(5):
        shutil.copytree(bundle, folder / f"bad {k}")
        await watch.look()
        await watch.look()

    assert sorted(refused(folder)) == ["bad 2", "bad 3", "bad 4"]
    assert len(list((folder / "refused").iterdir())) == 6


async def test_hidden_folders_files_and_links_are_nobodys_business(folder: Path, desk: Desk, bundle: Path) -> None:
    shutil.copytree(bundle, folder / ".part")
    (folder / "link").symlink_to(bundle)
    (folder / "note.txt").write_text("hello")
    watch = watching(folder, desk)
    for _ in range(3):
        await watch.look()

    assert not desk.asked
    assert inside(folder) == [".part", "link", "note.txt"]
