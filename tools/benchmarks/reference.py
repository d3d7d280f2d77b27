"""SAIM as the paper writes it: two streams, explicit masks, raster order.

Slow and literal on purpose; it shares no code with the package. Parameters
are a dict under the package's names, so gradients can be compared by name.
"""

import math

import torch
import torch.nn.functional as F


def layer_norm(x, params, name):
    weight, bias = params[f'{name}.weight'], params[f'{name}.bias']
    return F.layer_norm(x, weight.shape, weight, bias, eps=1e-6)


def linear(x, params, name):
    return F.linear(x, params[f'{name}.weight'], params[f'{name}.bias'])


def masks(noise, prefix=None):
    """Content and query mask (Eq. 3), class token first: -inf is unseen.

    Everything sees the patches of an image's ``prefix`` as content, whose
    lengths are a list (AIM: j <= i or j < S).
    """
    batch, length = noise.shape
    shape = (batch, length + 1, length + 1)
    content = noise.new_full(shape, -math.inf)
    query = content.clone()
    for mask in (content, query):
        mask[:, :, 0] = 0  # every token sees the class token
    z_i, z_j = noise[:, :, None], noise[:, None, :]
    content[:, 1:, 1:][z_j <= z_i] = 0
    query[:, 1:, 1:][z_j < z_i] = 0
    for b, number in enumerate(prefix or []):
        content[b][:, noise[b].argsort()[:number] + 1] = 0
    return content, query


def attention(q_in, kv_in, mask, params, name, num_heads):
    batch, _, channels = q_in.shape
    weights = params[f'{name}.qkv.weight'].split(channels)
    biases = params[f'{name}.qkv.bias'].split(channels)
    q, k, v = (
        (x @ w.T + b)
        .reshape(batch, -1, num_heads, channels // num_heads)
        .transpose(1, 2)
        for x, w, b in zip((q_in, kv_in, kv_in), weights, biases)
    )
    scores = q @ k.transpose(-2, -1) / math.sqrt(channels // num_heads)
    weights = (scores + mask[:, None]).softmax(-1)
    x = (weights @ v).transpose(1, 2).reshape(batch, -1, channels)
    return linear(x, params, f'{name}.proj')


def block(query, context, mask, params, name, num_heads):
    q, kv = (layer_norm(x, params, f'{name}.ln1') for x in (query, context))
    query = query + attention(q, kv, mask, params, f'{name}.attn', num_heads)
    x = layer_norm(query, params, f'{name}.ln2')
    x = F.gelu(linear(x, params, f'{name}.ffn.layers.0.0'))
    return query + linear(x, params, f'{name}.ffn.layers.1')


def to_patches(images, size):
    """(B, C, H, W) -> (B, L, size * size * C), one patch after the other."""
    _, _, height, width = images.shape
    patches = [
        images[:, :, y : y + size, x : x + size].permute(0, 2, 3, 1).flatten(1)
        for y in range(0, height, size)
        for x in range(0, width, size)
    ]
    return torch.stack(patches, dim=1)


def blur(images, kernel_size, sigma):
    half = kernel_size // 2
    axis = torch.arange(-half, half + 1).double()
    kernel = torch.exp(-(axis[:, None] ** 2 + axis**2) / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).to(images).expand(3, 1, -1, -1)
    return F.conv2d(images, kernel, padding=half, groups=3)


def target(images, patch_size, kernel_size=9, sigma=1.0, normalize=True):
    if kernel_size is not None:
        images = blur(images, kernel_size, sigma)
    patches = to_patches(images, patch_size)
    if normalize:
        mean = patches.mean(-1, keepdim=True)
        var = ((patches - mean) ** 2).sum(-1, keepdim=True) / (
            patches.shape[-1] - 1
        )
        patches = (patches - mean) / (var + 1e-6).sqrt()
    return patches


def pretrain(
    params,
    images,
    noise,
    patch_size,
    num_layers,
    num_heads,
    depth=None,
    share_weights=False,
    widen_factor=1,
    predictor='mlp',
    criterion='L2',
    indices=None,
    prefix=None,
    **target_args,
):
    """Predictions in raster order (B, L, P), loss and encoder outputs.

    ``noise`` gives the order; increasing noise is the raster order.
    """
    depth = num_layers if depth is None else depth
    content_mask, query_mask = masks(noise, prefix)
    weight = params['backbone.patch_embed.projection.weight']
    # The kernel (C, 3, p, p) in the pixel order of `to_patches`.
    patches = (
        to_patches(images, patch_size)
        @ weight.permute(0, 2, 3, 1).flatten(1).T
    )
    patches = patches + params['backbone.patch_embed.projection.bias']
    position = params['backbone.pos_embed'].expand(len(images), -1, -1)
    cls_token = params['backbone.cls_token'].expand(len(images), -1, -1)
    h = torch.cat([cls_token, patches], dim=1) + position
    g = position
    hidden = []
    for i in range(num_layers):
        name = f'backbone.layers.{i}'
        h = block(h, h, content_mask, params, name, num_heads)
        hidden.append(h)
    decoder = 'backbone' if share_weights else 'neck'
    decoder_heads = num_heads
    if widen_factor < 1:
        decoder_heads = int(widen_factor * num_heads)
        g = linear(g, params, 'neck.embed')
    for k in range(depth):
        context = hidden[(k + 1) * num_layers // depth - 1]
        if widen_factor < 1:
            context = linear(context, params, f'neck.contexts.{k}')
        name = f'{decoder}.layers.{k}'
        g = block(g, context, query_mask, params, name, decoder_heads)
    if widen_factor < 1:
        g = linear(g, params, 'neck.project')
    if depth == 0:
        # Each patch is predicted from the output of the token before it.
        steps = noise.argsort(dim=1)
        g = torch.zeros_like(h)
        for b, step in enumerate(steps):
            before = torch.cat([step.new_zeros(1), step[:-1] + 1])
            g[b, step + 1] = h[b, before]
    g = layer_norm(g, params, 'backbone.ln1')
    if predictor == 'mlp':
        x = F.gelu(linear(g, params, 'head.predictor.0'))
        pred = linear(x, params, 'head.predictor.2')
    elif predictor == 'linear':
        pred = linear(g, params, 'head.predictor')
    else:
        # Query i may see query j where z_j <= z_i: it knows no more than i.
        g = g[:, 1:]
        for i in range(2):
            g = block(
                g,
                g,
                content_mask[:, 1:, 1:],
                params,
                f'head.blocks.{i}',
                num_heads,
            )
        g = torch.cat([torch.zeros_like(g[:, :1]), g], dim=1)
        pred = linear(
            layer_norm(g, params, 'head.predictor.0'),
            params,
            'head.predictor.1',
        )
    pred = pred[:, 1:]  # the class token predicts nothing
    difference = pred - target(images, patch_size, **target_args)
    if prefix is not None:  # only the patches behind it count
        difference = torch.cat(
            [d[i[start:]] for d, i, start in zip(difference, indices, prefix)]
        )
    loss = (difference**2 if criterion == 'L2' else difference.abs()).mean()
    return pred, loss, hidden
