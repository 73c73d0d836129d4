"""Whether what was learned helps on other people's tasks; the protocols of METHOD section 4."""
