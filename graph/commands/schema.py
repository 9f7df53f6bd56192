"""The commands for the schema and the operations of its clients: `./run schema`."""
# ruff: noqa: T201  # their output is what they are for

import argparse
import json
from pathlib import Path

from graph.server.database import CommandFailed
from persistence.settings import Settings, variable


def run(options: argparse.Namespace) -> int:
    from graph.commands import snapshot

    if options.manifest is not None:
        write_manifest(options.manifest, options.output)
        return 0
    if options.output is not None:
        raise CommandFailed("--output goes with --manifest")
    return snapshot.write() if options.write else snapshot.check()


def write_manifest(folder: Path, output: Path | None) -> None:
    """List the operations below a folder, each with the fragments it needs, as the documents to trust."""
    from graph.schema import schema
    from graph.transport.persisted import ManifestError, build_manifest

    if not folder.is_dir():
        raise CommandFailed(f"{folder} is no directory")
    try:
        manifest = build_manifest(folder, schema._schema)
    except ManifestError as error:
        raise CommandFailed(str(error)) from None
    count = len(manifest["operations"])
    if count == 0:
        raise CommandFailed(f"{folder} has no .graphql or .gql file with an operation")
    text = json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"
    if output is None:
        print(text, end="")
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CommandFailed(f"cannot write {output}: {error.strerror}") from None
    print(f"wrote {count} operation{'s' if count > 1 else ''} to {output}")


def check_manifest(settings: Settings) -> None:
    """Read the manifest before anything is started: what is wrong with it is said in one line."""
    if settings.trusted_documents is None:
        return
    from graph.transport.persisted import ManifestError, load_manifest

    try:
        load_manifest(settings.trusted_documents)
    except ManifestError as error:
        raise CommandFailed(f"{variable('trusted_documents')}: {error}") from None
