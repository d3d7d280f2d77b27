"""SAIMDecoder: the query stream over the encoder's layers."""

from __future__ import annotations

from mmengine.model import BaseModule, ModuleList
from mmengine.registry import MODELS
from torch import Tensor, nn

from ..utils.check import check_arg, check_share
from .layers import TransformerBlock, xavier_linear


@MODELS.register_module()
class SAIMDecoder(BaseModule):
    """Decoder of SAIM (Eq. 5), used as the algorithm's neck.

    The query of a patch starts as its position embedding. Decoder block k of
    d attends causally to the output of encoder block (k + 1) N / d of N, and
    so learns of the patches before its own.

    Args:
        arch: Architecture of the encoder, with the keys ``embed_dims``,
            ``num_layers``, ``num_heads`` and ``feedforward_channels``.
            :class:`~saim_mm.SAIM` fills it in.
        depth: Number of decoder blocks d: a divisor of the encoder's N, or 0.
            With 0 the encoder's own output predicts the next patch (ViT-iGPT),
            which needs the raster order. Defaults to None, as many as the
            encoder has.
        share_weights: Whether decoder block k is encoder block k rather than a
            block of its own.
        widen_factor: Channels D of the decoder, its heads and MLPs, as a share
            of the encoder's. Below 1, linear layers lead from the encoder's
            channels to D, one for the position embedding and one for what each
            block reads, and one leads back.
        with_cp: What the backbone's is there, for these blocks.
        init_cfg: MMEngine's initialisation config.

    Raises:
        ValueError: If ``depth`` or ``widen_factor`` is not as above.
    """

    def __init__(
        self,
        arch: dict,
        depth: int | None = None,
        share_weights: bool = False,
        widen_factor: float = 1.0,
        with_cp: bool = False,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        encoder_depth = arch['num_layers']
        divisors = [
            d for d in range(1, encoder_depth + 1) if encoder_depth % d == 0
        ]
        depth = encoder_depth if depth is None else depth
        check_arg(
            depth == 0 or depth in divisors,
            'depth',
            depth,
            f"0 or a divisor of the encoder's depth: {divisors}",
        )
        self.depth = depth
        self.step = encoder_depth // depth if depth else 0
        self.share_weights = share_weights
        check_share('widen_factor', widen_factor)
        check_arg(
            widen_factor == 1 or (depth > 0 and not share_weights),
            'widen_factor',
            widen_factor,
            '1 if the decoder has no blocks of its own (depth=0, or '
            'share_weights)',
        )
        encoder_dims = arch['embed_dims']
        embed_dims = round(widen_factor * encoder_dims)
        num_heads = max(1, int(widen_factor * arch['num_heads']))
        check_arg(
            embed_dims > 0 and embed_dims % num_heads == 0,
            'widen_factor',
            widen_factor,
            f'such that its {num_heads} heads divide its channels, '
            f'{embed_dims} of {encoder_dims}',
        )
        self.layers = ModuleList(
            TransformerBlock(
                embed_dims,
                num_heads,
                round(widen_factor * arch['feedforward_channels']),
                with_cp=with_cp,
            )
            for _ in range(0 if share_weights else depth)
        )
        # At full width nothing: Identity ignores its arguments.
        linear = nn.Linear if widen_factor < 1 else nn.Identity
        self.embed = linear(encoder_dims, embed_dims)
        self.contexts = ModuleList(
            linear(encoder_dims, embed_dims) for _ in range(depth)
        )
        self.project = linear(embed_dims, encoder_dims)

    def init_weights(self) -> None:
        super().init_weights()
        for module in (self.embed, *self.contexts, self.project):
            xavier_linear(module)

    def forward(
        self,
        hidden: list[Tensor],
        positions: Tensor,
        encoder_layers: ModuleList | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Run the query stream.

        Args:
            hidden: The output of every encoder block, in the prediction order,
                (B, T, C) each.
            positions: Position embedding of the patch predicted at each step,
                (B, K, C).
            encoder_layers: The encoder's blocks, used if ``share_weights``.
            mask: bool, (K, T), what each query sees. Defaults to None: query t
                sees the tokens 1..t.

        Returns:
            (B, K, C); step t knows the patches of the steps before t,
            or of the segments before its own.
        """
        if self.depth == 0:
            return hidden[-1][:, -positions.shape[1] :]
        layers = (
            encoder_layers[: self.depth] if self.share_weights else self.layers
        )
        query = self.embed(positions)
        for k, layer in enumerate(layers):
            context = hidden[(k + 1) * self.step - 1]
            query = layer(
                query,
                context=self.contexts[k](context),
                is_causal=mask is None,
                mask=mask,
            )
        return self.project(query)
