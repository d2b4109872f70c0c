"""Adversarial inputs: attacks as frozen values, called on a network and a data set."""

from .aim import Aim
from .attack import Attack
from .attacked import Attacked
from .carlini_wagner import CarliniWagner
from .deepfool import DeepFool
from .pgd import BIM, FGSM, PGD

__all__ = ["BIM", "FGSM", "PGD", "Aim", "Attack", "Attacked", "CarliniWagner", "DeepFool"]
