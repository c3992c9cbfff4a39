"""The PhysioNet/Computing in Cardiology Challenge 2012: 12,000 real ICU stays of at least 48 h, open (ODC-By 1.0)."""

from data_prep.physionet2012.prepare import prepare_physionet2012

__all__ = ["prepare_physionet2012"]
