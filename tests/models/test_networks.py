"""The built-in networks, against closed forms and scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LinearRegression, LogisticRegression
from torch import nn
from torch.nn import functional as F

from aimass.models.networks import LinearNetwork, MLPNetwork


def minimise(network, loss, *inputs):
    """Train to the optimum of a convex loss."""
    optimizer = torch.optim.LBFGS(
        network.parameters(), max_iter=500, tolerance_grad=1e-9, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def closure():
        optimizer.zero_grad()
        value = loss(network(*inputs))
        value.backward()
        return value

    optimizer.step(closure)


def test_linear_is_the_sum_of_its_parts():
    network = LinearNetwork(2, (3, 4), 2)
    for parameter in network.parameters():
        nn.init.normal_(parameter)
    numbers, categories = torch.randn(5, 2), torch.tensor([[0, 3], [2, 0], [1, 1], [2, 3], [0, 0]])
    one_hot = torch.cat([F.one_hot(categories[:, 0], 3), F.one_hot(categories[:, 1], 4)], dim=1).float()
    expected = numbers @ network.weight.T + one_hot @ network.categories + network.bias
    torch.testing.assert_close(network(numbers, categories), expected)


def test_linear_regression_is_scikit_learns():
    generator = np.random.default_rng(0)
    x = generator.normal(size=(80, 3))
    y = x @ [1.0, -2.0, 0.5] + 3 + generator.normal(size=80)
    network = LinearNetwork(3, (), 1).double()
    minimise(network, lambda outputs: F.mse_loss(outputs[:, 0], torch.tensor(y)), torch.tensor(x))
    peer = LinearRegression().fit(x, y)
    np.testing.assert_allclose(network.weight.detach().numpy()[0], peer.coef_, atol=1e-5)
    assert network.bias.item() == pytest.approx(peer.intercept_, abs=1e-5)


def test_softmax_regression_is_scikit_learns():
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(120, 3)), generator.integers(0, 3, 120)
    network = LinearNetwork(3, (), 3).double()
    minimise(network, lambda outputs: F.cross_entropy(outputs, torch.tensor(y)), torch.tensor(x))
    peer = LogisticRegression(C=np.inf, tol=1e-8, max_iter=1000).fit(x, y)
    probabilities = torch.softmax(network(torch.tensor(x)), 1).detach().numpy()
    np.testing.assert_allclose(probabilities, peer.predict_proba(x), atol=1e-3)


def test_mlp_is_the_layers_it_says():
    network = MLPNetwork(3, [(4, 2)], 2, hidden=(6, 5), activation="gelu", dropout=0.25, layer_norm=True)
    kinds = [type(layer) for layer in network.layers]
    hidden = [nn.Linear, nn.LayerNorm, nn.GELU, nn.Dropout]
    assert kinds == [*hidden, *hidden, nn.Linear]
    assert [(layer.in_features, layer.out_features) for layer in network.layers if isinstance(layer, nn.Linear)] == [(5, 6), (6, 5), (5, 2)]
    assert network.layers[3].p == 0.25


def test_mlp_puts_each_category_beside_the_numbers():
    network = MLPNetwork(1, [(3, 2), (2, 1)], 4, hidden=()).eval()
    numbers, categories = torch.tensor([[0.5]]), torch.tensor([[2, 1]])
    row = torch.cat([numbers, network.embeddings[0].weight[2:3], network.embeddings[1].weight[1:2]], dim=1)
    torch.testing.assert_close(network(numbers, categories), network.layers(row))
