"""Another version of a library, for tests: some of its names are others, everywhere in its own code.

    python -m harness.renamed uvicorn:cycle,flow http.client+urllib3:fp -- serve

runs `c42-proxy serve` with those. The libraries themselves go on working: they use the new names alike.
"""

import re
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import CodeType, ModuleType


def renamed(*renames: str) -> tuple[str, ...]:
    """The command line of the proxy, up to its subcommand, with other names in libraries (see above)."""
    return (sys.executable, "-m", "harness.renamed", *renames, "--")


def rename(*renames: str) -> None:
    """Give this process, which has not imported them yet, libraries with other names."""
    for each in renames:
        modules, _, names = each.partition(":")
        sys.meta_path.insert(0, _Finder(modules, names))


class _Loader(SourceFileLoader):
    def __init__(self, spec: ModuleSpec, names: str) -> None:
        assert spec.origin is not None
        super().__init__(spec.name, spec.origin)
        self._names = re.compile(rf"\b({names.replace(',', '|')})\b")

    def get_code(self, fullname: str) -> CodeType:
        """From the source, never from what Python has compiled before."""
        path = self.get_filename(fullname)
        source = self._names.sub(r"\1_renamed", self.get_data(path).decode())
        return compile(source, path, "exec", dont_inherit=True)


class _Finder(MetaPathFinder):
    def __init__(self, modules: str, names: str) -> None:
        self._modules = tuple(modules.split("+"))
        self._names = names
        early = [name for name in sys.modules if self._is_meant(name)]
        assert not early, f"{early} are imported already"

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(fullname, path) if self._is_meant(fullname) else None
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(spec, self._names)
        return spec

    def _is_meant(self, name: str) -> bool:
        return any(name == module or name.startswith(f"{module}.") for module in self._modules)


def _main() -> None:
    end = sys.argv.index("--")
    rename(*sys.argv[1:end])
    sys.argv = ["c42-proxy", *sys.argv[end + 1 :]]
    from c42_proxy.__main__ import main  # noqa: PLC0415  # after the finders

    main(prog_name="c42-proxy")


if __name__ == "__main__":
    _main()
