"""`sidecar`: usage files of agents as a source of spans, read by `serve` itself."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from spanledger_processor.config.section import NULL_IS_DEFAULT, Section


def _of_the_user(path: Path) -> Path:
    return path.expanduser()


class SidecarSource(Section):
    """One kind of files."""

    roots: tuple[Annotated[Path, AfterValidator(_of_the_user)], ...] = Field(
        default=(),
        description="Homes to read; default: where the agent itself keeps its files, also when that is made or moved.",
    )
    grain: Literal["auto", "usage"] = Field(
        default="auto", description="`auto`: the finest that the files have. `usage`: chat files are never opened."
    )


class SidecarSources(Section):
    """The kinds of files that are read: only those named here. One that is named and left empty has its defaults."""

    mux: SidecarSource | None = Field(default=None, description="Mux and Xum.")
    tilth: SidecarSource | None = Field(default=None, description="tilth.")

    @model_validator(mode="before")
    @classmethod
    def _named_runs(cls, given: Any) -> Any:
        if isinstance(given, dict):
            return {name: {} if settings is None else settings for name, settings in given.items()}
        return given


class Sidecar(Section):
    """Usage files of agents as a source."""

    sources: Annotated[SidecarSources, NULL_IS_DEFAULT] = Field(
        default_factory=SidecarSources, description="The kinds of files that are read: only those named here."
    )
    backfill: bool = Field(
        default=False, description="At a source's first run, take all that is there; otherwise that counts as old."
    )
    since: date | None = Field(
        default=None, description="At a source's first run, take what is there from this UTC day on; default: nothing."
    )

    @model_validator(mode="after")
    def _one_beginning(self) -> Sidecar:
        if self.backfill and self.since is not None:
            raise ValueError("backfill and since: use one of them")
        return self
