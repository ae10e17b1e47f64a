from __future__ import annotations


def save(path, screen, recipe_dict, nets, held_out, rows):
    raise SystemExit
