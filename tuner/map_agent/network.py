"""The agent's network as PyTorch trains it: one network for all candidates."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from stable_baselines3.common.policies import MultiInputActorCriticPolicy
from torch import nn

from envs.response_map.situation import (
    CANDIDATE_FEATURES,
    CANDIDATES,
    N_ACTIONS,
    PORTIONS,
    SESSION_FEATURES,
    Place,
)
from tuner.map_agent.layers import Layers
from tuner.map_agent.policy import PARTS

__all__ = ["CandidatesPolicy", "parts_of"]

N_EACH, N_SESSION = len(CANDIDATE_FEATURES), len(SESSION_FEATURES)
NEVER = -1e8


class _Extractor(nn.Module):
    """Logits of all actions for the actor, and a code for the critic.

    A candidate's code is of its features and the session's; the mean and the maximum of all codes
    stand for the rest. An action that is not there has a logit of `NEVER`.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.latent_dim_pi, self.latent_dim_vf = N_ACTIONS, width
        self.encoder = nn.Sequential(
            nn.Linear(N_EACH + N_SESSION, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh()
        )
        self.head = nn.Sequential(
            nn.Linear(3 * width, width), nn.Tanh(), nn.Linear(width, len(PORTIONS))
        )
        self.stop = nn.Sequential(
            nn.Linear(2 * width + N_SESSION, width), nn.Tanh(), nn.Linear(width, 1)
        )
        self.critic = nn.Sequential(nn.Linear(2 * width + N_SESSION, width), nn.Tanh())
        self.register_buffer("portions", torch.tensor(PORTIONS))

    def forward(self, observed: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the logits and the critic's code."""
        each, session, codes, pooled = self._encoded(observed)
        beside = torch.cat([pooled, session], dim=-1)
        return self._logits(each, codes, pooled, beside), self.critic(beside)

    def forward_actor(self, observed: torch.Tensor) -> torch.Tensor:
        """Return the logits."""
        return self.forward(observed)[0]

    def forward_critic(self, observed: torch.Tensor) -> torch.Tensor:
        """Return the critic's code."""
        _, session, _, pooled = self._encoded(observed)
        code: torch.Tensor = self.critic(torch.cat([pooled, session], dim=-1))
        return code

    def _encoded(
        self, observed: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        each = observed[:, : CANDIDATES * N_EACH].reshape(-1, CANDIDATES, N_EACH)
        session = observed[:, CANDIDATES * N_EACH :]
        beside = session[:, None].expand(-1, CANDIDATES, -1)
        codes = self.encoder(torch.cat([each, beside], dim=-1))
        there = each[..., [-1]] > 0.5
        mean = (codes * there).sum(dim=1) / there.sum(dim=1).clamp(min=1)
        most = torch.where(there, codes, -1.0).max(dim=1).values
        return each, session, codes, torch.cat([mean, most], dim=-1)

    def _logits(
        self, each: torch.Tensor, codes: torch.Tensor, pooled: torch.Tensor, beside: torch.Tensor
    ) -> torch.Tensor:
        all_pooled = pooled[:, None].expand(-1, CANDIDATES, -1)
        logits = self.head(torch.cat([codes, all_pooled], dim=-1))
        assert isinstance(self.portions, torch.Tensor)
        more = self.portions > each[..., [Place("portion")]] + 1e-6
        logits = torch.where(more & (each[..., [-1]] > 0.5), logits, NEVER)
        return torch.cat([logits.reshape(len(logits), -1), self.stop(beside)], dim=-1)


class CandidatesPolicy(MultiInputActorCriticPolicy):
    """Stable-Baselines3's actor and critic, with a network of candidates in the middle."""

    def __init__(self, *args: Any, width: int = 32, **kwargs: Any) -> None:
        self._width = width
        super().__init__(*args, **{**kwargs, "ortho_init": False})

    def _build_mlp_extractor(self) -> None:
        self.mlp_extractor = _Extractor(self._width)  # type: ignore[assignment]

    def _build(self, lr_schedule: Any) -> None:
        super()._build(lr_schedule)
        self.action_net = nn.Identity()
        # The one that was made knows the action net, which is gone.
        self.optimizer = torch.optim.Adam(self.parameters(), lr=lr_schedule(1), eps=1e-5)

    def log_probabilities(
        self, observed: dict[str, np.ndarray[Any, Any]], actions: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the logarithms of the probabilities of actions, and the entropy of the choice."""
        tensors = {name: torch.as_tensor(values) for name, values in observed.items()}
        distribution = self.get_distribution(tensors)
        entropy = distribution.entropy()
        assert entropy is not None
        return distribution.log_prob(actions), entropy


def parts_of(policy: CandidatesPolicy) -> dict[str, Layers]:
    """Return copies of the weights that choose, without PyTorch."""
    extractor = policy.mlp_extractor
    return {name: _layers_of(getattr(extractor, name)) for name in PARTS}


def _layers_of(network: nn.Sequential) -> Layers:
    return tuple(
        (layer.weight.detach().numpy().copy(), layer.bias.detach().numpy().copy())
        for layer in network
        if isinstance(layer, nn.Linear)
    )
