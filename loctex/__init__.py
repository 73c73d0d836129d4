"""LocTex: learn where words are from captions spoken while pointing."""
