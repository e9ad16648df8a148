# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Compiled libraries: loaded from a file, or compiled and kept in a cache."""

from __future__ import annotations

import json
import os

from . import _calls
from ._version import BUILD, __version__

TYPE_CHECKING = False
if TYPE_CHECKING:  # importing it takes longer than all else here
    from typing import Any, Iterator, Optional, Union

# The symbols of a library that `compile` makes are called after this name.
NAME = "program"


class CompileError(Exception):
    """A program that cannot be compiled. The text is that of the compiler, with
    the place in the program."""


class Library:
    """The functions of a compiled program, as attributes.

    A function takes the arguments of the program, positional or by keyword, as
    arrays of any library with DLPack, and numbers. It returns what the program
    returns. Arrays for results may be given; otherwise they are made, of the
    kind of the first array among the arguments.
    """

    def __init__(self, handle: int, manifest: dict, path: str) -> None:
        self.manifest = manifest
        self.path = path
        self._functions = {}
        own = f"kv1_{manifest['library']}"
        error = _calls.symbol(handle, own + "_last_error")
        self._error, self._check = error, _calls.symbol(handle, own + "_check")
        self._threads = tuple(_calls.symbol(handle, own + name) for name in
                              ("_set_parallel_for", "_set_thread_count"))
        for described in manifest["functions"]:
            name = described["name"]
            owner = _Owner(name, described["arguments"])
            packed = "kv1args_" + name
            self._functions[name] = _calls.Function(
                owner, _calls.symbol(handle, packed),
                _calls.symbol(handle, packed + "_workspace_size"), error,
                manifest["target"] != "cpu", owner.records())

    def check(self, stream: Optional[int] = None) -> None:
        """Waits for a stream of a GPU, by default the current one, and raises
        the first error that checks of entries found in earlier calls and that
        no call has raised. Without checks, and on a CPU, there is none."""
        if stream is None:
            from . import _arrays
            stream = _arrays.current_stream(None)
        code = _calls.check(self._check, stream)
        if code:
            from . import _errors
            raise _errors.make(code, _calls.text(self._error), [], ())

    def use_openmp(self) -> int:
        """Runs loops on the threads of OpenMP in this process, such as those of
        PyTorch, rather than on threads of its own that would compete with them.
        Returns how many there are; 0 if there is no OpenMP, and nothing
        changes."""
        return _calls.use_openmp(*self._threads)

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["_functions"][name]
        except KeyError:
            known = ", ".join(self.__dict__.get("_functions", ())) or "none"
            raise AttributeError(
                f"the library has no function '{name}'; it has {known}"
            ) from None

    def __getitem__(self, name: str) -> Any:
        """A function whose name is not an identifier, or that of a member."""
        return self._functions[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._functions)

    def __dir__(self) -> list:
        return [*super().__dir__(), *self._functions]

    def __repr__(self) -> str:
        functions = ", ".join(map(repr, self._functions.values()))
        return f"<kvcache.Library for {self.manifest['target']}: {functions}>"


class _Owner:
    """What a function in C asks for: names, results, and what is slow."""

    def __init__(self, name: str, arguments: list) -> None:
        self.name = name
        self.arguments = arguments

    def records(self) -> tuple:
        """The arguments as the function in C reads them."""
        kinds = {"tensor": 0, "int": 1, "float": 2}
        return tuple(
            (argument["name"], kinds[argument["kind"]],
             argument.get("access") == "write",
             argument.get("result", False),
             argument.get("dlpack_code", 0), argument.get("element_bits", 64),
             self._extents(argument))
            for argument in self.arguments)

    def _extents(self, result: dict) -> tuple:
        """(argument, dimension, times, plus) for each extent of a result."""
        if not result.get("result"):
            return ()
        rules = []
        for dim in result["dims"]:
            if dim["extent"] != "any":
                rules.append((-1, 0, 0, dim["extent"]))
                continue
            symbol, times, plus = dim.get("equal"), 1, 0
            if "of" in dim:
                symbol, times, plus = dim["of"], dim["times"], dim["plus"]
            rules.append((*self._find(symbol), times, plus))
        return tuple(rules)

    def _find(self, symbol: Optional[int]) -> tuple:
        """The first argument that is not a result and has an extent with this
        number, and the dimension."""
        for i, argument in enumerate(self.arguments):
            for d, dim in enumerate(argument.get("dims", ())):
                if (symbol is not None and dim.get("equal") == symbol
                        and not argument.get("result")):
                    return i, d
        return -2, 0

    # ---- What C calls --------------------------------------------------------

    def export(self, name: str, value: Any, reason: Any) -> tuple:
        from . import _arrays
        return _arrays.export(self.name, name, value, reason)

    def allocate(self, index: int, sample: Any, shape: tuple) -> Any:
        from ._arrays import allocate
        return allocate(self.name, self.arguments[index], sample, shape)

    def workspace(self, device: int, size: int) -> tuple:
        from . import _cuda
        return _cuda.zeroed_memory(device, size)

    def stream(self, device: int, array: Any) -> tuple:
        """The current stream, and whether a call waits for it."""
        from . import _arrays
        return _arrays.current_stream(device), _arrays.has_own_streams(array)

    def wait(self, device: int, stream: int) -> None:
        from . import _cuda
        _cuda.synchronize(device, stream)

    def error(self, code: int, message: str, values: tuple) -> Exception:
        from . import _errors
        return _errors.make(code, message, self.arguments, values)

    # ---- For people ----------------------------------------------------------

    def __str__(self) -> str:
        return f"{self.name}{self.signature}"

    @property
    def signature(self) -> Any:
        from . import _arrays
        return _arrays.signature(self.arguments)

    @property
    def doc(self) -> str:
        from . import _arrays
        return _arrays.document(self.name, self.arguments)


def _open(path: str, name: str) -> Library:
    handle = _calls.open(path)
    address = _calls.symbol(handle, f"kv1_{name}_manifest")
    if not address:
        raise OSError(f"'{path}' is not a library of kvcache named '{name}'")
    manifest = json.loads(_calls.text(address))
    first = "kv1args_" + manifest["functions"][0]["name"]
    tensors = (argument for function in manifest["functions"]
               for argument in function["arguments"]
               if argument["kind"] == "tensor")
    if not _calls.symbol(handle, first) or any(
            "dtype" not in tensor for tensor in tensors):
        raise OSError(f"'{path}' was compiled by an older kvcache: compile it "
                      "again")
    return Library(handle, manifest, path)


def open_anywhere(path: str, name: str) -> Library:
    """Also where no file may be executed: from memory then."""
    try:
        return _open(path, name)
    except OSError:
        # Not closed once it is loaded: the loader would take the next library
        # with this number for this one.
        number = os.memfd_create("kvcache")
        try:
            with open(path, "rb") as library, \
                    open(number, "wb", closefd=False) as memory:
                memory.write(library.read())
            return _open(f"/proc/self/fd/{number}", name)
        except OSError:
            os.close(number)
            raise


def load(path: Union[str, os.PathLike], name: Optional[str] = None) -> Library:
    """Loads a library that kv-compile or `compile(..., output=path)` wrote.

    `name` is that of the library, if it is not what the file is called: the
    value of --name. Loading runs no code of the library, but calling it does:
    load only what you would run.
    """
    path = os.path.abspath(os.fspath(path))
    if name is None:
        stem = os.path.splitext(os.path.basename(path))[0]
        name = "".join(c if c.isascii() and c.isalnum() else "_"
                       for c in stem.removeprefix("lib"))
        if not name or name[0].isdigit():
            name = "_" + name
    return _open(path, name)


def compile(program: Union[str, bytes, os.PathLike], target: str = "cpu", *,
            cpu: Optional[str] = None, checks: str = "none",
            output: Union[str, os.PathLike, None] = None) -> Library:
    """Compiles a program, or finds it in the cache, and loads it.

    `program` is the text of a program, or the path of a file: text with a line
    break, a brace or a parenthesis is a program. `target` is `cpu`, `cuda` (the
    GPU of this machine) or an architecture such as `sm_90a`. `cpu` is the CPU of
    host code, by default the best one that this machine is. `checks` says
    whether entries of lists are checked: `none`, `on-request` or `full`.
    `output` also writes the library to a file, for `load`.

    Raises CompileError with the text of the compiler.
    """
    text, origin = _read(program)
    image = "auto"
    if target == "cuda":
        from . import _cuda
        target, image = _cuda.architecture()
    options = {"target": target, "cpu": cpu or _calls.host_cpu(),
               "checks": checks, "image": image}
    if output is not None:
        from . import _compiler
        path = os.path.abspath(os.fspath(output))
        _compiler.compile_to(path, text, origin, NAME, options)
        return _open(path, NAME)
    return _from_cache(text, origin, options)


def _read(program: Union[str, bytes, os.PathLike]) -> tuple:
    if isinstance(program, bytes):
        return program, "program"
    if isinstance(program, str) and any(c in program for c in "\n{("):
        return program.encode(), "program"
    path = os.fspath(program)
    with open(path, "rb") as file:
        return file.read(), path


# ---- The cache -------------------------------------------------------------


def cache_folder() -> str:
    """$KVCACHE_CACHE_DIR, or the folder `kvcache` among the user's caches."""
    folder = os.environ.get("KVCACHE_CACHE_DIR")
    if folder:
        return folder
    base = os.environ.get("XDG_CACHE_HOME")
    if not base or not os.path.isabs(base):
        base = os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(base, "kvcache")


def _key(text: bytes, options: dict) -> str:
    from hashlib import sha256
    digest = sha256()
    for part in (__version__, BUILD, *(f"{key}={options[key]}"
                                       for key in sorted(options))):
        digest.update(part.encode() + b"\0")
    digest.update(text)
    return digest.hexdigest()


def _from_cache(text: bytes, origin: str, options: dict) -> Library:
    folder = cache_folder()
    path = os.path.join(folder, _key(text, options) + ".so")
    if os.path.exists(path):
        try:
            return open_anywhere(path, NAME)
        except OSError:
            pass  # cut off, or of another machine
    from . import _compiler
    return _compiler.compile_and_open(folder, path, text, origin, NAME, options)
