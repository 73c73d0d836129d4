"""Narratives in: public files checked, downloaded and imported; what a snapshot is made of."""
