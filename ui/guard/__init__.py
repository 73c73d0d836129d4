"""Who may do what: roles, logins, sizes, uploads."""
