"""Import graph of a source tree, read from the text of the files."""

import ast
from collections.abc import Iterable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

Graph = Mapping[str, set[str]]


def import_graph(root: Path, packages: Iterable[str]) -> Graph:
    """Maps each module of the packages below root to the modules of these packages that it imports.

    Imports inside functions and under TYPE_CHECKING count.
    """
    files = {
        _module_name(file.relative_to(root)): file
        for package in packages
        for file in (root / package).rglob("*.py")
    }
    return {
        name: {module for module in _imports(name, file, files) if module in files} - {name}
        for name, file in files.items()
    }


def grouped(graph: Graph, groups: Iterable[str]) -> Graph:
    """The dependencies between groups of modules.

    A group holds the modules below its dotted name, except those of a longer group name. A module
    without a group is a group of its own.
    """
    names = sorted(groups, key=len, reverse=True)

    def group(module: str) -> str:
        return next((name for name in names if f"{module}.".startswith(f"{name}.")), module)

    dependencies: dict[str, set[str]] = {group(module): set() for module in graph}
    for module, imported in graph.items():
        dependencies[group(module)] |= {group(name) for name in imported} - {group(module)}
    return dependencies


def cycle(graph: Graph) -> list[str]:
    """One cycle of the graph, with its first name repeated at the end; empty without a cycle."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(reversed(error.args[1]))
    return []


def _module_name(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imports(module: str, file: Path, modules: Mapping[str, Path]) -> Iterator[str]:
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(file.read_text(), file)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = _absolute(node, package)
            for alias in node.names:
                submodule = f"{source}.{alias.name}"
                yield submodule if submodule in modules else source


def _absolute(node: ast.ImportFrom, package: str) -> str:
    if node.level == 0:
        return node.module or ""
    parents = package.split(".")
    base = parents[: len(parents) - node.level + 1]
    return ".".join([*base, *([node.module] if node.module else [])])
