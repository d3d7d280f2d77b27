# The first half of the patches see each other and are not predicted: less
# than four fifths of SAIM's FLOPs, and an encoder used to seeing all of them.
_base_ = ['../saim_vit-tiny-p4_1xb512-amp-coslr-400e_cifar10.py']

model = dict(prefix=0.5)
