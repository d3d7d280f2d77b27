# In a spiral from the middle outwards, the same for every image.
_base_ = ['../saim_vit-tiny-p4_1xb512-amp-coslr-400e_cifar10.py']

model = dict(order='spiral')
