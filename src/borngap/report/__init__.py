"""Reports: one summary record of numbers and words feeds the page, the Markdown, the JSON and the charts."""
