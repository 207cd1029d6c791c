"""Writes the table of costs into costs.md, between the marks of the page."""

from pathlib import Path

from structmat.sized import cost_table

BEGIN, END = "<!-- costs: begin -->", "<!-- costs: end -->"

page = Path(__file__).with_name("costs.md")
before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
_, _, after = rest.partition(END)
page.write_text(f"{before}{BEGIN}\n\n{cost_table()}\n{END}{after}", encoding="utf-8")
