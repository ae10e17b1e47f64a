"""Verbs that keep model bundles: models list, verify, pull, push."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cytovae.cli import console
from cytovae.errors import BundleError

Folder = Annotated[
    Path | None, typer.Option("--models", help="Folder of model bundles; $CYTOVAE_MODELS or the shipped ones else.")
]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
Repository = Annotated[str, typer.Argument(metavar="REPOSITORY", help="On the hub, such as lab/my-model.")]

models_app = typer.Typer(no_args_is_help=True, help="Model bundles: what there are, whether they are whole, exchange.")
console.app.add_typer(models_app, name="models")


def _told(config: dict[str, Any], path: Path) -> dict[str, Any]:
    """A bundle in short."""
    from cytovae.learn import bundle

    keys = ("model", "channels", "patch_size_px", "latent_size", "weights")
    return {
        "name": path.resolve().name,
        "path": str(path),
        **{k: config[k] for k in keys},
        "licence": bundle.licence(config),
    }


@models_app.command("list")
def list_models(models: Folder = None, as_json: Json = False) -> None:
    """Every bundle in a folder, with its kind, channels and licence."""
    from cytovae.learn import bundle

    root = models or bundle.models_dir()
    if not root.is_dir():
        raise BundleError(f"there is no folder {root}")
    told = [_told(bundle.describe(root / name), root / name) for name in bundle.find(root)]
    lines = [
        f"{m['name']}: {m['model']}, {', '.join(m['channels'])}, {m['patch_size_px']} px, {m['latent_size']} numbers a "
        f"cell; licence of its images: {m['licence']}"
        for m in told
    ]
    console.emit({"folder": str(root), "models": told}, as_json, "\n".join(lines) or f"{root} holds no bundle")


@models_app.command()
def verify(
    bundles: Annotated[
        list[str] | None,
        typer.Argument(metavar="[BUNDLE...]", help="Folders or names of bundles; all of --models where none is given."),
    ] = None,
    models: Folder = None,
    as_json: Json = False,
) -> None:
    """Whether every file of a bundle is the one it was made with, by its digests."""
    from cytovae.learn import bundle

    root = models or bundle.models_dir()
    whole, broken = [], []
    for named in bundles or bundle.find(root):
        try:
            path = bundle.locate(named, root)
            whole.append(_told(bundle.verify(path), path))
        except BundleError as found:
            broken.append(str(found))
    if broken:
        raise BundleError("; ".join(broken))
    if not whole:
        raise BundleError(f"{root} holds no bundle to verify")
    told = [f"{m['name']}: whole, weights {m['weights'][:12]}" for m in whole]
    console.emit({"folder": str(root), "whole": whole}, as_json, "\n".join(told))


@models_app.command()
def pull(
    repository: Repository,
    path: Annotated[Path, typer.Argument(metavar="BUNDLE", help="The bundle's folder, to be made.")],
    revision: Annotated[
        str | None, typer.Option(help="Commit, tag or branch; the main branch as it is now where not given.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a bundle that is there.")] = False,
    as_json: Json = False,
) -> None:
    """Bring a bundle from a model hub, verified (needs the extra 'hub')."""
    from cytovae.learn import bundle, hub

    if path.exists() and not overwrite:
        told = _told(bundle.describe(path), path)
        console.already(path)
        console.emit({"already": True, **told}, as_json, str(path))
        return
    got = hub.pull(repository, path, revision)
    told = _told(got.config, path)
    document = {"already": False, **told, "repository": repository, "commit": got.commit}
    text = f"{path}: {repository} at {got.commit}; licence of its training images: {told['licence']}"
    console.emit(document, as_json, text)


@models_app.command()
def push(
    path: Annotated[Path, typer.Argument(metavar="BUNDLE", help="The bundle's folder.")],
    repository: Repository,
    branch: Annotated[str | None, typer.Option(help="A branch that is there; the main branch else.")] = None,
    as_json: Json = False,
) -> None:
    """Give a bundle to a model hub, private where the repository is new (needs the extra 'hub')."""
    from cytovae.learn import hub

    made = hub.push(path, repository, branch)
    document = {**_told(made.config, path), "repository": repository, "commit": made.commit}
    console.emit(document, as_json, f"{repository} at {made.commit}")
