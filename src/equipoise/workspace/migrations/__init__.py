"""How the database of an older version becomes today's."""
