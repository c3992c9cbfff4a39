"""Joint distribution of all modalities' embeddings: marginals coupled by a copula (Sklar)."""

from cm2.joint.law import CopulaJoint, CopulaJointDistribution

__all__ = ["CopulaJoint", "CopulaJointDistribution"]
