# The first base of configs that inherit from mmseg's: finds these, whichever
# distribution installed them. (A plain import would make it another kind of
# config to MMEngine.)
import importlib

importlib.import_module('saim_mm.segmentation')
