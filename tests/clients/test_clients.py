"""What people copy out of the documents, compiled and run against a server: each client walks through all it can do."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from persistence import migrations
from tests.clients.documents import Project, projects
from tests.outside import CREATE, ROOT, SIGN_UP, Server, running

pytestmark = [pytest.mark.xdist_group("clients"), pytest.mark.timeout(600)]

HERE = Path(__file__).parent
DOCUMENT = projects(ROOT / "docs/clients.md") | {"README": projects(ROOT / "README.md")["From a front end"]}
CLIENTS = ["Plain fetch", "Apollo Client", "urql", "Relay"]
BUILDS = [
    ("By graphql-codegen", "src/gql/persisted-documents.json"),
    ("By Apollo", "persisted-query-manifest.json"),
    ("By Relay", "persisted.json"),
]
HASHES = ["Hashes from urql", "Hashes from Apollo"]
RUN = [*CLIENTS, *HASHES, *(heading for heading, _ in BUILDS), "Python", "A check in your own CI", "README"]
PROGRAMS = ("ts", "tsx", "mts", "typescript", "js", "jsx", "mjs", "javascript", "python", "py")
ADDRESS = re.compile(r"(?<=://)localhost:8000")


@pytest.fixture(scope="module")
def database(new_database: Callable[[], str]) -> str:
    url = new_database()
    migrations.upgrade(url)
    return url


@pytest.fixture(scope="module")
def server(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("clients") / "data", DATABASE_URL=database) as server:
        yield server


@pytest.fixture(scope="session")
def node() -> None:
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("NO CLIENT WAS TRIED: Node or npm is not installed (Debian: apt-get install nodejs npm)")


@pytest.fixture(scope="session")
def packages(node: None) -> Path:
    """The packages of the lock file, installed beside it."""
    installed, lock = HERE / "node_modules", HERE / "package-lock.json"
    if not (mark := installed / ".taskstore-lock").exists() or mark.read_bytes() != lock.read_bytes():
        # No script of a package is run: those that have binaries ship them as packages.
        done = run(HERE, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
        if done.returncode:
            pytest.skip(f"NO CLIENT WAS TRIED: npm ci failed: {done.stdout[-500:]}")
        shutil.copy(lock, mark)
    return installed


def run(folder: Path, *command: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command,
        cwd=folder,
        env=os.environ | {"NO_COLOR": "1"} | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )


def must_run(folder: Path, *command: str, **variables: str) -> str:
    done = run(folder, *command, **variables)
    assert done.returncode == 0, f"{shlex.join(command)}:\n{done.stdout[-6000:]}"
    return done.stdout


class Workshop:
    """A folder in which somebody follows a section of the document, beside a server that listens elsewhere."""

    def __init__(self, folder: Path, packages: Path, heading: str, address: str) -> None:
        self.folder, self.project, self.address = folder, DOCUMENT[heading], address
        self.name = heading.lower().replace(" ", "-")
        (folder / "node_modules").symlink_to(packages)
        (folder / "package.json").write_text('{"type": "module"}')
        walks = folder / "src/walks"
        walks.mkdir(parents=True)
        for path in (HERE / "tsconfig.json", HERE / "walk.mjs"):
            shutil.copy(path, folder)
        for path in (HERE / "walks/world.ts", HERE / f"walks/{self.name}.ts"):
            if path.exists():
                shutil.copy(path, walks)
        self.write(address)

    def write(self, address: str) -> None:
        """Write the files of the section, for a server with this address."""
        Project({name: ADDRESS.sub(address, text) for name, text in self.project.files.items()}).write(self.folder)

    def build(self) -> None:
        """Type the commands of the section, and compile."""
        for command in self.project.commands:
            if not command.startswith("npm install "):  # done: `test_every_package_that_the_document_installs_...`
                must_run(self.folder, "bash", "-c", ADDRESS.sub(self.address, command))
        must_run(self.folder, "node_modules/.bin/tsc")

    def walk(self) -> None:
        must_run(self.folder, "node", "walk.mjs", f"src/walks/{self.name}.ts", TASKSTORE=f"http://{self.address}")


@pytest.fixture
def workshop(tmp_path: Path, packages: Path, server: Server, request: pytest.FixtureRequest) -> Workshop:
    return Workshop(tmp_path, packages, request.param, server.address.removeprefix("http://"))


def test_every_package_that_the_document_installs_is_in_the_lock_file() -> None:
    known = set(json.loads((HERE / "package.json").read_text())["devDependencies"])
    named = {
        word
        for project in DOCUMENT.values()
        for command in project.commands
        if command.startswith("npm install ")
        for word in command.split()[2:]
        if not word.startswith("-")
    }

    assert "@apollo/client" in named
    assert named <= known
    assert "resolved" not in (HERE / "package-lock.json").read_text()  # no address of a registry


def test_every_snippet_for_clients_is_a_file_that_is_run() -> None:
    files = {text for heading in RUN for text in DOCUMENT[heading].files.values()}
    snippets = [
        text
        for path in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md"))
        for language, text in re.findall(r"^```(\w+)\n(.*?)^```$", path.read_text(), re.DOTALL | re.MULTILINE)
        if language in PROGRAMS
    ]

    assert len(snippets) > 15
    assert [text for text in snippets if text not in files] == []


@pytest.mark.parametrize("workshop", CLIENTS, indirect=True)
def test_a_client_pages_creates_at_once_meets_a_conflict_purges_is_refused_and_listens(workshop: Workshop) -> None:
    workshop.build()
    workshop.walk()


@pytest.mark.parametrize("workshop", HASHES, indirect=True)
def test_a_client_sends_the_text_of_an_operation_once_and_its_hash_from_then_on(workshop: Workshop) -> None:
    workshop.build()
    workshop.walk()


@pytest.mark.parametrize(("workshop", "manifest"), BUILDS, indirect=["workshop"])
def test_a_server_executes_what_the_manifest_of_a_build_names_when_its_client_asks(
    workshop: Workshop, manifest: str, database: str
) -> None:
    workshop.build()
    variables = {"DATABASE_URL": database, "TASKSTORE_TRUSTED_DOCUMENTS": str(workshop.folder / manifest)}
    with running(workshop.folder / "trusted", **variables) as trusted:
        workshop.write(trusted.address.removeprefix("http://"))
        workshop.walk()


@pytest.mark.parametrize("workshop", ["A check in your own CI"], indirect=True)
@pytest.mark.parametrize(
    ("change", "code", "said"),
    [
        (("", ""), 0, ""),
        (('  """Whether it is DONE."""\n  completed: Boolean!\n\n', ""), 0, ""),
        (("type Task implements Node {", "type Task implements Node {\n  mood: String"), 1, "FIELD_REMOVED: Task.mood"),
    ],
)
def test_the_job_of_a_front_end_fails_when_the_server_lacks_what_it_was_built_with(
    workshop: Workshop, change: tuple[str, str], code: int, said: str
) -> None:
    workshop.build()
    built_with = workshop.folder / "schema.graphql"
    assert change[0] in built_with.read_text()
    built_with.write_text(built_with.read_text().replace(*change))
    steps = yaml.safe_load(workshop.project.files[".github/workflows/schema.yml"])["jobs"]["schema"]["steps"]
    commands = [step["run"] for step in steps if "run" in step]

    assert commands[0] == "npm ci"
    done = run(workshop.folder, *shlex.split(commands[1]))
    assert (done.returncode, said in done.stdout) == (code, True), done.stdout


def test_the_first_program_of_the_readme_shows_the_tasks_of_the_demo_user(
    server: Server, node: None, tmp_path: Path
) -> None:
    account = {"email": "test@example.com", "name": "Tess Test", "password": "taskstore-demo"}
    signed_up = httpx.post(
        f"{server.address}/graphql", json={"query": SIGN_UP, "variables": {"input": account}}, trust_env=False
    ).json()["data"]["signUp"]
    httpx.post(
        f"{server.address}/graphql",
        json={"query": CREATE, "variables": {"input": {"title": "Renew the passport"}}},
        headers={"Authorization": f"Bearer {signed_up['secret']}"},
        trust_env=False,
    )
    program = ADDRESS.sub(server.address.removeprefix("http://"), DOCUMENT["README"].files["first.mjs"])
    (tmp_path / "first.mjs").write_text(program)

    assert must_run(tmp_path, "node", "first.mjs") == "Tess Test has to do: [ { title: 'Renew the passport' } ]\n"


def test_the_python_client_walks_the_same_way(server: Server, tmp_path: Path) -> None:
    address = server.address.removeprefix("http://")
    Project({name: ADDRESS.sub(address, text) for name, text in DOCUMENT["Python"].files.items()}).write(tmp_path)
    shutil.copy(HERE / "walks/python.py", tmp_path)
    must_run(tmp_path, sys.executable, "-W", "error", "python.py", TASKSTORE=server.address)
    must_run(tmp_path, sys.executable, "-m", "mypy", "--strict", "taskstore.py")
