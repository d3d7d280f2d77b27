# The first half of the patches see each other and are not predicted: less
# than four fifths of SAIM's FLOPs, and an encoder used to seeing all of them.
_base_ = ['../saim_vit-base-p16_32xb64-amp-coslr-300e_in1k.py']

model = dict(prefix=0.5)
