"""Which mutants there are: cosmic-ray's operators as far as they mean something, and two of our own."""

import ast
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.operators.operator import Operator
from cosmic_ray.plugins import OPERATOR_PROVIDERS, get_operator
from parso.python.tree import Name, PythonNode

from .plan import TUNING

Position = tuple[int, int]
Span = tuple[Position, Position]

COMPARISONS = {
    # The boundary moved, negated, and one half of it left out. A test that tells these from the original tells all
    # others, too. Where there is no order, there is nothing but the negation.
    "Lt": ("LtE", "GtE", "NotEq"),
    "LtE": ("Lt", "Gt", "Eq"),
    "Gt": ("GtE", "LtE", "NotEq"),
    "GtE": ("Gt", "Lt", "Eq"),
    "Eq": ("NotEq",),
    "NotEq": ("Eq",),
    "Is": ("IsNot",),
    "IsNot": ("Is",),
}
ARITHMETIC = {
    # One replacement for each: the others differ from the original at the same places.
    "Add": "Sub",
    "Sub": "Add",
    "Mul": "Div",
    "Div": "Mul",
    "FloorDiv": "Mul",
    "Mod": "Mul",
    "Pow": "Mul",
    "BitOr": "BitAnd",
    "BitAnd": "BitOr",
}
CORE_OPERATORS = (
    *(f"ReplaceComparisonOperator_{old}_{new}" for old, news in COMPARISONS.items() for new in news),
    *(f"ReplaceBinaryOperator_{old}_{new}" for old, new in ARITHMETIC.items()),
    "ReplaceUnaryOperator_Delete_Not",
    "ReplaceUnaryOperator_Delete_USub",
    "AddNot",
    "ReplaceTrueWithFalse",
    "ReplaceFalseWithTrue",
    "ReplaceAndWithOr",
    "ReplaceOrWithAnd",
    "ReplaceBreakWithContinue",
    "ReplaceContinueWithBreak",
    "NumberReplacer",
    "RemoveDecorator",
    "ZeroIterationForLoop",
)
BOUNDARY_MOVED = {
    f"core/ReplaceComparisonOperator_{old}_{new}"
    for old, new in (("Lt", "LtE"), ("LtE", "Lt"), ("Gt", "GtE"), ("GtE", "Gt"))
}
COMPARED = {"<", "<=", ">", ">=", "==", "!=", "is", "is not"}


class RemoveStatement(Operator):  # type: ignore[misc]  # cosmic-ray has no types
    """Leaves out a call, an assignment to a part of something, or a `raise`."""

    def mutation_positions(self, node: Any) -> Iterator[Span]:
        if node.type == "simple_stmt" and _has_an_effect(node.children[0]):
            yield node.children[0].start_pos, node.children[0].end_pos

    def mutate(self, node: Any, _index: int) -> Any:
        first = node.children[0]
        node.children[0] = Name("pass", first.start_pos, prefix=first.get_first_leaf().prefix)
        return node

    @classmethod
    def examples(cls) -> tuple[()]:
        return ()


class MissException(Operator):  # type: ignore[misc]  # cosmic-ray has no types
    """Leaves out one of the exceptions that a handler is for. (cosmic-ray's own makes each handler fail.)"""

    def mutation_positions(self, node: Any) -> Iterator[Span]:
        for name in self._names(node):
            yield name.start_pos, name.end_pos

    def mutate(self, node: Any, index: int) -> Any:
        name = self._names(node)[index]
        siblings = name.parent.children
        never = Name("StopAsyncIteration", name.start_pos, prefix=name.get_first_leaf().prefix)
        siblings[siblings.index(name)] = never
        return node

    @classmethod
    def examples(cls) -> tuple[()]:
        return ()

    def _names(self, node: Any) -> list[Any]:
        if node.type != "except_clause":
            return []
        caught = node.children[1]
        if caught.type != "atom":
            return [caught]
        return [child for child in caught.children[1].children if child.type != "operator"]


OWN_OPERATORS = {operator.__name__: operator for operator in (RemoveStatement, MissException)}
OPERATOR_PROVIDERS["own"] = OWN_OPERATORS
"""Where cosmic-ray looks for operators by name. (An entry point would be one of the package that users install.)"""
NAMES = (*(f"core/{name}" for name in CORE_OPERATORS), *(f"own/{name}" for name in OWN_OPERATORS))


@dataclass(frozen=True)
class Mutation:
    """A mutant of a module: its text in survivors.toml, the code of the whole module, and where it differs.

    `lines` are those of the changed statement; of a constant, those where it is used; none, if it runs at import.
    """

    text: str
    code: str
    lines: frozenset[int]


def mutations(code: str) -> list[Mutation]:
    """All mutants of a module, in the order of their lines."""
    left_out = _left_out(code)
    scopes = _scopes(code)
    found: list[tuple[Position, str]] = []
    seen = {code}
    for name in NAMES:
        operator = get_operator(name)()
        positions = [(node, span) for node in ast_nodes(get_ast(code)) for span in operator.mutation_positions(node)]
        for occurrence, (node, (start, _end)) in enumerate(positions):
            if _is_within(start, left_out) or _is_marker(node):
                continue
            if name == "core/AddNot" and _is_told_by_another(node):
                continue
            if name in BOUNDARY_MOVED and _is_of_the_running_clock(node):
                continue
            if name == "core/NumberReplacer" and _is_as_good(node, occurrence % 2 == 1):
                continue
            mutated = mutate_code(code, operator, occurrence)
            if mutated is not None and mutated not in seen and _compiles(mutated):
                seen.add(mutated)
                found.append((start, mutated))
    times: Counter[str] = Counter()
    tree = ast.parse(code)
    statements = list(_statements(tree))
    mutants = []
    for start, mutated in sorted(found, key=lambda one: one[0]):
        text = f"{_function(start, scopes)}: {_change(code, mutated)}"
        times[text] += 1
        lines = _lines(start, statements, tree)
        mutants.append(Mutation(text if times[text] == 1 else f"{text} ({times[text]})", mutated, lines))
    return mutants


def _statements(node: ast.AST, *, in_function: bool = False) -> Iterator[tuple[range, bool]]:
    """The lines of each statement without those of its body, and whether it is in a function. The outer comes first."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt | ast.excepthandler):
            body = getattr(child, "body", None)
            first = min([child.lineno, *(each.lineno for each in getattr(child, "decorator_list", []))])
            last = max(child.lineno, body[0].lineno - 1) if body else child.end_lineno or child.lineno
            yield range(first, last + 1), in_function
        yield from _statements(
            child, in_function=in_function or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
        )


def _lines(position: Position, statements: list[tuple[range, bool]], tree: ast.Module) -> frozenset[int]:
    lines, in_function = [each for each in statements if position[0] in each[0]][-1]
    if in_function:
        return frozenset(lines)
    constants = [
        node.targets[0].id
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.lineno in lines
    ]
    uses = [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id in constants]
    inner = (each for each, in_function in statements if in_function and any(line in each for line in uses))
    return frozenset(line for each in inner for line in each)


def _left_out(code: str) -> list[Span]:
    """The places where a mutation means nothing at run time."""
    spans: list[Span] = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.AnnAssign | ast.arg) and node.annotation is not None:
            spans.append(_span(node.annotation))
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.returns is not None:
            spans.append(_span(node.returns))
        elif isinstance(node, ast.keyword) and node.arg in {"frozen", "slots"}:
            # That nobody changes an object is seen to by mypy.
            spans.append(_span(node))
        elif isinstance(node, ast.BinOp) and isinstance(node.right, ast.Constant) and _is_of_literals(node.left):
            # `2**63 - 1` is one number: to change its last part is to change it.
            spans.append((_span(node)[0], _span(node.right)[0]))
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id in TUNING:
            spans.append(_span(node))
    return spans


def _is_of_literals(node: ast.AST) -> bool:
    return all(isinstance(part, ast.BinOp | ast.Constant | ast.operator) for part in ast.walk(node))


def _span(node: Any) -> Span:
    return (node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset)


def _is_within(position: Position, spans: list[Span]) -> bool:
    return any(start <= position < end for start, end in spans)


def _is_marker(node: Any) -> bool:
    """Whether this is the star before the arguments that are given by name."""
    return node.type == "operator" and node.parent.type in {"param", "parameters"}


def _has_an_effect(statement: Any) -> Any:
    if statement.type in {"raise_stmt", "del_stmt"}:
        return True
    if statement.type == "atom_expr":
        return bool(statement.children[-1].get_first_leaf().value == "(")
    if statement.type != "expr_stmt" or _is_in_init(statement):
        return False
    target, operator = statement.children[:2]
    # A plain name that is not set makes the module or the function fail at once.
    return operator.type != "annassign" and (target.type == "atom_expr" or operator.get_code().strip() != "=")


def _is_in_init(node: Any) -> bool:
    """An attribute that is never set fails at its first use: nobody needs a test for that."""
    while node is not None and node.type != "funcdef":
        node = node.parent
    return node is not None and bool(node.name.value == "__init__")


def _is_told_by_another(node: Any) -> bool:
    """Whether this negates a comparison or a `not`: other operators make the same mutant."""
    expression = node.children[2 if isinstance(node, PythonNode) else 1]
    if expression.type == "not_test":
        return True
    return bool(expression.type == "comparison" and expression.children[1].get_code().strip() in COMPARED)


def _is_of_the_running_clock(comparison: Any) -> bool:
    """Whether a time is compared with the monotonic clock. No test can stop that clock, so none can meet the very
    instant. (The wall clock is injected, and tested to the microsecond.)
    """
    return any(word in comparison.get_code() for word in ("monotonic()", "give_up", "self._progress"))


def _is_as_good(number: Any, lowered: bool) -> bool:
    """Whether adding or subtracting one cannot be noticed: the first of one thing is also its last (`[0]` and `[-1]`),
    and no rule is about the exact number of milliseconds.
    """
    if lowered and number.value == "0" and number.parent.type == "trailer":
        return True
    return number.value in {"1000", "1_000_000"} and number.parent.type == "term"


def _compiles(code: str) -> bool:
    try:
        compile(code, "mutant", "exec")
    except SyntaxError:
        return False
    return True


def _scopes(code: str) -> list[tuple[int, int, str]]:
    """The first line, the last line and the name of each function and class."""
    scopes = []

    def walk(node: ast.AST, outer: str) -> None:
        for child in ast.iter_child_nodes(node):
            name = outer
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                name = f"{outer}.{child.name}".lstrip(".")
                first = min([child.lineno, *(decorator.lineno for decorator in child.decorator_list)])
                scopes.append((first, child.end_lineno or first, name))
            walk(child, name)

    walk(ast.parse(code), "")
    return scopes


def _function(position: Position, scopes: list[tuple[int, int, str]]) -> str:
    within = [(first, name) for first, last, name in scopes if first <= position[0] <= last]
    return max(within)[1] if within else ""


def _change(code: str, mutated: str) -> str:
    """`old -> new`, of the lines that differ: it holds when other lines move."""
    old, new = code.splitlines(), mutated.splitlines()
    while old[:1] == new[:1]:
        del old[0], new[0]
    while old[-1:] == new[-1:]:
        del old[-1], new[-1]
    return " -> ".join(" ".join(filter(None, map(str.strip, lines))) for lines in (old, new))
