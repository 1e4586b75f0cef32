# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line: train, launch, verify, evaluate, benchmark and a few smaller ones. Commands import torch when they need it."""

from __future__ import annotations

import argparse
import errno
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from . import config as configuration
from .config import LEAVES, TrainingConfig
from .errors import ConfigError, EngineError, UsageError
from .exitcodes import TABLE, ExitCode
from .stopping import StopFlag, deadline_from

ENV_PREFIX = "TRAINING_ENGINE_"


class _Parser(argparse.ArgumentParser):
    """Faults become errors of the engine, and a mistyped option is never taken for the beginning of another one."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"allow_abbrev": False, **options})

    def error(self, message: str) -> Any:
        raise UsageError(f"{message}; see `python -m {self.prog} --help`")


def main(argv: Sequence[str], flag: StopFlag | None = None) -> int:
    """Run a command; the exit code."""

    def command() -> int:
        arguments = _parser().parse_args(list(argv))
        return int(arguments.run(arguments, flag or StopFlag()))

    return exit_code_of(command, argv)


def exit_code_of(work: Callable[[], int], argv: Sequence[str] = ()) -> int:
    """The code that `work` returns or that its error means. Errors of the engine are one message, others come with their traceback."""
    try:
        return work()
    except EngineError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return _verdict(argv, error, int(error.exit_code))
    except SystemExit as leaving:  # argparse after --help, or sys.exit in a script
        if isinstance(leaving.code, str):
            print(leaving.code, file=sys.stderr)
        return int(ExitCode.BUG) if isinstance(leaving.code, str) else int(leaving.code or 0)
    except BaseException as error:  # the last frame of the process: whatever it is must become an exit code
        return _verdict(argv, error, _unexpected(error))


def _verdict(argv: Sequence[str], error: BaseException, code: int) -> int:
    """The code. A benchmark also ends with one line that has the reason: harnesses look for FAILED, and show the last such line."""
    if list(argv[:1]) == ["benchmark"]:
        print(f"benchmark FAILED with exit code {code}: {type(error).__name__}: {' '.join(str(error).split())[:1000]}", file=sys.stderr)
    return code


def _unexpected(error: BaseException) -> int:
    if "torch" in sys.modules:
        from .peers import is_peer_failure
        from .step import is_out_of_memory

        if is_out_of_memory(error):
            print(f"out of memory: {error}", file=sys.stderr)
            return int(ExitCode.OOM)
        if is_peer_failure(error):
            print(f"another rank went away: {error}", file=sys.stderr)
            return int(ExitCode.PEER)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        print(f"the disk is full: {error}; make room and start the same line again: what was saved is untouched", file=sys.stderr)
        return int(ExitCode.BUG)
    import traceback

    traceback.print_exception(error)
    return 128 + signal.SIGINT if isinstance(error, KeyboardInterrupt) else int(ExitCode.BUG)


def load_config(arguments: argparse.Namespace, env: Mapping[str, str]) -> TrainingConfig:
    """The configuration out of preset, file, environment and command line. Raises ConfigError with all faults."""
    layers: list[tuple[configuration.Layer, Mapping[str, Any]]] = []
    if arguments.preset:
        layers.append(("preset", configuration.preset(arguments.preset)))
    if arguments.config:
        layers.append(("file", read_config_file(Path(arguments.config))))
    found = {name.removeprefix(ENV_PREFIX).lower(): text for name, text in env.items() if name.startswith(ENV_PREFIX)}
    layers.append(("environment", {leaf: configuration.parse_text(leaf, text) if leaf in LEAVES else text for leaf, text in found.items()}))
    given = {leaf: configuration.parse_text(leaf, getattr(arguments, leaf)) for leaf in LEAVES if getattr(arguments, leaf) is not None}
    return configuration.resolve([*layers, ("command line", given)])


def read_config_file(path: Path) -> Mapping[str, Any]:
    """The values in a JSON or YAML file. Raises ConfigError."""
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix in (".yml", ".yaml"):
            try:
                import yaml
            except ImportError as error:
                raise ConfigError([f"{path} is YAML, which needs PyYAML: pip install 'training-engine[yaml]', or use JSON"]) from error
            values = yaml.safe_load(text)
        else:
            values = json.loads(text)
    except (OSError, ValueError) as error:
        raise ConfigError([f"{path} cannot be read: {error}"]) from error
    except Exception as error:  # YAML's own errors share no base class that could be named without importing it
        if isinstance(error, ConfigError):
            raise
        raise ConfigError([f"{path} is not valid YAML: {error}"]) from error
    if not isinstance(values, dict):
        raise ConfigError([f"{path} holds a {type(values).__name__}, expected sections with values"])
    return values


# -- commands


def _train(arguments: argparse.Namespace, flag: StopFlag) -> int:
    config = load_config(arguments, os.environ)
    from .commands import train

    return train(config, flag, deadline_from(os.environ))


def _launch(arguments: argparse.Namespace, flag: StopFlag) -> int:
    load_config(arguments, os.environ)  # a faulty configuration is told once, and not by every rank
    from .launch import Launch

    if arguments.ranks < 1 or not arguments.grace >= 0 or not arguments.hang_timeout >= 0:
        raise UsageError(f"--ranks {arguments.ranks} must be at least 1, --grace {arguments.grace} and --hang-timeout "
                         f"{arguments.hang_timeout} at least 0")
    command = [sys.executable, "-m", "training_engine", "train", *_forwarded(arguments)]
    if flag.stop_requested:  # by a signal that came before there was a rank to pass it on to
        return 128 + signal.SIGTERM
    return Launch(command, arguments.ranks, arguments.grace, arguments.hang_timeout).run()


def _forwarded(arguments: argparse.Namespace) -> list[str]:
    out = [part for name in ("preset", "config") if (value := getattr(arguments, name)) for part in (f"--{name}", value)]
    return out + [f"--{leaf.replace('_', '-')}={getattr(arguments, leaf)}" for leaf in LEAVES if getattr(arguments, leaf) is not None]


def _verify(arguments: argparse.Namespace, _flag: StopFlag) -> int:
    from .inspection import verify

    return verify(Path(arguments.run_folder))


def _digest(arguments: argparse.Namespace, _flag: StopFlag) -> int:
    from .inspection import digest

    return digest(Path(arguments.run_folder))


def _dashboard(arguments: argparse.Namespace, _flag: StopFlag) -> int:
    from .inspection import draw

    return draw(Path(arguments.run_folder), Path(arguments.output) if arguments.output else None)


def _evaluate(arguments: argparse.Namespace, _flag: StopFlag) -> int:
    config = load_config(arguments, os.environ)
    from .commands import evaluate_run

    return evaluate_run(config, best=arguments.best)


def _export(arguments: argparse.Namespace, _flag: StopFlag) -> int:
    config = load_config(arguments, os.environ)
    from .commands import export_run

    formats = arguments.format or ["safetensors", "pt2"]
    return export_run(config, Path(arguments.output), formats, best=arguments.best, device=arguments.serve_on)


def _benchmark(arguments: argparse.Namespace, flag: StopFlag) -> int:
    config = load_config(arguments, os.environ)
    from .benchmark import benchmark

    return benchmark(config, flag, csv_path=Path(arguments.csv) if arguments.csv else None, warmup=arguments.warmup)


def _schema(_arguments: argparse.Namespace, _flag: StopFlag) -> int:
    print(json.dumps(configuration.schema(), indent=2))
    return 0


def _codes(_arguments: argparse.Namespace, _flag: StopFlag) -> int:
    for code, (meaning, action) in TABLE.items():
        print(f"{code.value:>3}  {code.name:<9}  {meaning}; supervisor: {action}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="training_engine", description="Trains models; a killed run goes on bit for bit where it was.")
    commands = parser.add_subparsers(dest="command", required=True, parser_class=_Parser, prog=parser.prog)
    shared = _config_options()

    def add(name: str, run: Any, text: str, *, with_config: bool = True) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=text, description=text, parents=[shared] if with_config else [])
        made.set_defaults(run=run)
        return made

    add("train", _train, "train, or go on with the run of the run folder")
    launch = add("launch", _launch, "train with several ranks on this node")
    launch.add_argument("--ranks", type=int, default=1, help="number of processes")
    launch.add_argument("--grace", type=float, default=30.0, help="seconds the other ranks have once one has failed")
    launch.add_argument("--hang-timeout", type=float, default=0.0, help="seconds without a heartbeat after which a rank is hung (0: never)")
    verify = add("verify", _verify, "check every checkpoint of a run", with_config=False)
    verify.add_argument("run_folder", help="the run folder")
    digest = add("digest", _digest, "print one hash over everything that a run has computed", with_config=False)
    digest.add_argument("run_folder", help="the run folder")
    dashboard = add("dashboard", _dashboard, "draw a run (loss, rate, gradients, drift) as one HTML file", with_config=False)
    dashboard.add_argument("run_folder", help="the run folder")
    dashboard.add_argument("--output", help="the file (default: dashboard.html in the run folder)")
    evaluate = add("evaluate", _evaluate, "evaluate the newest or the best checkpoint")
    evaluate.add_argument("--best", action="store_true", help="the best by the monitored metric instead of the newest")
    export = add("export", _export, "export a checkpoint as a bundle with a server")
    export.add_argument("output", help="the new folder")
    formats = ["safetensors", "pt2", "onnx", "torchscript", "mar"]
    export.add_argument("--format", action="append", choices=formats, help="a format; may be given again")
    export.add_argument("--best", action="store_true", help="the best by the monitored metric instead of the newest")
    export.add_argument("--serve-on", choices=["cpu", "cuda", "rocm"], default="cpu", help="what the Dockerfile is for")
    bench = add("benchmark", _benchmark, "train and report the throughput")
    bench.add_argument("--csv", help="also write the results to this file")
    bench.add_argument("--warmup", type=int, default=5, help="steps that do not count")
    add("schema", _schema, "print the JSON schema of the configuration", with_config=False)
    add("exit-codes", _codes, "print the table of exit codes", with_config=False)
    return parser


def _config_options() -> _Parser:
    parser = _Parser(add_help=False)
    parser.add_argument("--config", help="a JSON or YAML file with values")
    parser.add_argument("--preset", help="a preset: " + ", ".join(configuration.PRESETS))
    for leaf in LEAVES.values():
        parser.add_argument("--" + leaf.name.replace("_", "-"), dest=leaf.name, metavar=leaf.base.__name__.upper(),
                            help=f"{leaf.help} (default: {leaf.default})".replace("%", "%%"))
    return parser
