# UperNet on a plain ViT, as BEiT has it: every block attends to the whole
# image, four of them feed the pyramid.
_base_ = ['mmseg::_base_/models/upernet_beit.py']

model = dict(
    data_preprocessor=dict(size=(512, 512)),
    backbone=dict(
        _delete_=True,
        type='SAIMViT',
        arch='base',
        img_size=512,
        patch_size=16,
        out_type='featmap',
        out_indices=[3, 5, 7, 11],
        final_norm=False,
        drop_path_rate=0.1,
        interpolate_mode='bilinear',
        init_cfg=dict(
            type='Pretrained',
            checkpoint='work_dirs/saim/epoch_300.pth',
            prefix='backbone.',
        ),
    ),
)
