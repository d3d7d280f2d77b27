# NEPA's task (Xu et al. 2025) for SAIM's encoder: row by row, without decoder
# and head, the output at a patch is compared with what goes in at the next.
# (Their ViT has RoPE, LayerScale, SwiGLU and QK-norm beside.)
_base_ = ['../saim_vit-mini-p4_1xb128-coslr-20e_cifar10.py']

model = dict(
    order='raster',
    neck=dict(depth=0),
    head=dict(
        predictor='identity',
        loss=dict(_delete_=True, type='CosineSimilarityLoss'),
    ),
    target_generator=dict(_delete_=True, type='InputEmbeddingTarget'),
)
