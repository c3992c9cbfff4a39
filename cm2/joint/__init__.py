"""Joint distribution of all modalities' embeddings: Gaussian-mixture margins coupled by a copula."""

from cm2.joint.distribution import ConditionalMean, CopulaJointDistribution
from cm2.joint.estimation import JointFit
from cm2.joint.law import CopulaJoint
from cm2.joint.links import LINKS

__all__ = ["LINKS", "ConditionalMean", "CopulaJoint", "CopulaJointDistribution", "JointFit"]
