"""Writes the table of rules into rules.md, between the marks of the page."""

from pathlib import Path

from structmat.rules.page import rule_table

BEGIN, END = "<!-- rules: begin -->", "<!-- rules: end -->"

page = Path(__file__).with_name("rules.md")
before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
_, _, after = rest.partition(END)
page.write_text(f"{before}{BEGIN}\n\n{rule_table()}\n{END}{after}", encoding="utf-8")
