"""The loaded models, by name, and whether they can be asked."""

from dataclasses import replace
from pathlib import Path

import structlog

from app.errors import NotReadyError, ReloadError
from app.settings import Settings
from models.backends.choose import choose_backend
from models.checkpoint import load_checkpoint
from models.errors import CheckpointError, NextwordError, UnknownModelError
from models.forward import run
from models.language_model import LanguageModel
from models.next_word import next_word

log = structlog.get_logger()


class Registry:
    """Models of one folder: every folder in it is a checkpoint, its name the model's.

    Attributes:
        loaded: Whatever could be loaded is.
        draining: The service is shutting down: it still answers, but asks to be left alone.
    """

    def __init__(self, settings: Settings) -> None:
        """Load nothing yet."""
        self.draining = False
        self._settings, self._models_dir = settings, settings.models_dir
        self._models: dict[str, LanguageModel] = {}
        self._default = ""
        self._fault: str | None = "The models are being loaded."
        self.loaded = False

    def load(self) -> None:
        """Load every checkpoint; one that is broken is logged and left out. Takes seconds."""
        models: dict[str, LanguageModel] = {}
        faults: list[str] = []
        for folder in self._folders(faults):
            if self.draining:
                return
            try:
                model = models[folder.name] = self._load(folder)
                log.info("model loaded", model=folder.name, precision=model.backend.precision)
            except (CheckpointError, OSError) as error:
                faults.append(str(error))
                log.error("model left out", model=folder.name, reason=str(error))
            except Exception:  # a surprise in one checkpoint must not take the others along
                faults.append(f"{folder}: cannot be loaded; the log knows more")
                log.exception("model left out", model=folder.name)
        self.loaded = True
        if models:
            self._use(models)
        else:
            self._fault = f"No model could be loaded. {'; '.join(faults)}"

    def prepare(self, name: str) -> LanguageModel:
        """Load a checkpoint beside what is loaded, ready to `put`. Takes seconds.

        Raises:
            NotReadyError: The models are still being loaded.
            UnknownModelError: There is no such folder.
            ReloadError: It cannot be loaded.
        """
        if not self.loaded:
            raise NotReadyError("The models are being loaded.")
        folder = next((f for f in self._folders([]) if f.name == name), None)
        if folder is None:
            if name in self._models:
                raise ReloadError("Its folder is not there any more; the model stays as it was.")
            raise UnknownModelError("There is no checkpoint folder of this name.")
        try:
            return self._load(folder)
        except (NextwordError, OSError) as error:
            raise ReloadError(f"The checkpoint cannot be loaded: {error}") from None
        except Exception as error:  # a surprise in a checkpoint is no reason to end anything
            log.exception("model not reloaded", model=name)
            raise ReloadError("The checkpoint cannot be loaded; the log knows more.") from error

    def put(self, model: LanguageModel) -> LanguageModel | None:
        """Answer with this model from now on; return the one whose place it takes, if any."""
        old = self._models.get(model.name)
        self._use({**self._models, model.name: model})
        return old

    def known(self) -> list[str]:
        """Return the names of all models, loaded or only there to be loaded, in order."""
        return sorted({*self._models, *(folder.name for folder in self._folders([]))})

    def _use(self, models: dict[str, LanguageModel]) -> None:
        self._models, self._default = models, self._settings.choose_default(models)
        if self._default not in models:
            self._fault = f"The default model {self._default} is not among those loaded."
        else:
            self._fault = None

    def _folders(self, faults: list[str]) -> list[Path]:
        try:
            entries = sorted(self._models_dir.iterdir())
        except OSError as error:
            faults.append(f"{self._models_dir}: {error.strerror}")
            return []
        folders = [path for path in entries if path.is_dir() and path.name[0] != "."]
        if not folders:
            faults.append(f"{self._models_dir}: holds no checkpoint folder")
        return folders

    def _load(self, folder: Path) -> LanguageModel:
        # A link to a checkpoint is asked for by the name of the link.
        model = replace(load_checkpoint(folder), name=folder.name)
        threads = self._settings.most_threads()
        model = choose_backend(model, self._settings.precision, threads=threads)
        # The first question tabulates the vocabulary, which is nothing for a user to wait for.
        run(next_word(model, "", top_k=1, prefix="a", words_only=False), model)
        return model

    def get(self, name: str | None = None) -> LanguageModel:
        """Return the model of this name, or the default.

        Raises:
            NotReadyError: The models are not loaded.
            UnknownModelError: None has this name.
        """
        if self._fault is not None:
            raise NotReadyError(self._fault)
        model = self._models.get(self._default if name is None else name)
        if model is None:
            raise UnknownModelError(f"No such model; these are loaded: {', '.join(self.names())}.")
        return model

    def is_default(self, model: LanguageModel) -> bool:
        """Return whether requests that name no model get this one."""
        return model.name == self._default

    def names(self) -> list[str]:
        """Return the names of the loaded models, in order."""
        return sorted(self._models)

    def check_ready(self) -> None:
        """Raise NotReadyError, which says why, unless new requests are welcome."""
        if self.draining:
            raise NotReadyError("The service is shutting down.")
        self.get()
