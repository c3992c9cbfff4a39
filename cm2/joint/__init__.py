"""The joint distribution of all modalities' embeddings: marginals tied by a copula (Sklar)."""

from cm2.joint.law import CopulaJoint, CopulaJointDistribution

__all__ = ["CopulaJoint", "CopulaJointDistribution"]
