"""The chooser as PyTorch trains it: one network for every candidate, and what they have in common."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from stable_baselines3.common.policies import MultiInputActorCriticPolicy
from torch import nn

from envs.environments.map_env import STOP
from envs.response_map.situation import (
    CANDIDATE_FEATURES,
    CANDIDATES,
    PORTIONS,
    SESSION_FEATURES,
)

__all__ = ["ChooserPolicy", "layers_of_chooser"]

N_EACH, N_SESSION = len(CANDIDATE_FEATURES), len(SESSION_FEATURES)
PORTION = CANDIDATE_FEATURES.index("portion")
POSSIBLE = CANDIDATE_FEATURES.index("possible")
HAS_LEADER = SESSION_FEATURES.index("has_leader")
NEVER = -1e8


class _Extractor(nn.Module):
    """Logits of all actions for the actor, and a code for the critic.

    A candidate's code is of its features and the session's; the mean and the maximum of all codes
    stand for the rest. An action that is not there has a logit of `NEVER`.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.latent_dim_pi, self.latent_dim_vf = STOP + 1, width
        self.encoder = nn.Sequential(
            nn.Linear(N_EACH + N_SESSION, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh()
        )
        self.head = nn.Sequential(
            nn.Linear(3 * width, width), nn.Tanh(), nn.Linear(width, len(PORTIONS))
        )
        self.stop = nn.Sequential(nn.Linear(2 * width + N_SESSION, width), nn.Tanh(), nn.Linear(width, 1))
        self.critic = nn.Sequential(nn.Linear(2 * width + N_SESSION, width), nn.Tanh())

    def forward(self, observed: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        each, session, codes, pooled = self._encoded(observed)
        return self._logits(each, session, codes, pooled), self.critic(
            torch.cat([pooled, session], dim=-1)
        )

    def forward_actor(self, observed: torch.Tensor) -> torch.Tensor:
        return self._logits(*self._encoded(observed))

    def forward_critic(self, observed: torch.Tensor) -> torch.Tensor:
        _, session, _, pooled = self._encoded(observed)
        return self.critic(torch.cat([pooled, session], dim=-1))

    def _encoded(
        self, observed: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        each = observed[:, : CANDIDATES * N_EACH].reshape(-1, CANDIDATES, N_EACH)
        session = observed[:, CANDIDATES * N_EACH :]
        beside = session[:, None].expand(-1, CANDIDATES, -1)
        codes = self.encoder(torch.cat([each, beside], dim=-1))
        there = each[..., [POSSIBLE]] > 0.5
        mean = (codes * there).sum(dim=1) / there.sum(dim=1).clamp(min=1)
        most = torch.where(there, codes, -1.0).max(dim=1).values
        return each, session, codes, torch.cat([mean, most], dim=-1)

    def _logits(
        self, each: torch.Tensor, session: torch.Tensor, codes: torch.Tensor, pooled: torch.Tensor
    ) -> torch.Tensor:
        beside = pooled[:, None].expand(-1, CANDIDATES, -1)
        logits = self.head(torch.cat([codes, beside], dim=-1))
        more = torch.as_tensor(PORTIONS) > each[..., [PORTION]] + 1e-6
        logits = torch.where(more & (each[..., [POSSIBLE]] > 0.5), logits, NEVER)
        stop = self.stop(torch.cat([pooled, session], dim=-1))
        stop = torch.where(session[:, [HAS_LEADER]] > 0.5, stop, NEVER / 2)
        return torch.cat([logits.reshape(len(logits), -1), stop], dim=-1)


class ChooserPolicy(MultiInputActorCriticPolicy):
    """Stable-Baselines3's actor and critic, with the chooser's network in the middle."""

    def __init__(self, *args: Any, width: int = 32, **kwargs: Any) -> None:
        self._width = width
        super().__init__(*args, **kwargs, ortho_init=False)

    def _build_mlp_extractor(self) -> None:
        self.mlp_extractor = _Extractor(self._width)  # type: ignore[assignment]

    def _build(self, lr_schedule: Any) -> None:
        super()._build(lr_schedule)
        self.action_net = nn.Identity()  # type: ignore[assignment]
        self.optimizer = self.optimizer_class(
            self.parameters(), lr=lr_schedule(1), **self.optimizer_kwargs
        )  # type: ignore[call-arg]


def layers_of_chooser(policy: ChooserPolicy) -> dict[str, np.ndarray]:
    """Return the weights that choose, by name."""
    extractor = policy.mlp_extractor
    named = {**extractor.state_dict()}
    return {
        name: tensor.detach().numpy().astype(np.float32)
        for name, tensor in named.items()
        if not name.startswith("critic")
    }
