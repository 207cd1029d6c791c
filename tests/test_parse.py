"""Expressions as text: what is accepted, where errors point, and that nothing is ever executed."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_symbolic import EXAMPLES

import structmat as sm
from structmat import sized
from structmat.sized import ParseError, known_names, parse
from structmat.sized.parse import COMBINATORS, LARGEST

n, m, k = sm.dim("n"), sm.dim("m"), sm.dim("k")

PYTHON = {
    "sm": sm,
    "torch": torch,
    "n": n,
    "k": k,
    **{name: getattr(sized, name) for name in sized.FAMILIES},
    **{name: getattr(sm, name) for name in COMBINATORS},
}

SAME = [
    "Monarch(4096, nblocks=64) @ DFT(4096) + LowRank(4096, 64)",
    "Monarch(1024, nblocks=32) @ Diagonal(1024) @ Hadamard(1024)",
    "Monarch(8, 16, nblocks=(4, 2), rank=3)",
    "2 * Dense(3) - Dense(3).T / 4",
    "-Dense(2) * 0.5 + (1 + 2j) * Identity(2)",
    "(Dense(3) @ Dense(3, 4))[1:, ::2]",
    "Dense(6)[[0, 2], :4][:, -2:]",
    "Dense(3) ** 3 @ Dense(3) ** 0",
    "kron(Dense(2), Dense(3, 4), Hadamard(2)).H",
    "block([[Dense(3), 0], [0, Dense(4, 5)]]) @ vstack(Dense(3, 2), Dense(5, 2))",
    "hstack([Dense(3), Dense(3, 4)])",
    "direct_sum(Dense(2), kron_sum(Dense(2), Dense(3)))",
    "elementwise(Dense(4), LowRank(4, rank=1))",
    "inv(Dense(4)) @ Dense(4) ** -2",
    "DFT(8, norm='ortho').conj() @ IDFT(8)",
    "StateSpace(8, states=3, kind='dense')",
    "Wavelet(8, (0.5, 0.5, 0.5, 0.5))",
    "Dense(4, dtype=torch.float64)",
    "sm.sized.Monarch(16, nblocks=4) @ sm.kron(sm.sized.Dense(4), sm.Identity(4))",
    "Butterfly(8, increasing_stride=False) @ Butterfly(8, False)",
    "Monarch(n * k, nblocks=k)",
    "Dense(n // 2, 2 * n - 1) @ Dense(2 * n - 1, k ** 2).T.T",
    "\n Dense(n) @\n  (Dense(n)\n  + Identity(n))  ",
]


@pytest.mark.parametrize("text", SAME)
def test_a_text_means_what_python_means(text: str) -> None:
    assert parse(text).structure == eval(f"({text})", PYTHON).structure


@pytest.mark.parametrize("name", [e for e in EXAMPLES if "complex" not in e])
def test_families_read_their_own_labels(name: str) -> None:
    op = EXAMPLES[name][0]()
    assert parse(op._label()).structure == op.structure


def trees() -> st.SearchStrategy[sm.LinearOperator]:
    """Square symbolic operators of n rows, whose labels say everything."""
    leaves = st.sampled_from(
        [
            sized.Dense(n),
            sized.LowRank(n, rank=3),
            sized.Monarch(n, nblocks=k),
            sized.Diagonal(n),
            sized.Toeplitz(n),
            sized.DFT(n, "ortho"),
            sized.stride_permutation(n, 2),
            sized.KroneckerSparse(n / 6, 2, 2, 3),
        ]
    )
    numbers = st.sampled_from([2, -1, 0.5, 3j, 1 - 2j])

    def grown(inner: st.SearchStrategy[sm.LinearOperator]) -> st.SearchStrategy[sm.LinearOperator]:
        plain = inner.filter(lambda a: not isinstance(a, sm.Scaled))  # 2 * 3 * A is read as 6 * A
        pairs = st.tuples(inner, inner)
        return st.one_of(
            pairs.map(lambda p: p[0] @ p[1]),
            pairs.map(lambda p: p[0] + p[1]),
            st.tuples(inner, plain).map(lambda p: p[0] - p[1]),
            st.tuples(numbers, plain).map(lambda p: p[0] * p[1]),
            inner.map(lambda a: a.T),
            inner.map(lambda a: a**2),
            st.tuples(plain, st.sampled_from([2, 3])).map(lambda p: p[0].T ** p[1]),
        )

    return st.recursive(leaves, grown, max_leaves=8)


@given(trees(), st.sampled_from([lambda a: a, lambda a: sm.kron(a, a), lambda a: sm.direct_sum(a)]))
@settings(max_examples=150, deadline=None)
def test_labels_are_read_back(op: sm.LinearOperator, around: object) -> None:
    op = around(op)  # type: ignore[operator]
    assert parse(op._label()).structure == op.structure


def test_sizes_and_seeds() -> None:
    op = parse("Monarch(n, nblocks=sqrt(n)) @ Dense(n / 2 + n - n / 2)", {"n": 16}, seed=5)
    same = parse("Monarch(16, nblocks=4) @ Dense(16)", seed=5)
    assert op.structure == same.structure
    assert torch.equal(op.to_dense(), same.to_dense())
    twice = parse("Dense(4) @ Dense(4)")
    assert not torch.equal(twice.children[0].to_dense(), twice.children[1].to_dense())
    assert parse("Monarch(n, nblocks=sqrt(n))").cost() == sized.Monarch(n).cost()
    assert parse("Dense(n) * (1 / sqrt(4))").children[0].shape == (n, n)


def test_dtype_and_device() -> None:
    op = parse("Dense(8) @ Hadamard(8) @ DFT(8)", dtype=torch.bfloat16, device="meta")
    assert [c.strong_dtype for c in op.children] == [torch.bfloat16, None, torch.complex64]
    assert op.children[0].device.type == "meta"
    big = parse("Dense(n, 2 * n)", {"n": LARGEST // 2}, device="meta")
    assert big.shape == (LARGEST // 2, LARGEST)


ERRORS = [
    ("Monrach(16)", 0, r"unknown name 'Monrach'; did you mean Monarch or MonarchChain\?"),
    ("Dense(4) @ dense(4)", 11, r"unknown name 'dense'; did you mean Dense"),
    ("__import__('os')", 0, r"unknown name '__import__'; sm\.sized\.known_names\(\)"),
    ("os.system('true')", 0, r"unknown name 'os\.system'"),
    ("Dense(4).to_dense()", 0, "unknown name|only structures"),
    ("Dense(4).__class__", 0, "unknown attribute '__class__'; known: T, H, mT"),
    ("Dense(4).t", 0, "unknown attribute 't'; did you mean T"),
    ("Dense(2) @ Dense(3)", 9, r"cannot multiply Dense\(2x2\) by Dense\(3x3\)"),
    ("é + Dnse(4)", 4, "did you mean Dense"),
    ("Dense(4", 5, "never closed"),
    ("Dense(4))", 8, r"unmatched '\)'"),
    ("Dense(4) Dense(4)", 9, "invalid syntax"),
    ("", 0, "an empty expression"),
    (" \n", 0, "an empty expression"),
    ("n", 0, "expected an operator, found the size n"),
    ("3", 0, "expected an operator, found the number 3"),
    ("Monarch", 0, r"Monarch needs its arguments"),
    ("monarch @ Dense(3)", 0, "@ is the product of two operators"),
    ("butterfly", 0, r"butterfly is a symbol; did you mean Butterfly"),
    ("Dense(4) @ 2 * Dense(4)", 11, r"@ is the product of two operators; .* A @ \(2 \* B\)"),
    ("Dense(4) * Dense(4)", 9, "sm.elementwise"),
    ("Dense(4) + 1", 9, "operators add to operators only"),
    ("n * Dense(4)", 0, "n has no number yet"),
    ("Dense(4) / Dense(4)", 9, "no / between an operator and an operator"),
    ("Dense(4) % 2", 9, "no % between"),
    ("2 ** Dense(4)", 2, r"no \*\* between"),
    ("Dense(4) ** 0.5", 12, "the power of an operator is an integer"),
    ("Dense(4) ** 1000000", 12, "a product of 1000000 factors: 256 at most"),
    ("Dense(4) ** True", 12, "expected an operator or a number, found True"),
    ("Dense(10 ** 12)", 0, "too large"),
    ("Dense(2 ** 2 ** 7)", 8, "the power 128 is too large"),
    ("Dense(" + "9" * 30 + ")", 6, "more than 62 bits"),
    ("Dense(" + "9" * 5000 + ")", 0, "digits"),
    ("kron(Identity(60000), Identity(60000))", 0, "3600000000 x 3600000000 is too large"),
    ("Dense(1 / 0)", 8, "Fraction"),
    ("Dense(3 / 2)", 0, "m = 1.5 is no size"),
    ("Monarch(10, nblocks=3)", 0, "3 does not divide 10"),
    ("LowRank(4)", 0, "a rank is needed"),
    ("Sparse(4)", 0, "missing a required argument: 'per_row'"),
    ("Dense(4, seed=1)", 0, "unexpected keyword argument 'seed'"),
    ("Dense(m=3, m=4)", 13, "m= is given twice"),
    ("Dense(4, dtype='float32')", 0, "write dtype=torch.float32"),
    ("Dense(4, dtype=torch.load)", 15, "unknown dtype 'torch.load'"),
    ("torch.float32", 0, "names a dtype"),
    ("Toeplitz(Dense(3))", 0, "Toeplitz takes sizes, not operators"),
    ("kron(Dense(2), 3)", 0, "kron: expected operators, found the number 3"),
    ("kron(Dense(2), b=Dense(2))", 0, "kron takes no named arguments"),
    ("block([[Dense(2), 1]])", 0, "block: expected operators"),
    ("hstack(Dense(2), Dense(3))", 0, "heights|rows"),
    ("Dense(4)[1]", 9, "slices i:j or lists"),
    ("Dense(4)[1:n]", 0, "whether n <= 4 is not known"),
    ("Dense(4)[[1, n]]", 13, "expected an integer, found the size n"),
    ("Dense(n)[1:3/2]", 11, "expected an integer, found the number 3/2"),
    ("Dense(4)[[0], [1]]", 0, "not an operator"),
    ("Dense(n)[1:2]", 0, "whether 2 <= n is not known"),
    ("Dense(n)[[1, 2]]", 0, "symbolic sizes"),
    ("inv(Dense(3, 4))", 0, "not square"),
    ("(lambda: Dense(4))()", 1, "only structures"),
    ("[Dense(4) for n in range(3)]", 0, "comprehensions"),
    ("Dense(4) if n else Dense(4)", 0, "conditions"),
    ("Dense(4) < Dense(4)", 0, "comparisons"),
    ("Dense(4) and Dense(4)", 0, "and, or"),
    ("not Dense(4)", 0, "not, ~"),
    ("f'{Dense(4)}'", 0, "f-strings"),
    ("(a := Dense(4))", 1, "assignments"),
    ("Dense(*(3, 4))", 6, r"\* before an argument"),
    ("Dense(**{'m': 3})", 8, r"\*\*"),
    ("kron(*[Dense(4)])", 5, r"\* before an argument"),
    ("Dense(...)", 6, "Ellipsis"),
    ("Dense(b'4')", 6, "b'4'"),
    ("-'x'", 0, "a sign before 'x'"),
    ("Dense(4)(3)", 0, "only structures"),
    ("await Dense(4)", 0, "."),
    ("(" * 500 + "n" + ")" * 500, 0, "too many nested parentheses|nested too deeply"),
    ("-" * 9000 + "n", 0, "nested too deeply|too many"),
    ("Dense(4)\0", 0, "null"),
    ("Dense(\udc80)", 0, "."),
    (" + ".join(["Dense(4)"] * 2000), 0, "are no formula"),
]


@pytest.mark.parametrize(("text", "column", "message"), ERRORS, ids=[e[0][:40] for e in ERRORS])
def test_errors_point_at_their_column(text: str, column: int, message: str) -> None:
    with pytest.raises(ParseError, match=message) as caught:
        parse(text)
    error = caught.value
    deep = "nested" in error.message or "too many" in error.message
    assert error.column == column or deep
    shown, caret = str(error).split("\n")[1:]
    assert caret.endswith("^")
    if error.column < len(error.text):
        at = shown[len(caret) - 1]
        assert at == error.text[error.column] or not error.text[error.column].isprintable()


def test_the_line_of_an_error() -> None:
    with pytest.raises(ParseError) as caught:
        parse("  Dense(4) @ \n Dens(4)\n")
    assert (caught.value.text, caught.value.column) == ("Dense(4) @   Dens(4)", 13)
    with pytest.raises(ParseError) as caught:
        parse("Dense(4) @ " * 20 + "Dense(5)")
    shown, caret = caught.value.excerpt.split("\n")
    assert len(shown) < 110
    assert shown[len(caret) - 1] == "@"


def test_known_names_are_names() -> None:
    for name in known_names():
        with pytest.raises(ParseError, match="needs its arguments"):
            parse(name)


# nothing is executed ------------------------------------------------------------------------------

HARMLESS = {"compile", "object.__getattr__", "builtins.id"}
"""``ast.parse`` makes a tree, no code; hypothesis reads frames; what is shared goes by id."""

events: list[str] = []
listening = False


def _listen(event: str, arguments: object) -> None:
    if listening and event not in HARMLESS:
        events.append(f"{event} {arguments!r:.200}")


@contextmanager
def nothing_runs() -> Iterator[None]:
    """No code object is run, no file or process opened, nothing imported."""
    global listening
    events.clear()
    listening = True
    try:
        yield
    finally:
        listening = False
    assert not events


@pytest.fixture(scope="module", autouse=True)
def hook() -> None:
    sys.addaudithook(_listen)


@pytest.mark.parametrize("bad", ["eval('1')", "open('/dev/null').close()", "__import__('this_is')"])
def test_what_runs_is_heard(bad: str) -> None:
    with pytest.raises(AssertionError), nothing_runs(), suppress(ImportError):
        eval(bad)


WORDS = st.sampled_from(
    [
        *known_names(),
        *("n", "m", "sm", "torch", "os", "__import__", "eval", "exec", "open", "getattr", "x"),
        *("1", "4", "16", "0.5", "2j", "'os'", "'/tmp/x'", "None", "True", "...", "-1", "1e9"),
        *("(", ")", "[", "]", "{", "}", ",", ":", "=", "==", ":=", ".", "@", "+", "-", "*", "/"),
        *("**", "//", "%", "~", "<", "|", "&", ";", "\n", " ", "#", "\\", "`", "$", "é", "\0"),
        *("lambda", "for", "in", "if", "else", "not", "and", "await", "yield", "f'{n}'", "import"),
        *(".T", ".H", ".conj()", ".__class__", ".__globals__", "dtype=torch.float32", "rank=2"),
    ]
)

CALLS = st.recursive(
    st.sampled_from(["4", "8", "n", "(2, 2)", "rank=2", "nblocks=2", "'ortho'", "states=2"]),
    lambda inner: st.one_of(
        st.tuples(st.sampled_from(known_names()), st.lists(inner, max_size=3)).map(
            lambda c: f"{c[0]}({', '.join(c[1])})"
        ),
        st.tuples(inner, st.sampled_from(["@", "+", "-", "*", "/", "**", "//"]), inner).map(
            lambda c: f"({c[0]} {c[1]} {c[2]})"
        ),
        st.tuples(inner, st.sampled_from([".T", ".H", ".conj()", "[1:, :2]", "[[0]]"])).map(
            "".join
        ),
    ),
    max_leaves=12,
)


@given(st.one_of(st.lists(WORDS, max_size=12).map("".join), CALLS, st.text(max_size=30)))
@example("__import__('os').system('true')")
@example("open('/tmp/x', 'w')")
@example("(lambda: open('/tmp/x'))()")
@example("Dense(4).__init__.__globals__['sys']")
@example("[c for c in ().__class__.__base__.__subclasses__()]")
@example("f'{open(0)}'")
@example("Dense(n := open('/tmp/x'))")
@example("1if 1else 2")
@example("'\\d'")
@settings(max_examples=600, deadline=None)
def test_any_text_is_an_operator_or_an_error_and_never_runs(text: str) -> None:
    def found() -> sm.LinearOperator | ParseError:
        try:
            return parse(text, device="meta")
        except ParseError as error:
            return error

    found()  # torch and sympy import parts of themselves when they are first needed
    with nothing_runs():
        again = found()
    assert isinstance(again, sm.LinearOperator) or 0 <= again.column <= len(again.text)
