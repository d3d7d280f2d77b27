# In a spiral from the middle outwards, the same for every image.
_base_ = ['../saim_vit-mini-p4_1xb128-coslr-20e_cifar10.py']

model = dict(order='spiral')
