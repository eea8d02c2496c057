"""Licences of initial weights: shown before use, and accepted by name if they restrict the use."""

from __future__ import annotations

import dataclasses

from se_resnet.errors import UserError

FIELD = "config.model.accept_licence"


@dataclasses.dataclass(frozen=True)
class Licence:
    """The licence of weights.

    Attributes:
        name: SPDX identifier; ``LicenseRef-...`` for a licence without one, as in SPDX; an empty
            string if the licence is not known.
        url: address of the licence's text or of the authors' terms, or an empty string.
        non_commercial: True if the authors allow only non-commercial use.
    """

    name: str = ""
    url: str = ""
    non_commercial: bool = False

    def describe(self) -> str:
        """Returns name, restriction and address in one line."""
        restriction = "for non-commercial use only" if self.non_commercial else ""
        return ", ".join(filter(None, (self.name or "not known", restriction, self.url)))


def require_accepted(weights: str, licence: Licence, accepted: str) -> None:
    """Validates ``config.model.accept_licence``.

    Args:
        weights: ``config.model.pretrained``.
        licence: licence of these weights.
        accepted: the licence that the user accepts by name, or an empty string.

    Raises:
        UserError: the licence restricts the use and is not accepted, or another licence is
            accepted.
    """
    if accepted and accepted != licence.name:
        raise UserError(
            f"{FIELD} = {accepted!r} is not the licence of config.model.pretrained = {weights!r}, "
            f"which is {licence.describe()}: leave it out, or accept that licence by its name."
        )
    if licence.non_commercial and not accepted:
        raise UserError(
            f"config.model.pretrained = {weights!r} has the licence {licence.name}, and its "
            f"authors allow only non-commercial use: read {licence.url} and, if your use is "
            f"allowed, add --{FIELD}={licence.name}."
        )
