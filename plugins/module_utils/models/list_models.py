# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The program that runs a repository's get_models_json.py, in a process of its own, and hands its models to discovery.

It is started as `python list_models.py REQUEST`. The request and the answer are files, for the repository's code may
print what it likes and close what it likes. Standard input is a pipe that the starter holds open: when it ends, the
starter is gone, and this process group ends itself. Nothing of this project is imported here.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib.util
import itertools
import json
import os
import resource
import signal
import sys
import sysconfig
import threading
import traceback
import types
from typing import Any, Callable, Dict, List, Optional, Set, Tuple

PROTOCOL = 3  # part of the key of cached answers: raise it whenever the answer changes its meaning
MOST_MODELS = 100000  # an endless generator must not eat the memory
MOST_OUTPUT = 256 << 20  # bytes; nor an endless print the disk
MOST_INPUTS = 1000  # files that an answer may depend on and still be cached

_MODULE = "get_models_json"


@dataclasses.dataclass
class CustomModel:
    """What a repository's list_models() returns: a model card as an object, with madengine's fields and defaults."""

    name: str
    dockerfile: str = ""
    dockercontext: str = ""
    scripts: str = ""
    url: str = ""
    cred: str = ""
    owner: str = ""
    data: str = ""
    n_gpus: str = "-1"
    timeout: int = 7200
    training_precision: str = ""
    tags: List[str] = dataclasses.field(default_factory=list)
    args: str = ""
    multiple_results: str = ""
    skip_gpu_arch: str = ""

    def to_dict(self) -> Dict[str, Any]:
        """The card. Who overrides this says what stands in it."""
        return dataclasses.asdict(self)

    def update_model(self) -> None:
        """Called once the model is selected, with the directory already in `name`: compute what is dear to compute here."""


class Refused(Exception):
    """The repository's code does not keep the protocol; the text tells its author what to do."""


class _Watched:
    """A function of os that says first what it is asked for. No Python function: a class that holds it, as pathlib's on Python 3.8, would make it a method."""

    def __init__(self, plain: Callable[..., Any], note: Callable[[Any], None]) -> None:
        functools.update_wrapper(self, plain)
        self._plain, self._note = plain, note

    def __call__(self, path: Any, *arguments: Any, **more: Any) -> Any:
        self._note(path)
        return self._plain(path, *arguments, **more)


class Inputs:
    """What the repository's code looked at outside its own directory, so that an answer is not reused when that has changed.

    Python's audit events tell which files are opened and directories listed, and whether other programs or the network
    are asked: then the answer cannot be reused at all. Reads of environment variables are noted by the mapping itself, and
    questions whether a file is there by the functions that ask: no event tells of them.
    """

    _LOOKING = ("stat", "lstat", "access")
    _LISTING = ("os.listdir", "os.scandir")
    _ELSEWHERE = ("subprocess.Popen", "os.system", "os.exec", "os.fork", "os.posix_spawn")
    _VOLATILE = ("socket.connect", "socket.getaddrinfo", "sqlite3.connect", *_ELSEWHERE)

    def __init__(self, repo: str, own: str) -> None:
        installed = {os.path.realpath(path) for path in sysconfig.get_paths().values()} | {"/proc", "/sys", "/dev", "/etc"}
        self._quiet = tuple(path + "/" for path in installed if not (repo + "/").startswith(path + "/")) + (own + "/",)
        self.paths: Set[str] = set()
        self.looked: Set[str] = set()  # asked for, not read
        self._busy = False
        self.variables: Set[str] = set()
        self.volatile = ""

    def watch(self) -> None:
        """Start noting. Hooks cannot be removed, so this is for a process that does nothing else."""
        noted = self.variables
        plain = type(os.environ)

        class Noting(plain):  # type: ignore[misc, valid-type]
            def __getitem__(self, name: Any) -> Any:
                noted.add(name if isinstance(name, str) else repr(name))
                return plain.__getitem__(self, name)

        os.environ.__class__ = Noting
        for name in self._LOOKING:
            self._note_calls(name)
        sys.addaudithook(self._note)

    def _note_calls(self, name: str) -> None:
        plain = getattr(os, name)
        noting = _Watched(plain, lambda path: self._note_path(path, self.looked))
        setattr(os, name, noting)
        for able in (os.supports_dir_fd, os.supports_fd, os.supports_follow_symlinks, os.supports_effective_ids):
            if plain in able:
                able.add(noting)

    def _note(self, event: str, args: Tuple[Any, ...]) -> None:
        if event == "open" or event in self._LISTING:
            self._note_path(args[0] if args else None, self.paths)
        elif event in self._VOLATILE and not self.volatile:
            self.volatile = event

    def _note_path(self, path: Any, noted: Set[str]) -> None:
        if isinstance(path, int) or self._busy:  # a descriptor: its file was opened by name before
            return
        self._busy = True  # finding the real path asks for files, too
        try:
            path = os.path.realpath(os.fsdecode(path or "."))
            if not (path + "/").startswith(self._quiet):
                noted.add(path)
        except (TypeError, ValueError):
            pass  # no path: whoever is called with it says so
        finally:
            self._busy = False

    def answer(self) -> Dict[str, Any]:
        """The inputs as they travel: {"paths", "looked", "variables", "volatile"}."""
        many = "too many files" if len(self.paths | self.looked) > MOST_INPUTS else ""
        return {
            "paths": [] if many else sorted(self.paths),
            "looked": [] if many else sorted(self.looked - self.paths),
            "variables": sorted(self.variables),
            "volatile": self.volatile or many,
        }


def offer_custom_model() -> None:
    """Make CustomModel importable under both of madengine's names, whether or not madengine itself is installed."""
    for name in ("madengine", "madengine.utils", "madengine.tools"):
        package = types.ModuleType(name)
        sys.modules[name] = package
        places = (os.path.join(path, *name.split(".")) for path in sys.path)
        package.__path__ = [place for place in places if os.path.isdir(place)]  # the rest of an installed madengine stays importable
        if "." in name:
            leaf = types.ModuleType(name + ".discover_models")
            vars(leaf)["CustomModel"] = CustomModel
            sys.modules[leaf.__name__] = leaf
            vars(package)["discover_models"] = leaf
            vars(sys.modules["madengine"])[name.rpartition(".")[2]] = package


def load(path: str) -> types.ModuleType:
    """Import the repository's file. Its directory is importable, too, behind everything that is installed."""
    sys.path.append(os.path.dirname(path))
    spec = importlib.util.spec_from_file_location(_MODULE, path)
    if spec is None or spec.loader is None:
        raise Refused("it cannot be loaded as a Python module")
    module = importlib.util.module_from_spec(spec)
    sys.modules[_MODULE] = module
    spec.loader.exec_module(module)
    return module


def models_of(module: types.ModuleType) -> List[CustomModel]:
    """What list_models() returns, checked."""
    function = getattr(module, "list_models", None)
    if not callable(function):
        raise Refused("it defines no function list_models(); please define one that returns a list of CustomModel")
    answer = function()
    try:
        models = list(itertools.islice(answer, MOST_MODELS + 1))
    except TypeError:
        raise Refused("list_models() must return a list of CustomModel, it returned %.200r" % (answer,)) from None
    if len(models) > MOST_MODELS:
        raise Refused("list_models() returned more than %d models" % MOST_MODELS)
    for position, model in enumerate(models):
        if not isinstance(model, CustomModel):
            raise Refused("element %d of list_models() must be a CustomModel, it is %.200r" % (position + 1, model))
    return models


def _overrides(model: CustomModel, method: str) -> bool:
    return getattr(type(model), method) is not getattr(CustomModel, method) or method in vars(model)


def is_lazy(model: CustomModel) -> bool:
    """True if update_model() or to_dict() is the repository's own, so that the card is known only after they were called."""
    return _overrides(model, "update_model") or _overrides(model, "to_dict")


def _as_json(value: Any) -> Any:
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    raise TypeError("a value of type %s" % type(value).__name__)


def _plain(value: Any) -> Any:
    """The value as JSON would carry it."""
    return json.loads(json.dumps(value, default=_as_json, allow_nan=False))


def _name_of(model: CustomModel) -> Any:
    return getattr(model, "name", None)


def card_of(model: CustomModel) -> Dict[str, Any]:
    """The fields of a model, and of its further public attributes those that are plain data (`env_vars`, `distributed`, ...)."""
    fields = [field.name for field in dataclasses.fields(model)]
    card = {}
    for name in fields:
        try:
            card[name] = _plain(getattr(model, name))
        except AttributeError:
            raise Refused("model %.200r has no %s: an __init__ of its own must call super().__init__(name, ...)" % (_name_of(model), name)) from None
        except (TypeError, ValueError, RecursionError) as error:
            raise Refused("model %.200r: the field %s holds what JSON cannot carry: %s" % (_name_of(model), name, error)) from None
    for name, value in vars(model).items():
        if name not in card and not name.startswith("_"):
            with contextlib.suppress(TypeError, ValueError, RecursionError):  # a helper object is no part of a card
                card[name] = _plain(value)
    return card


def final_card(model: CustomModel) -> Dict[str, Any]:
    """The card of a selected model: what its own to_dict() says, where it has one."""
    if not _overrides(model, "to_dict"):
        return card_of(model)
    card = _plain(model.to_dict())
    if not isinstance(card, dict):
        raise TypeError("to_dict() must return a dict, it returned %.200r" % (card,))
    return card


def listed(models: List[CustomModel]) -> List[Dict[str, Any]]:
    """All models, before any update_model() and to_dict()."""
    return [{"lazy": is_lazy(model), "card": card_of(model)} for model in models]


def updated(models: List[CustomModel], directory: str, wanted: List[Tuple[int, str]]) -> List[Dict[str, Any]]:
    """The cards of the wanted models, (position, name) each, after their update_model() and to_dict()."""
    cards = []
    for position, name in wanted:
        if position >= len(models) or models[position].name != name:
            raise Refused("list_models() must give the same models in the same order each time; model %.200r moved" % name)
        model = models[position]
        model.name = "%s/%s" % (directory, name)
        try:
            model.update_model()
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever the repository's code raises becomes one sentence
            raise Refused("update_model() of model %.200r failed: %s" % (name, said(error))) from None
        try:
            cards.append({"card": final_card(model)})
        except Refused:
            raise
        except (Exception, SystemExit) as error:  # noqa: BLE001 - as above
            raise Refused("to_dict() of model %.200r failed: %s" % (name, said(error))) from None
    return cards


def said(error: BaseException) -> str:
    """An exception in one line, with the line of the repository's code that raised it."""
    frames = list(traceback.extract_tb(error.__traceback__))
    library = os.path.dirname(os.__file__) + os.sep
    frames = [frame for frame in frames if not frame.filename.startswith((library, __file__, "<frozen"))] or frames
    where = " (%s, line %s)" % (os.path.basename(frames[-1].filename), frames[-1].lineno) if frames else ""
    return "%s: %.500s%s" % (type(error).__name__, error, where)


def print_trimmed(error: BaseException) -> None:
    """Print the traceback of an exception without the frames of this program and of the import system."""
    trace = error.__traceback__
    while trace and (trace.tb_frame.f_code.co_filename == __file__ or "importlib" in trace.tb_frame.f_code.co_filename):
        trace = trace.tb_next
    traceback.print_exception(type(error), error, trace)


def end_with_the_starter(pipe: int) -> None:
    """Wait until the starter closes its end of the pipe, then end the whole process group."""
    os.read(pipe, 1)
    os.kill(0, signal.SIGKILL)


def prepare(request: Dict[str, Any]) -> None:
    """Make this process a place for foreign code: no input, no bytecode files, nothing of ours on sys.path."""
    sys.dont_write_bytecode = True
    own = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [path for path in sys.path if os.path.abspath(path) != own]
    sys.argv[:] = [request["path"]]
    _soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    if hard == resource.RLIM_INFINITY or hard > MOST_OUTPUT:
        resource.setrlimit(resource.RLIMIT_FSIZE, (MOST_OUTPUT, hard))
    if os.getpgid(0) == os.getpid():  # started by discovery, not by hand: the group is ours to end
        pipe = os.dup(0)
        threading.Thread(target=end_with_the_starter, args=(pipe,), daemon=True).start()
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)


def work(request: Dict[str, Any]) -> Dict[str, Any]:
    """The answer: {"models": [{"card", "lazy"?}], "inputs": {...}} or {"refused": why}. The code's own exceptions pass through."""
    inputs = Inputs(request["repo"], os.path.realpath(os.path.dirname(request["path"])))
    inputs.watch()
    try:
        models = models_of(load(request["path"]))
        wanted: Optional[List[Tuple[int, str]]] = request["update"]
        cards = listed(models) if wanted is None else updated(models, request["directory"], wanted)
    except Refused as error:
        return {"refused": str(error)}
    return {"models": cards, "inputs": inputs.answer()}


def main(argv: List[str]) -> int:
    """Read the request, run the repository's code, write the answer in one step; 1 after an exception of that code."""
    with open(argv[1], encoding="utf-8") as stream:
        request = json.load(stream)
    prepare(request)
    offer_custom_model()
    try:
        answer = work(request)
    except SystemExit as error:  # a script that was not meant to be imported, or one that gives up
        sys.stdout.write("%s\n" % said(error))
        return error.code if isinstance(error.code, int) else 1
    except Exception as error:  # noqa: BLE001 - the repository's code may raise anything; its author needs to see where
        print_trimmed(error)
        return 1
    with open(request["answer"] + ".part", "w", encoding="utf-8") as stream:
        json.dump(answer, stream)
    os.replace(request["answer"] + ".part", request["answer"])
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv))
