"""Where models lie, their files, and the one message for each way in which reading them can fail."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from transformers.utils.hub import cached_file

from borngap.errors import UserError, did_you_mean
from borngap.kinds import refuse_result
from borngap.zoo import FETCHABLE, local_names, local_path

ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
GGUF = ".gguf"
ModelSource = Path | str
"""A folder, a GGUF file, or an id on the hub."""
_LOCAL_RULE = "a folder with config.json and *.safetensors, or a GGUF file"
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.msgpack", "*.h5")
_READING = (OSError, ValueError, KeyError, ImportError, RuntimeError, AttributeError, TypeError, SafetensorError)


def locate(name: str) -> ModelSource:
    """Return where a model lies.

    Args:
        name: a bundled or fetched name, a local folder (a model, or a PEFT adapter), a GGUF file, or a hub id.

    Returns:
        The folder, the file, or the hub id.

    Raises:
        UserError: there is no such folder or file, no safetensors weights in it, or the named model is not fetched.
    """
    if name in local_names():
        return local_path(name)
    if name in FETCHABLE:
        raise UserError(f"{name} is not fetched yet", found=f"no {local_path(name)}", fix=f"borngap zoo fetch {name}")
    path = Path(name).expanduser()
    if path.is_dir():
        return _check_folder(path)
    if is_gguf(path) and path.is_file():
        return path
    if name.startswith((".", "/", "~")) or name.count("/") > 1 or path.exists() or is_gguf(path):
        raise UserError("no model there", rule=_LOCAL_RULE, found=name)
    return name


def is_gguf(source: ModelSource) -> bool:
    """Return whether a model lies in a GGUF file, by its name."""
    return isinstance(source, Path) and source.suffix.lower() == GGUF


def file_of(source: ModelSource, name: str, revision: str | None = None) -> Path | None:
    """Return the local path of a file of a folder or a hub repository; None if it has none, or can't be reached.

    Args:
        source: the folder or the hub id.
        name: the file's name.
        revision: of a hub repository.

    Returns:
        The path; a hub file is fetched into the cache.
    """
    if isinstance(source, Path):
        return source / name if (source / name).is_file() else None
    return _hub_file(source, name, revision)


@lru_cache  # without a network each attempt takes its time to fail
def _hub_file(repository: str, name: str, revision: str | None) -> Path | None:
    quiet: dict[str, Any] = dict.fromkeys(_QUIET_OPTIONS, False)
    try:
        found = cached_file(repository, name, revision=revision, **quiet)
    except (OSError, ValueError):  # no such repository: whoever loads it says so
        return None
    return None if found is None else Path(found)


_QUIET_OPTIONS = (
    "_raise_exceptions_for_gated_repo", "_raise_exceptions_for_missing_entries",
    "_raise_exceptions_for_connection_errors",
)  # fmt: skip


def read(name: str, reader: Callable[[], Any], part: str = "model") -> Any:
    """Call a from_pretrained, turning its many errors into one that names the cause.

    Args:
        name: the model, as the user gave it.
        reader: does the reading.
        part: what is read.

    Returns:
        What the reader returns.

    Raises:
        UserError: it could not be read.
    """
    try:
        return reader()
    except UserError:
        raise
    except _READING as error:
        text = str(error) or type(error).__name__
        first = next((line.strip() for line in text.splitlines() if line.strip()), text)
        place = _place(name)
        remote = not isinstance(place, Path)
        rule, fix = _cause(error, text, remote=remote, gguf=is_gguf(place))
        near = did_you_mean(name, [*local_names(), *FETCHABLE]) if remote else None
        fix = f"{near} Else {fix}" if near else fix
        raise UserError(f"can't load the {part} {name!r}", rule=rule, found=first, fix=fix) from error


def _place(name: str) -> ModelSource:
    if name in local_names():
        return local_path(name)
    path = Path(name).expanduser()
    return path if path.is_dir() or is_gguf(path) else name


def _cause(error: BaseException, text: str, *, remote: bool, gguf: bool) -> tuple[str, str]:
    """Rule and cure: by what the host's message says, by the error's kind, and at last by where the model lies."""
    for mark, rule, fix in _CAUSES:
        if mark in text:
            return rule, fix
    if isinstance(error, ImportError):
        return "the packages that the model needs are installed", "install what the line above names"
    if isinstance(error, SafetensorError):
        return "the weights are whole", "the file is cut off or damaged: fetch or save it again"
    if remote:
        rule = "a bundled or fetched name, a local folder, a GGUF file, or a hub id that is reachable or cached"
        return rule, f"check the spelling and the network (HF_HUB_OFFLINE); here: {', '.join(local_names())}"
    if gguf:
        return "a whole GGUF file of a causal language model", "the file is cut off or damaged: fetch it again"
    return "the files of the folder belong together", "save it again with save_pretrained(), model and tokenizer"


_CAUSES = (
    ("custom code", "code from the hub is never run", "take a model whose architecture transformers knows"),
    ("does not recognize this architecture", "an architecture that transformers knows", "update transformers"),
    ("GGUF model with architecture", "an architecture that transformers reads from GGUF", "update transformers"),
    ("Unrecognized model", "an architecture that transformers knows", "check model_type in its config.json"),
    ("gated", "a repository that you have access to", "ask for access on its page, then `hf auth login`"),
    ("size mismatch", "weights of the shapes that the model has", "load the base model that they were saved for"),
    (
        "instantiate the backend tokenizer",
        "the tokenizer's files beside the model",
        "save it there: tokenizer.save_pretrained(folder)",
    ),
)


def _check_folder(path: Path) -> Path:
    refuse_result(path, "a model: a folder with config.json and *.safetensors")
    if (path / ADAPTER_CONFIG).is_file():
        weights = ADAPTER_WEIGHTS
    elif (path / "config.json").is_file():
        weights = "*.safetensors"
    else:
        found = ", ".join(sorted(p.name for p in path.iterdir())[:8]) or "an empty folder"
        raise UserError(f"no model in {path}", rule=_LOCAL_RULE, found=found)
    if not any(path.glob(weights)):
        pickled = sorted(p.name for pattern in _PICKLES for p in path.glob(pattern))
        found = f"pickled weights only: {', '.join(pickled)}" if pickled else "no weights"
        fix = "convert them: load the model you trust with transformers and call save_pretrained()" if pickled else None
        raise UserError(
            f"no safetensors weights in {path}", rule="weights are read from safetensors only", found=found, fix=fix
        )
    return path
