"""May this bundle run here? Reasons, as values. Pure: profile and runtime versions are handed in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from contracts.manifest import Manifest, Variant


@dataclass(frozen=True)
class Reason:
    """Why not: an error code of the area BUNDLE, and what was compared."""

    code: str
    detail: str


def reasons(manifest: Manifest, profile: str, versions: Mapping[str, str]) -> list[Reason]:
    """Every reason against running `manifest` on a device of `profile` with the backends `versions` (name -> version); [] = it may."""
    found = []
    if manifest.profile != profile:
        found.append(Reason("BUNDLE_PROFILE", f"built for {manifest.profile}, this device is {profile}"))
    if choose(manifest, versions) is None:
        found.append(Reason("BUNDLE_RUNTIME", "; ".join(_misfit(variant, versions) for variant in manifest.variants)))
    return found


def choose(manifest: Manifest, versions: Mapping[str, str]) -> Variant | None:
    """The first variant, in the manifest's order, whose backend is there in a version of its range."""
    return next((variant for variant in manifest.variants if _fits(variant, versions)), None)


def _fits(variant: Variant, versions: Mapping[str, str]) -> bool:
    version = versions.get(variant.backend)
    return version is not None and _minor(variant.runtime_min) <= _minor(version) <= _minor(variant.runtime_max)


def _misfit(variant: Variant, versions: Mapping[str, str]) -> str:
    has = versions.get(variant.backend, "none")
    return f"{variant.member} wants {variant.backend} {variant.runtime_min} to {variant.runtime_max}, here is {has}"


def _minor(version: str) -> tuple[int, int]:
    """`major.minor` of a version; ranges are inclusive on it, so 1.19 holds 1.19.2."""
    major, _, rest = version.partition(".")
    minor = rest.partition(".")[0]
    return int(major), int(minor or 0)
