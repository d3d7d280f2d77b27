"""Export the encoder of a checkpoint to ONNX, and compare the two.

    python tools/deployment/export_onnx.py MODEL CHECKPOINT OUT.onnx
        [--out-type cls_token] [--img-size 224]

MODEL is one of saim_mm.list_models(), CHECKPOINT of any format that
tools/converters/convert.py reads. The graph takes normalised images (N, 3, H,
W), any N, and gives what --out-type says. Needs the extra: `pip install -e
'.[onnx]'`.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

import saim_mm


class Encoder(torch.nn.Module):
    """A backbone that gives a tensor rather than a tuple of one."""

    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone

    def forward(self, images):
        return self.backbone(images)[0]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('model', choices=saim_mm.list_models())
    parser.add_argument('checkpoint')
    parser.add_argument('out', type=Path)
    parser.add_argument(
        '--out-type', default='cls_token', choices=['cls_token', 'featmap']
    )
    parser.add_argument('--img-size', type=int)
    args = parser.parse_args()

    options = {} if args.img_size is None else dict(img_size=args.img_size)
    try:
        backbone = saim_mm.get_model(
            args.model, args.checkpoint, out_type=args.out_type, **options
        )
    except (ValueError, FileNotFoundError) as error:
        parser.error(str(error))
    model = Encoder(backbone).eval()
    torch.manual_seed(0)
    images = torch.randn(2, 3, *backbone.img_size)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    torch.onnx.export(
        model,
        (images,),
        args.out,
        input_names=['images'],
        output_names=['features'],
        dynamic_shapes=(dict([(0, torch.export.Dim('batch'))]),),
        dynamo=True,
        external_data=False,
    )

    import onnxruntime

    session = onnxruntime.InferenceSession(args.out)
    images = torch.randn(3, 3, *backbone.img_size)
    (features,) = session.run(None, dict(images=images.numpy()))
    with torch.no_grad():
        difference = np.abs(features - model(images).numpy()).max()
    print(
        f'wrote {args.out}; differs from PyTorch by {difference:.1e} at most'
    )


if __name__ == '__main__':
    main()
