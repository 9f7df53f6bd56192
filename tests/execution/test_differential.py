"""Both executors give the same answers, for a fixed corpus and for whatever hypothesis thinks of."""

import asyncio
import gc
import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

# ruff: noqa: E501  # documents are easier to read on one line
import pytest
from graphql import GraphQLError, OperationType
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from graph.execution.preparing.documents import Documents
from graph.execution.running.engine import Engine, Result
from graph.execution.running.executor import CompiledExecution
from tests.conftest import BESIDE_STOCK
from tests.execution.documents import Generated, documents
from tests.execution.everything import SCHEMA, Context

pytestmark = BESIDE_STOCK

THING = "id a leaf { name n f color } leaves { n } opt { name } colors matrix when day amount meta key"
CORPUS: list[tuple[str, dict[str, Any]]] = [
    ("{ things { __typename " + THING + " double triple: double(k: 3) ...F } } fragment F on Node { nid: id }", {}),
    ("{ rows { id a leaf { name color f } leaves { name } opt { n } colors matrix when day amount } }", {}),
    ("{ rows { id double friend { id a when } maybeFriend { id friend { a } } } }", {}),
    ("{ mixed { id leaf { n } friend { id } } }", {}),
    ("{ nodes { id __typename ... on Thing { friends { id slow friends { slow } } } ... on Other { b name } } }", {}),
    ("{ anything { __typename ... on Named { name } ... on Thing { id many { __typename } } ... on Plain { size } } }", {}),
    ("{ named { name ... on Plain { size flag } } things { named { __typename name } many { ...N } } }"
     " fragment N on Named { name }", {}),
    ("{ things { id boom slow } }", {}),
    ("{ things { id boomHard } }", {}),
    ("{ maybe { boomHard id slow } things { id } }", {}),
    ("{ maybe { friend { boomHard slow } slow friends { friend { slow } } } }", {}),
    ("{ mixed { id boomHard } }", {}),
    ("{ wrong { id bad } }", {}),
    ("{ wrong { id worse slow } }", {}),
    ("{ wrong { id colors } }", {}),
    ("{ wrong { id leaf { n } leaves { n } when } }", {}),
    ("{ wrongHard { id } maybe { id } }", {}),
    ("{ guarded }", {}),
    ("{ guarded(ok: true) things { guarded ok: guarded(ok: true) refuse } }", {}),
    ("{ numbers awaited { name where } exception }", {}),
    ("{ things(n: 3) { leaf { where } leaves { where n } node { id ... on Other { name } } others(points: {x: 1}) { b } } }", {}),
    ("{ things { maybeFriend(broken: true) { id } friend { id } } }", {}),
    ("query($p: Point!, $c: [Color!]) { point(point: $p, colors: $c) }", {"p": {"x": 1, "inner": {"x": 2}}, "c": ["RED"]}),
    ("query($p: [Point!]) { things { others(points: $p) { b } } }", {"p": [{"x": 1, "inner": {"x": 2}}]}),
    ("{ point(point: {x: 1, y: null, colors: []}) change(change: {name: null, n: 3}) either(either: {left: 2}) }", {}),
    ("query($c: Change!) { change(change: $c) }", {"c": {"when": "2026-01-01T00:00:00+00:00"}}),
    ("query($c: Change!) { change(change: $c) }", {"c": {"n": None}}),
    ("query($p: Point!) { point(point: $p) }", {"p": {"x": "one"}}),
    ("query($s: Boolean!, $k: Int) { maybe { id @skip(if: $s) a @include(if: $s) double(k: $k) } }", {"s": True, "k": 7}),
    ("query($s: Boolean!, $k: Int) { maybe { id @skip(if: $s) a @include(if: $s) double(k: $k) } }", {"s": False}),
    ("query($s: Boolean = true) { maybe { leaf { name @skip(if: $s) } leaf { n } ...X } } fragment X on Thing { leaf { f } }", {}),
    ('{ __schema { types { name kind fields { name type { name } } } } __type(name: "Thing") { name } }', {}),
    ("{ rows { id part { name n title twins { name } } } things { part { name title } mate { id a } } }", {}),
    ("{ rows { id part { n title(mood: FAILS_SOME) null: title(mood: NULL_SOME) twins { title n } } mate { id } } }", {}),
    ("{ mixed { id part { n twins(mood: FAILS_SOME) { n } } mate(mood: FAILS_SOME) { id leaf { title } } } }", {}),
    ("{ rows { part { twins(mood: NULL_SOME) { n } } } maybe { id } }", {}),
    ("{ things { leaves { title(mood: RAISES) } mate(mood: FAILS) { id } leaf { twins(mood: REFUSES) { name title } } } }", {}),
    ("{ mixed { mate { mate(mood: NULL_SOME) { mate { id slow boom } boomHard } leaf { twins { twins { n } } } } } }", {}),
    ("{ maybe { mate { leaf { title twins { n } } } leaves { twins(mood: FAILS) { n } } } rows { part { ...P } } }"
     " fragment P on Leaf { name twins { title } }", {}),
    ("query($m: Mood!, $s: Boolean!) { rows { mate(mood: $m) { id } part { title(mood: $m) @skip(if: $s) } } }",
     {"m": "FAILS_SOME", "s": False}),
    ("mutation { make(n: 3) { leaves { title twins { title } } } }", {}),
    ('mutation { a: add(text: "a") fail b: add(text: "b") make { id slow } }', {}),
    ('mutation { a: add(text: "a") failHard b: add(text: "b") }', {}),
    ("mutation { __typename make(n: 2) { leaves { n } friend { id } } }", {}),
]  # fmt: skip


def make_engine(compiled: bool) -> Engine:
    ids = iter(range(10**9))

    def report(error: GraphQLError, cause: BaseException) -> str:
        next(ids)
        return f"{type(cause).__name__}: {cause}"  # compared by the tests

    def classify(error: BaseException) -> GraphQLError | None:
        extensions = getattr(error, "extensions", None)
        return GraphQLError(str(error), extensions=extensions) if extensions else None

    documents = Documents(SCHEMA._schema, max_count=10_000, max_bytes=10**8)
    return Engine(SCHEMA, documents=documents, classify=classify, report=report, compiled=compiled)


RUNNER = asyncio.Runner()
STOCK, COMPILED = make_engine(False), make_engine(True)


def answer(engine: Engine, document: Generated) -> dict[str, Any]:
    async def run() -> Result:
        prepared = engine.documents.get(document.text)
        assert not prepared.errors, prepared.errors
        return await engine.execute(prepared.operation(None), document.variables, Context())

    decoded: dict[str, Any] = json.loads(engine.encode(RUNNER.run(run())))
    return decoded


def comparable(answer: dict[str, Any]) -> dict[str, Any]:
    """An answer without what the specification leaves open.

    That is the order of errors, and which of several errors is told that lead to the same null above them.
    """
    told: Counter[str] = Counter()
    nulled: set[tuple[str | int, ...]] = set()
    for error in answer.get("errors", ()):
        path, value, at = tuple(error.get("path", ())), answer.get("data"), 0
        while value is not None and at < len(path):
            value, at = value[path[at]], at + 1
        if at < len(path):
            nulled.add(path[:at])
        else:
            told[json.dumps(error, sort_keys=True)] += 1
    return {"data": answer.get("data"), "has data": "data" in answer, "told": told, "nulled": nulled}


def assert_same(document: Generated) -> None:
    expected = comparable(answer(STOCK, document))
    assert comparable(answer(COMPILED, document)) == expected
    assert comparable(answer(COMPILED, document)) == expected  # now with the plan at hand


@pytest.mark.parametrize(("text", "variables"), CORPUS)
def test_the_corpus_is_answered_alike(text: str, variables: dict[str, Any]) -> None:
    assert_same(Generated(text, variables))


@pytest.mark.parametrize(("text", "variables"), CORPUS)
def test_the_corpus_is_compiled(text: str, variables: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    plans = []
    original = CompiledExecution.plan

    def plan(self: CompiledExecution) -> Any:
        plans.append(original(self))
        return plans[-1]

    monkeypatch.setattr(CompiledExecution, "plan", plan)
    answer(COMPILED, Generated(text, variables))
    assert all(plans)


@pytest.fixture(scope="module", autouse=True)
def close_the_loop() -> Iterator[None]:
    yield
    RUNNER.close()


# Without the shrink phase: making a failing document smaller takes minutes, and it is readable as it is.
PHASES = [Phase.explicit, Phase.reuse, Phase.generate]
EXAMPLES = settings(deadline=None, max_examples=200, suppress_health_check=list(HealthCheck), phases=PHASES)


@EXAMPLES
@given(documents(SCHEMA._schema))
def test_generated_queries_are_answered_alike(document: Generated) -> None:
    assert_same(document)


@EXAMPLES
@given(documents(SCHEMA._schema, kind=OperationType.MUTATION, depth=4, fields=20))
def test_generated_mutations_are_answered_alike(document: Generated) -> None:
    assert_same(document)


@settings(EXAMPLES, max_examples=100)
@given(st.data())
def test_generated_documents_are_valid(data: st.DataObject) -> None:
    document = data.draw(documents(SCHEMA._schema))
    assert not STOCK.documents.get(document.text).errors


def test_nothing_of_a_request_outlives_it() -> None:
    class Marked(Context):
        pass

    async def run() -> None:
        for text, variables in CORPUS:
            operation = COMPILED.documents.get(text).operation(None)
            await COMPILED.execute(operation, variables, Marked())

    RUNNER.run(run())
    gc.collect()
    assert not [found for found in gc.get_objects() if type(found) is Marked]
